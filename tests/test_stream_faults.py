"""Never a lost row and never a doubled one: sinks that die at every step, sleep, race and lose answers."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import k2kernel as k2
from k2kernel.schemas import RECEIVED, TRADES
from tests.stream_worker import FENCED, LOST_REPLY, STEPS, sink
from tests.streams import Services, fresh_class

BATCH = 150


class Feed:
    """A topic of numbered trades with some messages among them that are none, and the lake that they go to."""

    def __init__(self, services: Services, home: Path, seed: int = 0, partitions: int = 3) -> None:
        self.services, self.home, self.rng = services, home, random.Random(seed)
        self.bench = k2.connect(settings=services.settings(home)).init()
        self.asset_class, self.partitions = fresh_class(), partitions
        self.topic = f"market.{self.asset_class}.trades.xasx"
        self.sent, self.bad = 0, list[bytes]()

    def publish(self, rows: int, bad: int = 0) -> None:
        from confluent_kafka import Producer

        numbers = range(self.sent, self.sent + rows)
        with self.bench.producer(asset_class=self.asset_class, partitions=self.partitions) as producer:
            producer.send("trades", trades(numbers))
        self.sent += rows
        raw = Producer({"bootstrap.servers": self.services.bootstrap})
        for _ in range(bad):
            value = self.rng.randbytes(self.rng.randrange(1, 40))
            self.bad.append(value)
            raw.produce(self.topic, value, partition=self.rng.randrange(self.partitions))
        raw.flush()

    def start(self, step: str | None = None, number: int = 1, rows: int = BATCH) -> object:
        return sink(self.home, self.services, [self.topic], rows, None if step is None else (step, number))

    def run(self, step: str | None = None, number: int = 1) -> int:
        process = sink(self.home, self.services, [self.topic], BATCH, None if step is None else (step, number))
        process.join(60)
        assert process.exitcode is not None
        return process.exitcode

    def drain(self) -> None:
        """What is left, by a sink without a fault, which may be fenced by none."""
        self.bench.stream([self.topic], rows=5_000).run(until_end=True)

    def check(self) -> None:
        """Each row and each bad message is there exactly once, and the audit says so too."""
        found = self.bench.sql("SELECT sequence FROM trades_raw ORDER BY 1").to_arrow()["sequence"].to_pylist()
        assert found == list(range(self.sent))
        letters = self.bench.sql("SELECT raw FROM dead_letter").to_arrow()["raw"].to_pylist()
        assert sorted(letters) == sorted(self.bad)
        verdict = self.bench.audit()
        assert verdict.ok, verdict.faults


def trades(numbers: Sequence[int]) -> pl.DataFrame:
    """A trade for each number, a second apart, of ten symbols, on two sessions."""
    start = datetime(2024, 7, 1, 3, tzinfo=UTC)
    rows = [
        {
            "symbol": f"S{number % 10}",
            "venue": "XASX",
            "session": date(2024, 7, 1 + number % 2),
            "ts_event": start + timedelta(days=number % 2, seconds=number),
            "clock": "venue",
            "sequence": number,
            "price": Decimal(number) / 100,
            "size": Decimal(1),
        }
        for number in numbers
    ]
    schema = {name: kind for name, kind in TRADES.polars.items() if name not in RECEIVED}
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


@pytest.fixture
def feed(services: Services, tmp_path: Path) -> Feed:
    return Feed(services, tmp_path / ".k2")


@pytest.mark.parametrize("step", STEPS)
def test_a_sink_that_is_killed_at_a_step(feed: Feed, step: str) -> None:
    feed.publish(500, bad=20)
    for number in (1, 2):
        assert feed.run(step, number) == -signal.SIGKILL
        feed.publish(300, bad=5)
    feed.drain()
    feed.check()


def test_a_commit_whose_answer_is_lost(feed: Feed) -> None:
    feed.publish(600, bad=10)
    assert feed.run(LOST_REPLY, 1) == 0
    feed.check()
    feed.publish(100)
    assert feed.run(LOST_REPLY, 2) == 0
    feed.check()


def test_a_sleeper_that_wakes_up_is_fenced(feed: Feed) -> None:
    feed.publish(3_000, bad=10)
    sleeper = sink(feed.home, feed.services, [feed.topic], 100, None)
    while not feed.bench.lake.offsets("trades"):
        time.sleep(0.01)
    os.kill(int(sleeper.pid or 0), signal.SIGSTOP)
    feed.drain()
    feed.publish(400, bad=5)
    feed.drain()
    os.kill(int(sleeper.pid or 0), signal.SIGCONT)
    sleeper.join(60)
    assert sleeper.exitcode in {FENCED, 0}
    feed.check()


def test_two_writers_of_the_same_partitions(feed: Feed) -> None:
    feed.publish(2_000, bad=10)
    pair = [sink(feed.home, feed.services, [feed.topic], 100, None) for _ in range(2)]
    for process in pair:
        process.join(60)
    assert {process.exitcode for process in pair} <= {0, FENCED}
    feed.drain()
    feed.check()


def wreck(feed: Feed) -> list[str]:
    """A few random accidents, one after another, and what they were."""
    told = []
    for _ in range(feed.rng.randrange(2, 5)):
        feed.publish(feed.rng.randrange(1, 600), bad=feed.rng.randrange(0, 6))
        accident = feed.rng.choice([*STEPS, LOST_REPLY, "two", "sleep"])
        number = feed.rng.randrange(1, 5)
        told.append(f"{accident} {number}")
        if accident == "two":
            pair = [sink(feed.home, feed.services, [feed.topic], BATCH, None) for _ in range(2)]
            for process in pair:
                process.join(60)
        elif accident == "sleep":
            sleep_and_wake(feed, number / 20)
        else:
            feed.run(accident, number)
    return told


def sleep_and_wake(feed: Feed, after: float) -> None:
    sleeper = sink(feed.home, feed.services, [feed.topic], BATCH, None)
    time.sleep(feed.rng.random() * after)
    os.kill(int(sleeper.pid or 0), signal.SIGSTOP)
    # A sleeper that holds the catalog's lock keeps others out as long as it sleeps.
    other = sink(feed.home, feed.services, [feed.topic], BATCH, None)
    other.join(feed.rng.random() * 3)
    os.kill(int(sleeper.pid or 0), signal.SIGCONT)
    for process in (sleeper, other):
        process.join(90)
        assert process.exitcode is not None


def one_random_run(services: Services, home: Path, seed: int) -> None:
    feed = Feed(services, home, seed)
    told = wreck(feed)
    print(f"seed {seed}: {', '.join(told)}")
    feed.drain()
    feed.check()


@pytest.mark.parametrize("seed", range(5))
def test_random_accidents(services: Services, tmp_path: Path, seed: int) -> None:
    one_random_run(services, tmp_path / ".k2", seed)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(100, 145))
def test_many_random_accidents(services: Services, tmp_path: Path, seed: int) -> None:
    one_random_run(services, tmp_path / ".k2", seed)
