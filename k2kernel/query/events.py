"""Events as one SQL statement: the rows of a selection in the total order, whole, their first rows, or those after one
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.cached import cached_property
from k2kernel.query.adjustment import Adjustment
from k2kernel.query.connection import Query
from k2kernel.query.order import EVENT_NS, order_by
from k2kernel.query.pages import key_columns
from k2kernel.query.position import Key
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Selection, leading

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile
    from k2kernel.query.catalogue import Catalogue

_TIES = ("venue", "symbol", "sequence", "source", "source_offset")
_KEY = (EVENT_NS, "0", *_TIES)
"""The place of an event: its instant, the rank of its kind among one kind, and what tells equal instants apart."""


@dataclass(frozen=True)
class Events:
    """Which rows of a pinned event table, which columns, adjusted how, and whether the latest come first."""

    pinned: Pinned
    selection: Selection
    raw: bool
    names: Sequence[str]
    by: Adjustment
    descending: bool
    catalogue: Catalogue

    @cached_property
    def scan(self) -> Scan:
        """The files that may hold such rows."""
        return self.selection.scan(self.pinned)

    def query(self, most: int | None = None, after: Key | None = None, *, keyed: bool = False) -> Query:
        """The rows, or the first `most` of those after the key `after`; with `keyed` the key of each as well."""
        values, scan = Values(), self._files(most, after)
        names = [*self.by.columns(self.names), *(key_columns(_KEY) if keyed else ())]
        conditions = self.selection.conditions(values) + (self._after(after, values) if after else [])
        marked = ("conditions",) if self.selection.hours is not None else ()
        rows = scan.of(*self.names, *marked).relation(self.raw, values.bind)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        text = f"SELECT {', '.join(names)} FROM {self.by.rows(rows, where, self.names, values)}"
        text += f" ORDER BY {self._order(scan)}"
        text += f" LIMIT {values.bind(most)}" if most is not None else ""
        return self.by.on(query(text, values, scan))

    def _files(self, most: int | None, after: Key | None) -> Scan:
        """The files that can hold one of those rows."""
        scan = self.scan
        if after is not None:
            return Scan(self.pinned, [file for file in scan.files if self._reaches(file, after[0])], scan.undoing)
        counted = self.pinned.known is None and self.selection.whole_files and (self.raw or not scan.undoing)
        if most is None or self.descending or not counted:
            return scan
        return Scan(self.pinned, leading(scan.files, most), scan.undoing)

    def _reaches(self, file: LakeFile, ns: int) -> bool:
        """True where the file may have rows at or after `ns`, or before it where the latest come first."""
        edge = file.ts_event_min if self.descending else file.ts_event_max
        return edge is None or (edge <= ns // 1_000 if self.descending else edge >= ns // 1_000)

    def _order(self, scan: Scan) -> str:
        order = order_by(scan.files, self.catalogue.bounds(scan.files), self.selection.one_instrument)
        return ", ".join(f"{key} DESC" for key in order) if self.descending else ", ".join(order)

    def _after(self, key: Key, values: Values) -> list[str]:
        """What follows `key`; the coarse condition on µs lets row groups be skipped."""
        sign = "<" if self.descending else ">"
        ns, ties = values.bind(key[0]), ", ".join(map(values.bind, key[2:]))
        later = f"row({', '.join(_TIES)}) {sign} row({ties})"
        return [
            f"ts_event {sign}= make_timestamptz({values.bind(key[0] // 1_000)})",
            f"({EVENT_NS} {sign} {ns} OR ({EVENT_NS} = {ns} AND {later}))",
        ]
