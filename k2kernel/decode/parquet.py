"""Parquet to raw batches: every column as the text that a CSV of it would have had, exact, in UTC."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import polars.selectors as cs
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
    """Batches of rows; a row's number is its place in the file, from 1. Lists are joined by `;`."""
    with pq.ParquetFile(member.path) as file:
        total = max(file.metadata.num_rows, 1)
        first = 1
        try:
            for batch in file.iter_batches(_ROWS, columns=wanted):
                frame = pl.DataFrame(pl.from_arrow(pa.table(batch))).select(_texts())
                rows = len(frame)
                numbers = pl.int_range(first, first + rows, eager=True).alias(LINE)
                yield RawBatch(frame.with_columns(numbers), rows, nbytes * rows // total, b"", first)
                first += rows
        except (pa.ArrowInvalid, OSError) as exc:
            raise FileFault(member.name, f"row {first} and on cannot be read: {exc}", "Fetch it again") from exc


def _texts() -> list[pl.Expr]:
    utc = cs.datetime(time_zone="*").dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%d %H:%M:%S%.fZ")
    naive = cs.datetime(time_zone=None).dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    lists = cs.list().cast(pl.List(pl.String)).list.join(";")
    rest = (cs.all() - cs.datetime() - cs.list()).cast(pl.String)
    return [utc, naive, lists, rest]
