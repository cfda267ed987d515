"""Questions that only SQL answers as we do, beside hand-written DuckDB over our own files.

The hand-written side is told which folder a session is in, so it prunes as well as a planner can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

import k2kernel as k2
from benchmarks import data
from benchmarks.report import DUCKDB, OURS, Measure, Report, race

TIMES = 1.3
METADATA_MS = 20.0

_TWAP = """
SELECT symbol, venue, session, ts_open,
    first(price ORDER BY ts_event, sequence) AS open, max(price) AS high, min(price) AS low,
    last(price ORDER BY ts_event, sequence) AS close, sum(size) AS volume,
    sum(price::DECIMAL(38, 8) * size) AS notional, notional / volume AS vwap, count(*) AS n_trades,
    min(sequence) AS first_sequence, max(sequence) AS last_sequence,
    sum(price::DECIMAL(38, 8) * held) / sum(held) AS twap
FROM (
    SELECT *, coalesce(lead(epoch_us(ts_event)) OVER bar, epoch_us(ts_open) + 60000000) - epoch_us(ts_event) AS held
    FROM (
        SELECT *, time_bucket(INTERVAL 1 MINUTE, ts_event) AS ts_open
        FROM read_parquet($files) WHERE symbol = $symbol AND status IS NULL
    ) WINDOW bar AS (PARTITION BY symbol, venue, session, ts_open ORDER BY ts_event, sequence)
) GROUP BY ALL ORDER BY ts_open
"""
_SYMBOLS = """
SELECT symbol, venue, count(*), min(session), max(session), min(ts_event), max(ts_event)
FROM read_parquet($files) GROUP BY ALL ORDER BY ALL
"""
_SESSIONS = """
SELECT session, venue, count(*), count(DISTINCT symbol), min(ts_event), max(ts_event)
FROM read_parquet($files) GROUP BY ALL ORDER BY ALL
"""
_STATS = "SELECT count(*), count(DISTINCT symbol), min(ts_event), max(ts_event) FROM read_parquet($files)"


def measure(report: Report, home: Path) -> None:
    """Medians of the two in turns, after a warm-up."""
    bench = k2.connect(home)
    for word, symbol in data.ASKED.items():
        ours = partial(bench.bars, symbol, "1m", session=data.SESSION, eligible="all", columns="all")
        theirs = _sql(_TWAP, home, data.SESSION, symbol=symbol)
        if len(ours().to_arrow()) != len(theirs()):
            raise SystemExit(f"TWAP of {symbol}: the answers differ")
        _add(report, f"1-minute bars with TWAP of a {word} day", ours, theirs, times=TIMES)
    _add(report, "`wb.symbols()`", bench.symbols, _sql(_SYMBOLS, home), most=METADATA_MS)
    _add(report, "`wb.sessions()`", bench.sessions, _sql(_SESSIONS, home), most=METADATA_MS)
    _add(report, "`wb.stats()`", bench.stats, _sql(_STATS, home), most=METADATA_MS)


def _sql(statement: str, home: Path, session: object = "*", **values: object) -> Callable[[], Any]:
    """A call of DuckDB over the data files of trades, of one session or of all."""
    files = (home / "warehouse" / "market_data" / "trades" / "data").glob(f"session={session}/*.parquet")
    asked = values | {"files": sorted(map(str, files))}
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return lambda: connection.sql(statement, params=asked).to_arrow_table()


def _add(report: Report, name: str, ours: Callable[[], k2.Result], theirs: Callable[[], Any], **target: Any) -> None:
    figures = race({OURS: lambda: ours().to_arrow(), DUCKDB: theirs}, runs=7)
    report.add(Measure(name, "ms", figures, **target))
