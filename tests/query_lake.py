"""Lakes and rows for the tests of the query engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from k2kernel.lake import Lake
from k2kernel.schemas import TABLES
from k2kernel.times import from_ns
from tests.lake_frames import OPEN, came_from

DAY = date(2014, 3, 10)
NEXT = DAY + timedelta(days=1)
OPEN_NS = int(OPEN.timestamp()) * 1_000_000_000
"""10:00 in Sydney on DAY."""

_OF_TRADES = {"price": Decimal("35.10"), "size": Decimal(100)}
_OF_QUOTES = {"bid_px": Decimal("35.10"), "ask_px": Decimal("35.12"), "bid_sz": Decimal(5), "ask_sz": Decimal(7)}


def at(seconds: float = 0, day: date = DAY) -> datetime:
    """So many seconds after 10:00 in Sydney."""
    return OPEN + (day - DAY) + timedelta(seconds=seconds)


def event(ns: int | None = None, **columns: Any) -> dict[str, Any]:
    """A trade or quote of BHP; with `ns` (ns after the open) it has nanoseconds."""
    given: dict[str, Any] = {"symbol": "BHP", "venue": "XASX", "session": DAY, "ts_event": at(), "clock": "venue"}
    if ns is not None:
        given |= {"ts_event_ns": OPEN_NS + ns, "ts_event": from_ns(OPEN_NS + ns)}
    return given | columns


def add(lake: Lake, digest: str, rows: Sequence[Mapping[str, Any]], table: str = "trades", minute: int = 0) -> int:
    """Commit rows as one ingest of the source `digest`, a data file a session, and return the snapshot id.

    `sequence` and `source_offset` are the position in `rows` where a row does not say.
    """
    defaults = {"trades": _OF_TRADES, "quotes": _OF_QUOTES}.get(table, {})
    stamp = OPEN + timedelta(minutes=minute)
    full = [
        {"sequence": number, "source_offset": number, "source": digest, "ts_ingest": stamp, **defaults, **row}
        for number, row in enumerate(rows)
    ]
    types = dict(TABLES[table].polars)
    frame = pl.DataFrame({name: [row.get(name) for row in full] for name in types}, schema=types)
    parts = frame.partition_by("session", as_dict=True) if TABLES[table].partition else {(None,): frame}
    files = [lake.write(table, part, key[0]) for key, part in parts.items()]
    return lake.append(table, [file.path for file in files], came_from(digest, len(full), minute))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
