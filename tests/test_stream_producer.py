"""What publishes: topics and schemas, progress, rows that are not delivered, and replays with their times."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import k2kernel
from k2kernel import wire
from k2kernel.errors import FileFault, InvalidParameter, StreamFault
from k2kernel.schemas import TRADES
from k2kernel.services import Kafka
from k2kernel.sinks.kafka import EVENT_HEADER, RECV_HEADER, Producer
from k2kernel.sources.brokers import held
from tests.feeds import Feed, k2, trades, wait_for
from tests.stream_worker import asleep
from tests.streams import Services, fresh_class, need_servers


def topics(feed: Feed) -> list[str]:
    """The topics of this test."""
    from confluent_kafka.admin import AdminClient

    known = AdminClient({"bootstrap.servers": feed.services.bootstrap}).list_topics(timeout=10).topics
    return sorted(name for name in known if f".{feed.asset_class}." in name)


def write(path: Path, rows: int, price: str = "1.5") -> str:
    lines = [f"2024-03-04T00:00:{number % 60:02}Z,BHP,XASX,{number},{price},100" for number in range(rows)]
    path.write_text("\n".join(["ts_event,symbol,venue,sequence,price,size", *lines, ""]))
    return str(path)


def test_an_incompatible_schema_fails_and_makes_no_topic(feed: Feed, tmp_path: Path) -> None:
    other = [{"name": field["name"], "type": "string"} for field in TRADES.avro["fields"]]
    with wire.Registry(feed.services.registry_url) as registry:
        registry.register(feed.topic, {**TRADES.avro, "fields": other})
    words = ["-p", "k2-trades", "--asset-class", feed.asset_class]
    told = k2(feed, "stream", "produce", write(tmp_path / "a.csv", 3), *words)
    assert isinstance(told.exception, StreamFault)
    assert f"subject {feed.topic}-value: the schema is not BACKWARD_TRANSITIVE compatible" in str(told.exception)
    assert "Add fields only with a default" in str(told.exception)
    assert topics(feed) == []


def test_nothing_is_registered_in_production(feed: Feed) -> None:
    strict = feed.services.settings(feed.home).model_copy(update={"schema_register": False})
    bench = k2kernel.connect(settings=strict)
    with (
        bench.producer(asset_class=feed.asset_class) as producer,
        pytest.raises(StreamFault, match=r"its schema is not registered. Register it with `k2 stream register market"),
    ):
        producer.send("trades", trades([1]))
    with wire.Registry(feed.services.registry_url) as registry:
        assert registry.lookup(feed.topic, TRADES.avro) is None
    assert topics(feed) == []
    told = k2(feed, "stream", "register", feed.topic)
    assert told.stdout.startswith(f"{feed.topic}: schema id "), told.stderr
    with bench.producer(asset_class=feed.asset_class, partitions=3) as producer:
        producer.send("trades", trades(range(5)))
    feed.sent = 5
    feed.drain()
    feed.check()


def test_a_topic_has_as_many_partitions_as_was_said(feed: Feed) -> None:
    feed.publish(10)
    assert [number for _, number in held(feed.services.bootstrap, [feed.topic]) if _ == feed.topic] == [0, 1, 2]
    with (
        feed.bench.producer(asset_class=feed.asset_class, partitions=5) as producer,
        pytest.raises(InvalidParameter, match=f"{feed.topic} has 3"),
    ):
        producer.send("trades", trades([11]))


def test_progress_adds_up_to_every_row(feed: Feed, tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    totals: dict[str, int] = {}

    def tell(_: str, phase: str, count: int, total: int) -> None:
        told[phase] += count
        totals[phase] = total

    file = write(tmp_path / "a.csv", 2_000)
    (sent,) = feed.bench.produce(file, "k2-trades", asset_class=feed.asset_class, progress=tell)
    size = Path(file).stat().st_size
    assert sent.published.delivered == {feed.topic: 2_000}
    assert dict(told) == totals == {"checking": size, "publishing": told["publishing"], "delivering": 2_000}
    assert 0 < told["publishing"] <= size


def test_rows_that_cannot_be_delivered_are_kept_and_sent_again(feed: Feed) -> None:
    feed.publish(10)
    registry = wire.Registry(feed.services.registry_url)
    kept = feed.home / "undelivered"
    dead = Producer("127.0.0.1:9", registry, asset_class=feed.asset_class, timeout=1.0, undelivered=kept)
    dead._ids[feed.topic] = registry.register(feed.topic, TRADES.avro)
    with dead:
        dead.send("trades", pl.concat([trades(range(10, 25)), trades([24])]))  # the last two are equal
        dead.send("trades", trades(range(25, 40)), original_times=True)
        told = dead.flush()
    assert (told.failed, told.delivered) == (31, {})
    assert told.undelivered is not None
    assert str(told) == f"31 rows not delivered, kept in {told.undelivered}"
    again = k2(feed, "stream", "produce", "--resend", told.undelivered)
    assert (again.exit_code, again.stdout.strip()) == (0, f"{feed.topic}: 31 rows delivered"), again.stderr
    once_more = k2(feed, "stream", "produce", "--resend", told.undelivered)
    assert (once_more.exit_code, once_more.stdout.strip()) == (0, "31 rows had arrived before")
    feed.drain()
    assert feed.sequences() == sorted([*range(40), 24])
    assert sum(EVENT_HEADER in headers for headers in headers_of(feed, feed.topic, 41)) == 15
    for path in (feed.home / "nothing.parquet", write(feed.home / "a.csv", 1)):
        with pytest.raises(FileFault, match=r"is no file of undelivered rows|No such file"):
            feed.bench.resend(path)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    need_servers()
    kafka = Kafka(tmp_path / "kafka", heap="256m")
    try:
        yield kafka.start()
    finally:
        kafka.stop()


def test_what_a_sleeping_broker_has_got_is_not_sent_twice(own_kafka: Kafka, services: Services, tmp_path: Path) -> None:
    """It answers too late; what it had received by then is in the topic all the same."""
    feed = Feed(Services(own_kafka.bootstrap, services.registry_url), tmp_path / ".k2")
    feed.publish(10)
    with feed.bench.producer(asset_class=feed.asset_class, timeout=2.0) as producer:
        producer.send("trades", trades(range(10, 20)))
        assert producer.flush().failed == 0
        broker = own_kafka.processes[0].pid
        os.killpg(broker, signal.SIGSTOP)
        try:
            wait_for(lambda: asleep(broker))
            producer.send("trades", trades(range(20, 60)))
            told = producer.flush()
        finally:
            os.killpg(broker, signal.SIGCONT)
    assert told.failed == 40
    for _ in range(2):
        again = feed.bench.resend(str(told.undelivered))
        assert sum(again.delivered.values()) + again.arrived == 40
    feed.sent = 60
    feed.drain()
    feed.check()


def headers_of(feed: Feed, topic: str, count: int) -> list[dict[str, Any]]:
    """The headers of the messages of a topic, partition by partition."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": feed.services.bootstrap, "group.id": "k2-test"})
    places = [at for at in held(feed.services.bootstrap, [topic]) if at[0] == topic]
    consumer.assign([TopicPartition(*at, 0) for at in places])
    found: list[Any] = []
    while len(found) < count:
        messages = consumer.consume(count - len(found), 20)
        assert messages
        found += messages
    consumer.close()
    ordered = sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))
    return [dict(message.headers() or ()) for message in ordered]


