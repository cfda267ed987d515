"""When a venue trades: the open, the close and the break of each session.

A venue's calendar (exchange_calendars) says them where it has one and covers the day. `24/7` and `24/5` only say which
days are sessions. Everything else follows from the venue's line: its `hours`, or else whole sessions by zone and roll.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from k2kernel.cached import cached_property
from k2kernel.calendars.venues import Venue
from k2kernel.errors import InvalidParameter
from k2kernel.times import midnight_us, to_ns

if TYPE_CHECKING:
    import polars as pl

CALENDAR, ZONE = "calendar", "zone"
"""What the hours of a session are by."""

Interval = tuple[int, int]
"""µs since the session's date began in UTC: start inclusive, end exclusive."""

Intervals = tuple[Interval, ...]

_EVERY_DAY, _WEEKDAYS = "1111111", "1111100"
_DAYS_ONLY = {"24/7": _EVERY_DAY, "24/5": _WEEKDAYS}
_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIRST, _LAST = date(1970, 1, 1), date(2049, 12, 31)
"""The years that calendars are made for; those of one year take about as long to make."""

_DAY, _US = timedelta(days=1), timedelta(microseconds=1)
_NAT = -(1 << 63)


def opening_hours(venue: Venue, first: date, last: date) -> pl.DataFrame:
    """The sessions of a venue from `first` to `last`, both inclusive, in order.

    Columns: session (date), open, close, break_start, break_end (µs UTC; half-open; null where there is no break),
    early (true where a calendar says that the close is earlier than usual), by: `calendar`, or `zone` where no calendar
    covers the day, so that holidays are not known and the usual hours stand.

    InvalidParameter where the venue's calendar is not in exchange_calendars.
    """
    import polars as pl

    years = [_year(venue, year).table for year in range(first.year, last.year + 1)]
    found = pl.concat([_table([]), *years])
    return found.filter(pl.col("session").is_between(first, last))


def trading(venue: Venue, sessions: Iterable[date], *, auctions: bool = False) -> dict[date, Intervals]:
    """Of those of `sessions` on which the venue trades, the intervals from open to close without the break; with
    `auctions` also the venue's auction windows. Intervals neither overlap nor touch.
    """
    found = {}
    for session in sessions:
        intervals = _year(venue, session.year).intervals(auctions).get(session)
        if intervals is not None:
            found[session] = intervals
    return found


def unsure(venue: Venue, sessions: Iterable[date]) -> str | None:
    """One sentence about those of `sessions` that no calendar covers; None where there are none."""
    days = [day for day in sessions if _year(venue, day.year).is_unsure(day)]
    if not days:
        return None
    known = None if venue.calendar is None else _calendar(venue.calendar)
    if known is None:
        why = f"exchange_calendars cannot make {venue.calendar}" if venue.calendar else "no calendar is declared"
        hours = f"from {venue.hours[0]:%H:%M} to {venue.hours[-1]:%H:%M}" if venue.hours else "whole"
        return f"{venue.code}: {why}, so every day is taken for a session, {hours}"
    return (
        f"{venue.code}: the calendar {known.name} covers {known.first} to {known.last}, so {_span(days)} "
        f"{'has' if len(days) == 1 else 'have'} the usual hours, with holidays and early closes unknown"
    )


def _span(days: Sequence[date]) -> str:
    return str(min(days)) if len(days) == 1 else f"{min(days)} to {max(days)}"


@dataclass(frozen=True)
class _Session:
    """A row of `opening_hours`; instants in µs since 1970."""

    session: date
    open: int
    close: int
    break_start: int | None
    break_end: int | None
    early: bool
    by: str

    def intervals(self, auctions: Sequence[tuple[str, int, int]]) -> Intervals:
        """The session's hours, and windows counted from their ends."""
        edges = [(self.open, self.close)]
        if self.break_start is not None and self.break_end is not None:
            edges = [(self.open, self.break_start), (self.break_end, self.close)]
        anchors = ((getattr(self, anchor), start, end) for anchor, start, end in auctions)
        edges += [(at + start, at + end) for at, start, end in anchors if at is not None]
        midnight = midnight_us(self.session)
        return _merged((start - midnight, end - midnight) for start, end in edges)


