"""Bars computed slowly, in plain Python over decimals and fractions: what the engine must answer.

Nothing here uses k2kernel: rows are mappings with the columns of the tables, zones come from `zoneinfo`, and each
figure is computed from its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

Row = Mapping[str, Any]

VENUES = {
    "XASX": ("Australia/Sydney", 0),
    "XNYS": ("America/New_York", 0),
    "XSHG": ("Asia/Shanghai", 0),
    "BINANCE": ("UTC", 0),
    "BINANCE_USDM": ("UTC", 0),
    "FXCM": ("America/New_York", 7),
    "OANDA": ("America/New_York", 7),
}
"""Zone and roll in hours."""

CLOSES = {"XASX": (16, 12, 0), "XNYS": (16, 0, 8), "XSHG": (15, 5, 0)}
"""When the last auction of an ordinary weekday is over, in local time; other venues close with their session."""

OFF_MARKET = {"XASX": {"X"}}
"""Codes of trades that count for nothing by the venue's policy."""

_VOLUME_ONLY = {*"BWCNRHTUV7"}
_NO_ENDS = {*"PZ4G"}
US_TAPE = {
    "open": _VOLUME_ONLY | _NO_ENDS | {*"IMQ9"},
    "high_low": _VOLUME_ONLY | {*"IMQ"},
    "last": _VOLUME_ONLY | _NO_ENDS | {*"IMQ"},
    "volume": {*"MQ9"},
    "vwap": _VOLUME_ONLY | {*"MQ9"},
}
"""Of each field, the sale conditions of tape A in 2024 by which a trade does not count for it."""

_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY, _HOUR = 86_400_000_000, 3_600_000_000
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": _HOUR, "d": _DAY}
_WIDE = Context(prec=100)
_FIELDS = ("open", "high_low", "last", "volume", "vwap")


@dataclass
class Asked:
    """What bars are asked for. `codes` are, of each field, the codes by which a trade does not count for it."""

    interval: str
    of: str = "trades"
    align: str = "session"
    start: datetime | None = None
    end: datetime | None = None
    sessions: tuple[date, date] | None = None
    codes: Mapping[str, Mapping[str, Collection[str]]] = field(default_factory=dict)
    label: Mapping[str, str] = field(default_factory=dict)
    incomplete: Callable[[Row], bool] = lambda row: False

    @property
    def is_amount(self) -> bool:
        return ":" in self.interval

    @property
    def us(self) -> int | None:
        if self.is_amount or self.interval == "session":
            return None
        number = self.interval.rstrip("mshd")
        return int(number) * _UNITS[self.interval[len(number) :]]


def by_policy(venues: Mapping[str, Collection[str]]) -> dict[str, dict[str, Collection[str]]]:
    """The codes of venues that count for nothing."""
    return {venue: dict.fromkeys(_FIELDS, codes) for venue, codes in venues.items()}


def us_of(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


def ns_of(row: Row) -> int:
    return int(row["ts_event_ns"]) if row["ts_event_ns"] is not None else us_of(row["ts_event"]) * 1_000


def exact(value: Fraction | None) -> Decimal | None:
    """Rounded half to even at twelve decimals."""
    return None if value is None else Decimal(round(value * 10**12)).scaleb(-12, _WIDE)


def _local(us: int, venue: str, align: str) -> int:
    """The session clock (or the local one) at an instant, in µs since 1970."""
    zone, roll = VENUES[venue]
    naive = (_EPOCH + us * _US).astimezone(ZoneInfo(zone)).replace(tzinfo=UTC)
    return us_of(naive) + (roll * _HOUR if align == "session" else 0)


def _utc(local: int, venue: str, align: str) -> int:
    """The first instant at which the clock shows `local` or more."""
    zone, roll = VENUES[venue]
    wall = _EPOCH + (local - (roll * _HOUR if align == "session" else 0)) * _US
    us = us_of(wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC))
    while _local(us - _UNITS["m"], venue, align) >= local:
        us -= _UNITS["m"]
    return us


def _bucket(row: Row, asked: Asked) -> tuple[int, int]:
    """Start and end of the time bucket of a row, in µs."""
    venue, us = row["venue"], us_of(row["ts_event"])
    if asked.us is None or (asked.us == _DAY and asked.align == "session"):
        return _session(row["session"], venue)
    local = _local(us, venue, asked.align)
    day = local // _DAY * _DAY
    if asked.us > _DAY:
        low, high = local // asked.us * asked.us, local // asked.us * asked.us + asked.us
    else:
        low = day + (local - day) // asked.us * asked.us
        high = min(low + asked.us, day + _DAY)
    if asked.us <= _HOUR:
        return us - (local - low), us - (local - low) + (high - low)
    return _utc(low, venue, asked.align), _utc(high, venue, asked.align)


