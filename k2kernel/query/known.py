"""What was known at an instant, in SQL: which rows, and which of their marks.

A cancel or correction undoes a fill from its own time on. A vendor that marks the fill as well (`cancelled`,
`superseded`) delivers the mark with the fill: by the clocks of the market it is taken off until then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from k2kernel.errors import InvalidParameter, one_of
from k2kernel.query.order import EVENT_NS
from k2kernel.schemas import TABLES

CLOCKS = ("ingest", "recv", "event")
"""By what time a row counts as known: of the commit that brought it, of its capture, or of the event itself."""

_NEEDED = {"ingest": ("ts_ingest",), "recv": ("ts_recv", "ts_recv_ns"), "event": ("ts_event", "ts_event_ns")}
NO_CAPTURE = "a row has no capture time, which says when it was known"
"""What DuckDB is made to say of a row that a clock lacks."""
_RECV_NS = f"CASE WHEN ts_recv IS NULL THEN error('{NO_CAPTURE}') ELSE coalesce(ts_recv_ns, epoch_ns(ts_recv)) END"

STATUS = ("status", "trade_id", "corrects")
"""The columns that say which trades stand."""


@dataclass(frozen=True)
class Known:
    """Rows whose time by `clock` is `until` (ns since 1970) or before."""

    clock: str
    until: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return _NEEDED[self.clock]

    @property
    def moves_marks(self) -> bool:
        """True where a mark may be later than the fill that carries it; in the table they are as old as each other."""
        return self.clock != "ingest"

    def rows(self, rows: str, undoing: str | None) -> str:
        """What to put after FROM: the known rows of `rows`, their marks as the records in `undoing` (None: they are not
        read) made them by then.
        """
        if undoing is None:
            return f"(SELECT * FROM {rows} WHERE {self._condition})"
        mark = f"status IN ('cancelled', 'superseded') AND k2_since > {self.until}"
        return (
            f"(SELECT k2_row.* REPLACE (CASE WHEN {mark} THEN NULL ELSE status END AS status) FROM {rows} k2_row "
            "LEFT JOIN (SELECT venue AS k2_at, symbol AS k2_of, session AS k2_in, corrects AS k2_named, "
            f"min({self._time}) AS k2_since FROM {undoing} "
            "WHERE status IN ('cancel', 'correction') AND corrects IS NOT NULL GROUP BY ALL) k2_cause "
            "ON venue = k2_at AND symbol = k2_of AND session = k2_in AND trade_id = k2_named "
            f"WHERE {self._condition})"
        )

    @property
    def _time(self) -> str:
        return _RECV_NS if self.clock == "recv" else EVENT_NS

    @property
    def _condition(self) -> str:
        us = f"make_timestamptz({self.until // 1_000})"
        if self.clock == "ingest":
            return f"ts_ingest <= {us}"
        exact = f"{self._time} <= {self.until}"
        return f"ts_event <= {us} AND {exact}" if self.clock == "event" else exact


def parse_clock(clock: object) -> str:
    """`ingest`, `recv` or `event`."""
    return one_of("clock", clock, CLOCKS)


def check_columns(table: str, clock: str, readable: Collection[str] = TABLES) -> None:
    """InvalidParameter where the rows of a table have no time by `clock`."""
    if not all(column in TABLES[table] for column in _NEEDED[clock]):
        tables = [name for name in readable if all(column in TABLES[name] for column in _NEEDED[clock])]
        raise InvalidParameter("clock", clock, f"{table} has no such time", f"Tables that have: {', '.join(tables)}")
