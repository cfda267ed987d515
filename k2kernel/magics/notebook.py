"""What the magics of one kernel share: the workbench, the state they read, and named queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, K2Error, QueryCancelled, QueryError, listed, meant
from k2kernel.magics.options import identifier, mapping, near_variables

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from k2kernel.times import AsOfLike
    from k2kernel.workbench import View, Workbench


class Notebook:
    """The kernel's side of the magics. The workbench is the variable `wb` where there is one, else as settings say."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.view: View | None = None
        self.saved: dict[str, str] = {}
        self._uses: dict[str, tuple[str, ...]] = {}
        self._bench: Workbench | None = None

    @property
    def bench(self) -> Workbench:
        """The workbench of the notebook."""
        from k2kernel.workbench import Workbench, connect

        given = self.shell.user_ns.get("wb")
        if isinstance(given, Workbench) and given is not self._bench:
            self._bench, self.view = given, None
        if self._bench is None:
            self._bench = connect()
        return self._bench

    def connect(self, path: str | None) -> Workbench:
        """Use the lake at `path` from now on, also as the variable `wb`."""
        from k2kernel.workbench import connect

        self.shell.user_ns["wb"] = connect(path)
        return self.bench

    def reader(self, as_of: AsOfLike) -> View | Workbench:
        """What reads go to: the variable `wb` where it is a view, else the state that `%k2 at` chose, or the workbench
        where there is none or a read says which state it wants.
        """
        from k2kernel.workbench import View

        given = self.shell.user_ns.get("wb")
        if isinstance(given, View):
            return given
        bench = self.bench
        return bench if as_of is not None or self.view is None else self.view

    def save(self, name: str, text: str, uses: Iterable[str]) -> None:
        """Keep a statement under a name, with the named queries that it builds on."""
        from k2kernel.query.sql import NAMES

        if identifier("save", name).lower() in NAMES:
            raise InvalidParameter("save", name, "is a table", "Choose another name")
        self.saved[name], self._uses[name] = text.strip().rstrip(";"), tuple(uses)

    def composed(self, text: str, names: Iterable[str]) -> str:
        """A statement with the named queries in front of it as common table expressions."""
        from k2kernel.query.references import tokens

        ctes = ", ".join(f"{name} AS (\n{self.saved[name]}\n)" for name in self._with(names))
        found = tokens(text) if ctes else []
        if not found:
            return text
        if found[0].word != "with":
            return f"WITH {ctes}\n{text}"
        recursive = found[1].word == "recursive"
        inner = text.encode()[found[1 if recursive else 0].end :].decode()
        return f"WITH {'RECURSIVE ' if recursive else ''}{ctes},{inner}"

    def _with(self, names: Iterable[str]) -> list[str]:
        """The named queries and those that they build on, each after what it builds on."""
        found: list[str] = []
        for name in names:
            if name not in self.saved:
                near = meant(name, self.saved)
                raise QueryError(f"There is no saved query {name!r}", f"{near}Saved: {listed(self.saved)}")
            found += [*self._with(self._uses[name]), name]
        return list(dict.fromkeys(found))

    @staticmethod
    def parameters(text: str, given: Iterable[str], scope: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the `$names` in a statement: of `--params` first, then variables; only those that it uses."""
        from k2kernel.query.references import tokens

        own = {name: value for each in given for name, value in mapping(each, scope).items()}
        used = [name.text for mark, name in pairwise(tokens(text)) if mark.text == "$" and name.start == mark.end]
        for name in used:
            if name not in own and name not in scope:
                raise QueryError(f"${name} has no value", f"{near_variables(name, scope)}Set the variable {name!r}")
        return {name: own[name] if name in own else scope[name] for name in used}


@contextmanager
def told() -> Iterator[None]:
    """Errors of ours, and an interrupt, as one sentence in the cell instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise _plain(QueryCancelled("It was interrupted", "Nothing was changed by it; run the cell again")) from None
    except K2Error as error:
        raise _plain(error) from None


def _plain(error: K2Error) -> K2Error:
    """An error that IPython shows without a traceback; a notebook run still fails by it."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: {error}"]  # type: ignore[attr-defined]
    return error
