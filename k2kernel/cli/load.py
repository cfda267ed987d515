"""`k2 ingest`: files into the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel.cli.shared import Home, named, say, workbench

if TYPE_CHECKING:
    from k2kernel.ingest import Receipt
    from k2kernel.workbench import Workbench


def ingest(
    files: Annotated[list[Path], typer.Argument(help="files: CSV, NDJSON or Parquet; also .gz .bz2 .xz .zst .zip")],
    profile: Annotated[str, typer.Option("--profile", "-p", help="a shipped profile (k2 profiles) or a .toml file")],
    symbol: Annotated[str | None, typer.Option("--symbol", "-s", help="where the file does not say")] = None,
    venue: Annotated[str | None, typer.Option("--venue", "-v", help="where the file does not say")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="NAME=TEXT, such as date=2024-03-04, where the profile reads it"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the first rows and rejects; write nothing")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="take out an earlier load of the same content")] = False,
    append_grown: Annotated[bool, typer.Option("--append-grown", help="load what a file has grown by")] = False,
    max_rejects: Annotated[float, typer.Option(help="share of lines that may be bad, 0 to 1")] = 0.01,
    on_duplicate: Annotated[
        str, typer.Option(help="fills that repeat a venue's id: keep_all, keep_first, keep_last or error")
    ] = "keep_all",
    workers: Annotated[
        int, typer.Option(help="files loaded at a time, one a core at most, each in its own process")
    ] = 1,
    home: Home = None,
) -> None:
    """Load files into the lake by a profile. Each file is one commit a table or nothing; again, it adds nothing."""
    bench = workbench(home, long=True)
    options = options_of(option, symbol, venue)
    if dry_run:
        for path in files:
            _preview(bench, path, profile, options)
        return
    failed = 0
    for loaded in bench.ingest_each(
        files,
        profile,
        options=options,
        replace=replace,
        append_grown=append_grown,
        max_rejects=max_rejects,
        on_duplicate=on_duplicate,
        workers=workers,
        progress=True,
    ):
        if loaded.receipt is None:
            failed += 1
            say(f"k2: {loaded.fault}")
        else:
            report(str(loaded.path), loaded.receipt)
    if failed:
        raise typer.Exit(2)


standalone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
standalone.command()(ingest)


def report(path: str, receipt: Receipt) -> None:
    """Say what a load did: the fact on standard output, what needs a look on standard error."""
    typer.echo(f"{path}: {receipt}")
    for note in receipt.notes:
        say(f"k2: {path}: {note}")
    if receipt.rejected:
        say(
            f"k2: {path}: {receipt.rejected:,} of {receipt.lines:,} lines were rejected; "
            'k2 query sql "SELECT source_offset, reason, raw FROM dead_letter" shows them'
        )


def options_of(given: list[str] | None, symbol: str | None, venue: str | None) -> dict[str, str]:
    """The options of a profile as given on the command line."""
    options = {name: text for name, text in (("symbol", symbol), ("venue", venue)) if text is not None}
    return options | named("option", given)


def _preview(bench: Workbench, path: Path, profile: str, options: dict[str, str]) -> None:
    from k2kernel.cli.output import frame

    decoded = bench.preview(path, profile, options=options)
    for table, rows in decoded.tables.items():
        typer.echo(f"{path}: the first rows for {table} ({len(rows):,} of the first block)")
        frame(rows.head(10).to_arrow())
    if len(decoded.rejected):
        typer.echo(f"{path}: would be rejected ({len(decoded.rejected):,} of the first {decoded.lines:,} lines)")
        frame(decoded.rejected.head(10).to_arrow())
    for kind, count in decoded.skipped.items():
        typer.echo(f"{path}: would be skipped: {count:,} {kind}")
