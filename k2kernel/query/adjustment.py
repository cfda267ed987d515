"""Prices across splits and dividends: backward factors by ex-date, from `corporate_actions`, applied exactly.

Every price before an ex-date is multiplied by the factor of the action, so that the last session keeps its prices:

- a split of `ratio` new shares for an old one: price * 1 / ratio, size * ratio;
- a dividend: price * (1 - amount / close), with the last close before the ex-date that counts by the venue's policy;
  the sizes stay. `amount` is `net_amount`, the cash paid, or `gross_amount` where only that is there.

These are the multipliers of the CRSP standards, as Yahoo Finance documents them ("What is the adjusted close?"): with
both, the change of the adjusted close is the total return with dividends reinvested. Amounts of one ex-date are summed.
A factor is a product of fractions, exact as long as its denominator is below 10^18, else the nearest such fraction.
What it gives is rounded half to even: prices, VWAP and sizes of trades at twelve decimals, volumes at eight, notional
at sixteen. Mergers change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, one_of
from k2kernel.query.actions import Action, Factors, bounded, factors, read_actions
from k2kernel.query.connection import Database, Query
from k2kernel.query.exact import scaled
from k2kernel.query.intervals import WHOLE_SESSION, Interval
from k2kernel.query.scan import Pinned, Values
from k2kernel.query.selection import Instrument, Selection
from k2kernel.query.units import Spec, specs
from k2kernel.times import Range

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query.catalogue import Catalogue
    from k2kernel.query.diff import BarsOf
    from k2kernel.query.when import When

RAW, ADJUSTMENTS = "raw", ("raw", "split", "dividend", "all")
_FRAME = "k2_factors"
_UNDER = (
    "k2_symbol = k2_row.symbol AND k2_venue = k2_row.venue "
    "AND (k2_first IS NULL OR k2_row.session >= k2_first) AND k2_row.session < k2_until"
)
_KEYS = ("symbol", "venue", "session")
_PRICES = ("open", "high", "low", "close")
_FIGURES = {
    **dict.fromkeys(("vwap", "twap", "mean_spread", "time_weighted_spread"), 12),
    "volume": 8,
    "notional": 16,
}
"""Decimals of the figures of bars that an adjustment changes, beside the prices."""


@dataclass(frozen=True)
class Adjustment:
    """An adjustment `kind` with its factors, to be put around statements; `raw` leaves them as they are.

    `snapshots` are those of the tables that answer with it.
    """

    kind: str
    snapshots: Mapping[str, int | None]
    factors: Sequence[Factors] = ()

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns of an answer: `adjustment` is the last one, where there is one."""
        return [*names] if self.kind == RAW else [*names, "adjustment"]

    def on(self, planned: Query) -> Query:
        """The query with what `rows` reads."""
        return planned if self.kind == RAW else replace(planned, frames={**planned.frames, _FRAME: self._frame})

    def rows(self, rows: str, where: str, columns: Collection[str], values: Values) -> str:
        """What to put after FROM for trades: `rows` (something to select from) that meet `where` (empty: all), with
        adjusted price and size.

        Exact arithmetic on integers of 128 bits takes a second for a million rows; so each price that there is under a
        factor is computed once, and joined.
        """
        if self.kind == RAW:
            return f"{rows}{where}"
        found = f"(SELECT * FROM {rows}{where}) k2_row"
        names = [name for name in ("price", "size") if name in columns]
        replaced = ", ".join(
            f"CASE WHEN k2_at IS NULL THEN k2_row.{name}::DECIMAL(38, 12) ELSE k2_{name}.k2_made END AS {name}"
            for name in names
        )
        joins = " ".join(
            f"LEFT JOIN ({self._each(name, found)}) k2_{name} "
            f"ON k2_{name}.k2_under = k2_at AND k2_{name}.k2_given = k2_row.{name}"
            for name in names
        )
        return (
            f"(SELECT k2_row.*{replaced and f' REPLACE ({replaced})'}, {values.bind(self.kind)}::VARCHAR AS adjustment "
            f"FROM {found} LEFT JOIN {_FRAME} ON {_UNDER} {joins})"
        )

    def _each(self, name: str, rows: str) -> str:
        """Every price or size under a factor, and what it becomes."""
        distinct = f"SELECT DISTINCT k2_at AS k2_under, {name} AS k2_given FROM {rows} JOIN {_FRAME} ON {_UNDER}"
        return (
            f"SELECT k2_under, k2_given, {self._scaled(name, 'k2_given', 8, 12)} AS k2_made "
            f"FROM ({distinct}) JOIN {_FRAME} ON k2_at = k2_under"
        )

    def needed(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns that bars with `columns` must have to be adjusted."""
        return (*columns, *(key for key in _KEYS if self.kind != RAW and key not in columns))

    def bars(self, planned: Query, interval: Interval, of: str, columns: Sequence[str]) -> Query:
        """A query of bars with `columns`, adjusted and in its order: prices, means and spreads are decimal(38, 12)."""
        if self.kind == RAW:
            return planned
        if not interval.within_session:
            problem, remedy = "an adjusted bar is of one session", "Ask for session or 1d bars, and group those"
            raise InvalidParameter("interval", interval.text, problem, remedy)
        values = Values(planned.values)
        given = dict.fromkeys(_PRICES, 9 if of == "mid" else 8) | _FIGURES
        to = {name: max(scale, 12) if name != "volume" else scale for name, scale in given.items() if name in columns}
        rows = self._joined(f"(SELECT *, row_number() OVER () AS k2_place FROM ({planned.text}))", to, given, values)
        text = f"SELECT {', '.join(self.columns(columns))} FROM {rows} ORDER BY k2_place"
        return self.on(replace(planned, text=text, values=values.bound))

    def _joined(self, rows: str, to: Mapping[str, int], given: Mapping[str, int], values: Values) -> str:
        adjusted = (
            f"{self._scaled(name, f'k2_row.{name}', given[name], scale)} AS {name}" for name, scale in to.items()
        )
        replaced = f" REPLACE ({', '.join(adjusted)})" if to else ""
        return (
            f"(SELECT k2_row.*{replaced}, {values.bind(self.kind)}::VARCHAR AS adjustment FROM {rows} k2_row "
            f"LEFT JOIN {_FRAME} ON {_UNDER})"
        )

    def _scaled(self, name: str, column: str, scale: int, to: int) -> str:
        kind = {"volume": "size", "size": "size", "notional": "money"}.get(name, "price")
        top, bottom = (f"coalesce(k2_{kind}_{end}, 1)::HUGEINT" for end in ("n", "d"))
        return scaled(column, top, bottom, scale, to)

    def _frame(self) -> pa.Table:
        import pyarrow as pa

        ends = [(f"k2_{kind}_{end}", pa.int64()) for kind in ("price", "size", "money") for end in ("n", "d")]
        texts, days = [("k2_symbol", pa.string()), ("k2_venue", pa.string())], [pa.field("k2_first", pa.date32())]
        schema = pa.schema([("k2_at", pa.int64()), *texts, *days, ("k2_until", pa.date32()), *ends])
        rows = [{"k2_at": at, **_row(each)} for at, each in enumerate(self.factors)]
        return pa.Table.from_pylist(rows, schema=schema)


def _row(each: Factors) -> dict[str, object]:
    values: dict[str, object] = {"k2_symbol": each.instrument.symbol, "k2_venue": each.instrument.venue}
    values |= {"k2_first": each.first, "k2_until": each.until}
    for kind, factor in (("price", each.price), ("size", each.size), ("money", bounded(each.price * each.size))):
        values |= {f"k2_{kind}_n": factor.numerator, f"k2_{kind}_d": factor.denominator}
    return values


@dataclass(frozen=True)
class Adjuster:
    """Plans adjustments of a pinned table, from the other tables as they stand at `when`."""

    database: Database
    catalogue: Catalogue
    bars_of: BarsOf

    def plan(self, kind: str, pinned: Pinned, selection: Selection, when: When) -> Adjustment:
        """The adjustment of the selected rows of `pinned`; InvalidParameter where reference data is missing."""
        one_of("adjustment", kind, ADJUSTMENTS)
        snapshots = {pinned.name: pinned.snapshot_id}
        if kind == RAW:
            return Adjustment(kind, snapshots)
        actions = when.pin(pinned.lake, "corporate_actions")
        if not actions.files.files:
            remedy = "Load them, say with the profiles asx-dividends and asx-splits, or ask for adjustment='raw'"
            raise InvalidParameter("adjustment", kind, "corporate_actions has no rows", remedy)
        snapshots |= {"corporate_actions": actions.snapshot_id}
        found = read_actions(self.database, actions, selection, kind)
        if not found:
            return Adjustment(kind, snapshots)
        trades = pinned if pinned.name == "trades" else when.pin(pinned.lake, "trades")
        instruments = when.pin(pinned.lake, "instruments")
        snapshots |= {"trades": trades.snapshot_id, "instruments": instruments.snapshot_id}
        known = specs(self.database, instruments, sorted({action.instrument.symbol for action in found}))
        made = factors(
            found,
            self._sessions(pinned, found),
            lambda dividends: self._closes(trades, dividends),
            lambda action: _spec(action, known),
        )
        return Adjustment(kind, snapshots, list(made))

    def _sessions(self, pinned: Pinned, actions: Iterable[Action]) -> dict[Instrument, list[date]]:
        """The sessions of every instrument that has actions, ascending."""
        import pyarrow.compute as pc

        wanted = {action.instrument for action in actions}
        entries = self.catalogue.entries(pinned)
        symbols = pc.is_in(entries["symbol"], value_set=_texts(item.symbol for item in wanted))
        found: dict[Instrument, list[date]] = {item: [] for item in wanted}
        for row in entries.filter(symbols).select(["symbol", "venue", "session"]).to_pylist():
            found.setdefault(Instrument(row["symbol"], row["venue"]), []).append(row["session"])
        return {item: sorted(days) for item, days in found.items()}

    def _closes(self, trades: Pinned, actions: Collection[Action]) -> dict[Action, Decimal]:
        """The last close before each ex-date, looked for session by session."""
        sessions = self._sessions(trades, actions)
        found: dict[Action, Decimal] = {}
        left = {action: _before(sessions[action.instrument], action.ex_date) for action in actions}
        while left:
            at = {action: day for action, days in left.items() if (day := next(days, None)) is not None}
            closes = self._session_closes(trades, {(action.instrument, day) for action, day in at.items()})
            found |= {
                action: closes[action.instrument, day]
                for action, day in at.items()
                if (action.instrument, day) in closes
            }
            left = {action: left[action] for action in at if action not in found}
        return found

    def _session_closes(
        self, trades: Pinned, wanted: Collection[tuple[Instrument, date]]
    ) -> dict[tuple[Instrument, date], Decimal]:
        days = {day for _, day in wanted}
        part = trades.only(file for file in trades.files if file.session is None or file.session in days)
        selection = Selection(Range(), tuple({instrument for instrument, _ in wanted}))
        rows = self.database.arrow(self.bars_of(part, selection, WHOLE_SESSION, "trades", "venue"))
        closes = rows.select(["symbol", "venue", "session", "close"]).to_pylist()
        return {
            (Instrument(row["symbol"], row["venue"]), row["session"]): row["close"]
            for row in closes
            if row["close"] is not None
        }


def _texts(texts: Iterable[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(sorted(set(texts)), pa.string())


def _before(sessions: Sequence[date], day: date) -> Iterator[date]:
    return (session for session in reversed(sessions) if session < day)


def _spec(action: Action, known: Mapping[Instrument, Sequence[Spec]]) -> Spec:
    """What `instruments` says of an action's instrument at its ex-date."""
    rows = known.get(action.instrument, ())
    found = next((spec for spec in rows if spec.holds(action.ex_date)), None)
    if found is None or found.currency is None:
        problem = (
            f"{action} is in {action.currency or 'no currency'}, and instruments does not say what the price is in"
        )
        raise InvalidParameter("adjustment", action.kind, problem, "Load the instrument with its price_currency")
    return found
