"""Which rows a read verb asks for: instruments and a time range, as pruned files and as SQL conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, listed
from k2kernel.query.hours import Hours
from k2kernel.query.order import EVENT_NS
from k2kernel.query.scan import Pinned, Scan, Values
from k2kernel.times import Range, from_ns

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Instrument:
    """The instrument key."""

    symbol: str
    venue: str


@dataclass(frozen=True)
class Selection:
    """Rows of `instruments` (None: all), or of `venue` alone, within `range` and `hours` (None: at any time)."""

    range: Range
    instruments: tuple[Instrument, ...] | None = None
    venue: str | None = None
    hours: Hours | None = None

    def of(self, table: str) -> Selection:
        """The same of one table: only trades carry the conditions that mark an auction."""
        if self.hours is None or table == "trades":
            return self
        return replace(self, hours=replace(self.hours, codes={}))

    @property
    def one_instrument(self) -> bool:
        """True where all rows are of one instrument."""
        return self.instruments is not None and len(self.instruments) == 1

    @property
    def whole_files(self) -> bool:
        """True where a file's rows are either all selected or not at all, so that statistics can count them."""
        by_time = isinstance(self.range.start, int) or isinstance(self.range.end, int)
        return self.instruments is None and self.venue is None and self.hours is None and not by_time

    @property
    def first_session(self) -> date | None:
        """A session before which no row is; None where that is open."""
        sessions = self.session_bounds()
        bounds = [] if sessions is None or sessions[0] == date.min else [sessions[0]]
        if isinstance(self.range.start, int):
            # A session may start a day before or after the date of its first instant in UTC.
            bounds.append(from_ns(self.range.start).date() - _DAY)
        return max(bounds, default=None)

    def scan(self, pinned: Pinned) -> Scan:
        """The files of a pinned table that may hold such rows."""
        around = self._prune(pinned, None)
        return Scan(pinned, self._prune(pinned, self._range_us()), around)

    def _prune(self, pinned: Pinned, range_us: tuple[int | None, int | None] | None) -> list[LakeFile]:
        instruments = self.instruments
        venues = None if instruments is None else [item.venue for item in instruments]
        return pinned.files.prune(
            symbols=None if instruments is None else [item.symbol for item in instruments],
            venues=[self.venue] if venues is None and self.venue is not None else venues,
            sessions=self.session_bounds(),
            ts_range_us=range_us,
        )

    def session_bounds(self) -> tuple[date, date] | None:
        """First and last session, both inclusive; start and end count where they are dates."""
        sessions, start, end = self.range.sessions, self.range.start, self.range.end
        firsts = [sessions.first] if sessions else []
        lasts = [sessions.last] if sessions else []
        firsts += [start] if isinstance(start, date) else []
        lasts += [end - _DAY] if isinstance(end, date) and end > date.min else []
        if not firsts and not lasts:
            return None
        return max(firsts, default=date.min), min(lasts, default=date.max)

    def _range_us(self) -> tuple[int | None, int | None] | None:
        """µs that enclose start and end where they are instants, and the hours; the end is exclusive, so it is rounded
        up.
        """
        start, end = self.range.start, self.range.end
        low, high = (None, None) if self.hours is None else self.hours.span_us
        lows = [start // 1_000] if isinstance(start, int) else []
        highs = [-(-end // 1_000)] if isinstance(end, int) else []
        lows += [] if low is None else [low]
        highs += [] if high is None else [high]
        return (max(lows, default=None), min(highs, default=None)) if lows or highs else None

    def conditions(self, values: Values) -> list[str]:
        """The selection as SQL conditions, to be joined by AND."""
        within = [] if self.hours is None else self.hours.conditions(values)
        return [*self._which(values), *self._when(values), *within]

    def _which(self, values: Values) -> list[str]:
        if self.instruments is None:
            return [] if self.venue is None else [f"venue = {values.bind(self.venue)}"]
        venues = {item.venue for item in self.instruments}
        symbols = [item.symbol for item in self.instruments]
        if len(venues) > 1:
            pairs = ((values.bind(item.symbol), values.bind(item.venue)) for item in self.instruments)
            either = " OR ".join(f"symbol = {symbol} AND venue = {venue}" for symbol, venue in pairs)
            return [f"symbol IN ({_bound(values, symbols)})", f"({either})"]
        which = f"symbol IN ({_bound(values, symbols)})" if symbols else "false"
        return [which, *(f"venue = {values.bind(venue)}" for venue in venues)]

    def _when(self, values: Values) -> list[str]:
        sessions = self.session_bounds()
        found = [] if sessions is None else self._sessions(values, *sessions)
        start, end = self.range.start, self.range.end
        if isinstance(start, int):
            found += _bound_instant(values, start, ">=", ">=")
        if isinstance(end, int):
            found += _bound_instant(values, end, "<", "<=")
        return found

    def _sessions(self, values: Values, first: date, last: date) -> list[str]:
        if first == last:
            return [f"session = {values.bind(first)}"]
        found = [] if first == date.min else [f"session >= {values.bind(first)}"]
        return found if last == date.max else [*found, f"session <= {values.bind(last)}"]


def _bound(values: Values, items: Sequence[object]) -> str:
    return ", ".join(map(values.bind, items))


def _bound_instant(values: Values, instant: int, exact: str, coarse: str) -> list[str]:
    """`event <exact> instant`.

    A whole µs is compared on ts_event alone, which is the floor of the ns; another one needs the ns as well, and the
    coarse comparison lets row groups be skipped.
    """
    us, rest = divmod(instant, 1_000)
    if rest == 0:
        return [f"ts_event {exact} make_timestamptz({values.bind(us)})"]
    return [
        f"ts_event {coarse} make_timestamptz({values.bind(us)})",
        f"{EVENT_NS} {exact} {values.bind(instant)}",
    ]


def leading(files: Sequence[LakeFile], rows: int) -> list[LakeFile]:
    """The files that can hold one of the first `rows` events, where every row of `files` is wanted."""
    bounds = [(file.ts_event_max, file.rows) for file in files if file.ts_event_max is not None]
    if len(bounds) < len(files) or any(file.has_deletes for file in files):
        return list(files)
    found = 0
    for latest, count in sorted(bounds):
        found += count
        if found >= rows:
            return [file for file in files if file.ts_event_min is None or file.ts_event_min <= latest]
    return list(files)


def parse_symbols(symbol: object) -> tuple[str, ...] | None:
    """`BHP`, several of them, or None for every symbol; InvalidParameter for anything else."""
    if symbol is None:
        return None
    if isinstance(symbol, str):
        return (symbol,)
    if not isinstance(symbol, Sequence) or not all(isinstance(item, str) for item in symbol):
        raise InvalidParameter("symbol", symbol, "is neither a text nor a list of texts", 'Write "BHP" or ["BHP"]')
    return tuple(dict.fromkeys(symbol))


def parse_venue(venue: object) -> str | None:
    """A venue's code, or None."""
    if venue is not None and not isinstance(venue, str):
        raise InvalidParameter("venue", venue, "is not a text", 'Write it like "XASX"')
    return venue


def parse_columns(columns: Sequence[str] | str, known: Sequence[str]) -> tuple[str, ...]:
    """Columns to output, each of them known and named once; InvalidParameter lists those that there are."""
    names = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"has no column {unknown[0]!r}" if unknown else "is empty or repeats a column"
        raise InvalidParameter("columns", columns, problem, f"Columns: {listed(known, most=40)}")
    return tuple(names)
