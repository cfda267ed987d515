"""DuckDB by hand: over Parquet files, a folder a session, and in a database file of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks import data
from benchmarks.engines.engine import BATCH, COLUMNS, ORDER, Engine, Scope

_READ = """
SELECT * REPLACE (string_split(conditions, ';') AS conditions),
    (ts_event AT TIME ZONE 'America/New_York')::DATE AS session
FROM read_csv('{csv}', header = true, columns = {types})
ORDER BY session, symbol, ts_event, sequence
"""
_FIGURES = """
first(price ORDER BY ts_event, sequence) AS open, max(price) AS high, min(price) AS low,
last(price ORDER BY ts_event, sequence) AS close, sum(size) AS volume,
sum(price::DECIMAL(38, 8) * size) AS notional, notional / volume AS vwap, count(*) AS n_trades
"""
_PREVAILING = """
SELECT t.*, q.bid_px, q.bid_sz FROM left_rows t ASOF LEFT JOIN (
    SELECT * FROM right_rows QUALIFY row_number() OVER (
        PARTITION BY venue, symbol, ts_event ORDER BY sequence DESC, source DESC, source_offset DESC) = 1
) q ON t.venue = q.venue AND t.symbol = q.symbol AND t.ts_event >= q.ts_event
"""
_TYPES = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in data.TYPES.items()) + "}"
_OF_SYMBOL = "session = $session AND symbol = $symbol"


class _DuckDB(Engine):
    """The statements that both share."""

    packages = ("duckdb",)

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self._connection = self._connected()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET enable_progress_bar = false")

    @property
    @abstractmethod
    def trades(self) -> str:
        """Where the rows are, as SQL reads it."""

    def _connected(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect()

    def minute(self, scope: Scope) -> Any:
        return self._rows(scope, "AND ts_event >= $start AND ts_event < $end", start=scope.start, end=scope.end)

    def day(self, scope: Scope) -> Any:
        return self._rows(scope)

    def bars(self, scope: Scope) -> Any:
        minute = "time_bucket(INTERVAL 1 MINUTE, ts_event) AS ts_open"
        return self._sql(
            f"SELECT symbol, session, {minute}, {_FIGURES} {self._standing(_OF_SYMBOL)} GROUP BY ALL ORDER BY ts_open",
            symbol=scope.symbol,
            session=scope.session,
        )

    def daily(self) -> Any:
        return self._sql(f"SELECT symbol, session, {_FIGURES} {self._standing()} GROUP BY ALL ORDER BY symbol, session")

    def replay(self) -> Iterator[Any]:
        for session in data.SESSIONS:
            statement = f"SELECT * {self._standing('session = $session')} ORDER BY {', '.join(ORDER)}"
            yield from self._connection.sql(statement, params={"session": session}).to_arrow_reader(BATCH)

    def join(self, trades: pa.Table, quotes: pa.Table) -> Callable[[], Any]:
        self._connection.execute("SET asof_loop_join_threshold = 0")
        self._connection.register("left_rows", trades)
        self._connection.register("right_rows", quotes)
        return lambda: self._sql(_PREVAILING)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, scope: Scope, more: str = "", **values: object) -> Any:
        return self._sql(
            f"SELECT {', '.join(COLUMNS)} {self._standing(_OF_SYMBOL)} {more} ORDER BY ts_event, sequence",
            symbol=scope.symbol,
            session=scope.session,
            **values,
        )

    def _standing(self, condition: str = "true") -> str:
        return f"FROM {self.trades} WHERE status IS NULL AND {condition}"

    def _sql(self, statement: str, **values: object) -> Any:
        return self._connection.sql(statement, params=values).to_arrow_table()


class OnParquet(_DuckDB):
    """Files without a catalog: an append is one more of them."""

    @property
    def trades(self) -> str:
        """Its sessions are told from the folders, so that those not asked for are not opened."""
        return f"read_parquet('{self.store}/*/*.parquet', hive_partitioning = true)"

    def load(self, csv: Path) -> None:
        written = "FORMAT parquet, COMPRESSION zstd, PARTITION_BY (session), APPEND"
        self._connection.execute(f"COPY ({_READ.format(csv=csv, types=_TYPES)}) TO '{self.store}' ({written})")

    append = load


class OwnFile(_DuckDB):
    """A table of DuckDB; each append is a transaction."""

    @property
    def trades(self) -> str:
        """A table of the database."""
        return "trades"

    def _connected(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(self.store / "trades.duckdb")

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        kept = data.TYPES | {"conditions": "VARCHAR[]", "session": "DATE"}
        columns = ", ".join(f"{name} {kind}" for name, kind in kept.items())
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS trades ({columns})")

    def load(self, csv: Path) -> None:
        self._connection.execute(f"INSERT INTO trades {_READ.format(csv=csv, types=_TYPES)}")

    append = load
