"""`Answer`: a statement that was run, as a cell shows it."""

from __future__ import annotations

from typing import Any

from k2kernel.html import quiet, states
from k2kernel.query import Result

SHOWN = 20
"""Rows that a cell shows."""
_KEY = "k2"
"""Where provenance stands in the metadata of an output."""


class Answer(Result):
    """A result that was run once: how many `rows` it had, how many `seconds` it took, and where it came from.

    It shows the first rows, and puts `provenance` into the metadata of the output.
    """

    def __init__(self, result: Result, first: Result, rows: int, seconds: float, provenance: dict[str, Any]) -> None:
        vars(self).update(vars(result))
        self.rows, self.seconds = rows, seconds
        self._first = first
        self.provenance = provenance | {
            "rows": rows,
            "seconds": round(seconds, 3),
            "snapshots": {name: None if found is None else str(found) for name, found in self.snapshots.items()},
            "files": [{"table": each.table, "snapshot": str(each.snapshot_id), **each.facts} for each in self.readings],
        }

    @property
    def caption(self) -> str:
        """Rows, time, files and snapshots in one line."""
        read = {each.table for each in self.readings}
        others = {name: pin for name, pin in self.snapshots.items() if name.partition(" ")[0] not in read}
        files = [*map(str, self.readings), *([states(others)] if others else [])]
        return "; ".join([f"{self.rows:,} row{'s' * (self.rows != 1)} in {self.seconds:.2f} s", *files])

    @property
    def metadata(self) -> dict[str, Any]:
        """What the output's metadata gets."""
        return {_KEY: self.provenance}

    def summary(self) -> dict[str, str]:
        """The caption alone, as a display without rows."""
        return {"text/plain": f"[{self.caption}]", "text/html": quiet(self.caption)}

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        found = self._first.shown(SHOWN)
        more = f"first {len(found.cells)} of {self.caption}" if self.rows > len(found.cells) else self.caption
        told = found.text("\n".join([f"[{more}]", *self.notes]))
        return {"text/plain": told, "text/html": found.html(more, *self.notes)}, self.metadata

    def __repr__(self) -> str:
        return self._repr_mimebundle_()[0]["text/plain"]

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]
