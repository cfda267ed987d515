"""`k2 profiles`: the vendor formats that files are read by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k2kernel.cli.shared import Home, workbench

app = typer.Typer(help="Vendor formats: list, describe, draft.", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def profiles(context: typer.Context) -> None:
    """List the shipped profiles; `k2 profiles show NAME` describes one, `k2 profiles suggest FILE` drafts one."""
    if context.invoked_subcommand is not None:
        return
    import pyarrow as pa

    from k2kernel.cli.output import frame
    from k2kernel.profiles import load, shipped

    found = [load(name) for name in shipped()]
    frame(
        pa.table(
            {
                "profile": [each.name for each in found],
                "tables": [" ".join(dict.fromkeys(route.table for route in each.route)) for each in found],
                "tried": ["on real files" if each.tried else "by documents" for each in found],
                "options": [" ".join(each.options) for each in found],
                "drops": [" ".join(each.dropped()) for each in found],
                "title": [each.title for each in found],
            }
        )
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="a shipped profile or a .toml file")],
    toml: Annotated[bool, typer.Option("--toml", help="print the file itself, to start one's own from")] = False,
    home: Home = None,
) -> None:
    """Describe one profile: what it reads, what it asks for, what it drops."""
    from k2kernel.profiles import describe, source

    bench = workbench(home)
    profile = bench.profile(name)
    typer.echo(source(profile) if toml else describe(profile), nl=False)


@app.command()
def suggest(file: Annotated[Path, typer.Argument(help="a file of an unknown format")]) -> None:
    """Draft a profile for an unknown file, as TOML on standard output."""
    from k2kernel.ingest.suggest import suggest as draft

    typer.echo(draft(file), nl=False)
