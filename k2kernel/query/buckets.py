"""Time buckets: which one an instant falls into, as integer arithmetic in SQL.

Buckets are aligned to the venue's session clock, which is local time plus the venue's roll: a day starts where a
session does, and a bucket that does not divide the day is cut short at its end. A day is a session: a correction that
comes on a later day counts in the session of the trade it corrects. Buckets of up to an hour follow elapsed
time through a change of the clocks; longer ones follow the wall clock, so the one that holds the change is an hour
longer or shorter.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from k2kernel.errors import InvalidParameter
from k2kernel.query.connection import literal

if TYPE_CHECKING:
    from k2kernel.calendars import Venue

SESSION = "session"
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DAY, _HOUR, _QUARTER = _UNITS["d"], _UNITS["h"], 15 * _UNITS["m"]
_FORM = re.compile(r"([1-9]\d{0,8})(ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_EVENT = "epoch_us(ts_event)"


@dataclass(frozen=True)
class Interval:
    """The length of a bar: `us` microseconds, or a session where `us` is None."""

    text: str
    us: int | None = None

    @property
    def within_session(self) -> bool:
        """True where a bar never holds rows of two sessions."""
        return self.us is None or self.us <= _DAY


def parse_interval(value: object) -> Interval:
    """`session`, or a whole number of ms, s, m, h or d, such as `5m`; more than a day only in whole days."""
    if value == SESSION:
        return Interval(SESSION)
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        remedy = "Write a number and ms, s, m, h or d, such as 1m, or session"
        raise InvalidParameter("interval", value, "is no interval", remedy)
    us = int(found[1]) * _UNITS[found[2]]
    if us > _DAY and us % _DAY:
        raise InvalidParameter("interval", value, "is more than a day and not whole days", "Write it in d")
    return Interval(str(value), us)


@dataclass(frozen=True)
class Buckets:
    """Bars' buckets in SQL: `key` groups the rows; `opens` is, of a group, its start in µs since 1970 UTC."""

    key: str
    opens: str


def buckets(interval: Interval, venues: Sequence[Venue], span_us: tuple[int, int]) -> Buckets:
    """The buckets of `interval` for rows of `venues` within `span_us` (first and last µs since 1970)."""
    if interval.us is not None and _QUARTER % interval.us == 0 and all(_whole(venue, _QUARTER) for venue in venues):
        return Buckets(_floor(_EVENT, interval.us), "k2_bucket")
    clocks = {venue.code: _Clock.of(venue, span_us) for venue in venues}
    if interval.us in (None, _DAY):
        return Buckets("0", _per_venue(clocks, lambda clock: clock.to_utc("epoch_us(session)")))
    us = interval.us
    if us <= _HOUR:
        return Buckets(_per_venue(clocks, lambda clock: clock.elapsed(us)), "k2_bucket")
    key = _per_venue(clocks, lambda clock: _local_floor(clock.local(_EVENT), us))
    return Buckets(key, _per_venue(clocks, lambda clock: clock.to_utc("k2_bucket")))


def _whole(venue: Venue, us: int) -> bool:
    """True where the roll is a multiple of `us`; offsets of zones are multiples of 15 minutes since 1972."""
    return round(venue.roll_hours * _HOUR) % us == 0


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
    if length > _DAY or _DAY % length == 0:
        return _floor(local, length)
    day = _floor(local, _DAY)
    return f"({day} + ({local} - {day}) // {length} * {length})"


@dataclass(frozen=True)
class _Clock:
    """A session clock over a span: `offsets[n]` µs ahead of UTC until `changes[n]` (µs, UTC), the last one for ever."""

    changes: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, venue: Venue, span_us: tuple[int, int]) -> _Clock:
        roll = round(venue.roll_hours * _HOUR)
        changes, offsets = zone_offsets(venue.zone, span_us[0] - 2 * _DAY, span_us[1] + 2 * _DAY)
        return cls(changes, tuple(offset + roll for offset in offsets))

    def local(self, utc: str) -> str:
        """The session clock at `utc`."""
        return f"({utc} + {_steps(utc, self.changes, self.offsets)})"

    def elapsed(self, length: int) -> str:
        """The UTC start of the bucket at an event, by the offset that holds at the event."""
        if all(offset % length == 0 for offset in self.offsets) and _DAY % length == 0:
            return _floor(_EVENT, length)
        offset = _steps(_EVENT, self.changes, self.offsets)
        return f"({_local_floor(f'({_EVENT} + {offset})', length)} - {offset})"

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
    inside = changes[bisect_right(changes, (first_us, _DAY)) : bisect_right(changes, (last_us, _DAY))]
    first = _offset(ZoneInfo(zone), first_us)
    return tuple(change for change, _ in inside), (first, *(offset for _, offset in inside))


@cache
def _changes(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """The changes of a zone's clocks in a UTC year: when, and the offset from then on."""
    info = ZoneInfo(zone)
    first = (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _US
    days = [(day, _offset(info, day)) for day in range(first, first + 367 * _DAY, _DAY)]
    found = (_first_second(info, day, after) for (day, before), (_, after) in pairwise(days) if before != after)
    return tuple(change for change in _unique(found) if _moment(change[0]).year == year)


def _unique(changes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(set(changes))


def _first_second(info: ZoneInfo, day: int, after: int) -> tuple[int, int]:
    """The second in the day from `day` at which the offset becomes `after`."""
    low, high = day, day + _DAY
    while high - low > _UNITS["s"]:
        middle = low + (high - low) // (2 * _UNITS["s"]) * _UNITS["s"]
        low, high = (low, middle) if _offset(info, middle) == after else (middle, high)
    return high, after


def _offset(info: ZoneInfo, us: int) -> int:
    return (_moment(us).astimezone(info).utcoffset() or timedelta()) // _US


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
