"""`QueryEngine`: the read verbs over a lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from inspect import signature
from typing import TYPE_CHECKING

from k2kernel.calendars import venues as declared_venues
from k2kernel.eligibility import policy
from k2kernel.errors import InvalidParameter, SqlRefused
from k2kernel.query import metadata
from k2kernel.query.bar_cache import BarCache, Materialised
from k2kernel.query.bar_engine import BarEngine, BarSpec
from k2kernel.query.bars import bar_columns, parse_of
from k2kernel.query.calls import Call
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Database, Query
from k2kernel.query.diff import Diff
from k2kernel.query.intervals import WHOLE_SESSION, Interval, parse_align, parse_fill, parse_interval
from k2kernel.query.order import order_by
from k2kernel.query.pushdown import push_down
from k2kernel.query.result import Result
from k2kernel.query.scan import Pinned, Scan, Values, as_view, query, query_as_view
from k2kernel.query.selection import (
    Instrument,
    Selection,
    leading,
    parse_columns,
    parse_limit,
    parse_symbols,
    parse_venue,
    venues_of,
)
from k2kernel.query.sql import NAMES, RAW, Statement, bound, conjuncts, named, read
from k2kernel.query.summary import Summary
from k2kernel.query.when import Moment, When, parse_when
from k2kernel.schemas import KINDS, TABLES
from k2kernel.times import AsOfLike, Range, parse_as_of, parse_range, parse_sessions

if TYPE_CHECKING:
    from k2kernel.lake import Lake

Symbols = str | Sequence[str] | None
"""One symbol, several, or all of them."""


class QueryEngine:
    """Reads of a lake. Every read resolves `as_of` once, and its answer says which snapshots it is of.

    `as_of` is a snapshot id, a tag, a branch, a pin, or a time with a zone, which stands for the state that was current
    then; a mapping gives each table its snapshot id. An id is of one table: a read of several tables refuses it.

    `known_at` is a time with a zone. By the `clock` `ingest` a read has the rows of the commits that were visible then:
    it is the same as `as_of` that time while the state of then is kept, and holds after compaction and expiry as well,
    except that rows which were taken out since, by a replaced load or a rollback, do not come back. By `recv` and
    `event` it has the rows that were captured, or that happened, until then, for history that was loaded later: a
    cancel or correction undoes a fill, and the mark of a fill that one names shows, only from the time of the cancel
    or correction itself; a mark without such a record is as old as its fill. Given together, `known_at` looks at what
    the state `as_of` has.

    Times given as `start` and `end` make a half-open range [start, end), to the nanosecond; a bare date there is the
    start of that session. Safe to share between threads: each read has a connection of its own to one locked DuckDB.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._database = Database(lake.settings)
        self._catalogue = Catalogue(self._database)
        self._bar_engine = BarEngine(lake.settings.home, self._catalogue)
        self._bar_cache = BarCache(lake, self._database, self._bar_engine)

    def close(self) -> None:
        """Let go of DuckDB; the next read opens it again."""
        self._database.close()

    def trades(
        self,
        symbol: Symbols = None,
        *,
        venue: str | None = None,
        session: object = None,
        start: object = None,
        end: object = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
        raw: bool = False,
        limit: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The fills that stand, or every row received where `raw`: all columns of the contract, in the total order.

        `limit` keeps the first rows of that order. AmbiguousSymbol where a symbol is on several venues and `venue` is
        not given; UnknownSymbol where neither trades nor quotes have it.
        """
        when = parse_when(as_of, known_at, clock)
        wanted = self._selected("trades", symbol, venue, parse_range(session, start, end), when)
        return self._events(wanted, raw, limit, columns)

    def quotes(
        self,
        symbol: Symbols = None,
        *,
        venue: str | None = None,
        session: object = None,
        start: object = None,
        end: object = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
        raw: bool = False,
        limit: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The quotes, with the words of `trades`; `raw` changes nothing, because no quote is ever undone."""
        when = parse_when(as_of, known_at, clock)
        wanted = self._selected("quotes", symbol, venue, parse_range(session, start, end), when)
        return self._events(wanted, raw, limit, columns)

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
        open, high, low, close, volume, notional, vwap, n_trades, is_partial (the range cuts the bar, nothing of the
        venue at or after its end is in the snapshot, or its amount is not reached), is_incomplete (rows of its session
        were rejected), first_sequence, last_sequence, eligible (the policy that said which trades count). Open and
        close are first and last in the total order. `columns` names others: `twap`, each price held until the next one
        that counts and the last to the bar's end (by amount: the next bar's first trade, or the session's last), which
        needs the rows in order and is not computed unless asked for; first, last (ts_event), ts_close_ns; `all` is
        every figure.

        Bars `of` bid, ask or mid take their prices from quotes, have null in the columns about trades, and n_quotes and
        mean_spread at the end, time_weighted_spread (held until the next quote) on request; mid has nine decimals. `of`
        None is trades, or mid where none of the symbols has trades but one has quotes: `snapshots` says which.
        `fill` gives time bars of a session where nothing traded between its first and last bar: `null` ones, or with
        the `previous` close as their prices. `by_close` orders bars by their ends, with ts_close_ns as the last column.
        `cached` is an interval that `materialise_bars` keeps: bars are then merged from those, and equal.
        """
        when, wanted_range = parse_when(as_of, known_at, clock), parse_range(session, start, end)
        parsed, of = parse_interval(interval), parse_of(of)
        fills, aligned = parse_fill(fill, parsed), parse_align(align)
        wanted = self._of_any(of, symbol, venue, wanted_range, when)
        of = of or ("trades" if wanted.pinned.name == "trades" else "mid")
        named = bar_columns(of, columns)
        spec = BarSpec(_fitting(parsed, of), of, named, eligible, aligned, fills, by_close)
        plan = self._bar_engine.plan(wanted.pinned, wanted.selection, spec)
        names = [*named, "ts_close_ns"] if by_close and "ts_close_ns" not in named else list(named)
        kept = cached and self._bar_cache.query(plan, wanted.pinned, wanted.selection, spec, cached)
        return Result(
            self._database, kept or plan.query(), {wanted.pinned.name: wanted.pinned.snapshot_id}, names, plan.zone
        )

    def materialise_bars(self, interval: str = "1m", eligible: str = "venue") -> Materialised:
        """Keep the bars of trades of an interval that divides 15 minutes, by a policy, for `bars(cached=interval)`.

        They are states in the Iceberg table `bars_<interval>` (with `_<policy>` behind it where that is not the
        venue's), which says of which snapshot of trades it is; of a later one only the sessions are computed whose
        files have changed.
        """
        return self._bar_cache.materialise(When().pin(self.lake, "trades"), interval, eligible)

    def _of_any(self, of: str | None, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> _Wanted:
        """The table that bars are made from, and which of its rows; quotes where `of` is open and there are no trades
        of any of the symbols.
        """
        found = self._selected("quotes" if of in {"bid", "ask", "mid"} else "trades", symbol, venue, wanted, when)
        if of is None and found.selection.instruments is not None and not self._traded(found):
            quotes = when.pin_or_none(self.lake, "quotes")
            return found if quotes is None or quotes.snapshot_id is None else replace(found, pinned=quotes)
        return found

    def _traded(self, wanted: _Wanted) -> bool:
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
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Summary:
        """One session of one instrument; without trades in it the record has null prices and counts the quotes."""
        day = parse_sessions(session)
        if day.first != day.last:
            raise InvalidParameter("session", session, "is more than one session", "Use bars with interval='session'")
        if not isinstance(symbol, str):
            raise InvalidParameter("symbol", symbol, "is not one symbol", 'Write it like "BHP"')
        wanted = self._of_any(None, symbol, venue, Range(day), parse_when(as_of, known_at, clock))
        of = "trades" if wanted.pinned.name == "trades" else "mid"
        spec = BarSpec(WHOLE_SESSION, of, (*bar_columns(of, None), "first", "last"), eligible)
        found = self._database.arrow(self._bar_engine.plan(wanted.pinned, wanted.selection, spec).query()).to_pylist()
        if found:
            return Summary.of_bar(found[0], of, wanted.pinned.snapshot_id)
        return self._without_trades(wanted, day.first, eligible)

    def sql(
        self,
        text: str,
        params: Mapping[str, object] | Sequence[object] | None = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Result:
        """One read-only statement over trades, trades_raw, quotes, instruments, corporate_actions, dead_letter and
        ingest_log, at `as_of` and `known_at` except where a table has its own FOR VERSION AS OF.

        `params` gives the values of `$names`. SqlRefused says why a statement may not run; QueryError carries DuckDB's
        message when it fails.
        """
        given = named(params)
        statement = read(self._database, text, given, self._arguments)
        values, when = bound(statement, given), parse_when(as_of, known_at, clock)
        pins = self._pins(statement, when)
        wanted = push_down(conjuncts(statement), values)
        scans = {name: wanted.scan(pinned) for name, pinned in pins.items()}
        made = {call.relation: self._called(call, when) for call in statement.calls}
        views = [as_view(name, scan, name.partition("@")[0] == RAW) for name, scan in scans.items()]
        views += [query_as_view(name, result.planned) for name, result in made.items()]
        planned = replace(query(statement.text, Values(), *scans.values()), values=values, views=tuple(views))
        frames = {name: frame for result in made.values() for name, frame in result.planned.frames.items()}
        snapshots = _snapshots_read(statement, pins) | _snapshots_called(statement, made)
        return Result(self._database, replace(planned, frames={**planned.frames, **frames}), snapshots)

    @cached_property
    def _arguments(self) -> list[str]:
        """What `bars` takes in SQL."""
        return list(signature(self.bars).parameters)

    def _called(self, call: Call, when: When) -> Result:
        """The bars that a call asks for, at the statement's state where it names none."""
        words = dict(call.words)
        if "symbol" not in words:
            raise SqlRefused("bars is given no symbol", "Write it like bars('BHP', '1m'), or bars(NULL, '1d') for all")
        if "as_of" not in words and "known_at" not in words:
            words |= when.words
        return self.bars(**words)  # type: ignore[arg-type]  # it checks them

    def symbols(self, as_of: AsOfLike = None, known_at: Moment = None, clock: str = "ingest") -> Result:
        """Every instrument: symbol, venue, trades and quotes (rows as received), first_session, last_session, first
        and last (ts_event, UTC).
        """
        when = parse_when(as_of, known_at, clock)
        return self._of_catalogue(metadata.SYMBOLS, metadata.SYMBOL_COLUMNS, when)

    def sessions(self, as_of: AsOfLike = None, known_at: Moment = None, clock: str = "ingest") -> Result:
        """Every session: session, venue, trades and quotes (rows as received), symbols, first and last (ts_event)."""
        when = parse_when(as_of, known_at, clock)
        return self._of_catalogue(metadata.SESSIONS, metadata.SESSION_COLUMNS, when)

    def stats(self, as_of: AsOfLike = None) -> Result:
        """Every table: table, rows, bytes, files, symbols, first, last (ts_event), snapshot_id, snapshots (how many
        are kept).
        """
        when = parse_when(as_of)
        pins = [pinned for name in TABLES if (pinned := when.pin_or_none(self.lake, name)) is not None]
        planned = metadata.stats(pins or [when.pin(self.lake, "trades")], self._catalogue)
        return Result(self._database, planned, _snapshots(pins), list(metadata.STATS_COLUMNS))

    def diff(self, table: str, a: AsOfLike, b: AsOfLike = None) -> Diff:
        """What is in a table at `b` (None: now) that is not so at `a`, and the other way round; see `Diff`."""
        before, after = (Pinned(self.lake, table, self.lake.resolve(table, parse_as_of(state))) for state in (a, b))
        return Diff(self._database, before, after, self._bars_of)

    def _bars_of(self, pinned: Pinned, selection: Selection, interval: Interval, of: str, eligible: str) -> Query:
        """The statement of bars of a selection."""
        spec = BarSpec(interval, of, bar_columns(of, None), eligible)
        return self._bar_engine.plan(pinned, selection, spec).query()

    def _of_catalogue(self, text: str, columns: Sequence[str], when: When) -> Result:
        pins = [when.pin_or_empty(self.lake, name) for name in ("trades", "quotes")]
        if all(pinned.snapshot_id is None for pinned in pins):
            when.base(self.lake, "trades")
        frames = {f"k2_{pinned.name}": partial(self._catalogue.entries, pinned) for pinned in pins}
        planned = Query(metadata.over(text, frames.keys()), frames=frames)
        return Result(self._database, planned, _snapshots(pins), list(columns))

    def _pins(self, statement: Statement, when: When) -> dict[str, Pinned]:
        """The pinned table behind each name that the statement reads."""
        travels = {found.relation.lower(): found for found in statement.travels}
        pins = {}
        made = {call.relation for call in statement.calls}
        for name in (name for name in statement.relations if name not in made):
            own = travels.get(name)
            pins[name] = When(own.as_of).pin(self.lake, own.table) if own else when.pin(self.lake, NAMES[name])
        return pins

    def _selected(self, table: str, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> _Wanted:
        """The pinned table, and which of its rows are asked for.

        Symbols are looked up in the state that is read: one that was not known yet has no rows, and is no error.
        """
        symbols, venue = parse_symbols(symbol), parse_venue(venue)
        pinned = when.pin(self.lake, table)
        if symbols is None:
            return _Wanted(pinned, Selection(wanted, None, venue), when)
        base = pinned if when.known_at is None else when.base(self.lake, table)
        elsewhere = partial(self._others, table, when)
        found = (Instrument(name, self._catalogue.venue(base, name, venue, elsewhere)) for name in symbols)
        return _Wanted(pinned, Selection(wanted, tuple(found), venue), when)

    def _others(self, table: str, when: When) -> list[Pinned]:
        """The other event tables: a symbol may have quotes and no trades."""
        pins = (when.base_or_none(self.lake, kind) for kind in KINDS if kind != table)
        return [pinned for pinned in pins if pinned is not None]

    def _events(self, wanted: _Wanted, raw: bool, limit: int | None, columns: Sequence[str] | None) -> Result:
        pinned, selection = wanted.pinned, wanted.selection
        known, most = TABLES[pinned.name].names, parse_limit(limit)
        names = known if columns is None else parse_columns(columns, known)
        values, scan = Values(), selection.scan(pinned)
        conditions = selection.conditions(values)
        if most is not None and pinned.known is None and selection.whole_files and (raw or not scan.undoing):
            scan = Scan(pinned, leading(scan.files, most), scan.undoing)
        order = order_by(scan.files, self._catalogue.bounds(scan.files), selection.one_instrument)
        text = f"SELECT {', '.join(names)} FROM {scan.of(*names).relation(raw, values.bind)}"
        text += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        text += f" ORDER BY {order}"
        text += f" LIMIT {values.bind(most)}" if most is not None else ""
        snapshots = {pinned.name: pinned.snapshot_id}
        return Result(self._database, query(text, values, scan), snapshots, list(names), self._zone(selection, scan))

    def _zone(self, selection: Selection, scan: Scan) -> str | None:
        """The zone of the one venue that the rows are of, for displays; None where there are several or none."""
        codes = venues_of(selection, scan)
        known = declared_venues(self.lake.settings.home)
        return known[codes[0]].zone if codes is not None and len(codes) == 1 and codes[0] in known else None

    def _without_trades(self, wanted: _Wanted, day: date, eligible: str) -> Summary:
        """The summary of a session in which no trade counts: how many quotes there are."""
        assert wanted.selection.instruments is not None  # noqa: S101 - a summary is of one instrument
        of = wanted.selection.instruments[0]
        count = None
        if (quotes := wanted.when.pin_or_none(self.lake, "quotes")) is not None:
            values, scan = Values(), wanted.selection.scan(quotes)
            where = " AND ".join(wanted.selection.conditions(values))
            text = f"SELECT count(*) AS n FROM {scan.of().relation(True, values.bind)} WHERE {where}"
            count = self._database.arrow(query(text, values, scan))["n"][0].as_py()
        name = policy(of.venue, eligible, self.lake.settings.home).name
        pin = wanted.pinned.snapshot_id
        return Summary(of.symbol, of.venue, day, eligible=name, snapshot_id=pin, quote_count=count)


@dataclass(frozen=True)
class _Wanted:
    """A pinned table, the rows of it that are asked for, and when it was pinned at."""

    pinned: Pinned
    selection: Selection
    when: When


def _fitting(interval: Interval, of: str) -> Interval:
    """The interval, where what bars are `of` has it."""
    if of != "trades" and interval.kind in {"volume", "dollar"}:
        raise InvalidParameter(
            "interval", interval.text, f"counts what {of} has not", "Use tick: or a time with quotes"
        )
    return interval


def _snapshots(pins: Iterable[Pinned]) -> dict[str, int | None]:
    return {pinned.name: pinned.snapshot_id for pinned in pins}


def _snapshots_read(statement: Statement, pins: Mapping[str, Pinned]) -> dict[str, int | None]:
    """The snapshot of each table; a table with its own clause is named with it, as `trades AS OF eod`."""
    labels = {found.relation.lower(): f"{found.table} AS OF {found.as_of}" for found in statement.travels}
    return {labels.get(name, pinned.name): pinned.snapshot_id for name, pinned in pins.items()}


def _snapshots_called(statement: Statement, made: Mapping[str, Result]) -> dict[str, int | None]:
    """The snapshots that bars are of; with a state of their own they are named with it."""
    found: dict[str, int | None] = {}
    for call in statement.calls:
        own = f" AS OF {call.words['as_of']}" if call.words.get("as_of") is not None else ""
        found |= {f"{table}{own}": pin for table, pin in made[call.relation].snapshots.items()}
    return found
