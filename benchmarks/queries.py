"""Queries through the workbench beside hand-written DuckDB SQL and Polars over the same Parquet files.

The hand-written side is told which folder a session is in, so it prunes as well as a planner can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

import k2kernel as k2
from benchmarks import data
from benchmarks.report import DUCKDB, OURS, POLARS, Measure, Report, race

SESSION = data.SESSIONS[1]
START, END = datetime(2024, 3, 5, 15, 0, tzinfo=UTC), datetime(2024, 3, 5, 15, 1, tzinfo=UTC)
TIMES = 1.3
METADATA_MS = 20.0

_ROWS = """
SELECT * FROM read_parquet($files) WHERE symbol = $symbol AND status IS NULL {and_time}
ORDER BY ts_event, sequence
"""
_BARS = """
SELECT symbol, venue, session, time_bucket(INTERVAL 1 MINUTE, ts_event) AS ts_open,
    {figures}
FROM read_parquet($files) WHERE symbol = $symbol AND status IS NULL
GROUP BY ALL ORDER BY ts_open
"""
_DAILY = """
SELECT symbol, venue, session, {figures}
FROM read_parquet($files) WHERE status IS NULL GROUP BY ALL ORDER BY symbol, session
"""
_FIGURES = """
    first(price ORDER BY ts_event, sequence) AS open, max(price) AS high, min(price) AS low,
    last(price ORDER BY ts_event, sequence) AS close, sum(size) AS volume,
    sum(price::DECIMAL(38, 8) * size) AS notional, notional / volume AS vwap, count(*) AS n_trades,
    min(sequence) AS first_sequence, max(sequence) AS last_sequence
"""
_TWAP = """
SELECT symbol, venue, session, ts_open, {figures},
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


def parquet_files(home: Path, session: object = None) -> list[str]:
    """The data files of trades, of one session or of all."""
    folder = home / "warehouse" / "market_data" / "trades" / "data"
    return sorted(str(path) for path in folder.glob(f"session={session or '*'}/*.parquet"))


