"""Sinks that run on: topics and partitions that are made while they do, and brokers that have no topic yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from k2kernel.errors import StreamFault
from k2kernel.ingest.stream import Stream
from k2kernel.metrics import METRICS
from k2kernel.replay import Event
from k2kernel.services import Kafka
from k2kernel.sources import kafka
from k2kernel.sources.brokers import watermarks
from tests.feeds import Feed, trades, wait_for
from tests.streams import Services, fresh_class, need_servers

WAYS = pytest.mark.parametrize("members", [0, 2], ids=["alone", "a group of two"])


@pytest.fixture
def fresh_broker(services: Services, tmp_path: Path) -> Iterator[Services]:
    """A broker without a topic; sinks read every topic there is, those of other tests, too."""
    need_servers()
    broker = Kafka(tmp_path / "kafka", heap="256m")
    try:
        yield Services(broker.start().bootstrap, services.registry_url)
    finally:
        broker.stop()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are looked for each second, for the test's sake."""
    assert kafka._LOOK_S <= 15, "half a minute at most until rows of a new topic are read"
    monkeypatch.setattr(kafka, "_LOOK_S", 1.0)


def sinks(feed: Feed, topics: list[str] | None, members: int) -> list[Stream]:
    """One that reads alone, or so many members of a group."""
    group = fresh_class("g") if members else None
    return [feed.bench.stream(topics, group=group, seconds=0.3).start() for _ in range(max(members, 1))]


def publish_elsewhere(feed: Feed, rows: int, topic: str) -> None:
    """More numbered trades, to a topic of another asset class."""
    with feed.bench.producer(asset_class=topic, partitions=2) as producer:
        producer.send("trades", trades(range(feed.sent, feed.sent + rows)))
    feed.sent += rows


def widen(feed: Feed, partitions: int) -> None:
    """Give the topic of a feed more partitions."""
    admin = AdminClient({"bootstrap.servers": feed.services.bootstrap})
    admin.create_partitions([NewPartitions(feed.topic, partitions)])[feed.topic].result(30)
    wait_for(lambda: len(admin.list_topics(feed.topic, timeout=10).topics[feed.topic].partitions) == partitions)
    feed.partitions = partitions


def rows_are_in(feed: Feed) -> bool:
    return len(feed.sequences()) >= feed.sent


@WAYS
def test_topics_that_are_made_while_a_sink_runs(
    fresh_broker: Services, tmp_path: Path, members: int, caplog: pytest.LogCaptureFixture
) -> None:
    """On a broker that has none at first; replays stay out of it."""
    feed = Feed(fresh_broker, tmp_path / ".k2")
    with pytest.raises(StreamFault, match=r"has no topic market.*Produce to one first"):
        feed.bench.stream().run(until_end=True)
    running = sinks(feed, None, members)
    wait_for(lambda: caplog.text.count("waiting: there is no topic market.") == len(running))
    feed.publish(100)
    wait_for(lambda: rows_are_in(feed))
    publish_elsewhere(feed, 50, "later")
    wait_for(lambda: rows_are_in(feed))
    publish_elsewhere(feed, 7, "replay")
    feed.sent -= 7
    feed.publish(100)
    wait_for(lambda: rows_are_in(feed))
    assert sum(stream.stop().messages for stream in running) == 250
    assert caplog.text.count("waiting: there is no topic") == len(running), "it is said once"
    feed.check()
    told = {each.source.partition("/")[0]: each.behind for each in feed.bench.streams()}
    assert told == {feed.topic: 0, "market.later.trades.xasx": 0}


def test_rows_of_a_new_topic_are_behind_until_they_are_committed(fresh_broker: Services, tmp_path: Path) -> None:
    feed = Feed(fresh_broker, tmp_path / ".k2")
    feed.publish(10)
    stream = feed.bench.stream(seconds=60).start()
    wait_for(lambda: stream.done.behind == 10)
    publish_elsewhere(feed, 30, "later")
    wait_for(lambda: stream.done.behind == 40)
    assert METRICS.stream_lag.series[()][0] == 40
    assert METRICS.stream_partitions.series[()][0] == feed.partitions + 2
    assert stream.stop().messages == 40
    feed.check()


@WAYS
def test_partitions_that_a_topic_gets_while_a_sink_runs(feed: Feed, members: int) -> None:
    feed.publish(100)
    running = sinks(feed, [feed.topic], members)
    wait_for(lambda: rows_are_in(feed))
    widen(feed, 8)
    feed.publish(200)
    wait_for(lambda: rows_are_in(feed))
    assert sum(stream.stop().messages for stream in running) == 300
    sources = feed.bench.sql("SELECT DISTINCT source FROM trades_raw").to_arrow()[0].to_pylist()
    assert {int(source.rpartition("/")[2]) for source in sources} - {0, 1, 2}, "rows of new partitions"
    feed.check()


def test_partitions_that_a_topic_gets_while_a_replay_goes_on_live(feed: Feed) -> None:
    feed.publish(100)
    feed.drain()
    follow = feed.bench.replay(kinds=["trades"], follow=True)
    seen: list[Event] = []
    thread = threading.Thread(target=seen.extend, args=[follow], daemon=True)
    thread.start()
    feed.publish(50)
    wait_for(lambda: len(seen) == 150)
    widen(feed, 8)
    feed.publish(200)
    wait_for(lambda: len(seen) >= 350)
    follow.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert sorted(each.sequence for each in seen) == list(range(350))
    assert {each.source for each in seen} == {*follow.offsets} == {f"{feed.topic}/{number}" for number in range(8)}


def test_named_topics_that_do_not_exist_are_no_topics_to_wait_for(feed: Feed) -> None:
    with pytest.raises(StreamFault, match="does not exist"):
        feed.bench.stream([feed.topic]).run()


class Moving:
    """A client whose brokers answer with errors first, as they do when they have just come back."""

    def __init__(self, *errors: int) -> None:
        self.errors = [*errors]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return 3, 7


def test_a_partition_between_two_leaders_is_asked_again() -> None:
    moving = Moving(
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART
    )
    assert watermarks(moving, TopicPartition("t", 0)) == (3, 7)
    refusing = Moving(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        watermarks(refusing, TopicPartition("t", 0))
    assert len(refusing.errors) == 1, "it was asked once"
