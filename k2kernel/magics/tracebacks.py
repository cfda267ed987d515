"""Errors of ours in a cell: the lines of the reader's own code and the sentence, not the way through our files."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from k2kernel.errors import K2Error

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_OURS = __name__.partition(".")[0]


def shorten(shell: InteractiveShell) -> None:
    """Show errors of ours short, unless the notebook has chosen another way to show some errors."""
    if not shell.custom_exceptions:
        shell.set_custom_exc((K2Error,), _show)


def restore(shell: InteractiveShell) -> None:
    """Show them as any other error."""
    if shell.custom_exceptions == (K2Error,):
        shell.set_custom_exc((), None)


def _show(
    shell: InteractiveShell, kind: type[K2Error], error: K2Error, trace: TracebackType, tb_offset: int | None = None
) -> None:
    error.__cause__ = None  # what a library said is in the sentence
    shell.showtraceback((kind, error, _own(trace)), tb_offset=tb_offset)


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The frames before the first of ours."""
    if trace is None or trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == _OURS:
        return None
    return TracebackType(_own(trace.tb_next), trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
