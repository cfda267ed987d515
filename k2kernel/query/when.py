"""Which state of the tables a read is of: `as_of`, and within it what was known at an instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from k2kernel.errors import ExpiredReference, InvalidParameter, UnknownReference
from k2kernel.query.known import Known, check_columns, parse_clock
from k2kernel.query.scan import Pinned
from k2kernel.times import NS, AsOf, AsOfLike, from_ns, parse_as_of, parse_instant, to_ns

if TYPE_CHECKING:
    from k2kernel.lake import Lake

Moment = datetime | str | None
"""An instant with a zone, or None."""


@dataclass(frozen=True)
class When:
    """A state of each table, and of its rows those that were known at `known_at` (ns since 1970; None: all of them)."""

    as_of: AsOf | None = None
    known_at: int | None = None
    clock: str = "ingest"

    @property
    def words(self) -> dict[str, object]:
        """As the words of a read verb."""
        known = {} if self.known_at is None else {"known_at": _written(self.known_at), "clock": self.clock}
        return {"as_of": self.as_of, **known}

    def base(self, lake: Lake, table: str) -> Pinned:
        """The table at `as_of`, with every row."""
        return Pinned(lake, table, lake.resolve(table, self.as_of))

    def base_or_none(self, lake: Lake, table: str) -> Pinned | None:
        """As `base`; None where the table has no such state, as with the id of another table's snapshot."""
        try:
            return self.base(lake, table)
        except ExpiredReference:
            raise
        except UnknownReference:
            return None

    def pin(self, lake: Lake, table: str) -> Pinned:
        """The table as it is read.

        By the clock of the ingest this is the state that was current at `known_at`, while it is kept; else the rows of
        the commits until then that the state to read still has.
        """
        if self.known_at is None:
            return self.base(lake, table)
        if self.clock == "ingest" and self.as_of is None:
            try:
                return Pinned(lake, table, lake.resolve(table, AsOf(instant=self.known_at)))
            except UnknownReference:
                pass
        check_columns(table, self.clock)
        base = self.base(lake, table)
        if self.clock != "ingest":
            return Pinned(lake, table, base.snapshot_id, Known(self.clock, self.known_at))
        last = lake.ingested_by(table, base.snapshot_id, self.known_at)
        return Pinned(lake, table, base.snapshot_id, Known(self.clock, to_ns(last)))

    def pin_or_empty(self, lake: Lake, table: str) -> Pinned:
        """As `pin`, for reads of several tables: without rows where the table came later than the state to read."""
        if lake.state(table, self.as_of) is None:
            return Pinned(lake, table, None)
        return self.pin(lake, table)

    def pin_or_none(self, lake: Lake, table: str) -> Pinned | None:
        """As `pin`; None where the table has no such state."""
        return None if self.base_or_none(lake, table) is None else self.pin(lake, table)


def parse_when(as_of: AsOfLike, known_at: Moment = None, clock: str = "ingest") -> When:
    """The words of a read verb; InvalidParameter for a clock without an instant."""
    instant = None if known_at is None else parse_instant(known_at, "known_at")
    if instant is None and parse_clock(clock) != "ingest":
        raise InvalidParameter("clock", clock, "is given without known_at", "Say at which instant: known_at=…")
    return When(parse_as_of(as_of), instant, parse_clock(clock))


def _written(instant: int) -> str:
    """An instant in ns as the text of a time with a zone."""
    return f"{from_ns(instant):%Y-%m-%dT%H:%M:%S}.{instant % NS:09}Z"