def _session(day: date, venue: str) -> tuple[int, int]:
    start = (day - _EPOCH.date()).days * _DAY
    return _utc(start, venue, "session"), _utc(start + _DAY, venue, "session")


def _order(row: Row) -> tuple[Any, ...]:
    return ns_of(row), row["sequence"], row["source"], row["source_offset"]


def _price(row: Row, of: str) -> Decimal | None:
    if of == "trades":
        return row["price"]  # type: ignore[no-any-return]
    bid, ask = row["bid_px"], row["ask_px"]
    if of == "mid":
        return None if bid is None or ask is None else _WIDE.multiply(_WIDE.add(bid, ask), Decimal("0.5"))
    return bid if of == "bid" else ask  # type: ignore[no-any-return]


def _counts(row: Row, name: str, asked: Asked) -> bool:
    codes = asked.codes.get(row["venue"], {}).get(name, ())
    return asked.of != "trades" or not set(row["conditions"] or ()) & set(codes)


def _inside(row: Row, asked: Asked) -> bool:
    low = asked.start is None or ns_of(row) >= us_of(asked.start) * 1_000
    high = asked.end is None or ns_of(row) < us_of(asked.end) * 1_000
    return low and high and (asked.sessions is None or asked.sessions[0] <= row["session"] <= asked.sessions[1])


def bars(every: Iterable[Row], asked: Asked) -> list[dict[str, Any]]:
    """The bars of `every` row of the table (of trades: the fills that stand), ordered by (ts_open, venue, symbol)."""
    rows = sorted(every, key=_order)
    lasts: dict[str, int] = {}
    for row in rows:
        lasts[row["venue"]] = max(lasts.get(row["venue"], 0), us_of(row["ts_event"]))
    counting = [row for row in rows if any(_counts(row, name, asked) for name in _FIELDS)]
    found = _by_amount(counting, asked) if asked.is_amount else _by_time(counting, asked, lasts)
    return sorted(found, key=lambda bar: (bar["ts_open"], bar["venue"], bar["symbol"], bar["session"]))


def _by_time(rows: Sequence[Row], asked: Asked, lasts: Mapping[str, int]) -> list[dict[str, Any]]:
    by_session = asked.us is None or (asked.us <= _DAY and (asked.align == "session" or _even(asked.us, rows)))
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if _inside(row, asked):
            session = row["session"] if by_session else None
            groups.setdefault((row["symbol"], row["venue"], session, *_bucket(row, asked)), []).append(row)
    found = []
    for (_, venue, _, start, end), group in groups.items():
        low, high = [], [] if by_session and start < _close(lasts[venue], venue) <= lasts[venue] else [lasts[venue]]
        if asked.sessions is not None:
            low.append(_session(asked.sessions[0], venue)[0])
            high.append(_session(asked.sessions[1], venue)[1])
        low += [us_of(asked.start)] if asked.start is not None else []
        high += [us_of(asked.end)] if asked.end is not None else []
        partial = start < max(low, default=start) or end > min(high, default=end)
        found.append(_bar(group, asked, start, end * 1_000, partial) | {"ts_close_ns": end * 1_000})
    return found


def _close(us: int, venue: str) -> int:
    """When the session of an instant closes; 0 where there is no close within it."""
    day = _EPOCH + _local(us, venue, "session") // _DAY * timedelta(days=1)
    if venue not in CLOSES or day.weekday() > 4:
        return 0
    hour, minute, second = CLOSES[venue]
    return us_of(day.replace(hour=hour, minute=minute, second=second, tzinfo=ZoneInfo(VENUES[venue][0])))


def _even(us: int, rows: Sequence[Row]) -> bool:
    return all(VENUES[row["venue"]][1] * _HOUR % us == 0 for row in rows)


def _amount(row: Row, kind: str, asked: Asked) -> Fraction:
    if kind == "tick":
        return Fraction(1)
    if not _counts(row, "volume" if kind == "volume" else "vwap", asked) or row["size"] is None:
        return Fraction(0)
    if kind == "volume":
        return abs(Fraction(row["size"]))
    return Fraction(0) if row["price"] is None else abs(Fraction(row["price"]) * Fraction(row["size"]))


