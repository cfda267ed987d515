"""Bars as one SQL statement: buckets, the policy of what counts, first and last in the total order, exact sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.eligibility import FIELDS, Policy, Rule
from k2kernel.errors import InvalidParameter
from k2kernel.query.buckets import Buckets, Interval
from k2kernel.query.exact import with_vwap
from k2kernel.query.order import Key
from k2kernel.query.scan import Scan, Values

if TYPE_CHECKING:
    from k2kernel.query.selection import Selection

SOURCES = ("trades", "bid", "ask", "mid")
"""What bars can be of."""

TRADE_COLUMNS = (
    *("symbol", "venue", "session", "ts_open", "open", "high", "low", "close", "volume", "notional", "vwap"),
    *("n_trades", "first_sequence", "last_sequence", "eligible"),
)
QUOTE_COLUMNS = (*TRADE_COLUMNS, "n_quotes")

BAR_KEY = ("epoch_us(ts_open)", "venue", "symbol", "session::VARCHAR")
"""The order of bars."""

_PRICES = {"trades": "price", "bid": "bid_px", "ask": "ask_px", "mid": "(bid_px + ask_px) * 0.5"}


@dataclass(frozen=True)
class Counting:
    """Which trades count, in SQL: `fields` has a condition (empty: all) for each of `FIELDS`, `any` for counting at
    all; `label` is the name of the policy, as an expression.
    """

    fields: Mapping[str, str]
    any: str
    label: str

    @property
    def uniform(self) -> bool:
        """True where a trade counts for all fields or for none."""
        return len(set(self.fields.values())) == 1


EVERY_QUOTE = Counting(dict.fromkeys(FIELDS, ""), "", "'all'")
"""Every quote counts, whatever its conditions."""


def parse_of(of: object) -> str:
    """`trades`, `bid`, `ask` or `mid`."""
    if of not in SOURCES:
        raise InvalidParameter("of", of, "is nothing that bars are made of", f"Use one of: {', '.join(SOURCES)}")
    return str(of)


def counting(policies: Mapping[str, Policy], values: Values) -> Counting:
    """The policies of venues as conditions on trades."""
    rules = {field: _excluded(policies, field, values) for field in FIELDS}
    fields = {field: f"NOT ({' OR '.join(texts)})" if texts else "" for field, texts in rules.items()}
    different = sorted(dict.fromkeys(fields.values()), key=len)  # the shortest holds for most, and spares the others
    return Counting(fields, "" if "" in different else f"({' OR '.join(different)})", _label(policies, values))


def _label(policies: Mapping[str, Policy], values: Values) -> str:
    names = {venue: values.bind(policy.name) for venue, policy in policies.items()}
    if len(set(names.values())) == 1:
        return f"{next(iter(names.values()))}::VARCHAR"
    cases = (f"WHEN {values.bind(venue)} THEN {name}" for venue, name in names.items())
    return f"CASE venue {' '.join(cases)} ELSE 'all' END"


def _excluded(policies: Mapping[str, Policy], field: str, values: Values) -> list[str]:
    """Conditions that hold for the trades which do not count for `field`: codes of one venue and time in one list."""
    found: dict[tuple[str, object, object], list[Rule]] = {}
    for venue, policy in policies.items():
        for rule in policy.excluding(field):
            found.setdefault((venue, rule.start, rule.until), []).append(rule)
    return [_any_code(venue, rules, values, len(policies) > 1) for (venue, _, _), rules in found.items()]


def _any_code(venue: str, rules: Sequence[Rule], values: Values, several: bool) -> str:
    """True for trades that carry one of the codes; false, not null, for those without conditions.

    Codes are looked for one by one: list_contains takes a tenth of the time of list_has_any, and is done once for all
    fields.
    """
    parts = [f"venue = {values.bind(venue)}"] if several else []
    if rules[0].start is not None:
        parts.append(f"session >= {values.bind(rules[0].start)}")
    if rules[0].until is not None:
        parts.append(f"session < {values.bind(rules[0].until)}")
    carries = " OR ".join(f"list_contains(conditions, {values.bind(rule.code)})" for rule in rules)
    parts.append(f"coalesce({carries}, false)")
    return f"({' AND '.join(parts)})"


@dataclass(frozen=True)
class Bars:
    """What a statement of bars is made from; with `times` bars of trades end in `first` and `last` (ts_event).

    `priced` says that no trade is without a price: the divisor of VWAP may then be the volume.
    """

    of: str
    interval: Interval
    buckets: Buckets
    key: Key
    counting: Counting
    times: bool = False
    priced: bool = False

    def sql(self, scan: Scan, selection: Selection, values: Values) -> str:
        """The statement: an aggregation of keyed rows, the exact division, and the columns in their order."""
        of_trades = self.of == "trades"
        conditions = selection.conditions(values)
        if of_trades and self.counting.any:
            conditions.append(self.counting.any)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = scan.of(*self._columns()).relation(False, values.bind)
        keyed = f"SELECT *, {self.buckets.key} AS k2_bucket, {self.key.text} AS k2_key FROM {rows}{where}"
        session = "session" if self.interval.within_session else "min(session) AS session"
        aggregates = ", ".join(self._trades() if of_trades else self._quotes())
        bars = f"SELECT symbol, venue, {session}, k2_bucket, {aggregates} FROM ({keyed}) GROUP BY ALL"
        complete = with_vwap(bars, "notional", self._divisor) if of_trades else bars
        outer = self._outer_trades() if of_trades else _OUTER_QUOTES
        return (
            f"SELECT symbol, venue, session, make_timestamptz({self.buckets.opens}) AS ts_open, {outer} "
            f"FROM ({complete}) ORDER BY ts_open, venue, symbol, session"
        )

    def _columns(self) -> list[str]:
        if self.of != "trades":
            return ["bid_px", "ask_px"]
        return ["price", "size", "conditions"]

    def _condition(self, field: str) -> str:
        """The condition of one field, where it is not the one that all rows were filtered by."""
        return "" if self.counting.uniform else self.counting.fields[field]

    def _filter(self, field: str) -> str:
        condition = self._condition(field)
        return f" FILTER (WHERE {condition})" if condition else ""

    @property
    def _divisor(self) -> str:
        """The column with the volume that notional is of."""
        same = self._condition("volume") == self._condition("vwap")
        return "volume" if self.priced and same else "k2_priced"

    def _trades(self) -> list[str]:
        priced = self._condition("vwap")
        priced = f"{priced} AND price IS NOT NULL" if priced else "price IS NOT NULL"
        return [
            f"{_first('price', self._condition('open'))} AS open",
            f"max(price){self._filter('high_low')} AS high",
            f"min(price){self._filter('high_low')} AS low",
            f"{_last('price', self._condition('last'))} AS close",
            f"sum(size){self._filter('volume')} AS volume",
            f"sum(price::DECIMAL(27, 8) * size){self._filter('vwap')} AS notional",
            *([f"sum(size) FILTER (WHERE {priced}) AS k2_priced"] if self._divisor == "k2_priced" else []),
            "count(*) AS n_trades",
            *self._sequences(),
            *(["min(ts_event) AS first", "max(ts_event) AS last"] if self.times else []),
        ]

    def _quotes(self) -> list[str]:
        price = _PRICES[self.of]
        return [
            f"{_first(price)} AS open",
            f"max({price}) AS high",
            f"min({price}) AS low",
            f"{_last(price)} AS close",
            "count(*) AS n_quotes",
            *self._sequences(),
        ]

    def _sequences(self) -> list[str]:
        """Of the first and last event: read out of the least and greatest key where it holds them."""
        first, last = _first("sequence"), _last("sequence")
        if self.key.sequence is not None:
            first, last = (self.key.sequence.format(key=f"{end}(k2_key)") for end in ("min", "max"))
        return [f"{first} AS first_sequence", f"{last} AS last_sequence"]

    def _outer_trades(self) -> str:
        sums = "volume::DECIMAL(38, 8) AS volume, notional::DECIMAL(38, 16) AS notional"
        rest = "vwap, n_trades, first_sequence, last_sequence"
        times = ", first, last" if self.times else ""
        return f"open, high, low, close, {sums}, {rest}, {self.counting.label} AS eligible{times}"


def _first(expression: str, condition: str = "") -> str:
    """The expression at the first event of a bar where it is not null."""
    return f"arg_min({expression}, k2_key)" + (f" FILTER (WHERE {condition})" if condition else "")


def _last(expression: str, condition: str = "") -> str:
    """The expression at the last event of a bar where it is not null."""
    return f"arg_max({expression}, k2_key)" + (f" FILTER (WHERE {condition})" if condition else "")


_OUTER_QUOTES = (
    "open, high, low, close, NULL::DECIMAL(38, 8) AS volume, NULL::DECIMAL(38, 16) AS notional, "
    "NULL::DECIMAL(38, 12) AS vwap, NULL::BIGINT AS n_trades, first_sequence, last_sequence, "
    "'all' AS eligible, n_quotes"
)
