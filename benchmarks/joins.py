"""The as-of join of a symbol-day beside Polars' and DuckDB's, all over the same frames in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

import k2kernel as k2
from benchmarks.report import DUCKDB, OURS, POLARS, Measure, Report, race

ROWS = 100_000
TIMES = 1.5

_SQL = """
SELECT t.*, q.* FROM trades t ASOF LEFT JOIN (
    SELECT * FROM quotes QUALIFY row_number() OVER (
        PARTITION BY venue, symbol, ts_event ORDER BY sequence DESC, source DESC, source_offset DESC) = 1
) q ON t.venue = q.venue AND t.symbol = q.symbol AND t.ts_event >= q.ts_event
"""


_EVENTS = """
SELECT 'S001' AS symbol, 'XNYS' AS venue, NULL::VARCHAR AS exec_venue, DATE '2024-03-04' AS session,
    make_timestamptz(1709562600000000 + 1000 * (hash(i, $seed) % 23400000)::BIGINT) AS ts_event, 'venue' AS clock,
    NULL::BIGINT AS ts_event_ns, NULL::TIMESTAMPTZ AS ts_recv, NULL::BIGINT AS ts_recv_ns, i AS sequence,
    (20 + (hash(i) % 200) / 100)::DECIMAL(18, 8) AS {price}, 100::DECIMAL(18, 8) AS {size},
    repeat('0', 64) AS source, i AS source_offset
FROM range($rows) AS numbers(i) ORDER BY ts_event, sequence
"""
"""A day of one instrument in the total order, in ms, so that rows tie."""


def events(price: str, size: str, seed: int) -> pl.DataFrame:
    """`ROWS` events with a price and a size."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        text = _EVENTS.format(price=price, size=size)
        return pl.DataFrame(connection.sql(text, params={"rows": ROWS, "seed": seed}).to_arrow_table())


def contenders(bench: k2.Workbench, trades: pl.DataFrame, quotes: pl.DataFrame) -> dict[str, Callable[[], Any]]:
    """Each gives the trades with all columns of the quote beside them."""
    connection = duckdb.connect()
    connection.execute("SET asof_loop_join_threshold = 0")
    connection.register("trades", trades.to_arrow())
    connection.register("quotes", quotes.to_arrow())
    by = ["venue", "symbol"]
    return {
        OURS: lambda: bench.asof(trades, quotes).to_polars(),
        POLARS: lambda: trades.join_asof(quotes, on="ts_event", by=by, check_sortedness=False),
        DUCKDB: lambda: connection.sql(_SQL).to_arrow_table(),
    }


def measure(report: Report, folder: Path) -> None:
    """A symbol-day of `ROWS` trades and as many quotes; first ours and Polars must agree on every price."""
    trades, quotes = events("price", "size", 1), events("bid_px", "bid_sz", 2)
    rivals = contenders(k2.connect(folder / "lake-joins").init(), trades, quotes)
    found = [rivals[name]()["bid_px"] for name in (OURS, POLARS)]
    if not found[0].equals(found[1]):
        raise SystemExit("as-of join: the answers differ")
    report.add(Measure("as-of join of a symbol-day", "ms", race(rivals), times=TIMES, rival=POLARS))
