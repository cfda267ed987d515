"""`k2 ingest`: files into the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel import words
from k2kernel.cli.options import FileOption, FileSymbol, FileVenue, MaxRejects, Profile
from k2kernel.cli.shared import Home, say, workbench

if TYPE_CHECKING:
    from k2kernel.ingest import Receipt
    from k2kernel.workbench import Workbench


def ingest(
    files: Annotated[list[Path], typer.Argument(help="files: CSV, NDJSON or Parquet; also .gz .bz2 .xz .zst .zip")],
    profile: Profile,
    symbol: FileSymbol = None,
    venue: FileVenue = None,
    option: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the first rows and rejects; write nothing")] = False,
    replace: Annotated[bool, typer.Option("--replace", help=words.REPLACE)] = False,
    append_grown: Annotated[bool, typer.Option("--append-grown", help=words.APPEND_GROWN)] = False,
    max_rejects: MaxRejects = 0.01,
    on_duplicate: Annotated[str, typer.Option(help=words.ON_DUPLICATE)] = "keep_all",
    workers: Annotated[int, typer.Option(help=words.WORKERS)] = 1,
    home: Home = None,
) -> None:
    """Load files into the lake by a profile: each file is one commit a table or nothing; again, it adds nothing."""
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
    return options | words.by_name("option", given)


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
