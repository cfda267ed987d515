"""Venues and the session rule: which trading date an instant belongs to.

A session is the date of the venue's local time plus its roll. It depends on the zone and the roll only, never on
holidays, on a calendar's years or on the zone of this machine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from zoneinfo import ZoneInfo

from k2kernel.errors import InvalidParameter, UnknownVenue, listed
from k2kernel.times import from_ns

if TYPE_CHECKING:
    import polars as pl

ASSET_CLASSES = ("equity", "fx", "crypto", "future", "option")
USER_FILE = "venues.toml"
_NO_PLACES = ("localtime", "posixrules", "Factory")
"""Files of the zone database that name this machine, or nothing, instead of a place."""
_SHIPPED = Path(__file__).parents[1] / "venues.toml"


@dataclass(frozen=True)
class Auction:
    """A window [`start`, `end`), both counted from the `anchor`: open, close, break_start or break_end of a session."""

    anchor: str
    start: timedelta
    end: timedelta


@dataclass(frozen=True)
class Venue:
    """A market that identifies instruments, and its session rule.

    `roll_hours` are added to the local time in `zone` before its date is taken (7: a session starts at 17:00 on the
    day before). `calendar` is a name in exchange_calendars or None. `hours` are local times: open and close, with a
    break's start and end between them, for days that no calendar knows. `auctions` are windows around
    them.
    `aliases` are what others call the venue; they only lead to the code when a name is not found, because a venue has
    one spelling.
    """

    code: str
    zone: str
    roll_hours: float = 0
    calendar: str | None = None
    asset_class: str | None = None
    name: str = ""
    aliases: tuple[str, ...] = ()
    hours: tuple[time, ...] = ()
    auctions: tuple[Auction, ...] = ()


def venues(home: Path | None = None) -> dict[str, Venue]:
    """Every declared venue by code: the shipped ones, with those of `<home>/venues.toml` over them.

    Raises `InvalidParameter` naming the file and the key where the user's file is wrong.
    """
    return dict(_merged(*_user_file(home)))


def venue(code: str, home: Path | None = None) -> Venue:
    """The venue `code`, spelled exactly; `UnknownVenue` shows what is like it and the line to add."""
    known = _merged(*_user_file(home))
    if code not in known:
        raise UnknownVenue(code, _near(code, known))
    return known[code]


def session_expr(venue: Venue, column: str | pl.Expr) -> pl.Expr:
    """The session of each instant of `column`, a Polars datetime with a zone: a date, null where the instant is."""
    import polars as pl

    instants = pl.col(column) if isinstance(column, str) else column
    local = instants.dt.convert_time_zone(venue.zone).dt.replace_time_zone(None)
    return (local + pl.duration(microseconds=_roll(venue) // timedelta(microseconds=1))).dt.date()


def session_of(venue: Venue, instant: int) -> date:
    """The session of one instant in ns since 1970: the same rule as `session_expr`, for a single value."""
    return (from_ns(instant).astimezone(ZoneInfo(venue.zone)).replace(tzinfo=None) + _roll(venue)).date()


def _roll(venue: Venue) -> timedelta:
    return timedelta(hours=venue.roll_hours)


def _user_file(home: Path | None) -> tuple[Path | None, int, int]:
    """The user's file with its time and size, which tell a changed file from the one read before."""
    if home is None:
        return None, 0, 0
    path = Path(home) / USER_FILE
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None, 0, 0
    return path, facts.st_mtime_ns, facts.st_size


@cache
def _merged(path: Path | None, _mtime_ns: int, _nbytes: int) -> dict[str, Venue]:
    shipped = _merged(None, 0, 0) if path else {}
    return shipped | _load(path or _SHIPPED)


def _load(path: Path) -> dict[str, Venue]:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidParameter("venues", str(path), f"is not TOML: {exc}", "Correct that line") from exc
    return {code: _read(path, code, entry) for code, entry in entries.items()}


