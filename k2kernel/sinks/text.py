"""Rows as text: decimals in plain notation without trailing zeros, times as ISO 8601 with all digits in their zone."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_KIND = "kind"


def as_text(name: str, kind: pl.DataType, *, joined_lists: bool) -> pl.Expr:
    """A column as it is written in JSON, or with `joined_lists` (items joined by `;`, other shapes as JSON) in CSV."""
    import polars as pl

    column = pl.col(name)
    if isinstance(kind, pl.Decimal):
        text = column.cast(pl.String)
        return text.str.strip_chars_end("0").str.strip_suffix(".").alias(name) if kind.scale else text
    if kind.is_temporal():
        return _moment(column, kind)
    if isinstance(kind, pl.Binary):
        return column.map_elements(lambda raw: raw.decode(errors="backslashreplace"), return_dtype=pl.String)
    if name.endswith("snapshot_id"):
        return column.cast(pl.String)
    return _shape(column, kind, joined_lists=joined_lists).alias(name) if kind.is_nested() else column


def _moment(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A time with six digits, or nine where it has them; a duration as ISO 8601."""
    import polars as pl

    if isinstance(kind, pl.Datetime):
        zone = "Z" if kind.time_zone == "UTC" else "%:z" if kind.time_zone else ""
        return column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.{9 if kind.time_unit == 'ns' else 6}f{zone}")
    return column.dt.to_string("iso") if isinstance(kind, pl.Duration) else column.cast(pl.String)


def _shape(column: pl.Expr, kind: pl.DataType, *, joined_lists: bool) -> pl.Expr:
    """A list, a struct or a map, whose keys may be no texts, as those of JSON are: it is its pairs."""
    import polars as pl

    if isinstance(kind, pl.Map):
        column = column.cast(pl.List(pl.Struct({"key": kind.key, "value": kind.value})))
    if not joined_lists:
        return column
    if isinstance(kind, pl.List) and not kind.inner.is_nested():
        return column.cast(pl.List(pl.String)).list.join(";")
    text = pl.struct(column.alias("v")).struct.json_encode().str.strip_prefix('{"v":').str.strip_suffix("}")
    return pl.when(column.is_not_null()).then(text)


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