@pytest.mark.parametrize("speed", ["0", "100000"])
def test_a_replay_publishes_with_the_original_times(feed: Feed, speed: str) -> None:
    """Unpaced and paced; every second row has a time of capture, and those have nanoseconds."""
    frame = trades(range(50)).with_columns(nanos=pl.col("ts_event").dt.epoch("ns") + 7)
    captured = pl.col("sequence") % 2 == 1
    later = pl.col("ts_event") + timedelta(microseconds=30)
    frame = frame.with_columns(
        ts_event_ns=pl.when(captured).then("nanos"),
        ts_recv=pl.when(captured).then(later),
        ts_recv_ns=pl.when(captured).then(pl.col("nanos") + 30_000),
    ).drop("nanos")
    with feed.bench.producer(asset_class=feed.asset_class, partitions=3) as producer:
        producer.send("trades", frame)
    feed.drain()
    again = fresh_class()
    words = ["--raw", "--asset-class", again, "--speed", speed, "--batch-rows", "20"]
    told = k2(feed, "replay", "--to-kafka", *words)
    topic = f"market.{again}.trades.xasx"
    assert told.stdout.strip() == f"{topic}: 50 rows delivered", told.stderr
    found = headers_of(feed, topic, 50)
    ns = "coalesce(ts_{0}_ns, epoch_us(ts_{0}) * 1000)"
    text = f"SELECT {ns.format('event')}, {ns.format('recv')} FROM trades_raw"
    wanted = feed.bench.sql(text).to_polars().rows()
    given = [(int(each[EVENT_HEADER]), int(each[RECV_HEADER]) if RECV_HEADER in each else None) for each in found]
    assert sorted(given, key=str) == sorted(wanted, key=str)
    assert sum(recv is not None for _, recv in given) == 25


def test_a_replay_is_not_taken_in_unasked(feed: Feed) -> None:
    """Its rows are in the lake already."""
    feed.publish(5)
    feed.drain()
    told = k2(feed, "replay", "--to-kafka")
    assert told.stdout.strip() == "market.replay.trades.xasx: 5 rows delivered", told.stderr
    there = {topic for topic, _ in held(feed.services.bootstrap, [])}
    assert feed.topic in there
    assert "market.replay.trades.xasx" not in there
    named = feed.bench.stream(["market.replay.trades.xasx"]).run(max_messages=5)
    assert named.rows == {"trades": 5}
