"""`View`: the read verbs at one state of the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter
from k2kernel.html import Listing, record, states
from k2kernel.times import AsOf, AsOfLike, parse_as_of
from k2kernel.workbench.reads import Reads

if TYPE_CHECKING:
    from k2kernel.lake import Lake, Snapshot
    from k2kernel.query import QueryEngine
    from k2kernel.replay import ReplayEngine


class View(Reads):
    """The lake as it was at `as_of`, settled when the view is made.

    What is written, tagged or rolled back later changes none of its answers, as long as those snapshots are kept; only
    `move` does.

    `states` says which snapshot of each table it reads (None: the table had none); reading a table that is not there is
    the error that `as_of` gives for it.
    """

    def __init__(self, lake: Lake, engine: QueryEngine, replays: ReplayEngine, as_of: AsOfLike = None) -> None:
        super().__init__(lake.settings)
        self.lake, self.engine, self.replays = lake, engine, replays
        self.move(as_of)

    def __repr__(self) -> str:
        return f"View({states(self.states)})"

    def _repr_html_(self) -> str:
        pins = {name: None if pin is None else str(pin) for name, pin in self.states.items()}
        return record(pins, "view of the lake")

    def at(self, as_of: AsOfLike) -> View:
        """A view of another state of the same lake."""
        return View(self.lake, self.engine, self.replays, as_of)

    def move(self, as_of: AsOfLike) -> None:
        """Read another state from now on, for whoever holds this view; answers made before stay as they are."""
        self._as_of: AsOf = self.lake.states(parse_as_of(as_of))
        self.states: dict[str, int | None] = dict(self._as_of.states)

    def snapshots(self, table: str = "trades") -> list[Snapshot]:
        """The kept states of a table that this one is built on, newest first, itself included."""
        state = self.lake.resolve(table, self._as_of)
        line = [] if state is None else self.lake.ancestors(table, state)
        kept = {snapshot.snapshot_id for snapshot in line}
        return Listing(snapshot for snapshot in self.lake.snapshots(table) if snapshot.id in kept)

    def _state(self, as_of: AsOfLike) -> AsOfLike:
        if as_of is not None:
            raise InvalidParameter("as_of", as_of, "is given to a view that is pinned", "Use at(as_of)")
        return self._as_of
