"""Time buckets: which one an instant falls into, as integer arithmetic in SQL.

Buckets are aligned to the venue's session clock, which is local time plus the venue's roll: a day starts where a
session does, and a bucket that does not divide the day is cut short at its end. A day is a session: a correction that
comes on a later day counts in the session of the trade it corrects. Buckets of up to an hour follow elapsed
time through a change of the clocks; longer ones follow the wall clock, so the one that holds the change is an hour
longer or shorter. Aligned to the clock, they follow local time without the roll.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from k2kernel.query.connection import literal
from k2kernel.query.intervals import DAY, HOUR, UNITS, Interval
from k2kernel.times import from_ns, midnight_us

if TYPE_CHECKING:
    from k2kernel.calendars import Venue

_QUARTER = 15 * UNITS["m"]
_US = timedelta(microseconds=1)
_EVENT = "epoch_us(ts_event)"


@dataclass(frozen=True)
class Buckets:
    """Bars' buckets in SQL: `key` groups the rows; of a group `opens` is its start and `closes` its end (exclusive), in
    µs since 1970 UTC. A group is of one session where `by_session`.
    """

    key: str
    opens: str
    closes: str
    by_session: bool = True


def buckets(interval: Interval, venues: Sequence[Venue], span_us: tuple[int, int], align: str = "session") -> Buckets:
    """The buckets of `interval` for rows of `venues` within `span_us` (first and last µs since 1970).

    `align` is `session`, or `clock` for the local time without the roll. A threshold has the session's bucket.
    """
    us = interval.us
    by_session = us is None or (us <= DAY and (align == "session" or all(_whole(venue, us) for venue in venues)))
    if us == DAY and align == "session":
        us = None
    if align == "clock" and us is not None:
        venues = [replace(venue, roll_hours=0) for venue in venues]
    if us is not None and _QUARTER % us == 0 and all(_whole(venue, _QUARTER) for venue in venues):
        return Buckets(_floor(_EVENT, us), "k2_bucket", f"(k2_bucket + {us})", by_session)
    clocks = {venue.code: _Clock.of(venue, span_us) for venue in venues}
    each = partial(_per_venue, clocks)
    if us is None:
        opens, closes = (f"(epoch_us(session) + {days * DAY})" for days in (0, 1))
        return Buckets("0", each(lambda clock: clock.to_utc(opens)), each(lambda clock: clock.to_utc(closes)))
    if us <= HOUR:
        closes = each(lambda clock: clock.elapsed_end(us))
        return Buckets(each(lambda clock: clock.elapsed(us)), "k2_bucket", closes, by_session)
    key = each(lambda clock: _local_floor(clock.local(_EVENT), us))
    closes = each(lambda clock: clock.to_utc(_local_end("k2_bucket", us)))
    return Buckets(key, each(lambda clock: clock.to_utc("k2_bucket")), closes, by_session)


def session_start(venue: Venue, day: date) -> int:
    """The start of a session in µs since 1970 UTC."""
    local = midnight_us(day)
    return _Clock.of(venue, (local, local)).utc(local)


def _whole(venue: Venue, us: int) -> bool:
    """True where the roll is a multiple of `us`; offsets of zones are multiples of 15 minutes since 1972."""
    return round(venue.roll_hours * HOUR) % us == 0


def _per_venue(clocks: dict[str, _Clock], expression: Callable[[_Clock], str]) -> str:
    texts = {code: expression(clock) for code, clock in clocks.items()}
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "0")
    return f"CASE venue {' '.join(f'WHEN {literal(code)} THEN {text}' for code, text in texts.items())} END"


def _floor(us: str, length: int) -> str:
    """The greatest multiple of `length` that is not after `us`, of negative ones too."""
    return f"({us} - ({us} % {length} + {length}) % {length})"


def _local_floor(local: str, length: int) -> str:
    """The start of the bucket on the session clock: counted from its midnight, or in whole days from 1970."""
    if length > DAY or DAY % length == 0:
        return _floor(local, length)
    day = _floor(local, DAY)
    return f"({day} + ({local} - {day}) // {length} * {length})"


def _local_end(start: str, length: int) -> str:
    """The end of the bucket that starts at `start` on the session clock."""
    if length > DAY or DAY % length == 0:
        return f"({start} + {length})"
    return f"least({start} + {length}, {_floor(start, DAY)} + {DAY})"


@dataclass(frozen=True)
class _Clock:
    """A session clock over a span: `offsets[n]` µs ahead of UTC until `changes[n]` (µs, UTC), the last one for ever."""

    changes: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, venue: Venue, span_us: tuple[int, int]) -> _Clock:
        roll = round(venue.roll_hours * HOUR)
        changes, offsets = zone_offsets(venue.zone, span_us[0] - 2 * DAY, span_us[1] + 2 * DAY)
        return cls(changes, tuple(offset + roll for offset in offsets))

    def local(self, utc: str) -> str:
        """The session clock at `utc`."""
        return f"({utc} + {_steps(utc, self.changes, self.offsets)})"

    def elapsed(self, length: int) -> str:
        """The UTC start of the bucket at an event, by the offset that holds at the event."""
        if self._even(length):
            return _floor(_EVENT, length)
        offset = _steps(_EVENT, self.changes, self.offsets)
        return f"({_local_floor(f'({_EVENT} + {offset})', length)} - {offset})"

    def elapsed_end(self, length: int) -> str:
        """The UTC end of a bucket by its start: the next one's start, or that of the next day."""
        if self._even(length):
            return f"(k2_bucket + {length})"
        offset = _steps("k2_bucket", self.changes, self.offsets)
        return f"({_local_end(f'(k2_bucket + {offset})', length)} - {offset})"

    def _even(self, length: int) -> bool:
        """True where buckets of `length` are the same by every offset, and a day is whole ones."""
        return DAY % length == 0 and all(offset % length == 0 for offset in self.offsets)

    def utc(self, local: int) -> int:
        """As `to_utc`, of one value."""
        for change, (before, after) in zip(self.changes, pairwise(self.offsets), strict=True):
            if local < change + before:
                return local - before
            if local < change + after:
                return change
        return local - self.offsets[-1]

    def to_utc(self, local: str) -> str:
        """The instant at which the clock shows `local`: the first one where it does twice, and the moment of the
        change where it never does.
        """
        if not self.changes:
            return f"({local} - {self.offsets[0]})"
        cases = []
        for change, (before, after) in zip(self.changes, pairwise(self.offsets), strict=True):
            cases.append(f"WHEN {local} < {change + before} THEN {local} - {before}")
            if after > before:
                cases.append(f"WHEN {local} < {change + after} THEN {change}")
        return f"(CASE {' '.join(cases)} ELSE {local} - {self.offsets[-1]} END)"


