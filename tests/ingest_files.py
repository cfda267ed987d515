"""Files to ingest, and what the lake has afterwards, for the tests of the write path."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from k2kernel import profiles
from k2kernel.ingest import Options, Receipt, ingest_file
from k2kernel.lake import Lake
from tests.support import ROOT

K2 = ROOT / ".venv" / "bin" / "k2"
HEADER = "ts_event,symbol,venue,sequence,price,size,conditions\n"

MIXED = """
title = "trades and quotes in one file, told apart by a letter"
[file]
header = false
columns = ["kind", "time", "symbol", "seq", "a", "b"]
no_records = "^NO RECORDS"
comment = "#"
trailer = "^END"
[[route]]
table = "trades"
when = { column = "kind", in = ["T", "B"] }
[route.columns]
symbol = { column = "symbol" }
venue = { option = "venue", constant = "BINANCE" }
ts_event = { column = "time", unit = "ns" }
sequence = { column = "seq", null_if = "" }
price = { column = "a" }
size = { column = "b" }
[[route]]
table = "quotes"
when = { column = "kind", in = ["Q", "B"] }
[route.columns]
symbol = { column = "symbol" }
venue = { option = "venue", constant = "BINANCE" }
ts_event = { column = "time", unit = "ns" }
sequence = { column = "seq", null_if = "" }
bid_px = { column = "a" }
bid_sz = { column = "b" }
[skip]
kind = { column = "kind" }
"""
"""T is a trade, Q a quote, B both; any other letter is left out and counted."""

BASE = 1_700_000_000_000_000_000


def mixed(folder: Path, text: str = MIXED) -> str:
    """Where the profile MIXED is."""
    path = folder / "mixed.toml"
    path.write_text(text)
    return str(path)


def lines(first: int, last: int, kind: str = "TQ", symbol: str = "AAA") -> list[str]:
    """Rows of MIXED by number; their kinds go round `kind`."""
    return [f"{kind[n % len(kind)]},{BASE + n * 1_000},{symbol},{n},{n}.5,{n + 1}" for n in range(first, last)]


def write(path: Path, rows: Iterable[str], end: str = "\n") -> Path:
    path.write_bytes("".join(row + end for row in rows).encode())
    return path


def ingest(lake: Lake, path: Path, profile: str, values: Mapping[str, str] | None = None, **how: object) -> Receipt:
    options = Options(values or {}, **how)  # type: ignore[arg-type]
    receipt = ingest_file(lake, path, profiles.load(profile, lake.settings.home), options)
    assert_accounted(receipt)
    return receipt


def assert_accounted(receipt: Receipt) -> None:
    rows = sum(part.rows + part.duplicate for part in receipt.tables.values())
    assert receipt.lines + receipt.fanout == rows + sum(receipt.skipped.values()) + receipt.rejected


def rows_of(lake: Lake, table: str) -> pl.DataFrame:
    """Every row of the table, read from its data files as they are."""
    files = lake.files(table, lake.head(table)).files
    return (
        pl.concat([pl.read_parquet(file.path, hive_partitioning=False) for file in files]) if files else pl.DataFrame()
    )


def counts(lake: Lake) -> dict[str, int]:
    """Rows of the tables that have any."""
    return {name: n for name in ("trades", "quotes", "dead_letter") if (n := len(rows_of(lake, name)))}


def content(lake: Lake, table: str) -> Counter[tuple[object, ...]]:
    """The rows without the time of their ingest."""
    frame = rows_of(lake, table)
    return Counter() if frame.is_empty() else Counter(_plain(frame).rows())


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop("ts_ingest").with_columns(pl.col(pl.List(pl.String)).list.join("\0"))


def fingerprint(lake: Lake, table: str) -> str:
    """A digest of every value but the time of ingest, for tables too large for tuples."""
    frame = rows_of(lake, table)
    if frame.is_empty():
        return "empty"
    texts = _plain(frame).with_columns(pl.col(pl.Binary).bin.encode("hex")).sort("source", "source_offset")
    return hashlib.sha256(texts.write_csv().encode()).hexdigest()


def data_files(lake: Lake) -> set[str]:
    """Every data file on disk."""
    return {str(path) for path in Path(lake.settings.warehouse_path).rglob("*.parquet")}


def committed_files(lake: Lake) -> set[str]:
    """Every data file that some snapshot of a table refers to."""
    tables = ("trades", "quotes", "instruments", "corporate_actions", "dead_letter")
    return {
        str(file.path).removeprefix("file://")
        for table in tables
        for snapshot in lake.snapshots(table)
        for file in lake.files(table, snapshot.id).files
    }


def assert_no_orphans(lake: Lake) -> None:
    assert data_files(lake) == committed_files(lake)


def command(*args: object, home: Path, **environment: str) -> list[str]:
    return [str(K2), *map(str, args), "--home", str(home)]


def run(*args: object, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`k2 ARGS --home HOME` as a process of its own."""
    settings = {"K2_INGEST_BUFFER_ROWS": "50000"} | environment
    return subprocess.run(
        command(*args, home=home), env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
    )


def prints(lake: Lake) -> dict[str, str]:
    """The fingerprints of the tables that a file of events goes to."""
    return {table: fingerprint(lake, table) for table in ("dead_letter", "trades", "quotes")}
