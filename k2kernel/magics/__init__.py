"""The doors of a notebook: `%load_ext k2kernel` brings `%k2sql`, `%%k2sql` and `%k2`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext k2kernel` does: register the magics and their completion, and show errors short."""
    from k2kernel.magics.completion import complete
    from k2kernel.magics.magics import K2Magics
    from k2kernel.magics.tracebacks import shorten

    magics = K2Magics(shell)
    shell.register_magics(magics)
    shell.Completer.custom_matchers.append(complete(magics.notebook))
    shorten(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What `%unload_ext` and `%reload_ext` do first: take the completion out; the magics are replaced."""
    from k2kernel.magics.completion import IDENTIFIER
    from k2kernel.magics.tracebacks import restore

    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != IDENTIFIER]
    restore(shell)
