"""How answers are written: a table for people; JSON, CSV, Parquet and Arrow for machines, exact and unwrapped.

JSON and CSV: decimals in plain notation without trailing zeros (in JSON as strings), times as ISO 8601 UTC with six
digits and Z, snapshot ids as strings; a list is a JSON array, in CSV its items joined by `;`; null is empty in CSV.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from k2kernel.query import Result

_SHOWN = 20
_WIDEST = 10_000
"""Wider than any table, so that no cell is cut: a terminal wraps long lines by itself."""



class Output(StrEnum):
    """The formats of `--output`."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"
    arrow = "arrow"

    def limit(self, given: int | None) -> int | None:
        """Rows to read: what was asked for, or for a table one more than it shows."""
        return _SHOWN + 1 if given is None and self is Output.table else given


def rows(result: Result, output: Output, limit: int | None) -> None:
    """Write a result to standard output."""
    if output is Output.table:
        most = _SHOWN if limit is None else limit
        found = result.head(most + 1)
        frame(found.slice(0, most), result.zone)
        if found.num_rows > most:
            typer.echo(f"first {most} rows; --limit N shows more, -o csv writes all", err=True)
        return
    batches = result.batches() if limit is None else result.head(limit).to_batches()
    write(batches, output)


def write(batches: Any, output: Output) -> None:
    """Write Arrow batches (at least their schema) in a machine format."""
    import pyarrow as pa

    stream = iter(batches)
    first = next(stream, None)
    if first is None:
        raise RuntimeError("a result without a schema")
    everything = chain([first], stream)
    if output in (Output.json, Output.csv):
        _text(everything, first.schema, output)
    elif output is Output.arrow:
        with pa.ipc.new_stream(sys.stdout.buffer, first.schema) as writer:
            for batch in everything:
                writer.write_batch(batch)
    else:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(sys.stdout.buffer, first.schema, compression="zstd") as writer:
            for batch in everything:
                writer.write_batch(batch)


def _text(batches: Iterator[pa.RecordBatch], schema: pa.Schema, output: Output) -> None:
    import polars as pl

    first = True
    out = sys.stdout
    for batch in batches:
        found = pl.DataFrame(pl.from_arrow(batch))
        texts = found.select(_as_text(name, kind, output) for name, kind in found.schema.items())
        if output is Output.csv:
            out.write(texts.write_csv(include_header=first, null_value=""))
        elif len(texts):
            out.write(("[" if first else ",\n") + texts.write_ndjson().rstrip("\n").replace("\n", ",\n"))
        first = first and not (output is Output.csv or len(texts))
    if output is Output.json:
        out.write("[]\n" if first else "]\n")


def _as_text(name: str, kind: pl.DataType, output: Output) -> pl.Expr:
    import polars as pl

    column = pl.col(name)
    if isinstance(kind, pl.Decimal):
        text = column.cast(pl.String)
        return text.str.strip_chars_end("0").str.strip_suffix(".").alias(name) if kind.scale else text
    if isinstance(kind, pl.Datetime):
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f" + ("Z" if kind.time_zone else ""))
    if isinstance(kind, pl.Binary):
        return column.map_elements(lambda raw: raw.decode(errors="backslashreplace"), return_dtype=pl.String)
    if isinstance(kind, (pl.Date, pl.Time)) or name.endswith("snapshot_id"):
        return column.cast(pl.String)
    if isinstance(kind, pl.List) and output is Output.csv:
        return column.cast(pl.List(pl.String)).list.join(";")
    return column


def records(found: Sequence[Any], output: Output) -> None:
    """Write dataclass records as rows."""
    import pyarrow as pa

    if not found:
        typer.echo("[]" if output is Output.json else "")
        return
    names = [each.name for each in fields(found[0])]
    table = pa.table({name: [_plain(name, getattr(each, name)) for each in found] for name in names})
    if output is Output.table:
        frame(table)
    else:
        write(table.to_batches(), output)


def record(found: Any, output: Output) -> None:
    """Write one dataclass record: name and value line by line in a table."""
    if output is not Output.table:
        records([found], output)
        return
    width = max(len(each.name) for each in fields(found))
    for each in fields(found):
        typer.echo(f"{each.name:<{width}}  {_cell(getattr(found, each.name), None)}")


def _plain(name: str, value: Any) -> Any:
    if name == "id" or name.endswith("_id"):
        return None if value is None else str(value)
    return list(value) if isinstance(value, tuple) else value


def frame(table: pa.Table, zone: str | None = None, columns: Sequence[str] | None = None) -> None:
    """A table for people (of some `columns`), as wide as it needs to be; times in `zone`, or UTC."""
    from zoneinfo import ZoneInfo

    from rich.console import Console
    from rich.table import Table

    table = table if columns is None else table.select(list(columns))
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for field in table.schema:
        title = f"{field.name} ({zone or 'UTC'})" if _is_time(field) else field.name
        shown.add_column(title, justify="right" if _is_number(field) else "left", no_wrap=True)
    where = ZoneInfo(zone or "UTC")
    cells = [[_cell(value, where) for value in column.to_pylist()] for column in table.columns]
    for row in zip(*cells, strict=True):
        shown.add_row(*row)
    console = Console(highlight=False, markup=False, width=_WIDEST)
    console.print(shown, soft_wrap=True)


def _is_time(field: pa.Field) -> bool:
    return getattr(field.type, "tz", None) is not None


def _is_number(field: pa.Field) -> bool:
    return str(field.type).startswith(("int", "decimal", "double", "hugeint", "uint", "float"))


def _cell(value: Any, zone: Any) -> str:
    from datetime import datetime
    from decimal import Decimal

    if value is None:
        return ""
    if isinstance(value, datetime) and value.tzinfo is not None:
        local = value.astimezone(zone).replace(tzinfo=None) if zone is not None else value
        return local.isoformat(sep=" ", timespec="microseconds" if value.microsecond % 1000 else "milliseconds")
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
