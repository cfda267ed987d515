"""ClickHouse inside the process (chDB): a MergeTree table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from chdb.session import Session

from benchmarks import data
from benchmarks.engines.engine import COLUMNS, ORDER, Engine, Scope

_TEXT, _NUMBER, _TIME = "LowCardinality(Nullable(String))", "Nullable(Decimal(18, 8))", "DateTime64(6, 'UTC')"
_CSV = {
    "ts_event": _TIME,
    "ts_recv": f"Nullable({_TIME})",
    "symbol": "LowCardinality(String)",
    "venue": "LowCardinality(String)",
    "exec_venue": _TEXT,
    "sequence": "Int64",
    "trade_id": "Nullable(String)",
    "price": _NUMBER,
    "size": _NUMBER,
    "side": _TEXT,
    "conditions": "Nullable(String)",
    "status": _TEXT,
    "corrects": "Nullable(String)",
}
_KEPT = _CSV | {"conditions": "Array(LowCardinality(String))", "session": "Date"}
_INSERT = """
INSERT INTO trades SELECT * REPLACE (splitByChar(';', ifNull(conditions, '')) AS conditions),
    toDate(ts_event, 'America/New_York') AS session
FROM file({csv:String}, 'CSVWithNames', {types:String}) SETTINGS date_time_input_format = 'best_effort'
"""
_FIGURES = """
argMin(price, (ts_event, sequence)) AS open, max(price) AS high, min(price) AS low,
argMax(price, (ts_event, sequence)) AS close, sum(size) AS volume,
sum(toDecimal128(price, 8) * size) AS notional, toFloat64(notional) / toFloat64(volume) AS vwap, count() AS n_trades
"""
_PREVAILING = """
SELECT t.*, q.bid_px, q.bid_sz FROM left_rows t ASOF LEFT JOIN (
    SELECT * FROM right_rows ORDER BY sequence DESC, source DESC, source_offset DESC LIMIT 1 BY venue, symbol, ts_event
) q ON t.venue = q.venue AND t.symbol = q.symbol AND t.ts_event >= q.ts_event
"""
_OF_SYMBOL = "session = {session:Date} AND symbol = {symbol:String}"


class ClickHouse(Engine):
    """A part a session, sorted by symbol and time."""

    packages = ("chdb", "chdb-core")

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self._session = Session(str(store))
        columns = ", ".join(f"{name} {kind}" for name, kind in _KEPT.items())
        laid_out = "PARTITION BY session ORDER BY (symbol, ts_event, sequence)"
        self._session.query(f"CREATE TABLE IF NOT EXISTS trades ({columns}) ENGINE = MergeTree {laid_out}")

    def load(self, csv: Path) -> None:
        types = ", ".join(f"{name} {kind}" for name, kind in _CSV.items())
        self._session.query(_INSERT, params={"csv": str(csv), "types": types})

    append = load

    def minute(self, scope: Scope) -> Any:
        inside = f"AND ts_event >= {{start:{_TIME}}} AND ts_event < {{end:{_TIME}}}"
        return self._rows(scope, inside, start=f"{scope.start:%F %T}", end=f"{scope.end:%F %T}")

    def day(self, scope: Scope) -> Any:
        return self._rows(scope)

    def bars(self, scope: Scope) -> Any:
        minute = f"toStartOfMinute(ts_event)::{_TIME} AS ts_open"
        return self._sql(
            f"SELECT symbol, session, {minute}, {_FIGURES} {_standing(_OF_SYMBOL)} "
            "GROUP BY symbol, session, ts_open ORDER BY ts_open",
            symbol=scope.symbol,
            session=str(scope.session),
        )

    def daily(self) -> Any:
        keys = "symbol, session"
        return self._sql(f"SELECT {keys}, {_FIGURES} {_standing()} GROUP BY {keys} ORDER BY {keys}")

    def replay(self) -> Iterator[Any]:
        for session in data.SESSIONS:
            statement = f"SELECT * {_standing('session = {session:Date}')} ORDER BY {', '.join(ORDER)}"
            yield from self._session.send_query(statement, "Arrow", params={"session": str(session)}).record_batch()

    def join(self, trades: pa.Table, quotes: pa.Table) -> Callable[[], Any]:
        for name, rows in {"left_rows": trades, "right_rows": quotes}.items():
            self._session.query(f"DROP TABLE IF EXISTS {name}")
            self._session.query(f"CREATE TABLE {name} ENGINE = Memory AS SELECT * FROM Python(rows)")
            assert len(rows) == int(str(self._session.query(f"SELECT count() FROM {name}")))
        return lambda: self._sql(_PREVAILING)

    def close(self) -> None:
        self._session.close()

    def _rows(self, scope: Scope, more: str = "", **values: str) -> Any:
        return self._sql(
            f"SELECT {', '.join(COLUMNS)} {_standing(_OF_SYMBOL)} {more} ORDER BY ts_event, sequence",
            symbol=scope.symbol,
            session=str(scope.session),
            **values,
        )

    def _sql(self, statement: str, **values: str) -> Any:
        return self._session.query(statement, "ArrowTable", params=values)


def _standing(condition: str = "true") -> str:
    return f"FROM trades WHERE status IS NULL AND {condition}"
