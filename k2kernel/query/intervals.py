"""What ends a bar: a length of time, the session, or an amount of trades, volume or money."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from k2kernel.errors import InvalidParameter, one_of

SESSION, TIME = "session", "time"
UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Units of time in µs."""

DAY, HOUR = UNITS["d"], UNITS["h"]
ALIGNMENTS = ("session", "clock")
FILLS = ("null", "previous")

_DIGITS = {"tick": 0, "volume": 8, "dollar": 16}
"""Decimal digits of what each threshold counts."""

_MOST = 10**36
_FORM = re.compile(r"([1-9]\d{0,8})(ms|s|m|h|d)")
_REMEDY = "Write a number and ms, s, m, h or d, such as 1m; session; or tick:, volume: or dollar: and an amount"


@dataclass(frozen=True)
class Interval:
    """What ends a bar: `us` microseconds, the session, or (`kind` tick, volume or dollar) `amount`, in integers of the
    last digit that is counted.
    """

    text: str
    us: int | None = None
    kind: str = TIME
    amount: int = 0

    @property
    def within_session(self) -> bool:
        """True where a bar never holds rows of two sessions."""
        return self.us is None or self.us <= DAY

    @property
    def is_threshold(self) -> bool:
        """True where an amount ends a bar."""
        return self.kind in _DIGITS


WHOLE_SESSION = Interval(SESSION, kind=SESSION)


def parse_interval(value: object) -> Interval:
    """`session`; a whole number of ms, s, m, h or d, such as `5m`, more than a day only in whole days; `tick:1000`,
    `volume:50000` or `dollar:1e6`.
    """
    if value == SESSION:
        return WHOLE_SESSION
    kind, colon, amount = value.partition(":") if isinstance(value, str) else ("", "", "")
    if colon and kind in _DIGITS:
        return Interval(str(value), None, kind, _amount(value, amount, _DIGITS[kind]))
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidParameter("interval", value, "is no interval", _REMEDY)
    us = int(found[1]) * UNITS[found[2]]
    if us > DAY and us % DAY:
        raise InvalidParameter("interval", value, "is more than a day and not whole days", "Write it in d")
    return Interval(str(value), us)


def _amount(value: object, text: str, digits: int) -> int:
    """The amount of a threshold as an integer of its last digit."""
    try:
        numerator, denominator = Decimal(text).as_integer_ratio()
    except (InvalidOperation, ValueError, OverflowError):
        numerator, denominator = 0, 1
    units, rest = divmod(numerator * int(10**digits), denominator)
    if not 0 < units < _MOST or rest:
        kinds = "a whole number of trades" if digits == 0 else f"a number above 0 of at most {digits} decimals"
        raise InvalidParameter("interval", value, f"does not have {kinds}", "Write it like tick:1000 or dollar:1e6")
    return units


def parse_align(value: object) -> str:
    """`session` or `clock`."""
    return one_of("align", value, ALIGNMENTS)


def parse_fill(value: object, interval: Interval) -> str | None:
    """`null`, `previous` or None; InvalidParameter where bars cannot be missing."""
    if value is None:
        return None
    if interval.us is None or not interval.within_session:
        raise InvalidParameter("fill", value, f"fits no bars of {interval.text}", "Fill bars of time of up to a day")
    return one_of("fill", value, FILLS)
