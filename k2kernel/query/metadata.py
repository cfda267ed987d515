"""What there is: the statements behind `symbols` and `sessions` over the catalogue, and the rows of `stats`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from k2kernel.query.connection import Query
from k2kernel.query.scan import Pinned
from k2kernel.schemas import KINDS

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query.catalogue import Catalogue

SYMBOL_COLUMNS = ["symbol", "venue", "trades", "quotes", "first_session", "last_session", "first", "last"]
SESSION_COLUMNS = ["session", "venue", "trades", "quotes", "symbols", "first", "last"]
SYMBOL_KEY, SESSION_KEY = ("symbol", "venue"), ("session::VARCHAR", "venue")
STATS_COLUMNS = ["table", "rows", "bytes", "files", "symbols", "first", "last", "snapshot_id", "snapshots"]

_COUNTS = "sum(trades)::BIGINT AS trades, sum(quotes)::BIGINT AS quotes"

SYMBOLS = (
    f"SELECT symbol, venue, {_COUNTS}, min(session) AS first_session, max(session) AS last_session, "
    "min(first) AS first, max(last) AS last FROM ({entries}) GROUP BY symbol, venue ORDER BY symbol, venue"
)
SESSIONS = (
    f"SELECT session, venue, {_COUNTS}, count(DISTINCT symbol) AS symbols, min(first) AS first, max(last) AS last "
    "FROM ({entries}) GROUP BY session, venue ORDER BY session, venue"
)
_EMPTY = (
    "SELECT NULL::VARCHAR AS venue, NULL::VARCHAR AS symbol, NULL::DATE AS session, NULL::BIGINT AS trades, "
    "NULL::BIGINT AS quotes, NULL::TIMESTAMPTZ AS first, NULL::TIMESTAMPTZ AS last WHERE false"
)
_FRAME = "k2_stats"


def over(text: str, frames: Collection[str]) -> str:
    """A statement of this module over the entries of event tables, which are registered as `k2_<table>`."""
    parts = [_EMPTY]
    for kind in KINDS:
        if f"k2_{kind}" in frames:
            counts = ", ".join(f"{'rows' if name == kind else '0'} AS {name}" for name in ("trades", "quotes"))
            parts.append(f"SELECT venue, symbol, session, {counts}, first, last FROM k2_{kind}")
    return text.format(entries=" UNION ALL ".join(parts))


def stats(pins: Sequence[Pinned], catalogue: Catalogue) -> Query:
    """One row for each table."""
    return Query(f"FROM {_FRAME}", frames={_FRAME: lambda: _table([_row(pinned, catalogue) for pinned in pins])})


def _row(pinned: Pinned, catalogue: Catalogue) -> dict[str, Any]:
    row = dict.fromkeys(STATS_COLUMNS) | {
        "table": pinned.name,
        "rows": catalogue.rows(pinned),
        "bytes": pinned.files.nbytes,
        "files": len(pinned.files),
        "snapshot_id": pinned.snapshot_id,
        "snapshots": len(pinned.lake.table(pinned.name).metadata.snapshots),
    }
    return row | (_of_events(catalogue.entries(pinned)) if pinned.name in KINDS else {})


def _of_events(entries: pa.Table) -> dict[str, Any]:
    import pyarrow.compute as pc

    return {
        "symbols": entries.group_by(["venue", "symbol"]).aggregate([]).num_rows,
        "first": pc.min(entries["first"]).as_py(),
        "last": pc.max(entries["last"]).as_py(),
    }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    counts = [(name, pa.int64()) for name in ("rows", "bytes", "files", "symbols")]
    times = [(name, pa.timestamp("us", "UTC")) for name in ("first", "last")]
    ends = [("snapshot_id", pa.int64()), ("snapshots", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema([("table", pa.string()), *counts, *times, *ends]))
