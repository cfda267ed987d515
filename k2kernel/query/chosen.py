"""Rows that a caller chose, as something that statements of other parts select from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from k2kernel.calendars import venues as declared_venues
from k2kernel.query.connection import Database, Query
from k2kernel.query.hours import Hours
from k2kernel.query.scan import Pinned, Values, query
from k2kernel.query.selection import Selection
from k2kernel.query.within import hours_at, sessions_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Chosen:
    """Rows of a pinned table; `venues` are those that they can be of, declared in `home` or shipped."""

    pinned: Pinned
    selection: Selection
    database: Database
    venues: tuple[str, ...]
    home: Path

    def hours(self, word: str) -> Hours:
        """The hours `word` of the venues, in the sessions that the rows can be of."""
        known = [code for code in self.venues if code in declared_venues(self.home)]
        return hours_at(word, known, sessions_of(self.selection.scan(self.pinned)), self.home)

    def rows(self, values: Values, raw: bool, columns: Sequence[str] | None = None) -> str:
        """What to put after FROM; of trades every row received where `raw`, else the fills that stand."""
        scan = self.selection.scan(self.pinned)
        rows = (scan if columns is None else scan.of(*columns)).relation(raw, values.bind)
        conditions = " AND ".join(self.selection.conditions(values))
        return f"(SELECT * FROM {rows} WHERE {conditions or 'true'})"

    def planned(self, text: str, values: Values, *others: Chosen) -> Query:
        """A statement over the rows of this choice and `others`, ready to run."""
        return query(text, values, *(each.selection.scan(each.pinned) for each in (self, *others)))

    def run(self, text: str, values: Values, *others: Chosen) -> pa.Table:
        """The rows of such a statement."""
        return self.database.arrow(self.planned(text, values, *others))