class Rivals:
    """The three contenders over the lake at `home`."""

    def __init__(self, home: Path) -> None:
        self._workbench = k2.connect(home)
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._all = parquet_files(home)
        self._day = parquet_files(home, SESSION)

    def point(self, symbol: str) -> dict[str, Callable[[], object]]:
        """One symbol, one minute."""
        values = {"symbol": symbol, "start": START, "end": END}
        statement = _ROWS.format(and_time="AND ts_event >= $start AND ts_event < $end")
        minute = (pl.col("ts_event") >= START) & (pl.col("ts_event") < END)
        return {
            OURS: lambda: self._workbench.trades(symbol, start=START, end=END).to_arrow(),
            DUCKDB: lambda: self._sql(statement, self._day, values),
            POLARS: lambda: self._fills(symbol).filter(minute).sort("ts_event", "sequence").collect(),
        }

    def symbol_day(self, symbol: str) -> dict[str, Callable[[], object]]:
        """All columns of one symbol's session."""
        statement = _ROWS.format(and_time="")
        return {
            OURS: lambda: self._workbench.trades(symbol, session=SESSION).to_arrow(),
            DUCKDB: lambda: self._sql(statement, self._day, {"symbol": symbol}),
            POLARS: lambda: self._fills(symbol).sort("ts_event", "sequence").collect(),
        }

    def bars(self, symbol: str) -> dict[str, Callable[[], object]]:
        """1-minute bars of one symbol's session."""
        statement = _BARS.format(figures=_FIGURES)
        minute = pl.col("ts_event").dt.truncate("1m").alias("ts_open")
        keys: list[str | pl.Expr] = ["symbol", "venue", "session", minute]
        return {
            OURS: lambda: self._workbench.bars(symbol, "1m", session=SESSION, eligible="all").to_arrow(),
            DUCKDB: lambda: self._sql(statement, self._day, {"symbol": symbol}),
            POLARS: lambda: _polars_bars(self._fills(symbol), keys).collect(),
        }

    def twap(self, symbol: str) -> dict[str, Callable[[], object]]:
        """As `bars`, with the time-weighted price."""
        statement = _TWAP.format(figures=_FIGURES)
        words = {"session": SESSION, "eligible": "all", "columns": "all"}
        return {
            OURS: lambda: self._workbench.bars(symbol, "1m", **words).to_arrow(),
            DUCKDB: lambda: self._sql(statement, self._day, {"symbol": symbol}),
        }

    def daily(self) -> dict[str, Callable[[], object]]:
        """Daily bars of every symbol."""
        statement = _DAILY.format(figures=_FIGURES)
        fills = pl.scan_parquet(self._all, hive_partitioning=False).filter(pl.col("status").is_null())
        return {
            OURS: lambda: self._workbench.bars(None, "1d", eligible="all").to_arrow(),
            DUCKDB: lambda: self._sql(statement, self._all, {}),
            POLARS: lambda: _polars_bars(fills, ["symbol", "venue", "session"]).collect(),
        }

    def metadata(self) -> dict[str, dict[str, Callable[[], object]]]:
        """What there is: the questions that a column scan would answer."""
        ask = self._workbench
        return {
            "symbols": {OURS: lambda: ask.symbols().to_arrow(), DUCKDB: lambda: self._sql(_SYMBOLS, self._all, {})},
            "sessions": {OURS: lambda: ask.sessions().to_arrow(), DUCKDB: lambda: self._sql(_SESSIONS, self._all, {})},
            "stats": {OURS: lambda: ask.stats().to_arrow(), DUCKDB: lambda: self._sql(_STATS, self._all, {})},
        }

    def _sql(self, statement: str, files: list[str], values: dict[str, object]) -> object:
        return self._connection.sql(statement, params={"files": files, **values}).to_arrow_table()

    def _fills(self, symbol: str) -> pl.LazyFrame:
        fills = pl.scan_parquet(self._day, hive_partitioning=False)
        return fills.filter((pl.col("symbol") == symbol) & pl.col("status").is_null())


def _polars_bars(fills: pl.LazyFrame, keys: Sequence[str | pl.Expr]) -> pl.LazyFrame:
    """The sort makes first and last unambiguous."""
    price, size = pl.col("price"), pl.col("size")
    return (
        fills.sort("ts_event", "sequence")
        .group_by(keys, maintain_order=True)
        .agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            size.sum().alias("volume"),
            (price.cast(pl.Float64) * size.cast(pl.Float64)).sum().alias("notional"),
            pl.len().alias("n_trades"),
        )
    )


def measure(report: Report, home: Path) -> None:
    """Every query, the contenders in turns, as medians after a warm-up; first all must find equally many rows."""
    rivals = Rivals(home)
    for symbol in (data.BUSY, data.QUIET):
        _add(report, f"point query: {symbol}, one minute", rivals.point(symbol))
        _add(report, f"symbol-day to Arrow: {symbol}", rivals.symbol_day(symbol))
        _add(report, f"1-minute bars of a symbol-day: {symbol}", rivals.bars(symbol))
        _add(report, f"1-minute bars with TWAP of a symbol-day: {symbol}", rivals.twap(symbol))
    _add(report, "daily bars of all symbols", rivals.daily(), runs=7)
    for name, contenders in rivals.metadata().items():
        figures = race(contenders, runs=7)
        report.add(Measure(f"metadata: {name}", "ms", figures, most=METADATA_MS))


def _add(report: Report, name: str, contenders: dict[str, Callable[[], object]], runs: int = 15) -> None:
    found = {rival: _rows(work()) for rival, work in contenders.items()}
    if len(set(found.values())) > 1 or 0 in found.values():
        raise SystemExit(f"{name}: the answers differ: {found}")
    report.add(Measure(name, "ms", race(contenders, runs), times=TIMES))


def _rows(answer: Any) -> int:
    """Rows of an Arrow table or of a Polars frame."""
    return int(answer.height if isinstance(answer, pl.DataFrame) else answer.num_rows)
