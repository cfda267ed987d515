"""A producer adds a field: old and new messages land, the table gains the column, and old states still read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from k2kernel import wire
from k2kernel.schemas import TRADES
from tests.feeds import Feed, trades
from tests.streams import Services

NOTE = {"name": "note", "type": ["null", "string"], "default": None}
GROWN = {**TRADES.avro, "fields": [*TRADES.avro["fields"], NOTE]}


def notes(feed: Feed, version: object = None) -> dict[int, str | None]:
    at = "" if version is None else f" FOR VERSION AS OF {version}"
    found = feed.bench.sql(f"SELECT sequence, note FROM trades{at}").to_arrow().to_pylist()
    return {row["sequence"]: row["note"] for row in found}


def publish_grown(feed: Feed, numbers: range) -> None:
    with wire.Registry(feed.services.registry_url) as registry:
        number = registry.register(feed.topic, GROWN)
    frame = trades(numbers).with_columns(note=pl.Series([f"note {each}" for each in numbers]))
    feed.spoil(wire.encode(GROWN, frame, number))
    feed.bad.clear()
    feed.sent += len(numbers)


def test_a_field_that_a_producer_adds(services: Services, tmp_path: Path) -> None:
    feed = Feed(services, tmp_path / ".k2")
    feed.publish(60)
    feed.drain()
    before, columns = feed.bench.lake.head("trades"), feed.bench.lake.table("trades").schema().column_names
    files = {file.path for file in feed.bench.lake.files("trades", before)}
    publish_grown(feed, range(60, 90))
    feed.publish(30)  # by a producer that knows nothing of it, in the same batch
    feed.drain()
    feed.check()
    wanted = {number: f"note {number}" if 60 <= number < 90 else None for number in range(120)}
    assert notes(feed) == wanted
    assert feed.bench.lake.table("trades").schema().column_names == [*columns, "note"]
    assert files <= {file.path for file in feed.bench.lake.files("trades", feed.bench.lake.head("trades"))}
    old = feed.bench.trades(as_of=before).to_polars()
    assert sorted(old["sequence"]) == list(range(60))
    assert notes(feed, before) == dict.fromkeys(range(60))
    feed.publish(10)
    feed.drain()
    assert notes(feed) == wanted | dict.fromkeys(range(120, 130))
    assert sorted(feed.bench.trades(tail=True).to_polars()["sequence"]) == list(range(130))


def test_compaction_keeps_the_column(services: Services, tmp_path: Path) -> None:
    feed = Feed(services, tmp_path / ".k2")
    for _ in range(4):
        feed.publish(20)
        publish_grown(feed, range(feed.sent, feed.sent + 10))
        feed.drain()
    before = notes(feed)
    assert sum(note is not None for note in before.values()) == 4 * 10
    feed.bench.lake.maintenance.compact("trades")
    assert notes(feed) == before
    assert len(feed.bench.lake.files("trades", feed.bench.lake.head("trades")).files) == 2
    feed.check()
