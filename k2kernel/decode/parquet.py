"""Parquet to raw batches: every column as the text that a CSV of it would have had, exact, in UTC."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from k2kernel.decode.raw import LINE, RawBatch
from k2kernel.errors import FileFault
from k2kernel.sources import Member

_ROWS = 1 << 17


def parquet_columns(member: Member) -> list[str]:
    """The top-level column names of the file; `FileFault` where it is no readable Parquet."""
    try:
        return list(pq.read_schema(member.path).names)
    except (pa.ArrowInvalid, OSError) as exc:
        raise FileFault(member.name, f"is not a readable Parquet file: {exc}", "Fetch it again") from exc


def parquet_batches(member: Member, wanted: list[str], nbytes: int) -> Iterator[RawBatch]:
    """Batches of rows; a row's number is its place in the file, from 1. Lists are joined by `;`, structs are JSON."""
    with pq.ParquetFile(member.path) as file:
        total = max(file.metadata.num_rows, 1)
        first = 1
        try:
            for batch in file.iter_batches(_ROWS, columns=wanted):
                frame = pl.DataFrame(pl.from_arrow(_readable(batch)))
                frame = frame.select(_text(pl.col(name), kind).alias(name) for name, kind in frame.schema.items())
                rows = len(frame)
                numbers = pl.int_range(first, first + rows, eager=True).alias(LINE)
                yield RawBatch(frame.with_columns(numbers), rows, nbytes * rows // total, b"", first)
                first += rows
        except (pa.ArrowInvalid, OSError) as exc:
            raise FileFault(member.name, f"row {first} and on cannot be read: {exc}", "Fetch it again") from exc


def _readable(batch: pa.RecordBatch) -> pa.Table:
    """The columns in types that Polars has: wide decimals as text, maps as their entries, durations as counts."""
    table = pa.table(batch)
    for at, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_decimal256(kind):
            kind = pa.string()
        elif pa.types.is_map(kind):
            kind = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        elif pa.types.is_duration(kind):
            kind = pa.int64()
        if kind != column.type:
            table = table.set_column(at, column.name, table[at].cast(kind))
    return table


def _decoded(values: pl.Series) -> pl.Series:
    """Bytes as UTF-8; where they are not, with escapes."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [None if value is None else value.decode(errors="backslashreplace") for value in values]
        return pl.Series(values.name, texts, dtype=pl.String)


def _text(value: pl.Expr, kind: object) -> pl.Expr:
    match kind:
        case pl.Datetime(time_zone=None):
            text = value.dt.strftime("%Y-%m-%d %H:%M:%S%.f")
        case pl.Datetime():
            text = value.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%d %H:%M:%S%.fZ")
        case pl.Time():
            text = value.dt.strftime("%H:%M:%S%.f")
        case pl.Binary():
            text = value.map_batches(_decoded, return_dtype=pl.String)
        case pl.Array():
            text = _text(value.arr.to_list(), pl.List(kind.inner))
        case pl.List():
            text = value.list.eval(_text(pl.element(), kind.inner).cast(pl.String)).list.join(";")
        case pl.Struct():
            fields = [_text(value.struct.field(each.name), each.dtype).alias(each.name) for each in kind.fields]
            text = pl.when(value.is_not_null()).then(pl.struct(fields).struct.json_encode())
        case _:
            text = value.cast(pl.String)
    return text
