"""How far an ingest is: told as bytes of a phase, shown as a bar in a terminal or a notebook."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol


class Progress(Protocol):
    """Is told of `nbytes` more of `total` in a `phase` of work on `file`."""

    def __call__(self, file: str, phase: str, nbytes: int, total: int) -> None: ...


def silent(file: str, phase: str, nbytes: int, total: int) -> None:
    """Show nothing."""


class ProgressBar:
    """A bar on standard error, or in the output of a notebook cell; `rich` draws both."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=not console.is_jupyter, disable=not _is_shown(console))
        self._tasks: dict[tuple[str, str], int] = {}

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, file: str, phase: str, nbytes: int, total: int) -> None:
        """Move the bar of (`file`, `phase`) on by `nbytes`."""
        key = (file, phase)
        if key not in self._tasks:
            self._tasks[key] = self._bar.add_task(f"{phase} {file}", total=total)
        self._bar.update(self._tasks[key], advance=nbytes)  # type: ignore[arg-type]  # a TaskID is an int


def _is_shown(console: object) -> bool:
    return bool(getattr(console, "is_terminal", False) or getattr(console, "is_jupyter", False))