def _by_amount(rows: Sequence[Row], asked: Asked) -> list[dict[str, Any]]:
    kind, _, text = asked.interval.partition(":")
    threshold = Fraction(text)
    sessions: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sessions.setdefault((row["symbol"], row["venue"], row["session"]), []).append(row)
    found = []
    for group in sessions.values():
        total = Fraction(0)
        numbered: dict[int, list[Row]] = {}
        for row in group:
            numbered.setdefault(total // threshold, []).append(row)
            total += _amount(row, kind, asked)
        parts = list(numbered.items())
        for at, (number, part) in enumerate(parts):
            inside = [row for row in part if _inside(row, asked)]
            following = parts[at + 1][1][0] if at + 1 < len(parts) else None
            if inside:
                short = following is None and total < (number + 1) * threshold
                end = ns_of(part[-1] if following is None else following)
                bar = _bar(inside, asked, ns_of(part[0]) // 1_000, end, short or len(inside) < len(part))
                over = max(end, ns_of(part[-1]) + 1)
                if following is None:
                    over = _session(part[0]["session"], part[0]["venue"])[1] * 1_000
                found.append(bar | {"ts_close_ns": over})
    return found


def _bar(group: Sequence[Row], asked: Asked, start: int, end: int, partial: bool) -> dict[str, Any]:
    """The columns of a bar; `start` is in µs, `end` in ns."""

    def priced(name: str) -> list[Row]:
        return [row for row in group if _price(row, asked.of) is not None and _counts(row, name, asked)]

    def prices(name: str) -> list[Decimal]:
        return [_price(row, asked.of) for row in priced(name)]  # type: ignore[misc]

    first = group[0]
    bar: dict[str, Any] = {name: first[name] for name in ("symbol", "venue")}
    bar |= {"session": min(row["session"] for row in group), "ts_open": _EPOCH + start * _US}
    bar |= {"open": next(iter(prices("open")), None), "high": max(prices("high_low"), default=None)}
    bar |= {"low": min(prices("high_low"), default=None), "close": next(reversed(prices("last")), None)}
    bar |= {"volume": None, "notional": None, "vwap": None, "n_trades": None}
    if asked.of == "trades":
        bar |= _money(group, asked)
    bar["twap"] = exact(_mean([(ns_of(row), _price(row, asked.of)) for row in priced("last")], end))
    bar |= {"is_partial": partial, "is_incomplete": any(map(asked.incomplete, group))}
    bar |= {"first_sequence": first["sequence"], "last_sequence": group[-1]["sequence"]}
    bar["eligible"] = asked.label.get(first["venue"], "all") if asked.of == "trades" else "all"
    return bar | (_spreads(group, end) if asked.of != "trades" else {})


def _money(group: Sequence[Row], asked: Asked) -> dict[str, Any]:
    sizes = [Fraction(row["size"]) for row in group if row["size"] is not None and _counts(row, "volume", asked)]
    paid = [row for row in group if row["size"] is not None and row["price"] is not None]
    paid = [row for row in paid if _counts(row, "vwap", asked)]
    notional = sum((Fraction(row["price"]) * Fraction(row["size"]) for row in paid), Fraction())
    weight = sum((Fraction(row["size"]) for row in paid), Fraction())
    return {
        "volume": _decimal(sum(sizes, Fraction())) if sizes else None,
        "notional": _decimal(notional) if paid else None,
        "vwap": exact(notional / weight) if weight else None,
        "n_trades": len(group),
    }


def _decimal(value: Fraction) -> Decimal:
    return _WIDE.divide(Decimal(value.numerator), Decimal(value.denominator))


def _mean(values: Sequence[tuple[int, Decimal | None]], end: int, *, gaps: bool = False) -> Fraction | None:
    """The mean of (ns, value), each held until the next, the last until `end`; the last one where no time passed.

    With `gaps` a None is no value, and its time does not count.
    """
    if not values:
        return None
    times = [at for at, _ in values[1:]] + [end]
    held = [
        (Fraction(value), until - at) for (at, value), until in zip(values, times, strict=True) if value is not None
    ]
    duration = sum(time for _, time in held)
    if duration:
        return sum((value * time for value, time in held), Fraction()) / duration
    last = values[-1][1]
    return None if last is None else Fraction(last)


def _spreads(group: Sequence[Row], end: int) -> dict[str, Any]:
    spreads = [
        (ns_of(row), None if row["bid_px"] is None or row["ask_px"] is None else row["ask_px"] - row["bid_px"])
        for row in group
    ]
    known = [Fraction(spread) for _, spread in spreads if spread is not None]
    return {
        "n_quotes": len(group),
        "mean_spread": exact(sum(known, Fraction()) / len(known)) if known else None,
        "time_weighted_spread": exact(_mean(spreads, end, gaps=True)),
    }
