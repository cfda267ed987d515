"""`k2 run`: a notebook as a job that can be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k2kernel.cli.options import AsOf
from k2kernel.cli.shared import Home, named, say, workbench
from k2kernel.errors import InvalidParameter


def run(
    notebook: Annotated[Path | None, typer.Argument(help="an .ipynb file with a cell tagged parameters")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE for a parameter of it")] = None,
    as_of: AsOf = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder; default: a new one in runs of the lake")] = None,
    verify: Annotated[Path | None, typer.Option(help="the folder of a run to run again, at the same states")] = None,
    home: Home = None,
) -> None:
    """Run NOTEBOOK at one state of the lake, and print the folder with its output, report and run.json.

    The exit status is 1 where the run failed, or where a verified one gives something else.
    """
    from k2kernel import runs

    if (notebook is None) == (verify is None):
        raise InvalidParameter("notebook", str(notebook), "and --verify are alternatives", "Give one of them")
    if verify is not None:
        done, found = runs.verify(workbench(home), verify)
        for each in found:
            say(f"k2: {each}")
    else:
        assert notebook is not None  # noqa: S101 - checked above
        done, found = runs.run(workbench(home), notebook, named("param", param), as_of, out), []
    typer.echo(done.folder)
    say(f"k2: {done}")
    raise typer.Exit(1 if found or done.error is not None else 0)
