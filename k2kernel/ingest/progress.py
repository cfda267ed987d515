"""How far work on a file is: told as bytes or rows of a phase, shown as a bar in a terminal or a notebook."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol, Self

from k2kernel import html

if TYPE_CHECKING:
    from rich.progress import TaskID


_OF_ROWS = frozenset({"delivering"})
"""The phases that count rows."""


class Progress(Protocol):
    """Is told of `nbytes` more of `total` (0: not known) in a `phase` of work on `file`: bytes, or rows where they are
    delivered to brokers.

    Those of a phase that is done add up to its total.
    """

    def __call__(self, file: str, phase: str, nbytes: int, total: int) -> None:
        """Hear of it."""


def silent(file: str, phase: str, nbytes: int, total: int) -> None:
    """Show nothing."""


def amount(phase: str, done: int, total: int) -> str:
    """How much of a phase is done, in words."""
    if phase in _OF_ROWS:
        return f"{done:,} of {total:,} rows" if total else f"{done:,} rows"
    return f"{html.amount(done)} of {html.amount(total)}" if total else html.amount(done)


class Phase:
    """One pass over a file of `total` bytes (0: not known), told to `progress` without ever passing the total."""

    def __init__(self, progress: Progress, file: str, phase: str, total: int) -> None:
        self._progress, self._file, self._phase = progress, file, phase
        self._total = self._left = total

    def __call__(self, nbytes: int) -> None:
        """Some bytes more."""
        nbytes = min(nbytes, self._left) if self._total else nbytes
        self._left -= nbytes
        if nbytes:
            self._progress(self._file, self._phase, nbytes, self._total)

    def done(self) -> None:
        """The end was reached, headers and recoding included."""
        if self._total:
            self(self._left)


class ProgressBar:
    """A bar on standard error, or in the output of a notebook cell; `rich` draws both."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
        )
        seen = console.is_terminal or console.is_jupyter
        self._bar = Progress(*columns, console=console, transient=not console.is_jupyter, disable=not seen)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._done: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def __call__(self, file: str, phase: str, nbytes: int, total: int) -> None:
        """Move the bar of (`file`, `phase`) on by `nbytes`."""
        key = (file, phase)
        if key not in self._tasks:
            self._tasks[key] = self._bar.add_task(f"{phase} {PurePath(file).name}", total=total or None, told="")
            self._done[key] = 0
        self._done[key] += nbytes
        told = amount(phase, self._done[key], total)
        self._bar.update(self._tasks[key], completed=self._done[key], told=told)


def shown(progress: bool | Progress) -> AbstractContextManager[Progress]:
    """What work is told to: a bar where `progress` is true, nobody where it is false, else `progress`."""
    return ProgressBar() if progress is True else nullcontext(progress or silent)
