"""How answers are written: a table for people; JSON, CSV, Parquet and Arrow for machines, exact and unwrapped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import accumulate
from operator import add, call
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import typer

from k2kernel.html import text
from k2kernel.sinks import batches_of, encode, records_table

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query import Result

SHOWN = 20
"""Rows of a table on the screen, where nobody says how many."""


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
        return SHOWN + 1 if given is None and self is Output.table else given


def rows(result: Result, output: Output, limit: int | None, short: Sequence[str] | None = None) -> None:
    """Write a result to standard output, and what is unsure about it to standard error; a table has the columns `short`
    (None: all).
    """
    for note in result.notes:
        typer.echo(note, err=True)
    if output is Output.table:
        most = SHOWN if limit is None else limit
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
    for piece in encode(batches, output.value):
        sys.stdout.buffer.write(piece)
        if output is Output.ndjson:
            sys.stdout.buffer.flush()


def whole(table: pa.Table, output: Output, columns: Sequence[str] | None = None) -> None:
    """Write a table that is in memory; for people it has some `columns` (None: all)."""
    if output is Output.table:
        frame(table, columns)
    else:
        write(batches_of(table), output)


def records(found: Sequence[Any], output: Output, order: Sequence[str] | None = None) -> None:
    """Write dataclass records as rows; a table has their fields in this `order` (None: their own)."""
    if not found:
        typer.echo({Output.table: "none", Output.json: "[]"}.get(output, ""), err=output is Output.table)
        return
    whole(records_table(found), output, order)


def record(found: Any, output: Output) -> None:
    """Write one dataclass record: name and value line by line in a table."""
    if output is not Output.table:
        records([found], output)
        return
    width = max(len(each.name) for each in fields(found))
    for each in fields(found):
        typer.echo(f"{each.name:<{width}}  {text(getattr(found, each.name))}")


def frame(table: pa.Table, columns: Sequence[str] | None = None) -> None:
    """An Arrow table for people; times in UTC."""
    table = table if columns is None else table.select(list(columns))
    cells = [[text(value).removesuffix(" UTC") for value in column.to_pylist()] for column in table.columns]
    kinds = list(map(str, table.schema.types))
    numbers = [kind.startswith(("int", "decimal", "double", "uint", "float")) for kind in kinds]
    zones = [" (UTC)" if kind.startswith("timestamp") else "" for kind in kinds]
    grid(list(map(add, table.column_names, zones)), numbers, list(zip(*cells, strict=True)))


def grid(headings: Sequence[str], numbers: Sequence[bool], cells: Sequence[Sequence[str]]) -> None:
    """Rows of text under headings, numbers to the right; on a terminal those columns that fit, and which others are."""
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    place = [str.rjust if number else str.ljust for number in numbers]
    shown = _fitting(widths)
    head, *lines = ["  ".join(map(call, place, row, widths[:shown])).rstrip() for row in (headings, *cells)]
    typer.secho(head, bold=True)
    for line in lines:
        typer.echo(line)
    if shown < len(headings):
        typer.echo(f"more columns than fit: {', '.join(headings[shown:])}; -o csv writes all", err=True)


def _fitting(widths: Sequence[int]) -> int:
    """How many columns the terminal is wide enough for, at least one; all where the output is no terminal."""
    if not sys.stdout.isatty():
        return len(widths)
    most = get_terminal_size().columns
    return max(1, sum(end - 2 <= most for end in accumulate(width + 2 for width in widths)))