def _read(path: Path, code: str, entry: object) -> Venue:
    if not isinstance(entry, dict):
        _refuse(path, code, entry, "is not a table of settings", f'Write {code} = {{ zone = "Area/City" }}')
    for key, value in entry.items():
        if key not in _CHECKS:
            _refuse(path, f"{code}.{key}", value, "is not a setting of a venue", f"Settings: {listed(_CHECKS)}")
        if problem := _CHECKS[key](value):
            _refuse(path, f"{code}.{key}", value, problem)
    if "zone" not in entry:
        _refuse(path, code, entry, "has no zone", 'Add zone = "Area/City"')
    read = {key: _READ[key](value) if key in _READ else value for key, value in entry.items()}
    return Venue(code, **read)


def _refuse(path: Path, key: str, value: object, problem: str, remedy: str = "") -> NoReturn:
    raise InvalidParameter(f"{path}: {key}", value, problem, remedy or f"Correct it in {path}")


def _zone_problem(value: Any) -> str:
    try:
        known = isinstance(value, str) and value not in _NO_PLACES and ZoneInfo(value) is not None
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        known = False
    return "" if known else "is not an IANA time zone such as Australia/Sydney"


def _roll_problem(value: Any) -> str:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return "" if numeric and -24 < value < 24 else "is not a number of hours between -24 and 24"


def _text_problem(value: Any) -> str:
    return "" if isinstance(value, str) else "is not a text"


def _class_problem(value: Any) -> str:
    return "" if value in ASSET_CLASSES else f"is none of {listed(ASSET_CLASSES)}"


def _aliases_problem(value: Any) -> str:
    return "" if isinstance(value, list) and all(isinstance(item, str) for item in value) else "is not a list of texts"


_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
_OFFSET = r"(-?)(\d{1,2}):([0-5]\d)(?::([0-5]\d))?"
_WINDOW = re.compile(rf"(open|close|break_start|break_end) {_OFFSET}\.\.{_OFFSET}")


def _hours_problem(value: Any) -> str:
    times = isinstance(value, list) and all(isinstance(item, str) and _TIME.fullmatch(item) for item in value)
    return "" if times and len(value) in {2, 4} else 'is not like ["09:30", "16:00"], or four times with a break'


def _auctions_problem(value: Any) -> str:
    fits = isinstance(value, list) and all(isinstance(item, str) and _auction(item) for item in value)
    return "" if fits else 'is not a list of windows like "close 0:10..0:12" or "open -0:05..0:00"'


def _auction(text: str) -> Auction | None:
    found = _WINDOW.fullmatch(text)
    if found is None:
        return None
    anchor, *parts = found.groups()
    start, end = _offset(*parts[:4]), _offset(*parts[4:])
    return Auction(anchor, start, end) if start < end else None


def _offset(sign: str, hours: str, minutes: str, seconds: str | None) -> timedelta:
    length = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0))
    return -length if sign else length


_READ: dict[str, Callable[[Any], Any]] = {
    "aliases": tuple,
    "hours": lambda value: tuple(map(time.fromisoformat, value)),
    "auctions": lambda value: tuple(map(_auction, value)),
}
"""How settings that are no plain values are read, once checked."""

_CHECKS = {
    "zone": _zone_problem,
    "roll_hours": _roll_problem,
    "calendar": _text_problem,
    "asset_class": _class_problem,
    "name": _text_problem,
    "aliases": _aliases_problem,
    "hours": _hours_problem,
    "auctions": _auctions_problem,
}
"""The settings of a venue, each with what is wrong with a value (nothing: an empty text)."""


def _near(code: str, known: dict[str, Venue]) -> list[str]:
    """Codes that `code` may have meant: those it is an alias of, then those spelled like it."""
    wanted = code.upper()
    named = [entry.code for entry in known.values() if wanted == entry.code or wanted in entry.aliases]
    return list(dict.fromkeys([*named, *get_close_matches(wanted, known, n=5, cutoff=0.7)]))
