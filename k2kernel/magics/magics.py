"""The magics as IPython knows them, and their documentation."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, needs_local_scope, no_var_expand

from k2kernel.magics import commands, sql
from k2kernel.magics.notebook import Notebook, told
from k2kernel.usage import noted

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class K2Magics(Magics):
    """`%k2sql`, `%%k2sql` and `%k2`, over the workbench of the notebook."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.notebook = Notebook(shell)

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def k2sql(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> object:
        """One read-only SQL statement."""
        with self._use(f"%%k2sql {line}\n{cell or ''}"):
            return sql.run(self.notebook, line, cell, ChainMap(local_ns or {}, self.notebook.shell.user_ns))

    @no_var_expand
    @needs_local_scope
    @line_magic
    def k2(self, line: str, local_ns: dict[str, Any] | None = None) -> object:
        """The verbs of the workbench on one line."""
        with self._use(f"%k2 {line}"):
            return commands.run(self.notebook, line, ChainMap(local_ns or {}, self.notebook.shell.user_ns))

    @contextmanager
    def _use(self, what: str) -> Iterator[None]:
        """Errors as sentences, and the use noted where settings ask for it."""
        with told(), noted(self.notebook.bench.settings, "notebook", what.strip()):
            yield


def _described(command: commands.Command) -> list[str]:
    """A sub-command and its options, a line each."""
    options = [f"        {option.usage:36} {option.help}" for option in command.options]
    return [f"    {' '.join(filter(None, ('%k2', command.name, command.words)))}", f"        {command.help}", *options]


K2Magics.k2sql.__doc__ = "\n".join(
    [
        "One read-only statement over the lake's tables.",
        "",
        "    %k2sql [options] SELECT ...",
        "    answer = %k2sql SELECT ...",
        "    %%k2sql [options]",
        "    SELECT ...",
        "",
        "$name in the statement is the variable `name` of the notebook, bound as a value and never pasted as text.",
        "So it is as the value of --as-of and --known-at.",
        "",
        *(f"    {option.usage:42} {option.help}" for option in sql.OPTIONS),
    ]
)
K2Magics.k2.__doc__ = "\n".join(
    [
        "The verbs of the workbench on one line; the word $name is the variable `name`.",
        "",
        *(line for command in commands.COMMANDS.values() for line in _described(command)),
    ]
)
