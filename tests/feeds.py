"""A topic of numbered trades for tests of streams, and the lake that it goes to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from typer.testing import CliRunner

import k2kernel
from k2kernel.cli.app import app
from k2kernel.schemas import RECEIVED, TRADES
from tests.streams import Services, fresh_class


class Feed:
    """A topic of numbered trades with some messages among them that are none, and the lake that they go to."""

    def __init__(self, services: Services, home: Path, seed: int = 0, partitions: int = 3) -> None:
        self.services, self.home, self.rng = services, home, random.Random(seed)
        self.bench = k2kernel.connect(settings=services.settings(home)).init()
        self.asset_class, self.partitions = fresh_class(), partitions
        self.topic = f"market.{self.asset_class}.trades.xasx"
        self.sent, self.bad = 0, list[bytes | None]()

    def publish(self, rows: int, bad: int = 0) -> None:
        numbers = range(self.sent, self.sent + rows)
        with self.bench.producer(asset_class=self.asset_class, partitions=self.partitions) as producer:
            producer.send("trades", trades(numbers))
        self.sent += rows
        self.spoil([self.rng.randbytes(self.rng.randrange(1, 40)) for _ in range(bad)])

    def spoil(self, values: Iterable[bytes | None]) -> None:
        """Put messages on the topic as they are."""
        from confluent_kafka import Producer

        raw = Producer({"bootstrap.servers": self.services.bootstrap})
        for value in values:
            self.bad.append(value)
            raw.produce(self.topic, value, partition=self.rng.randrange(self.partitions))
        raw.flush()

    def drain(self) -> None:
        """What is left, by a sink without a fault."""
        self.bench.stream([self.topic], rows=5_000).run(until_end=True)

    def sequences(self) -> list[int]:
        found: list[int] = self.bench.sql("SELECT sequence FROM trades_raw ORDER BY 1").to_arrow()[0].to_pylist()
        return found

    def check(self) -> None:
        """Each row and each bad message is there exactly once, and the audit says so too."""
        assert self.sequences() == list(range(self.sent))
        letters = self.bench.sql("SELECT raw FROM dead_letter").to_arrow()["raw"].to_pylist()
        assert sorted(letters, key=repr) == sorted(self.bad, key=repr)
        verdict = self.bench.audit()
        assert verdict.ok, verdict.faults


def wait_for(done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def trades(numbers: Iterable[int]) -> pl.DataFrame:
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


def k2(feed: Feed, *words: str) -> Any:
    """A command in this process; its own would take as long to start as the rest of the test."""
    return CliRunner().invoke(app, [*words, "--home", str(feed.home)], env=feed.services.environment)
