"""Brokers that crash and come back, under producers and sinks at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2kernel.services import Kafka
from tests.feeds import Feed, trades, wait_for
from tests.streams import Services, need_servers


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kafka]:
    """A cluster of its own, of as many brokers as the parameter says."""
    need_servers()
    kafka = Kafka(tmp_path / "kafka", request.param, heap="256m")
    try:
        yield kafka.start()
    finally:
        kafka.stop()


def published_while(feed: Feed, accident: threading.Thread, rows: int) -> None:
    """Publish while the accident happens; every row must be delivered in the end."""
    accident.start()
    with feed.bench.producer(asset_class=feed.asset_class, partitions=feed.partitions) as producer:
        for start in range(feed.sent, feed.sent + rows, 100):
            producer.send("trades", trades(range(start, start + 100)))
            time.sleep(0.02)
        told = producer.flush()
    accident.join()
    assert told.failed == 0
    feed.sent += rows


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_a_broker_that_crashes_and_comes_back(cluster: Kafka, services: Services, tmp_path: Path) -> None:
    feed = Feed(Services(cluster.bootstrap, services.registry_url), tmp_path / ".k2")
    feed.publish(500)
    stream = feed.bench.stream([feed.topic], seconds=0.3).start()
    wait_for(lambda: stream.done.messages > 0)
    published_while(feed, threading.Thread(target=cluster.restart, kwargs={"crash": True}), 2_000)
    stream.stop()
    feed.drain()
    feed.check()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_three_brokers_of_which_each_crashes_once(cluster: Kafka, services: Services, tmp_path: Path) -> None:
    feed = Feed(Services(cluster.bootstrap, services.registry_url), tmp_path / ".k2")
    feed.publish(500)
    stream = feed.bench.stream([feed.topic], seconds=0.5).start()
    wait_for(lambda: stream.done.messages > 0)
    for number in range(3):
        crash = threading.Thread(target=cluster.restart, args=(number,), kwargs={"crash": True})
        published_while(feed, crash, 3_000)
        time.sleep(5)
    stream.stop()
    feed.drain()
    feed.check()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_three_brokers_of_which_two_are_away(cluster: Kafka, services: Services, tmp_path: Path) -> None:
    """One alone may acknowledge nothing: producer and sink wait, and lose nothing."""

    def outage() -> None:
        for number in (1, 2):
            cluster.take_down(number, crash=True)
        time.sleep(10)
        for number in (1, 2):
            cluster.bring_up(number)

    feed = Feed(Services(cluster.bootstrap, services.registry_url), tmp_path / ".k2")
    feed.publish(500)
    stream = feed.bench.stream([feed.topic], seconds=0.5).start()
    wait_for(lambda: stream.done.messages > 0)
    published_while(feed, threading.Thread(target=outage), 3_000)
    time.sleep(3)
    stream.stop()
    feed.drain()
    feed.check()
