"""Which files a statement can need: simple conditions on session, venue, symbol and ts_event as bounds.

Only what is certain is used; leaving a condition out never changes an answer, because DuckDB applies all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from k2kernel.errors import K2Error
from k2kernel.query.scan import Pinned, Scan
from k2kernel.times import parse_date, parse_instant

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile

_FLIPPED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
_FROM_BELOW = ("COMPARE_EQUAL", "COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO")
_FROM_ABOVE = ("COMPARE_EQUAL", "COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO")
_CASTS: Mapping[str, tuple[str, ...]] = {
    "symbol": ("VARCHAR",),
    "venue": ("VARCHAR",),
    "session": ("DATE",),
    "ts_event": ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"),
}
"""The columns that files are pruned by, and the types that a constant may be cast to without meaning another one."""
_TEXTS = ("symbol", "venue")


@dataclass
class Bounds:
    """Values that a column of the wanted rows can have: one of `among` (None: any), from `low` to `high`, inclusive."""

    among: set[Any] | None = None
    low: Any = None
    high: Any = None

    def only(self, values: Iterable[Any]) -> None:
        """Allow these values and no others."""
        self.among = set(values) if self.among is None else self.among & set(values)

    def at_least(self, value: Any) -> None:
        """Allow `value` and more."""
        self.low = value if self.low is None else max(self.low, value)

    def at_most(self, value: Any) -> None:
        """Allow `value` and less."""
        self.high = value if self.high is None else min(self.high, value)


@dataclass
class Pushdown:
    """The bounds that conditions of a statement put on the four columns that files are pruned by."""

    symbol: Bounds = field(default_factory=Bounds)
    venue: Bounds = field(default_factory=Bounds)
    session: Bounds = field(default_factory=Bounds)
    ts_event: Bounds = field(default_factory=Bounds)

    def scan(self, pinned: Pinned) -> Scan:
        """The files of a pinned table that may hold wanted rows."""
        low, high = self.ts_event.low, self.ts_event.high
        if low is None and high is None:
            return Scan(pinned, self._prune(pinned, None))
        range_us = None if low is None else low // 1_000, None if high is None else high // 1_000 + 1
        return Scan(pinned, self._prune(pinned, range_us), self._prune(pinned, None))

    def _prune(self, pinned: Pinned, range_us: tuple[int | None, int | None] | None) -> list[LakeFile]:
        low, high = self.session.low or date.min, self.session.high or date.max
        bounded = self.session.low is not None or self.session.high is not None
        return pinned.files.prune(self.symbol.among, self.venue.among, (low, high) if bounded else None, range_us)


def push_down(conditions: Iterable[Mapping[str, Any]], values: Mapping[str, object]) -> Pushdown:
    """The bounds of conditions that must all hold; `values` are the parameters."""
    found = Pushdown()
    for condition in conditions:
        _apply(found, condition, values)
    return found


def _apply(found: Pushdown, node: Mapping[str, Any], values: Mapping[str, object]) -> None:
    kind = node["type"]
    if kind in _FLIPPED:
        left, right = node["left"], node["right"]
        if _column(left) is None:
            left, right, kind = right, left, _FLIPPED[kind]
        _compare(found, _column(left), kind, _constant(_column(left), right, values))
    elif kind == "COMPARE_BETWEEN":
        column = _column(node["input"])
        _compare(found, column, _FROM_BELOW[-1], _constant(column, node["lower"], values))
        _compare(found, column, _FROM_ABOVE[-1], _constant(column, node["upper"], values))
    elif kind == "COMPARE_IN":
        column = _column(node["children"][0])
        _among(found, column, [_constant(column, child, values) for child in node["children"][1:]])


def _compare(found: Pushdown, column: str | None, kind: str, value: object) -> None:
    if column is None or value is None:
        return
    bounds: Bounds = getattr(found, column)
    if column in _TEXTS:
        if kind == "COMPARE_EQUAL":
            bounds.only([value])
        return
    if kind in _FROM_BELOW:
        bounds.at_least(value)
    if kind in _FROM_ABOVE:
        bounds.at_most(value)


def _among(found: Pushdown, column: str | None, values: Sequence[Any]) -> None:
    if column is None or not values or None in values:
        return
    if column in _TEXTS:
        getattr(found, column).only(values)
    else:
        getattr(found, column).at_least(min(values))
        getattr(found, column).at_most(max(values))


def _column(node: Mapping[str, Any]) -> str | None:
    if node.get("class") != "COLUMN_REF":
        return None
    name = str(node["column_names"][-1]).lower()
    return name if name in _CASTS else None


def _constant(column: str | None, node: Mapping[str, Any], values: Mapping[str, object]) -> Any:
    """A constant as the column compares it: a text, a date, or ns since 1970; None where that is unsure."""
    if column is None:
        return None
    value = _python(column, node, values)
    if column in _TEXTS:
        return value if isinstance(value, str) else None
    if not isinstance(value, str | date):
        return None
    try:
        if column == "session":
            return None if isinstance(value, datetime) else parse_date(value, column)
        return parse_instant(value, column)
    except K2Error:
        return None


def _python(column: str, node: Mapping[str, Any], values: Mapping[str, object]) -> object:
    """The value of a parameter or of a text, also of one that is cast to the column's own type."""
    kind = node.get("class")
    if kind == "PARAMETER":
        return values.get(node["identifier"])
    if kind == "CAST" and str(node.get("type_expr", {}).get("type_name", "")).upper() in _CASTS[column]:
        node = node["child"]
        kind = node.get("class")
    literal = node.get("literal") if kind == "CONSTANT" else None
    return literal["text"] if literal and literal.get("kind") == "STRING" else None
