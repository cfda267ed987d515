"""The proof that streams were taken in exactly once, and what it says of tables that were tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.feeds import Feed, k2
from tests.streams import Services


def rows(feed: Feed, table: str = "trades", where: str = "sequence == 7") -> pa.Table:
    return feed.bench.lake.table(table).scan(row_filter=where).to_arrow()


def doubled(feed: Feed) -> None:
    feed.bench.lake.table("trades").append(rows(feed))


def lost(feed: Feed) -> None:
    feed.bench.lake.table("trades").delete("sequence == 7")


def moved(feed: Feed) -> None:
    """As many rows as there were, of which one says that it came from elsewhere."""
    found = rows(feed)
    at = found.schema.get_field_index("source_offset")
    field = found.schema.field(at)
    lost(feed)
    feed.bench.lake.table("trades").append(found.set_column(at, field, pa.array([10_000], field.type)))


def letter(feed: Feed) -> None:
    first = feed.bench.dead_letters().all().row(0, named=True)
    where = f"source == '{first['source']}' and source_offset == {first['source_offset']}"
    feed.bench.lake.table("dead_letter").delete(where)


def commit(feed: Feed, change: Callable[[dict[str, Any], list[int]], None]) -> None:
    """A commit of no rows with other records: each source's, and the range that is carried for it, as changed."""
    table = feed.bench.lake.table("trades")
    summary = dict(table.current_snapshot().summary.additional_properties)  # type: ignore[union-attr]
    sources, held = json.loads(summary["k2.sources"]), json.loads(summary["k2.offsets"])
    for source in sources:
        topic, _, number = source["digest"].rpartition("/")
        change(source, held[topic][number])
    keys = {name: text for name, text in summary.items() if name.startswith("k2.")}
    keys |= {"k2.sources": json.dumps(sources), "k2.offsets": json.dumps(held)}
    table.append(table.schema().as_arrow().empty_table(), snapshot_properties=keys)


def gap(feed: Feed) -> None:
    """What a sink that trusted a position of its own would do."""

    def change(source: dict[str, Any], held: list[int]) -> None:
        source.update(first=source["last"] + 5, last=source["last"] + 6, rows=0, rejected=1)
        held[1] = source["last"]

    commit(feed, change)


def overlap(feed: Feed) -> None:
    """What a sink that was not fenced would do."""

    def change(source: dict[str, Any], held: list[int]) -> None:
        source.update(first=source["last"] - 3, last=source["last"] + 1, rows=0, rejected=4)
        held[1] = source["last"]

    commit(feed, change)


def short(feed: Feed) -> None:
    """What would let the next sink begin too early."""

    def change(_: dict[str, Any], held: list[int]) -> None:
        held[1] -= 5

    commit(feed, change)


TAMPERED: dict[Callable[[Feed], None], str] = {
    doubled: "more than one row",
    lost: "were committed with",
    moved: "are of offsets that no commit is of",
    letter: "were committed with",
    gap: "a gap: offsets",
    overlap: "an overlap: offsets",
    short: "and the last one carries",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_the_audit_fails_on_a_table_that_was_tampered_with(
    services: Services, tmp_path: Path, tamper: Callable[[Feed], None]
) -> None:
    feed = Feed(services, tmp_path / ".k2")
    feed.publish(300, bad=6)
    feed.bench.stream([feed.topic], rows=100).run(until_end=True)
    assert k2(feed, "stream", "audit").exit_code == 0
    tamper(feed)
    told = k2(feed, "stream", "audit", "-o", "csv")
    assert told.exit_code == 1
    assert f"VIOLATED ({len(feed.bench.audit().faults)})" in told.stderr
    assert TAMPERED[tamper] in told.stderr


def test_nothing_is_not_called_proven(services: Services, tmp_path: Path) -> None:
    feed = Feed(services, tmp_path / ".k2")
    told = k2(feed, "stream", "audit")
    assert (told.exit_code, told.stderr.splitlines()[-1]) == (0, "no stream was taken in yet")
