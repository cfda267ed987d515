"""Bars as one SQL statement, in three steps: keyed rows, states that can be merged, and the columns that are shown.

A state of a bar holds what exact figures are made of: sums, the first and last price, and the times between which the
price is known. Finer states merge into coarser ones (`merged`), and a state becomes a bar by exact divisions (`shown`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2kernel.errors import one_of
from k2kernel.query.buckets import Buckets
from k2kernel.query.counting import Counting
from k2kernel.query.exact import Ratio, with_ratios
from k2kernel.query.intervals import Interval
from k2kernel.query.order import EVENT_NS, Key
from k2kernel.query.scan import Scan, Values
from k2kernel.query.selection import parse_columns

SOURCES = ("trades", "bid", "ask", "mid")
"""What bars can be of."""

TRADE_COLUMNS = (
    *("symbol", "venue", "session", "ts_open", "open", "high", "low", "close", "volume", "notional", "vwap"),
    *("n_trades", "is_partial", "is_incomplete", "first_sequence", "last_sequence", "eligible"),
)
"""The columns of bars of trades: those that one pass over the rows gives."""

QUOTE_COLUMNS = (*TRADE_COLUMNS, "n_quotes", "mean_spread")
_ORDERED = {"twap": "vwap", "time_weighted_spread": "mean_spread"}
"""Columns that need the rows in order, each with the one it stands behind."""

MORE_COLUMNS = ("first", "last", "ts_close_ns")
"""What else can be asked for: the times of the first and last event, and the end of the bar."""

_OF = {"trades": "price", "bid": "bid_px", "ask": "ask_px", "mid": "(bid_px + ask_px) * 0.5"}
_SPREAD = "(ask_px - bid_px)"
_WHOLE = "PARTITION BY symbol, venue, session"


def parse_of(of: object) -> str | None:
    """`trades`, `bid`, `ask`, `mid`, or None for what there is."""
    return None if of is None else one_of("of", of, SOURCES)


def bar_columns(of: str, columns: Sequence[str] | str | None) -> tuple[str, ...]:
    """The columns of bars: None for those that one pass gives, `all` for every figure, or names."""
    plain = TRADE_COLUMNS if of == "trades" else QUOTE_COLUMNS
    if columns is None:
        return plain
    known = [each for name in plain for each in (name, *(new for new, after in _ORDERED.items() if after == name))]
    return tuple(known) if columns == "all" else parse_columns(columns, (*known, *MORE_COLUMNS))


@dataclass(frozen=True)
class Bars:
    """What a statement of bars is made from.

    `within` is the condition, on rows of whole sessions, of those that are asked for (thresholds only). `partial`
    is true for time bars that are cut, by where they start and end. `incomplete` is the condition of rows whose
    session lacks some. `per_us` is 1 where times are in µs, 1,000 where they are in ns. `priced` says that no trade
    is without a price: the divisor of VWAP may then be the volume.
    """

    of: str
    interval: Interval
    buckets: Buckets
    key: Key
    counting: Counting
    columns: tuple[str, ...]
    partial: str = "false"
    incomplete: str = ""
    within: str = ""
    fill: str | None = None
    per_us: int = 1
    by_close: bool = False
    priced: bool = False

    def sql(self, scan: Scan, conditions: Sequence[str], values: Values) -> str:
        """The statement: the bars of the rows of a scan that meet `conditions`."""
        return self.shown(self.states(scan, conditions, values))

    @property
    def _time(self) -> str:
        return "epoch_us(ts_event)" if self.per_us == 1 else EVENT_NS

    @property
    def _of_trades(self) -> bool:
        return self.of == "trades"

    def states(self, scan: Scan, conditions: Sequence[str], values: Values) -> str:
        """One row a bar: what its columns are made of."""
        given = [*conditions, *([self.counting.any] if self._of_trades and self.counting.any else [])]
        where = f" WHERE {' AND '.join(given)}" if given else ""
        columns = ("price", "size", "conditions") if self._of_trades else ("bid_px", "ask_px")
        rows = f"{scan.of(*columns).relation(False, values.bind)}{where}"
        if self.counting.excluded:
            rows = f"(SELECT *, {self.counting.excluded} AS k2_out FROM {rows})"
        keyed = self._by_amount(rows) if self.interval.is_threshold else self._by_time(rows)
        aggregates = [*self._common(), *(self._trades() if self._of_trades else self._quotes())]
        session = "session" if self.buckets.by_session else "min(session) AS session"
        return (
            f"SELECT symbol, venue, {session}, k2_bucket, {', '.join(aggregates)} "
            f"FROM ({self._held(keyed)}) GROUP BY ALL"
        )

    def _by_time(self, rows: str) -> str:
        return (
            f"SELECT *, {self.buckets.key} AS k2_bucket, {self.key.text} AS k2_key, {self._time} AS k2_t, "
            f"{_OF[self.of]} AS k2_price FROM {rows}"
        )

    def _by_amount(self, rows: str) -> str:
        """The rows of whole sessions, numbered by what came before each."""
        amounts = (
            f"SELECT *, {self.key.text} AS k2_key, {self._time} AS k2_t, {_OF[self.of]} AS k2_price, "
            f"{self._amount()} AS k2_amount, {self.within or 'true'} AS k2_in FROM {rows}"
        )
        before = f"OVER ({_WHOLE} ORDER BY k2_key ROWS UNBOUNDED PRECEDING)"
        summed = f"SELECT *, sum(k2_amount) {before} AS k2_sum FROM ({amounts})"
        return f"SELECT *, (k2_sum - k2_amount) // {self.interval.amount}::HUGEINT AS k2_bucket FROM ({summed})"

    def _amount(self) -> str:
        """What a row adds towards the threshold: an integer, and never below 0, so that no bar comes back."""
        if self.interval.kind == "tick":
            return "1::HUGEINT"
        product = _integer("size") if self.interval.kind == "volume" else f"{_integer('price')} * {_integer('size')}"
        amount = f"coalesce(abs({product}), 0)"
        condition = self._condition("volume" if self.interval.kind == "volume" else "vwap")
        return f"CASE WHEN {condition} THEN {amount} ELSE 0 END" if condition else amount

    def _held(self, keyed: str) -> str:
        """The rows with the time until the next one of their bar, where a column asks for it."""
        if not set(_ORDERED) & set(self.columns):
            return keyed
        bar = f"{_WHOLE if self.buckets.by_session else 'PARTITION BY symbol, venue'}, k2_bucket"
        bar += ", k2_in" if self.within else ""
        holding = self._and(*self._holding)
        held = f"lead(k2_t) OVER ({bar}{holding and ', k2_has_price'} ORDER BY k2_key) - k2_t AS k2_held"
        if "time_weighted_spread" in self.columns:
            held += f", lead(k2_t) OVER ({bar} ORDER BY k2_key) - k2_t AS k2_stood"
        found = f"SELECT *, ({holding}) AS k2_has_price FROM ({keyed})" if holding else keyed
        return f"SELECT *, {held} FROM ({found})"

    @property
    def _holding(self) -> list[str]:
        """The conditions of rows whose price stands until the next one of them; none where that is all rows."""
        return list(filter(None, ["" if self.priced else "k2_price IS NOT NULL", self._condition("last")]))

    def _condition(self, field: str) -> str:
        """The condition of one field, where it is not the one that all rows were filtered by."""
        return self.counting.fields[field]

    @staticmethod
    def _and(*conditions: str) -> str:
        return " AND ".join(filter(None, conditions))

    def _if(self, *conditions: str) -> str:
        """A FILTER by conditions (empty ones hold always), and by the range that is asked for."""
        every = self._and("k2_in" if self.within else "", *conditions)
        return f" FILTER (WHERE {every})" if every else ""

    def _common(self) -> list[str]:
        """What bars of trades and of quotes both have."""
        of = {field: self._if(self._condition(field)) for field in ("open", "high_low", "last")}
        found = [
            f"arg_min(k2_price, k2_key){of['open']} AS open",
            f"max(k2_price){of['high_low']} AS high",
            f"min(k2_price){of['high_low']} AS low",
            f"arg_max(k2_price, k2_key){of['last']} AS close",
            *self._sequences(),
            f"{f'bool_or({self.incomplete})' if self.incomplete else 'false'} AS k2_incomplete",
        ]
        if self._timed:
            ends = (("min", "first"), ("max", "last"))
            found += [f"{end}(ts_event){self._if()} AS {name}, {end}(k2_t) AS k2_{name}" for end, name in ends]
        if self.interval.is_threshold:
            cut = f"count(*) > count(*){self._if()}" if self.within else "false"
            found += ["max(k2_sum) AS k2_sum", f"{cut} AS k2_cut", f"count(*){self._if()} AS k2_rows"]
        if set(_ORDERED) & set(self.columns):
            priced = self._if(*self._holding)
            found.append(f"sum(k2_price::DECIMAL(20, {self._scale}) * k2_held::DECIMAL(18, 0)){priced} AS k2_weighted")
            found += [f"min(k2_t){priced} AS k2_from", f"max(k2_t){priced} AS k2_to"]
        return found

    @property
    def _timed(self) -> bool:
        """True where the times of the first and last row matter; binding what does not costs time, too."""
        asked = {"first", "last"} & set(self.columns)
        return bool(asked) or self.interval.is_threshold or self.fill is not None

    @property
    def _scale(self) -> int:
        return 9 if self.of == "mid" else 8

    def _trades(self) -> list[str]:
        vwap = self._condition("vwap")
        weight = self._if(vwap, *([] if self.priced else ["price IS NOT NULL"]))  # DuckDB makes equal sums once
        return [
            f"sum(size){self._if(self._condition('volume'))} AS volume",
            f"sum(price::DECIMAL(27, 8) * size){self._if(vwap)} AS notional",
            f"sum(size){weight} AS k2_priced",
            f"count(*){self._if()} AS n_trades",
        ]

    def _quotes(self) -> list[str]:
        both = self._if(f"{_SPREAD} IS NOT NULL")
        found = [
            f"count(*){self._if()} AS n_quotes",
            f"sum({_SPREAD}){both} AS k2_spread",
            f"count(*){both} AS k2_both",
        ]
        if "time_weighted_spread" in self.columns:
            found += [
                f"sum({_SPREAD}::DECIMAL(20, 8) * k2_stood::DECIMAL(18, 0)){both} AS k2_spread_time",
                f"sum(k2_stood){both} AS k2_stood",
                f"arg_max_null({_SPREAD}, k2_key){self._if()} AS k2_last_spread",
                f"max(k2_t){self._if()} AS k2_until",
            ]
        return found

    def _sequences(self) -> list[str]:
        """Of the first and last event: read out of the least and greatest key where it holds them."""
        found = []
        for end, name in (("min", "first_sequence"), ("max", "last_sequence")):
            taken = f"arg_{end}(sequence, k2_key){self._if()}"
            if self.key.sequence is not None:
                taken = self.key.sequence.format(key=f"({end}(k2_key){self._if()})")
            found.append(f"{taken} AS {name}")
        return found

    def merged(self, states: str) -> str:
        """The states of these bars from finer ones of trades, each of which lies within one of these."""
        key = "row(k2_first, first_sequence, k2_last, last_sequence)"
        finer = f"SELECT *, make_timestamptz(k2_bucket) AS ts_event, {key} AS k2_key FROM ({states})"
        placed = f"SELECT * EXCLUDE k2_bucket, {self.buckets.key} AS k2_bucket FROM ({finer})"
        whole = _WHOLE if self.buckets.by_session else "PARTITION BY symbol, venue"
        gap = f"lead(k2_from) OVER ({whole}, k2_bucket, k2_from IS NULL ORDER BY k2_key) - k2_to"
        gaps = f"SELECT *, close::DECIMAL(20, 8) * ({gap})::DECIMAL(18, 0) AS k2_gap FROM ({placed})"
        ends = {"open": "arg_min", "close": "arg_max", "first_sequence": "arg_min", "last_sequence": "arg_max"}
        ends_of = [f"{end}({name}, k2_key) AS {name}" for name, end in ends.items()]
        least = [f"min({name}) AS {name}" for name in ("low", "first", "k2_first", "k2_from")]
        most = [f"max({name}) AS {name}" for name in ("high", "last", "k2_last", "k2_to")]
        sums = [f"sum({name}) AS {name}" for name in ("volume", "notional", "k2_priced")]
        weighted = "coalesce(sum(k2_weighted), 0) + coalesce(sum(k2_gap), 0) AS k2_weighted"
        marked = f"{f'bool_or({self.incomplete})' if self.incomplete else 'false'} AS k2_incomplete"
        rest = ["sum(n_trades)::BIGINT AS n_trades", weighted, marked]
        session = "session" if self.buckets.by_session else "min(session) AS session"
        columns = ", ".join(["symbol, venue", session, "k2_bucket", *ends_of, *least, *most, *sums, *rest])
        return f"SELECT {columns} FROM ({gaps}) GROUP BY ALL"

    def shown(self, states: str) -> str:
        """The bars of states: ends, exact divisions, and the columns in their order."""
        if self.fill is not None:
            states = self._filled(states)
        totals, ratios = self._divisions()
        rows = self._ended(states)
        rows = f"SELECT *, {', '.join(totals)} FROM ({rows})" if totals else rows
        rows, quotients = with_ratios(rows, list(ratios.values()))
        made = dict(zip(ratios, quotients, strict=True))
        columns = ", ".join(f"{self._shown(name, made.get(name))} AS {name}" for name in self.columns)
        order = "ts_close_ns" if self.by_close else "k2_open"
        close = f", {self._close_ns} AS ts_close_ns" if self.by_close and "ts_close_ns" not in self.columns else ""
        keys = f"{order}, venue, symbol, session{', k2_bucket' if self.interval.is_threshold else ''}"
        return f"SELECT {columns}{close} FROM ({rows}) ORDER BY {keys}"

    def _ended(self, states: str) -> str:
        """States with the start (µs) of each, and where it ends: in µs, or by amount on the clock of the rows."""
        if not self.interval.is_threshold:
            return f"SELECT *, {self.buckets.opens} AS k2_open, {self.buckets.closes} AS k2_end FROM ({states})"
        following = f"lead(k2_first) OVER ({_WHOLE} ORDER BY k2_bucket) AS k2_next"
        found = f"SELECT *, k2_first // {self.per_us} AS k2_open, {following} FROM ({states})"
        short = f"(k2_next IS NULL AND k2_sum < (k2_bucket + 1) * {self.interval.amount}::HUGEINT)"
        return (
            f"SELECT *, coalesce(k2_next, k2_last) AS k2_end, (k2_cut OR {short}) AS k2_partial "
            f"FROM ({found}) WHERE k2_rows > 0"
        )

    def _filled(self, states: str) -> str:
        """States with one for each bucket between the first and the last of a session."""
        step = self.interval.us
        grid = (
            "SELECT symbol, venue, session, unnest(range(min(k2_bucket), max(k2_bucket), "
            f"{step})) AS k2_bucket FROM k2_states GROUP BY symbol, venue, session"
        )
        key = "symbol, venue, session, k2_bucket"
        every = f"SELECT * FROM k2_states UNION ALL BY NAME SELECT * FROM ({grid}) ANTI JOIN k2_states USING ({key})"
        before = f"OVER ({_WHOLE} ORDER BY k2_bucket)"
        prices = ("open", "high", "low", "close")
        kept = ", ".join(f"coalesce({name}, k2_before) AS {name}" for name in prices)
        counts = "volume, notional, n_trades" if self._of_trades else "n_quotes"
        zeros = ", ".join(f"CASE WHEN first IS NULL THEN 0 ELSE {name} END AS {name}" for name in counts.split(", "))
        replaced = f"SELECT * REPLACE ({zeros}, bool_or(k2_incomplete) OVER ({_WHOLE}) AS k2_incomplete)"
        last = f"last_value(close IGNORE NULLS) {before}" if self.fill == "previous" else "NULL"
        filled = f"{replaced}, CASE WHEN first IS NULL THEN {last} END AS k2_before FROM ({every})"
        return f"WITH k2_states AS ({states}) SELECT * EXCLUDE k2_before REPLACE ({kept}) FROM ({filled})"

    @property
    def _stop(self) -> str:
        """The end of a bar on the clock of the rows."""
        return "k2_end" if self.interval.is_threshold or self.per_us == 1 else f"k2_end * {self.per_us}"

    def _divisions(self) -> tuple[list[str], dict[str, Ratio]]:
        """What has to be summed up before, and the columns that are ratios."""
        totals, ratios = [], {}
        if "vwap" in self.columns and self._of_trades:
            ratios["vwap"] = Ratio("notional", "k2_priced")
        if "twap" in self.columns:
            totals.append(self._total("k2_price", ("k2_weighted", "close", "k2_to"), self._scale))
            totals.append(f"{self._stop} - k2_from AS k2_price_time")
            ratios["twap"] = Ratio("k2_price_total", "k2_price_time", 12 - self._scale)
        if "mean_spread" in self.columns:
            ratios["mean_spread"] = Ratio("k2_spread", "k2_both")
        if "time_weighted_spread" in self.columns:
            last = f"CASE WHEN k2_last_spread IS NULL THEN 0 ELSE {self._stop} - k2_until END"
            totals.append(self._total("k2_spread", ("k2_spread_time", "k2_last_spread", "k2_until"), 8))
            totals.append(f"coalesce(k2_stood, 0) + {last} AS k2_spread_held")
            ratios["time_weighted_spread"] = Ratio("k2_spread_total", "k2_spread_held")
        return totals, ratios

    def _total(self, name: str, parts: tuple[str, str, str], scale: int) -> str:
        """What is summed, and the last value times the time from `since` to the bar's end."""
        summed, last, since = parts
        held = f"coalesce({last}, 0)::DECIMAL(20, {scale}) * coalesce({self._stop} - {since}, 0)::DECIMAL(18, 0)"
        return f"(coalesce({summed}, 0) + {held})::DECIMAL(38, {scale}) AS {name}_total"

    @property
    def _close_ns(self) -> str:
        """The first instant (ns) by which a bar is over; the last threshold bar of a session is over with it."""
        if not self.interval.is_threshold:
            return "k2_end * 1000"
        factor = 1_000 // self.per_us
        over = f"greatest(k2_next * {factor}, k2_last * {factor} + 1)"
        return f"CASE WHEN k2_next IS NULL THEN {self.buckets.closes} * 1000 ELSE {over} END"

    @property
    def _partial(self) -> str:
        if self.interval.is_threshold:
            return "k2_partial"
        return self.partial

    def _shown(self, name: str, ratio: str | None) -> str:
        """A column by what it is made of; without time that passed, the last value is the mean."""
        made = {
            "ts_open": "make_timestamptz(k2_open)",
            "is_partial": self._partial,
            "is_incomplete": "k2_incomplete",
            "eligible": self.counting.label,
            "ts_close_ns": self._close_ns,
            "vwap": ratio,
            "mean_spread": ratio,
            "twap": f"coalesce({ratio}, close::DECIMAL(38, 12))",
            "time_weighted_spread": f"coalesce({ratio}, k2_last_spread::DECIMAL(38, 12))",
        }
        types = {"volume": "DECIMAL(38, 8)", "notional": "DECIMAL(38, 16)", "vwap": "DECIMAL(38, 12)"}
        if not self._of_trades and name in (*types, "n_trades"):
            return f"NULL::{types.get(name, 'BIGINT')}"
        return f"{name}::{types[name]}" if name in ("volume", "notional") else made.get(name) or name


def _integer(column: str) -> str:
    """A DECIMAL(18, 8) as the integer of its last digit."""
    return f"({column}::DECIMAL(27, 8) * 100000000::DECIMAL(9, 0))::HUGEINT"
