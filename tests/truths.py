"""Truths of generated trades and quotes, computed slowly from the CSV text in plain Python.

Nothing here uses k2kernel: times are read by `datetime`, sessions come from `zoneinfo`, sums are `Decimal` and exact.
Order is (ts_event, line of the file). All times are µs since 1970.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

ZONES = {"XASX": "Australia/Sydney", "XNYS": "America/New_York", "BINANCE": "UTC"}
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FIELDS = ("open", "high_low", "last", "volume", "vwap")

Policy = Mapping[str, Mapping[str, Collection[str]]]
"""Of each venue and each of `FIELDS`, the codes of fills that do not count for it; `vwap` is also notional."""

Key = tuple[str, str, date]
"""(venue, symbol, session)."""


class Trade(NamedTuple):
    """A row of a trades file; `line` counts data rows from 0."""

    file: str
    line: int
    ts: int
    ts_recv: int | None
    venue: str
    symbol: str
    session: date
    sequence: int | None
    trade_id: str
    price: Decimal
    size: Decimal
    side: str
    conditions: tuple[str, ...]
    status: str
    corrects: str

    @property
    def key(self) -> Key:
        return self.venue, self.symbol, self.session


class Quote(NamedTuple):
    """A row of a quotes file; a missing side is None."""

    file: str
    line: int
    ts: int
    venue: str
    symbol: str
    session: date
    bid_px: Decimal | None
    ask_px: Decimal | None
    bid_sz: Decimal | None
    ask_sz: Decimal | None


class Bar(NamedTuple):
    """What a group of fills says; `n_trades` are those that count for anything, and None is what none counts for."""

    n_trades: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    notional: Decimal | None
    vwap: Decimal | None


class Facts(NamedTuple):
    """About all rows of a kind; `repeated` rows equal an earlier row of their file in every byte."""

    rows: int
    rows_per_symbol: dict[tuple[str, str], int]
    rows_per_session: dict[tuple[str, date], int]
    first: int
    last: int
    repeated: int


def _instant(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def _session(text: str, venue: str) -> date:
    return datetime.fromisoformat(text).astimezone(ZoneInfo(ZONES[venue])).date()


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _rows(paths: Iterable[Path]) -> Iterable[tuple[str, int, dict[str, str]]]:
    for path in paths:
        with path.open(newline="", encoding="utf-8") as lines:
            for line, row in enumerate(csv.DictReader(lines)):
                yield path.name, line, row


def read_trades(paths: Iterable[Path]) -> list[Trade]:
    """Every row of trades files, in file order."""
    return [
        Trade(
            file,
            line,
            _instant(row["ts_event"]),
            _instant(row["ts_recv"]) if row["ts_recv"] else None,
            row["venue"],
            row["symbol"],
            _session(row["ts_event"], row["venue"]),
            int(row["sequence"]) if row["sequence"] else None,
            row["trade_id"],
            Decimal(row["price"]),
            Decimal(row["size"]),
            row["side"],
            tuple(row["conditions"].split(";")) if row["conditions"] else (),
            row["status"],
            row["corrects"],
        )
        for file, line, row in _rows(paths)
    ]


def read_quotes(paths: Iterable[Path]) -> list[Quote]:
    """Every row of quotes files, in file order."""
    return [
        Quote(
            file,
            line,
            _instant(row["ts_event"]),
            row["venue"],
            row["symbol"],
            _session(row["ts_event"], row["venue"]),
            *(_decimal(row[name]) for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")),
        )
        for file, line, row in _rows(paths)
    ]


def facts(rows: Sequence[Trade | Quote], paths: Iterable[Path]) -> Facts:
    """Counts and times of `rows`, which were read from `paths`."""
    times = [row.ts for row in rows]
    repeated = 0
    for path in paths:
        lines = path.read_bytes().splitlines()[1:]
        repeated += len(lines) - len(set(lines))
    return Facts(
        len(rows),
        dict(Counter((row.venue, row.symbol) for row in rows)),
        dict(Counter((row.venue, row.session) for row in rows)),
        min(times),
        max(times),
        repeated,
    )


def fills(trades: Iterable[Trade], *, apply_cancels: bool = True) -> list[Trade]:
    """Rows without a status; with `apply_cancels` also without those that a cancel of their session names."""
    every = list(trades)
    undone = {(*row.key, row.corrects) for row in every if row.status == "cancel" and apply_cancels}
    return [row for row in every if not row.status and (*row.key, row.trade_id) not in undone]


def without(field_codes: Mapping[str, Collection[str]]) -> Policy:
    """The policy by which the codes of each venue count for nothing."""
    return {venue: dict.fromkeys(FIELDS, codes) for venue, codes in field_codes.items()}


def daily(trades: Iterable[Trade], policy: Policy | None = None) -> dict[Key, Bar]:
    """The bar of each instrument and session with a fill that counts; `policy` None counts everything."""
    groups: dict[Key, list[Trade]] = defaultdict(list)
    for trade in trades:
        groups[trade.key].append(trade)
    bars = {key: _bar(group, policy or {}) for key, group in groups.items()}
    return {key: bar for key, bar in bars.items() if bar.n_trades}


def intraday(trades: Iterable[Trade], minutes: int, policy: Policy | None = None) -> dict[tuple[str, str, int], Bar]:
    """As `daily`, of each (venue, symbol, open of the bar in µs); bars are aligned to UTC, start inclusive."""
    groups: dict[tuple[str, str, int], list[Trade]] = defaultdict(list)
    length = minutes * 60_000_000
    for trade in trades:
        groups[trade.venue, trade.symbol, trade.ts // length * length].append(trade)
    bars = {key: _bar(group, policy or {}) for key, group in groups.items()}
    return {key: bar for key, bar in bars.items() if bar.n_trades}


def _bar(group: list[Trade], policy: Policy) -> Bar:
    excluded = policy.get(group[0].venue, {})
    ordered = sorted(group, key=lambda trade: (trade.ts, trade.line))
    counting = {
        field: [trade for trade in ordered if not set(trade.conditions) & set(excluded.get(field, ()))]
        for field in FIELDS
    }
    high_low = [trade.price for trade in counting["high_low"]]
    volume = _total(trade.size for trade in counting["volume"])
    weighted = _total(trade.size for trade in counting["vwap"])
    notional = _total(_EXACT.multiply(trade.price, trade.size) for trade in counting["vwap"])
    vwap = (
        _EXACT.divide(notional, weighted).quantize(Decimal("1e-12"), context=_EXACT) if notional and weighted else None
    )
    return Bar(
        len({trade.line for trades in counting.values() for trade in trades}),
        counting["open"][0].price if counting["open"] else None,
        max(high_low, default=None),
        min(high_low, default=None),
        counting["last"][-1].price if counting["last"] else None,
        volume,
        notional,
        vwap,
    )


def _total(values: Iterable[Decimal]) -> Decimal | None:
    total = None
    for value in values:
        total = value if total is None else _EXACT.add(total, value)
    return total


def kind_of_quote(quote: Quote) -> str:
    """`one-sided`, `locked`, `crossed` or `regular`."""
    if quote.bid_px is None or quote.ask_px is None:
        return "one-sided"
    if quote.bid_px == quote.ask_px:
        return "locked"
    return "crossed" if quote.bid_px > quote.ask_px else "regular"
