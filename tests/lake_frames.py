"""Frames and lakes for the tests of the lake."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl

from k2kernel.config import Settings
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.schemas import TABLES

DAY = date(2014, 3, 10)
OPEN = datetime(2014, 3, 9, 23, tzinfo=UTC)


def settings(home: Path) -> Settings:
    return Settings(home=home / ".k2", _env_file=None, threads=1, memory_limit="500MB", row_group_rows=2_048)


def new_lake(home: Path) -> Lake:
    return Lake.open(settings(home), create=True)


def frame(name: str, columns: Mapping[str, object], rows: int) -> pl.DataFrame:
    """A frame of the table's types; a value that is no list is every row's, a column that is not given is null."""
    types = TABLES[name].polars
    given = {column: values if isinstance(values, list) else [values] * rows for column, values in columns.items()}
    return pl.DataFrame([pl.Series(column, given.get(column, [None] * rows), types[column]) for column in types])


def trades(rows: int, digest: str, day: date = DAY, **columns: object) -> pl.DataFrame:
    """Trades of BHP, one a second, with what `columns` say."""
    given = {
        "symbol": "BHP",
        "venue": "XASX",
        "session": day,
        "ts_event": [OPEN + (day - DAY) + timedelta(seconds=number) for number in range(rows)],
        "clock": "venue",
        "sequence": list(range(rows)),
        "price": Decimal("35.10"),
        "size": Decimal(100),
        "ts_ingest": OPEN,
        "source": digest,
        "source_offset": list(range(rows)),
    }
    return frame("trades", given | columns, rows)


def came_from(digest: str, rows: int, minute: int = 0, **changes: object) -> Provenance:
    """The provenance of a file of so many rows, ingested so many minutes after the open."""
    record = SourceRecord(digest, f"{digest}.csv", nbytes=100, first=0, last=rows, rows=rows, rejected=0)
    known = {"profile": "asx-trades", "profile_digest": "f00d", "options": {"symbol": "BHP"}}
    return Provenance((record,), ts_ingest=OPEN + timedelta(minutes=minute), **known | changes)  # type: ignore[arg-type]


def load(lake: Lake, digest: str, rows: int = 10, minute: int = 0, day: date = DAY) -> int:
    """Write and append one file of trades, and return the snapshot id."""
    stamp = OPEN + timedelta(minutes=minute)
    written = lake.write("trades", trades(rows, digest, day, ts_ingest=stamp), day)
    return lake.append("trades", [written.path], came_from(digest, rows, minute))


def rows_of(lake: Lake, name: str = "trades", snapshot_id: int | None = None) -> pl.DataFrame:
    """What PyIceberg reads from a table, in no order."""
    found = pl.from_arrow(lake.table(name).scan(snapshot_id=snapshot_id).to_arrow())
    assert isinstance(found, pl.DataFrame)
    return found
