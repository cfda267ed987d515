"""The file that is measured: trades of one venue in the shipped plain layout, in order of time, the same every time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

PROFILE = "k2-trades"
VENUE = "XNYS"
SESSIONS = [date(2024, 3, day) for day in (4, 5, 6, 7, 8)]
SESSION, START = SESSIONS[1], datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
"""The session that is asked about, and an instant in it."""
SYMBOLS = 100
BUSY, QUIET = "S001", "S050"
"""The symbol with most trades (about a seventh of them), and one in the middle."""

ASKED = {"busy": BUSY, "quiet": QUIET}

TYPES = {
    "ts_event": "TIMESTAMPTZ",
    "ts_recv": "TIMESTAMPTZ",
    "symbol": "VARCHAR",
    "venue": "VARCHAR",
    "exec_venue": "VARCHAR",
    "sequence": "BIGINT",
    "trade_id": "VARCHAR",
    "price": "DECIMAL(18,8)",
    "size": "DECIMAL(18,8)",
    "side": "VARCHAR",
    "conditions": "VARCHAR",
    "status": "VARCHAR",
    "corrects": "VARCHAR",
}
"""The columns of the layout in order, with the types in which DuckDB reads them."""

_TRADES = """
WITH drawn AS (
    SELECT i,
        i // $per_session AS day,
        i % $per_session AS nth,
        hash(i) / 18446744073709551616.0 AS u,
        hash(i + 1000000007) AS h
    FROM range($rows) AS numbers(i)
), placed AS (
    SELECT *,
        -- log-uniform ranks: the n-th symbol has a share of about 1/n
        least(floor(pow($symbols + 1, u))::BIGINT, $symbols) AS rank,
        $first_us + $day_us * day + ($session_us * (nth::DOUBLE / $per_session))::BIGINT AS at_us
    FROM drawn
), priced AS (
    SELECT *,
        2000 + 137 * rank + (150 * sin(i / 90000.0 + rank))::BIGINT + (h % 5)::BIGINT AS cents
    FROM placed
)
SELECT
    strftime(make_timestamp(at_us), '%Y-%m-%dT%H:%M:%S.%fZ') AS ts_event,
    strftime(make_timestamp(at_us + 150 + (h % 900)::BIGINT), '%Y-%m-%dT%H:%M:%S.%fZ') AS ts_recv,
    format('S{:03d}', rank) AS symbol,
    $venue AS venue,
    ['XNYS', 'ARCX', 'XNAS', 'BATS'][1 + (h % 4)::INT] AS exec_venue,
    nth + 1 AS sequence,
    (24030400000000 + i)::VARCHAR AS trade_id,
    (cents / 100.0)::DECIMAL(18, 2) AS price,
    CASE WHEN h % 3 = 0 THEN 1 + (h // 3) % 99 ELSE 100 * (1 + (h // 3) % 9) END AS size,
    CASE h % 7 WHEN 0 THEN NULL WHEN 1 THEN 'buy' WHEN 2 THEN 'buy' WHEN 3 THEN 'buy' ELSE 'sell' END AS side,
    CASE WHEN h % 11 = 0 THEN 'F' WHEN h % 3 = 0 THEN 'I' END AS conditions,
    NULL AS status,
    NULL AS corrects
FROM priced ORDER BY i
"""

EVENTS = 100_000
_EVENTS = """
SELECT 'S001' AS symbol, 'XNYS' AS venue, NULL::VARCHAR AS exec_venue, DATE '2024-03-04' AS session,
    make_timestamptz(1709562600000000 + 1000 * (hash(i, $seed) % 23400000)::BIGINT) AS ts_event, 'venue' AS clock,
    NULL::BIGINT AS ts_event_ns, NULL::TIMESTAMPTZ AS ts_recv, NULL::BIGINT AS ts_recv_ns, i AS sequence,
    (20 + (hash(i) % 200) / 100)::DECIMAL(18, 8) AS {price}, 100::DECIMAL(18, 8) AS {size},
    repeat('0', 64) AS source, i AS source_offset
FROM range($rows) AS numbers(i) ORDER BY ts_event, sequence
"""


def events(price: str, size: str, seed: int) -> pa.Table:
    """`EVENTS` events of one instrument's session with a price and a size, in total order; in ms, so that some tie."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        text = _EVENTS.format(price=price, size=size)
        return connection.sql(text, params={"rows": EVENTS, "seed": seed}).to_arrow_table()


def csv(folder: Path, rows: int, sessions: int = len(SESSIONS)) -> Path:
    """The CSV of `rows` trades over the first `sessions` of `SESSIONS`, made once and kept in `folder`."""
    path = folder / f"trades-{rows}-{sessions}.csv"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        values = {
            "rows": rows,
            "per_session": -(-rows // sessions),
            "symbols": SYMBOLS,
            "venue": VENUE,
            "first_us": 1_709_562_600_000_000,  # 2024-03-04 09:30 in New York
            "day_us": 86_400_000_000,
            "session_us": 23_400_000_000,  # six and a half hours
        }
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({_TRADES}) TO '{part}' (HEADER)", values)
        part.replace(path)
    return path


def pieces(source: Path, folder: Path, rows: int) -> list[Path]:
    """`source` cut into files of `rows` rows, each with the header, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with source.open(encoding="utf-8") as lines:
        header = next(lines)
        while piece := "".join(islice(lines, rows)):
            paths.append(folder / f"piece-{len(paths):04}.csv")
            paths[-1].write_text(header + piece, encoding="utf-8")
    return paths
