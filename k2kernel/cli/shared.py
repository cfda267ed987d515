"""What all commands share: opening the workbench, speaking to people."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from k2kernel.workbench import Workbench

Home = Annotated[
    Path | None,
    typer.Option("--home", help="the lake's folder; default: K2_HOME, or the nearest .k2", show_default=False),
]


CLOSING = ExitStack()
"""What ends with the command."""


def workbench(home: Path | None, *, long: bool = False) -> Workbench:
    """The workbench on the lake at `home`, or where settings say. A `long` command shows its metrics at a port, any
    other in a file at its end, where settings say so; and its use is noted where they say so.
    """
    from k2kernel.usage import noted
    from k2kernel.workbench import connect

    bench = connect(home)
    CLOSING.enter_context(noted(bench.settings, "cli", shlex.join(sys.argv)))
    if long or bench.settings.metrics_textfile is not None:
        CLOSING.enter_context(bench.metrics(serve=long))
    return bench


def say(text: str) -> None:
    """A message for people, on standard error."""
    typer.echo(text, err=True)
