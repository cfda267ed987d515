"""Instants, half-open ranges and `as_of`: what the caller may write, and what it means.

Instants are integers: nanoseconds since 1970-01-01T00:00:00Z. A naive time is refused everywhere; a bare date is a
session in `start`/`end`, and an error in `as_of`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from k2kernel.errors import InvalidParameter

NS = 1_000_000_000
DAY_NS = 86_400 * NS
FIRST_DAY, LAST_DAY = -25_567, 106_650
"""1900 and 2262 in days since 1970: what is between them, nanoseconds can hold."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?\s*(Z|[+-]\d{2}:?\d{2})")
_DURATION = re.compile(r"(\d{1,9})(ns|us|ms|s|m|h|d)")
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS, "m": 60 * NS, "h": 3_600 * NS, "d": 86_400 * NS}
_NAME = re.compile(r"[a-z][a-z0-9._-]*")


def to_ns(moment: datetime) -> int:
    """Nanoseconds since 1970 of an aware datetime."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1_000


def from_ns(instant: int) -> datetime:
    """The aware UTC datetime of an instant in ns, floored to a microsecond."""
    return _EPOCH + timedelta(microseconds=instant // 1_000)


def midnight_us(day: date) -> int:
    """The µs since 1970 at which a day begins in UTC."""
    return (day - _EPOCH.date()) // timedelta(microseconds=1)


def parse_date(value: object, parameter: str) -> date:
    """A date from a `date` or `YYYY-MM-DD`."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError as exc:
            raise InvalidParameter(parameter, value, "is not a day of the calendar") from exc
    raise InvalidParameter(parameter, value, "is not a date", "Write YYYY-MM-DD")


