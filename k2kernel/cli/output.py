"""How answers are written: a table for people; JSON, CSV, Parquet and Arrow for machines, exact and unwrapped.

JSON and CSV: decimals in plain notation without trailing zeros (in JSON as strings), times as ISO 8601 UTC with six
digits and Z, snapshot ids as strings; a list is a JSON array, in CSV its items joined by `;`; null is empty in CSV.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

from k2kernel.sinks import as_text, ndjson

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query import Result

_SHOWN = 20


class Output(StrEnum):
    """The formats of `--output`."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"
    arrow = "arrow"
    ndjson = "ndjson"

    def limit(self, given: int | None) -> int | None:
        """Rows to read: what was asked for, or for a table one more than it shows."""
        return _SHOWN + 1 if given is None and self is Output.table else given


def rows(result: Result, output: Output, limit: int | None, short: Sequence[str] | None = None) -> None:
    """Write a result to standard output, and what is unsure about it to standard error; a table has the columns `short`
    (None: all).
    """
    for note in result.notes:
        typer.echo(note, err=True)
    if output is Output.table:
        most = _SHOWN if limit is None else limit
        if show(result, most, short) and limit is None:
            typer.echo(f"first {most} rows; --limit N shows more, -o csv writes all", err=True)
        return
    write(result.batches(limit=limit), output)


def show(result: Result, most: int, columns: Sequence[str] | None = None) -> bool:
    """The first rows as a table for people, of some columns; true where there are more rows."""
    found = result.shown(most)
    names = [heading.partition(" ")[0] for heading in found.headings]
    at = [names.index(name) for name in columns] if columns else range(len(names))
    cells = [[row[n] for n in at] for row in found.cells]
    grid([found.headings[n] for n in at], [found.numbers[n] for n in at], cells)
    return found.more


def write(batches: Iterable[pa.RecordBatch], output: Output) -> None:
    """Write Arrow batches (at least one, for the schema) in a machine format."""
    import pyarrow as pa

    stream = iter(batches)
    first = next(stream)
    everything = chain([first], stream)
    if output in (Output.json, Output.csv):
        _text(everything, output)
    elif output is Output.ndjson:
        for batch in everything:
            sys.stdout.write(ndjson(batch))
            sys.stdout.flush()
    elif output is Output.arrow:
        with pa.ipc.new_stream(sys.stdout.buffer, first.schema) as writer:
            for batch in everything:
                writer.write_batch(batch)
    else:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(sys.stdout.buffer, first.schema, compression="zstd") as writer:
            for batch in everything:
                writer.write_batch(batch)


def _text(batches: Iterator[pa.RecordBatch], output: Output) -> None:
    import polars as pl

    first = True
    out = sys.stdout
    for batch in batches:
        found = pl.DataFrame(pl.from_arrow(batch))
        texts = found.select(
            as_text(name, kind, joined_lists=output is Output.csv) for name, kind in found.schema.items()
        )
        if output is Output.csv:
            out.write(texts.write_csv(include_header=first, null_value=""))
        elif len(texts):
            out.write(("[" if first else ",\n") + texts.write_ndjson().rstrip("\n").replace("\n", ",\n"))
        first = first and not (output is Output.csv or len(texts))
    if output is Output.json:
        out.write("[]\n" if first else "]\n")


def records(found: Sequence[Any], output: Output) -> None:
    """Write dataclass records as rows."""
    import pyarrow as pa

    if not found:
        typer.echo("[]" if output is Output.json else "")
        return
    names = [each.name for each in fields(found[0])]
    table = pa.table({name: _column(name, [getattr(each, name) for each in found]) for name in names})
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
        typer.echo(f"{each.name:<{width}}  {_cell(getattr(found, each.name))}")


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    texts = pa.list_(pa.string()) if all(isinstance(value, tuple) for value in values) else None
    return pa.array([_plain(name, value) for value in values], texts)


def _plain(name: str, value: Any) -> Any:
    if name == "id" or name.endswith("_id"):
        return None if value is None else str(value)
    return list(value) if isinstance(value, tuple) else value


def frame(table: pa.Table, columns: Sequence[str] | None = None) -> None:
    """An Arrow table for people; times in UTC."""
    table = table if columns is None else table.select(list(columns))
    cells = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    numbers = [str(kind).startswith(("int", "decimal", "double", "uint", "float")) for kind in table.schema.types]
    grid(table.column_names, numbers, list(zip(*cells, strict=True)))


def grid(headings: Sequence[str], numbers: Sequence[bool], cells: Sequence[Sequence[str]]) -> None:
    """Rows of text under headings, numbers to the right, as wide as they need to be; a terminal wraps by itself."""
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    place = [str.rjust if number else str.ljust for number in numbers]
    lines = ["  ".join(put(text, width) for put, text, width in zip(place, row, widths, strict=True)) for row in cells]
    heading = "  ".join(put(text, width) for put, text, width in zip(place, headings, widths, strict=True))
    typer.secho(heading.rstrip(), bold=True)
    for line in lines:
        typer.echo(line.rstrip())


def _cell(value: Any) -> str:
    from datetime import datetime
    from decimal import Decimal

    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="auto")
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