def _steps(utc: str, changes: Sequence[int], values: Sequence[int]) -> str:
    if not changes:
        return str(values[0])
    cases = (f"WHEN {utc} < {change} THEN {value}" for change, value in zip(changes, values, strict=False))
    return f"(CASE {' '.join(cases)} ELSE {values[-1]} END)"


def zone_offsets(zone: str, first_us: int, last_us: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """When the clocks of `zone` change between two instants, and the offsets from UTC before, between and after: all in
    µs, offsets east of Greenwich positive.
    """
    years = range(_moment(first_us).year, _moment(last_us).year + 1)
    changes = [change for year in years for change in _changes(zone, year)]
    inside = changes[bisect_right(changes, (first_us, DAY)) : bisect_right(changes, (last_us, DAY))]
    first = _offset(ZoneInfo(zone), first_us)
    return tuple(change for change, _ in inside), (first, *(offset for _, offset in inside))


@cache
def _changes(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """The changes of a zone's clocks in a UTC year: when, and the offset from then on."""
    info = ZoneInfo(zone)
    first = midnight_us(date(year, 1, 1))
    days = [(day, _offset(info, day)) for day in range(first, first + 367 * DAY, DAY)]
    found = (_first_second(info, day, after) for (day, before), (_, after) in pairwise(days) if before != after)
    return tuple(change for change in sorted(set(found)) if _moment(change[0]).year == year)


def _first_second(info: ZoneInfo, day: int, after: int) -> tuple[int, int]:
    """The second in the day from `day` at which the offset becomes `after`."""
    low, high = day, day + DAY
    while high - low > UNITS["s"]:
        middle = low + (high - low) // (2 * UNITS["s"]) * UNITS["s"]
        low, high = (low, middle) if _offset(info, middle) == after else (middle, high)
    return high, after


def _offset(info: ZoneInfo, us: int) -> int:
    return (_moment(us).astimezone(info).utcoffset() or timedelta()) // _US


def _moment(us: int) -> datetime:
    return from_ns(us * 1_000)