def parse_instant(value: object, parameter: str) -> int:
    """Nanoseconds since 1970 from an aware datetime or an ISO 8601 text with `Z` or an offset."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidParameter(parameter, value.isoformat(), "has no time zone", "Give one, such as tzinfo=UTC")
        return to_ns(value)
    if not isinstance(value, str):
        raise InvalidParameter(parameter, value, "is neither a date, a time with a zone nor an ISO 8601 text")
    found = _INSTANT.fullmatch(value.strip())
    if found is None:
        raise InvalidParameter(
            parameter, value, "is not a time with a zone", "Write it like 2014-03-10T10:00:00+11:00 or ...Z"
        )
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    except ValueError as exc:
        raise InvalidParameter(parameter, value, str(exc)) from exc
    return to_ns(moment) + int((fraction or "0").ljust(9, "0"))


Duration = timedelta | str
"""A length of time: a `timedelta`, or a whole number with its unit, such as `5s`."""


def parse_duration(value: object, parameter: str) -> int:
    """Nanoseconds, zero or more, of a `timedelta` or of a whole number of ns, us, ms, s, m, h or d such as `5s`."""
    if isinstance(value, timedelta) and value >= timedelta():
        return ((value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds) * 1_000
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        remedy = "Give a timedelta, or a whole number and ns, us, ms, s, m, h or d, such as 5s"
        raise InvalidParameter(parameter, value, "is no length of time", remedy)
    return int(found[1]) * _UNITS[found[2]]


Bound = date | int
"""An end of a range: a session (its start), or an instant in ns."""


def parse_bound(value: object, parameter: str) -> Bound:
    """A session where `value` is a bare date, else an instant in ns."""
    return parse_date(value, parameter) if _is_day(value) else parse_instant(value, parameter)


def _is_day(value: object) -> bool:
    if isinstance(value, str):
        return _DATE.fullmatch(value) is not None
    return isinstance(value, date) and not isinstance(value, datetime)


@dataclass(frozen=True)
class Sessions:
    """Whole sessions from `first` to `last`, both inclusive."""

    first: date
    last: date


def parse_sessions(value: object, parameter: str = "session") -> Sessions:
    """`2014-03-10`, a `date`, or `2014-03-10..2014-03-14` (both inclusive)."""
    if isinstance(value, str) and ".." in value:
        first, _, last = value.partition("..")
        sessions = Sessions(parse_date(first, parameter), parse_date(last, parameter))
        if sessions.last < sessions.first:
            raise InvalidParameter(parameter, value, "ends before it starts")
        return sessions
    day = parse_date(value, parameter)
    return Sessions(day, day)


@dataclass(frozen=True)
class Range:
    """What rows a read asks for by time: whole `sessions`, and `start` inclusive to `end` exclusive."""

    sessions: Sessions | None = None
    start: Bound | None = None
    end: Bound | None = None


def parse_range(session: object = None, start: object = None, end: object = None) -> Range:
    """A `Range` from the words of a read verb; `start` after `end` is an error."""
    wanted = Range(
        None if session is None else parse_sessions(session),
        None if start is None else parse_bound(start, "start"),
        None if end is None else parse_bound(end, "end"),
    )
    low, high = wanted.start, wanted.end
    if (isinstance(low, int) and isinstance(high, int) and low > high) or (
        isinstance(low, date) and isinstance(high, date) and low > high
    ):
        raise InvalidParameter("end", end, f"is before start={start!r}")
    return wanted


@dataclass(frozen=True)
class AsOf:
    """Which state of a table: at most one of a snapshot `id`, a `name` (tag, branch or pin) or an `instant` in ns.

    `states` are tables with the snapshot id that is settled for them (None: the table without a snapshot); the rest
    is asked for the other tables.
    """

    id: int | None = None
    name: str | None = None
    instant: int | None = None
    states: tuple[tuple[str, int | None], ...] = ()

    def settled(self, states: Mapping[str, int | None]) -> AsOf:
        """The same, settled for some tables."""
        return replace(self, states=tuple(states.items()))

    def __str__(self) -> str:
        if self.instant is not None:
            return from_ns(self.instant).isoformat()
        if self.id is None and self.name is None:
            return ", ".join(f"{table} at {snapshot_id}" for table, snapshot_id in self.states)
        return str(self.id if self.id is not None else self.name)


AsOfLike = int | str | datetime | AsOf | Mapping[str, int | str | None] | None
"""What a caller may give as `as_of`."""


def parse_as_of(value: AsOfLike, parameter: str = "as_of") -> AsOf | None:
    """One meaning everywhere: digits are a snapshot id, `[a-z][a-z0-9._-]*` a tag, branch or pin, else a zoned time.

    A mapping of tables to snapshot ids, such as the `snapshots` of a result, names the state of each. A bare date is an
    error, because it does not say which instant of the day is meant.
    """
    if value is None or isinstance(value, AsOf):
        return value
    if isinstance(value, Mapping):
        return AsOf().settled({str(table): _snapshot_id(found, parameter) for table, found in value.items()})
    if _is_id(value):
        return AsOf(id=int(value))  # type: ignore[arg-type]
    if isinstance(value, str) and _NAME.fullmatch(value):
        return AsOf(name=value)
    if _is_day(value):
        raise InvalidParameter(
            parameter, str(value), "is a bare date", "Say which instant, such as 2014-03-10T17:00:00+11:00"
        )
    if isinstance(value, str) and not value[:1].isdigit():
        remedy = "A name is a-z, 0-9, . _ -, a letter first; `k2 table tags TABLE` lists those that there are"
        raise InvalidParameter(parameter, value, "is no snapshot id, name or time", remedy)
    return AsOf(instant=parse_instant(value, parameter))


def _is_id(value: object) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and value.isascii() and value.isdigit())


def _snapshot_id(value: int | str | None, parameter: str) -> int | None:
    if value is None or _is_id(value):
        return None if value is None else int(value)
    raise InvalidParameter(parameter, value, "is no snapshot id", "A mapping gives each table a snapshot id or None")


def parse_zone(name: str) -> str:
    """A name of the zone database."""
    try:
        return ZoneInfo(name).key
    except (ValueError, OSError, ZoneInfoNotFoundError) as exc:  # OSError: a folder of the database
        raise InvalidParameter("tz", name, "is no time zone", 'Write it like "Australia/Sydney" or "UTC"') from exc
