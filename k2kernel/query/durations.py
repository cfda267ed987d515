"""Intervals of SQL as durations: frames and files have a type for the one and not for the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

Rows = TypeVar("Rows", "pa.RecordBatch", "pa.Table")


def with_durations(rows: Rows) -> Rows:
    """The rows, their intervals as durations in microseconds: a month is 30 days, as where DuckDB compares them."""
    import pyarrow as pa

    kind = pa.duration("us")
    for at, field in enumerate(rows.schema):
        if field.type == pa.month_day_nano_interval():
            column = rows.column(at)
            made = _made(column) if isinstance(column, pa.Array) else pa.chunked_array(map(_made, column.chunks), kind)
            rows = rows.set_column(at, field.with_type(kind), made)
    return rows


def _made(column: pa.Array) -> pa.Array:
    """Of an interval there are 16 bytes: months, days, nanoseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    begin, rows, raw = column.offset, column.offset + len(column), column.buffers()[1]
    halves = pa.Array.from_buffers(pa.int32(), 4 * rows, [None, raw]).cast(pa.int64())
    nanos = pa.Array.from_buffers(pa.int64(), 2 * rows, [None, raw])[2 * begin + 1 :: 2]
    days = pc.add(pc.multiply(halves[4 * begin :: 4], 30), halves[4 * begin + 1 :: 4])
    micros = pc.add(pc.multiply(days, 86_400_000_000), pc.divide(nanos, 1_000))
    return pc.if_else(column.is_valid(), micros, None).cast(pa.duration("us"))
