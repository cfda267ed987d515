"""Rows as text: decimals in plain notation without trailing zeros, times as ISO 8601 with six digits in their zone."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_KIND = "kind"


def as_text(name: str, kind: pl.DataType, *, joined_lists: bool) -> pl.Expr:
    """A column as it is written in JSON, or with `joined_lists` (items joined by `;`) in CSV."""
    import polars as pl

    column = pl.col(name)
    if isinstance(kind, pl.Decimal):
        text = column.cast(pl.String)
        return text.str.strip_chars_end("0").str.strip_suffix(".").alias(name) if kind.scale else text
    if isinstance(kind, pl.Datetime):
        zone = "Z" if kind.time_zone == "UTC" else "%:z" if kind.time_zone else ""
        return column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{zone}")
    if isinstance(kind, pl.Binary):
        return column.map_elements(lambda raw: raw.decode(errors="backslashreplace"), return_dtype=pl.String)
    if isinstance(kind, (pl.Date, pl.Time)) or name.endswith("snapshot_id"):
        return column.cast(pl.String)
    if isinstance(kind, pl.List) and joined_lists:
        return column.cast(pl.List(pl.String)).list.join(";")
    return column


def ndjson(batch: pa.RecordBatch) -> str:
    """A batch as JSON objects, one a line. Where a column `kind` names tables, a line has the columns of its own."""
    import polars as pl

    found = pl.DataFrame(pl.from_arrow(batch))
    if not len(found):
        return ""
    if _KIND not in found.columns or not set(found[_KIND].unique()) <= TABLES.keys():
        return _lines(found)
    kinds = found[_KIND].to_list()
    parts = {kind: iter(_lines(_own(found, kind)).splitlines(keepends=True)) for kind in set(kinds)}
    return "".join(chain.from_iterable(next(parts[kind]) for kind in kinds))


def _own(found: pl.DataFrame, kind: str) -> pl.DataFrame:
    names = [name for name in found.columns if name == _KIND or name in TABLES[kind].names]
    return found.filter(found[_KIND] == kind).select(names)


def _lines(found: pl.DataFrame) -> str:
    texts: Any = found.select(as_text(name, kind, joined_lists=False) for name, kind in found.schema.items())
    return f"{texts.write_ndjson().rstrip(chr(10))}\n"
