"""`BarReads`: bars and summaries among the read verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from k2kernel.cached import cached_property
from k2kernel.eligibility import Policy, policy
from k2kernel.errors import InvalidParameter
from k2kernel.query.adjustment import Adjuster, Adjustment
from k2kernel.query.bar_engine import BarEngine, BarSpec
from k2kernel.query.bars import bar_columns, parse_of
from k2kernel.query.connection import Query
from k2kernel.query.intervals import WHOLE_SESSION, Interval, parse_align, parse_fill, parse_interval
from k2kernel.query.pages import cut_by_place
from k2kernel.query.reads import Reads, Symbols
from k2kernel.query.result import Result
from k2kernel.query.scan import Pinned, Values, query
from k2kernel.query.selection import Selection
from k2kernel.query.summary import Summary
from k2kernel.query.when import Moment, When, parse_when
from k2kernel.query.within import Wanted
from k2kernel.times import AsOfLike, Range, parse_range, parse_sessions

if TYPE_CHECKING:
    from k2kernel.query.bar_cache import BarCache, Materialised


class BarReads(Reads):
    """The read verbs about bars."""

    @cached_property
    def _bar_engine(self) -> BarEngine:
        return BarEngine(self.lake.settings.home, self._catalogue)

    @cached_property
    def _bar_cache(self) -> BarCache:
        from k2kernel.query.bar_cache import BarCache

        return BarCache(self.lake, self._database, self._catalogue, self._bar_engine)

    def bars(
        self,
        symbol: Symbols = None,
        interval: str = "1m",
        *,
        venue: str | None = None,
        session: object = None,
        start: object = None,
        end: object = None,
        of: str | None = None,
        eligible: str = "venue",
        hours: str = "all",
        adjustment: str = "raw",
        align: str = "session",
        fill: str | None = None,
        columns: Sequence[str] | str | None = None,
        by_close: bool = False,
        cached: str | None = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Result:
        """Bars, ordered by (ts_open, venue, symbol); without a trade that counts there is no bar.

        `interval` is a time such as `1m`, `1h` or `1d`, aligned to the start of the venue's session, or with `align`
        clock to local time; `session`; or `tick:N`, `volume:X`, `dollar:X`. A bar by amount is numbered by what its
        session's trades before it amount to (absolute), divided by the threshold: no trade is split, and a range shows
        parts of the same bars.

        Columns: symbol, venue, session, ts_open (UTC; the start of the bucket, which is half-open, or the first trade),
        open, high, low, close, volume, notional, vwap, n_trades, is_partial (see below), is_incomplete (rows of its
        session were rejected), first_sequence, last_sequence, eligible (the policy that said which trades count). Open
        and close are first and last in the total order. `columns` names others: `twap`, each price held until the next
        one that counts and the last to the bar's end (by amount: the next bar's first trade, or the session's last),
        which needs the rows in order and is not computed unless asked for; first, last (ts_event), ts_close_ns; `all`
        is every figure.

        `is_partial` says that a bar is cut by the range; or by amount, that the amount is not reached; or that more may
        come: the venue has no event in the snapshot at or after the bar's end, nor, where the session closes within the
        bar, at or after that. A session closes by the venue's calendar: after its last auction, or with `hours` rth at
        the close; where nobody knows, with its end. What comes later, such as late reports and corrections, can still
        change a bar.

        Bars `of` bid, ask or mid take their prices from quotes, have null in the columns about trades, and n_quotes and
        mean_spread at the end, time_weighted_spread (held until the next quote) on request; mid has nine decimals. `of`
        None is trades, or mid where none of the symbols has trades but one has quotes: `snapshots` says which.
        `fill` gives time bars of a session where nothing traded between its first and last bar: `null` ones, or with
        the `previous` close as their prices. `by_close` orders bars by their ends, with ts_close_ns as the last column.
        `hours` are those of `trades`. `cached` is an interval that `materialise_bars` keeps: bars are then merged from
        those, and equal. `adjustment` is that of `trades`, for bars of one session.
        """
        when, wanted_range = parse_when(as_of, known_at, clock), parse_range(session, start, end)
        parsed, of = parse_interval(interval), parse_of(of)
        fills, aligned = parse_fill(fill, parsed), parse_align(align)
        wanted = self._within(self._of_any(of, symbol, venue, wanted_range, when), hours)
        of = of or ("trades" if wanted.pinned.name == "trades" else "mid")
        by, named = self._adjustment(adjustment, wanted), bar_columns(of, columns)
        spec = BarSpec(_fitting(parsed, of), of, by.needed(named), eligible, aligned, fills, by_close)
        plan = self._bar_engine.plan(wanted.pinned, wanted.selection, spec)
        names = [*named, "ts_close_ns"] if by_close and "ts_close_ns" not in named else list(named)
        kept = cached and self._bar_cache.query(plan, wanted.pinned, wanted.selection, spec, cached)
        planned = by.bars(kept or plan.query(), parsed, of, names)
        cut, shown = cut_by_place(planned), by.columns(names)
        return Result(self._database, planned, by.snapshots, shown, plan.zone, cut=cut, **wanted.within)

    def materialise_bars(self, interval: str = "1m", eligible: str = "venue") -> Materialised:
        """Keep the bars of trades of an interval that divides 15 minutes, by a policy, for `bars(cached=interval)`.

        They are states in the Iceberg table `bars_<interval>` (with `_<policy>` behind it where that is not the
        venue's), which says of which snapshot of trades it is; of a later one only the sessions are computed whose
        files have changed.
        """
        return self._bar_cache.materialise(When().pin(self.lake, "trades"), interval, eligible)

    def _of_any(self, of: str | None, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> Wanted:
        """The table that bars are made from, and which of its rows; quotes where `of` is open and there are no trades
        of any of the symbols.
        """
        found = self._selected("quotes" if of in {"bid", "ask", "mid"} else "trades", symbol, venue, wanted, when)
        if of is None and found.selection.instruments is not None and not self._traded(found):
            quotes = when.pin_or_none(self.lake, "quotes")
            return found if quotes is None or quotes.snapshot_id is None else replace(found, pinned=quotes)
        return found

    def _traded(self, wanted: Wanted) -> bool:
        """True where one of the instruments has trades at all."""
        instruments = wanted.selection.instruments or ()
        return any(item.venue in self._catalogue.venues(wanted.pinned, item.symbol) for item in instruments)

    def summary(
        self,
        symbol: str,
        session: object,
        *,
        venue: str | None = None,
        eligible: str = "venue",
        hours: str = "all",
        adjustment: str = "raw",
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Summary:
        """One session of one instrument; without trades in it the record has null prices and counts the quotes.

        `eligible`, `hours` and `adjustment` are those of `bars`.
        """
        day = parse_sessions(session)
        if day.first != day.last:
            raise InvalidParameter("session", session, "is more than one session", "Use bars with interval='session'")
        if not isinstance(symbol, str):
            raise InvalidParameter("symbol", symbol, "is not one symbol", 'Write it like "BHP"')
        wanted = self._of_any(None, symbol, venue, Range(day), parse_when(as_of, known_at, clock))
        wanted = self._within(wanted, hours)
        of = "trades" if wanted.pinned.name == "trades" else "mid"
        by, columns = self._adjustment(adjustment, wanted), (*bar_columns(of, None), "first", "last")
        plan = self._bar_engine.plan(wanted.pinned, wanted.selection, BarSpec(WHOLE_SESSION, of, columns, eligible))
        found = self._database.arrow(by.bars(plan.query(), WHOLE_SESSION, of, columns)).to_pylist()
        unknown = self._unknown_conditions(wanted, day.first, eligible)
        said = {**wanted.within, "unknown_conditions": unknown, "adjustment": adjustment}
        if found:
            return Summary.of_bar(found[0], of, wanted.pinned.snapshot_id, **said)
        return self._without_trades(wanted, day.first, eligible, said)

    def _bars_of(self, pinned: Pinned, selection: Selection, interval: Interval, of: str, eligible: str) -> Query:
        """The statement of bars of a selection."""
        spec = BarSpec(interval, of, bar_columns(of, None), eligible)
        return self._bar_engine.plan(pinned, selection, spec).query()

    def _adjustment(self, kind: str, wanted: Wanted) -> Adjustment:
        adjuster = Adjuster(self._database, self._catalogue, self._bars_of)
        return adjuster.plan(kind, wanted.pinned, wanted.selection, wanted.when)

    def policies(self, codes: Iterable[str], eligible: str) -> dict[str, Policy]:
        """The policy of each of the venues `codes` by the word `eligible`."""
        return self._bar_engine.policies(codes, eligible)

    def _unknown_conditions(self, wanted: Wanted, day: date, eligible: str) -> tuple[str, ...]:
        """The conditions of one instrument's trades in a session about which the policy says nothing."""
        known = policy(wanted.instrument.venue, eligible, self.lake.settings.home)
        if not known.rules or wanted.pinned.name != "trades":
            return ()
        values, scan = Values(), wanted.selection.scan(wanted.pinned)
        where = " AND ".join(wanted.selection.conditions(values))
        rows = scan.of("conditions").relation(False, values.bind)
        text = f"SELECT DISTINCT unnest(conditions) AS code FROM {rows} WHERE {where}"
        return known.unknown(self._database.arrow(query(text, values, scan))["code"].to_pylist(), day)

    def _without_trades(self, wanted: Wanted, day: date, eligible: str, said: Mapping[str, Any]) -> Summary:
        """The summary of a session in which no trade counts: how many quotes there are."""
        of, count = wanted.instrument, None
        if (quotes := wanted.when.pin_or_none(self.lake, "quotes")) is not None:
            selection = self._within(replace(wanted, pinned=quotes), wanted.hours).selection
            values, scan = Values(), selection.scan(quotes)
            where = " AND ".join(selection.conditions(values))
            text = f"SELECT count(*) AS n FROM {scan.of().relation(True, values.bind)} WHERE {where}"
            count = self._database.arrow(query(text, values, scan))["n"][0].as_py()
        name = policy(of.venue, eligible, self.lake.settings.home).name
        pin = wanted.pinned.snapshot_id
        return Summary(of.symbol, of.venue, day, eligible=name, snapshot_id=pin, quote_count=count, **said)


def _fitting(interval: Interval, of: str) -> Interval:
    """The interval, where what bars are `of` has it."""
    if of != "trades" and interval.kind in {"volume", "dollar"}:
        raise InvalidParameter(
            "interval", interval.text, f"counts what {of} has not", "Use tick: or a time with quotes"
        )
    return interval
