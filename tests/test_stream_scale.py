"""Several sinks of one group write one table, while members are added and killed under load."""

from __future__ import annotations

import json
import random
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.feeds import Feed, trades, wait_for
from tests.stream_worker import sink
from tests.streams import Services, fresh_class


class Crowd:
    """Members of one group, in processes of their own."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.group = feed, fresh_class("g")
        self.members: list[BaseProcess] = []

    def add(self) -> None:
        feed = self.feed
        self.members.append(sink(feed.home, feed.services, [feed.topic], 2_000, group=self.group))

    def kill(self, number: int) -> None:
        member = self.members.pop(number)
        member.kill()
        member.join()

    def end(self) -> None:
        while self.members:
            self.kill(0)


def load(feed: Feed, until: threading.Event) -> None:
    """Publish without a pause until told to end."""
    with feed.bench.producer(asset_class=feed.asset_class, partitions=feed.partitions) as producer:
        while not until.is_set():
            producer.send("trades", trades(range(feed.sent, feed.sent + 200)))
            feed.sent += 200
            time.sleep(0.1)


def writers(feed: Feed) -> set[str]:
    """All that committed to the table."""
    summaries = [each.summary.additional_properties for each in feed.bench.lake.ancestors("trades") if each.summary]
    return {writer for each in summaries for writer, _ in json.loads(each["k2.writers"]).values()}


def committed(feed: Feed) -> int:
    time.sleep(0.2)
    return sum(claim.end - claim.start for claim in feed.bench.lake.offsets("trades").values())


def run(services: Services, home: Path, seed: int, changes: int) -> None:
    print(f"seed {seed}: {changes} members are added and killed")  # noqa: T201 - see conftest
    feed, rng, over = Feed(services, home, seed, partitions=6), random.Random(seed), threading.Event()
    feed.publish(100)
    crowd, publishing = Crowd(feed), threading.Thread(target=load, args=(feed, over))
    publishing.start()
    try:
        crowd.add()
        crowd.add()
        wait_for(lambda: len(writers(feed)) == 2)
        for _ in range(changes):
            time.sleep(rng.random() * 2)
            crowd.add()
            time.sleep(rng.random() * 2)
            crowd.kill(rng.randrange(len(crowd.members)))
        over.set()
        publishing.join()
        wait_for(lambda: committed(feed) == feed.sent, 60)
    finally:
        over.set()
        publishing.join()
        crowd.end()
    feed.check()
    assert len(writers(feed)) >= 3


def test_members_are_added_and_killed_under_load(services: Services, tmp_path: Path) -> None:
    run(services, tmp_path / ".k2", 0, changes=1)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(1, 7))
def test_members_come_and_go_all_the_time(services: Services, tmp_path: Path, seed: int) -> None:
    run(services, tmp_path / ".k2", seed, changes=4)
