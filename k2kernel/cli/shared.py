"""What all commands share: opening the workbench, speaking to people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from k2kernel.workbench import Workbench

Home = Annotated[
    Path | None,
    typer.Option("--home", help="the lake's folder; default: K2_HOME, or the nearest .k2", show_default=False),
]


def workbench(home: Path | None) -> Workbench:
    """The workbench on the lake at `home`, or where settings say."""
    from k2kernel.workbench import connect

    return connect(home)


def say(text: str) -> None:
    """A message for people, on standard error."""
    typer.echo(text, err=True)
