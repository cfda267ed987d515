"""Which trades count: per venue and condition code, for open, high and low, last, volume and VWAP.

A policy is a TOML file, shipped in `k2kernel/policies` or the user's own in `<home>/policies`. A trade counts for a
field only if all its codes allow it; a code that no policy lists allows everything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from k2kernel.errors import InvalidParameter, listed, one_of

ALL, VENUE = "all", "venue"
FIELDS = ("open", "high_low", "last", "volume", "vwap")
"""What a trade can count for; `vwap` covers notional too."""

_SHIPPED = Path(__file__).with_name("policies")
_FOLDER = "policies"
_SETTINGS = ("venues", "auctions", "codes", "counted")


@dataclass(frozen=True)
class Rule:
    """Trades that carry `code` in sessions of [`start`, `until`) count for nothing in `excluded` (of `FIELDS`)."""

    code: str
    excluded: frozenset[str]
    start: date | None = None
    until: date | None = None
    meaning: str = ""

    def holds(self, session: date) -> bool:
        """True in the sessions of the rule."""
        return (self.start is None or self.start <= session) and (self.until is None or session < self.until)


@dataclass(frozen=True)
class Policy:
    """A named set of rules and the venues it is the default of. Without rules everything counts.

    `auctions` are the codes that mark an auction's trades; `counted` are known and exclude nothing.
    """

    name: str
    venues: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    auctions: tuple[str, ...] = ()
    counted: frozenset[str] = frozenset()

    def unknown(self, codes: Iterable[str], session: date) -> tuple[str, ...]:
        """Those of `codes` about which the policy says nothing in a session, sorted; none where it has no rules."""
        stated = {rule.code for rule in self.rules if rule.holds(session)} | self.counted
        return tuple(sorted(set(codes) - stated)) if self.rules else ()


EVERYTHING = Policy(ALL)


def policies(home: Path | None = None) -> dict[str, Policy]:
    """Every policy by name: the shipped ones, with the user's in `<home>/policies` over them, and `all`."""
    own = {} if home is None else _load(home / _FOLDER, _stamp(home / _FOLDER))
    shipped = _load(_SHIPPED, _stamp(_SHIPPED))
    return {name: entry for name, entry in shipped.items() if name not in own} | own | {ALL: EVERYTHING}


def policy(venue: str, name: str = VENUE, home: Path | None = None) -> Policy:
    """The policy `name` for a venue. `venue` is the one made for that venue, or `all` where there is none.

    InvalidParameter lists the names where there is no such policy.
    """
    known = policies(home)
    if name == VENUE:
        return next((entry for entry in reversed(known.values()) if venue in entry.venues), EVERYTHING)
    return known[one_of("eligible", name, [VENUE, *sorted(known)])]


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of a folder's policies, which tell a changed folder from the one read before."""
    paths = sorted(folder.glob("*.toml"))
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)


@cache
def _load(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> dict[str, Policy]:
    return {Path(name).stem: _read(folder / name) for name, _, _ in stamp}


def _read(path: Path) -> Policy:
    try:
        entry = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidParameter("policy", str(path), f"is not TOML: {exc}", "Correct that line") from exc
    if path.stem in (ALL, VENUE):
        _refuse(path, "name", path.stem, "is a reserved name", "Give the file another name")
    for key in entry.keys() - set(_SETTINGS):
        _refuse(path, key, entry[key], "is not a setting of a policy", f"Settings: {listed(_SETTINGS)}")
    counted = entry.get("counted", {})
    if not isinstance(counted, dict):
        _refuse(path, "counted", counted, "is not a table", 'Write [counted] and under it "@" = "regular sale"')
    rules = tuple(_rule(path, number, line) for number, line in enumerate(_tables(path, entry.get("codes", []))))
    venues, auctions = (_texts(path, key, entry.get(key, [])) for key in ("venues", "auctions"))
    return Policy(path.stem, venues, rules, auctions, frozenset(counted))


def _rule(path: Path, number: int, line: dict[str, Any]) -> Rule:
    where = f"codes[{number}]"
    for key in line.keys() - {"code", "meaning", "counts_for", "from", "until"}:
        _refuse(path, f"{where}.{key}", line[key], "is not a setting of a code")
    if not isinstance(line.get("code"), str):
        _refuse(path, f"{where}.code", line.get("code"), "is not a text")
    if "counts_for" not in line:
        _refuse(path, where, line["code"], "does not say what it counts for", 'Add counts_for = ["volume"], say')
    counts = _texts(path, f"{where}.counts_for", line["counts_for"])
    for field in counts:
        if field not in FIELDS:
            _refuse(path, f"{where}.counts_for", field, "is no field", f"Fields: {listed(FIELDS)}")
    start, until = (_day(path, f"{where}.{key}", line.get(key)) for key in ("from", "until"))
    return Rule(line["code"], frozenset(FIELDS) - set(counts), start, until, str(line.get("meaning", "")))


def _tables(path: Path, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        _refuse(path, "codes", value, "is not a list of tables", "Write [[codes]] above each code")
    return value


def _texts(path: Path, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _refuse(path, key, value, "is not a list of texts")
    return tuple(value)


def _day(path: Path, key: str, value: object) -> date | None:
    if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
        _refuse(path, key, value, "is not a date", "Write it like 2014-03-10, without quotes")
    return value


def _refuse(path: Path, key: str, value: object, problem: str, remedy: str = "") -> NoReturn:
    raise InvalidParameter(f"{path}: {key}", value, problem, remedy or f"Correct it in {path}")