def _merged(edges: Iterable[Interval]) -> Intervals:
    found: list[Interval] = []
    for start, end in sorted(edges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


class _Year:
    """The sessions of a venue in one year."""

    def __init__(self, venue: Venue, sessions: Sequence[_Session]) -> None:
        self._sessions = {row.session: row for row in sessions}
        self._auctions = [(item.anchor, item.start // _US, item.end // _US) for item in venue.auctions]
        self._intervals: dict[bool, dict[date, Intervals]] = {}

    @cached_property
    def table(self) -> pl.DataFrame:
        """The sessions as `opening_hours` shows them."""
        return _table(list(self._sessions.values()))

    def intervals(self, auctions: bool) -> dict[date, Intervals]:
        """The intervals of each session."""
        if auctions not in self._intervals:
            windows = self._auctions if auctions else []
            self._intervals[auctions] = {row.session: row.intervals(windows) for row in self._sessions.values()}
        return self._intervals[auctions]

    def is_unsure(self, day: date) -> bool:
        """True for a session that no calendar covers."""
        return day in self._sessions and self._sessions[day].by == ZONE


def _table(sessions: Sequence[_Session]) -> pl.DataFrame:
    import polars as pl

    instant = pl.Datetime("us", "UTC")
    names = ("open", "close", "break_start", "break_end")
    schema = {"session": pl.Date(), **dict.fromkeys(names, instant), "early": pl.Boolean(), "by": pl.String()}
    return pl.DataFrame(list(map(vars, sessions)), schema)


@lru_cache(maxsize=1024)
def _year(venue: Venue, year: int) -> _Year:
    days = [date(year, 1, 1) + n * _DAY for n in range((date(year + 1, 1, 1) - date(year, 1, 1)).days)]
    if venue.calendar in _DAYS_ONLY:
        mask = _DAYS_ONLY[venue.calendar]
        return _Year(venue, [_usual(venue, day, CALENDAR) for day in days if mask[day.weekday()] == "1"])
    known = None if venue.calendar is None else _calendar(venue.calendar)
    if known is None:
        return _Year(venue, [_usual(venue, day, ZONE) for day in days])
    listed = [known.sessions[day] for day in days if day in known.sessions]
    open_days = (day for day in days if known.week[day.weekday()] == "1" and not known.first <= day <= known.last)
    others = [_usual(venue, day, ZONE, known) for day in open_days]
    return _Year(venue, sorted([*listed, *others], key=lambda row: row.session))


def _usual(venue: Venue, day: date, by: str, known: _Calendar | None = None) -> _Session:
    """A session at the hours of the venue's line, else at the calendar's usual ones, else whole."""
    roll, zone = timedelta(hours=venue.roll_hours), ZoneInfo(venue.zone)
    times = venue.hours
    if not times and known is not None:
        times, zone = known.usual(day), ZoneInfo(known.zone)
    if not times:
        start = (datetime.combine(day, time()) - roll).time()
        times = (start, start)
    first = datetime.combine(day, times[0])
    moments = [first - ((first + roll).date() - day)]
    for clock in times[1:]:
        following = datetime.combine(moments[-1].date(), clock)
        moments.append(following if following > moments[-1] else following + _DAY)
    edges = [to_ns(moment.replace(tzinfo=zone)) // 1_000 for moment in moments]
    break_start, break_end = edges[1:3] if len(edges) == 4 else (None, None)
    return _Session(day, edges[0], edges[-1], break_start, break_end, early=False, by=by)


@dataclass(frozen=True)
class _Calendar:
    """A calendar of exchange_calendars: what it covers, both inclusive, and what it says."""

    name: str
    first: date
    last: date
    week: str
    zone: str
    sessions: dict[date, _Session]
    times: tuple[Any, ...]

    def usual(self, day: date) -> tuple[time, ...]:
        """The local times of an ordinary day, by the rule that stands on `day`."""
        rules = ([at for start, at in rule or () if start is None or start.date() <= day] for rule in self.times)
        return tuple(found[-1] for found in rules if found and found[-1] is not None)


_MAKING = threading.Lock()
"""What warns is set for all threads: one that leaves would put back what another has just turned off."""


@cache
def _calendar(name: str) -> _Calendar | None:
    """A calendar for all years that it covers; None where the library cannot make it, as with some under new pandas."""
    import exchange_calendars

    if name not in exchange_calendars.get_calendar_names(include_aliases=False):
        raise InvalidParameter("calendar", name, "is not in exchange_calendars", "Correct it in venues.toml")
    with _MAKING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what newer releases of pandas call deprecated
        try:
            bounds = exchange_calendars.get_calendar(name)
            low, high = bounds.bound_min(), bounds.bound_max()
            first = _FIRST if low is None else max(_FIRST, low.date())
            last = _LAST if high is None else min(_LAST, high.date())
            made = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
        except (ValueError, NotImplementedError):
            return None
        early = set(made.early_closes.date)
        times = (made.open_times, made.break_start_times, made.break_end_times, made.close_times)
        return _Calendar(name, first, last, made.weekmask, made.tz.key, _listed(made, early), times)


def _listed(made: Any, early: set[date]) -> dict[date, _Session]:
    """The sessions of a calendar, from its arrays of ns."""
    names = ("opens_nanos", "break_starts_nanos", "break_ends_nanos", "closes_nanos")
    instants = ([None if ns == _NAT else ns // 1_000 for ns in getattr(made, name).tolist()] for name in names)
    rows = zip(made.sessions.date.tolist(), *instants, strict=True)
    return {
        day: _Session(day, start, end, break_start, break_end, day in early, CALENDAR)
        for day, start, break_start, break_end, end in rows
    }
