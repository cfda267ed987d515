"""`QueryEngine`: the read verbs over a lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from k2kernel.calendars import venue as declared_venue
from k2kernel.calendars import venues as declared_venues
from k2kernel.eligibility import Policy, policy
from k2kernel.errors import InvalidParameter, listed
from k2kernel.query import metadata
from k2kernel.query.adjustment import RAW as AS_IT_IS
from k2kernel.query.adjustment import Adjuster, Adjustment
from k2kernel.query.bars import BAR_KEY, EVERY_QUOTE, QUOTE_COLUMNS, TRADE_COLUMNS, Bars, counting, parse_of
from k2kernel.query.buckets import SESSION, Interval, buckets, parse_interval
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.chosen import Chosen
from k2kernel.query.connection import Database, Query
from k2kernel.query.diff import Diff
from k2kernel.query.events import Events
from k2kernel.query.hours import parse_hours
from k2kernel.query.order import event_key
from k2kernel.query.pages import cut_by
from k2kernel.query.pushdown import push_down
from k2kernel.query.result import Result
from k2kernel.query.scan import Pinned, Scan, Values, as_view, query
from k2kernel.query.selection import Instrument, Selection, parse_limit, parse_symbols, parse_venue
from k2kernel.query.sql import NAMES, RAW, Statement, bound, conjuncts, named, read
from k2kernel.query.summary import Summary
from k2kernel.query.when import Moment, When, parse_when
from k2kernel.query.within import Wanted, span_us, sure_venues, venue_codes, within
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

    @property
    def database(self) -> Database:
        """The DuckDB that reads the warehouse."""
        return self._database

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
        hours: str = "all",
        limit: int | None = None,
        columns: Sequence[str] | None = None,
        adjustment: str = "raw",
        descending: bool = False,
    ) -> Result:
        """The fills that stand, or every row received where `raw`: all columns of the contract, in the total order.

        `hours` is `all`, `rth` (from the open to the close of the venue's session, breaks apart) or `rth+auctions` (the
        prints of auctions too: by their conditions, and in the venue's auction windows); the result's `notes` say what
        is unsure about them. `adjustment` split, dividend or all multiplies price and size by the factors of corporate
        actions (see `k2kernel.query.adjustment`): decimal(38, 12), and a last column says it. `limit` keeps the first
        rows of the order, or the last ones, latest first, where `descending`. AmbiguousSymbol where a symbol is on
        several venues and `venue` is not given; UnknownSymbol where neither trades nor quotes have it.
        """
        when = parse_when(as_of, known_at, clock)
        wanted = self._selected("trades", symbol, venue, parse_range(session, start, end), when)
        return self._events(self._within(wanted, hours), raw, limit, columns, adjustment, descending)

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
        hours: str = "all",
        limit: int | None = None,
        columns: Sequence[str] | None = None,
        descending: bool = False,
    ) -> Result:
        """The quotes, with the words of `trades`; `raw` changes nothing, because no quote is ever undone."""
        when = parse_when(as_of, known_at, clock)
        wanted = self._selected("quotes", symbol, venue, parse_range(session, start, end), when)
        return self._events(self._within(wanted, hours), raw, limit, columns, AS_IT_IS, descending)

    def bars(
        self,
        symbol: Symbols = None,
        interval: str = "1m",
        *,
        venue: str | None = None,
        session: object = None,
        start: object = None,
        end: object = None,
        of: str = "trades",
        eligible: str = "venue",
        hours: str = "all",
        adjustment: str = "raw",
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Result:
        """Bars of an interval such as `1m`, `1h`, `1d` or `session`, ordered by (ts_open, venue, symbol).

        Columns: symbol, venue, session, ts_open (UTC, the start of the bucket, which is half-open and aligned to the
        venue's session clock), open, high, low, close, volume, notional, vwap, n_trades, first_sequence,
        last_sequence, eligible (the policy that said which trades count). Open and close are first and last in the
        total order. Without a trade that counts there is no bar; `hours` are those of `trades`. Bars `of` bid, ask or
        mid take their prices from quotes, have null in the columns about trades, and n_quotes at the end; mid has nine
        decimals.
        """
        parsed, of = parse_interval(interval), parse_of(of)
        table = "trades" if of == "trades" else "quotes"
        when = parse_when(as_of, known_at, clock)
        wanted = self._selected(table, symbol, venue, parse_range(session, start, end), when)
        wanted = self._within(wanted, hours)
        names = TRADE_COLUMNS if of == "trades" else QUOTE_COLUMNS
        planned, zone = self._bars(wanted, parsed, of, eligible)
        by = self._adjustment(adjustment, wanted)
        planned, cut = (made := by.bars(planned, parsed, of)), cut_by(made, BAR_KEY)
        return Result(self._database, planned, by.snapshots, by.columns(names), zone, cut=cut, **wanted.within)

    def summary(
        self,
        symbol: str,
        session: object,
        *,
        venue: str | None = None,
        eligible: str = "venue",
        hours: str = "all",
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
    ) -> Summary:
        """One session of one instrument within `hours`, as in `trades`; without trades in it the record has null prices
        and counts the quotes.
        """
        day = parse_sessions(session)
        if day.first != day.last:
            raise InvalidParameter("session", session, "is more than one session", "Use bars with interval='session'")
        if not isinstance(symbol, str):
            raise InvalidParameter("symbol", symbol, "is not one symbol", 'Write it like "BHP"')
        wanted = self._selected("trades", symbol, venue, Range(day), parse_when(as_of, known_at, clock))
        wanted = self._within(wanted, hours)
        planned, _ = self._bars(wanted, Interval(SESSION), "trades", eligible, times=True)
        found = self._database.arrow(planned).to_pylist()
        said = {**wanted.within, "unknown_conditions": self._unknown_conditions(wanted, day.first, eligible)}
        if found:
            return Summary.of(found[0], wanted.pinned.snapshot_id, **said)
        return self._without_trades(wanted, day.first, eligible, said)

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
        statement = read(self._database, text, given)
        values = bound(statement, given)
        pins = self._pins(statement, parse_when(as_of, known_at, clock))
        wanted = push_down(conjuncts(statement), values)
        scans = {name: wanted.scan(pinned) for name, pinned in pins.items()}
        views = tuple(as_view(name, scan, name.partition("@")[0] == RAW) for name, scan in scans.items())
        planned = replace(query(statement.text, Values(), *scans.values()), values=values, views=views)
        return Result(self._database, planned, _snapshots_read(statement, pins))

    def symbols(self, as_of: AsOfLike = None, known_at: Moment = None, clock: str = "ingest") -> Result:
        """Every instrument: symbol, venue, trades and quotes (rows as received), first_session, last_session, first
        and last (ts_event, UTC).
        """
        when = parse_when(as_of, known_at, clock)
        return self._of_catalogue(metadata.SYMBOLS, metadata.SYMBOL_COLUMNS, when, metadata.SYMBOL_KEY)

    def sessions(self, as_of: AsOfLike = None, known_at: Moment = None, clock: str = "ingest") -> Result:
        """Every session: session, venue, trades and quotes (rows as received), symbols, first and last (ts_event)."""
        when = parse_when(as_of, known_at, clock)
        return self._of_catalogue(metadata.SESSIONS, metadata.SESSION_COLUMNS, when, metadata.SESSION_KEY)

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
        return self._bars(Wanted(pinned, selection, When()), interval, of, eligible)[0]

    def _of_catalogue(self, text: str, columns: Sequence[str], when: When, key: Sequence[str]) -> Result:
        pins = [when.pin_or_empty(self.lake, name) for name in ("trades", "quotes")]
        if all(pinned.snapshot_id is None for pinned in pins):
            when.base(self.lake, "trades")
        frames = {f"k2_{pinned.name}": partial(self._catalogue.entries, pinned) for pinned in pins}
        planned = Query(metadata.over(text, frames.keys()), frames=frames)
        return Result(self._database, planned, _snapshots(pins), list(columns), cut=cut_by(planned, key))

    def _pins(self, statement: Statement, when: When) -> dict[str, Pinned]:
        """The pinned table behind each name that the statement reads."""
        travels = {found.relation.lower(): found for found in statement.travels}
        pins = {}
        for name in statement.relations:
            own = travels.get(name)
            pins[name] = When(own.as_of).pin(self.lake, own.table) if own else when.pin(self.lake, NAMES[name])
        return pins

    def chosen(self, table: str, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> Chosen:
        """The rows that are asked for, for statements of other parts; none where the table has no such state."""
        if self.lake.state(table, when.as_of) is None:
            return Chosen(Pinned(self.lake, table, None), Selection(wanted), self._database, ())
        found = self._selected(table, symbol, venue, wanted, when)
        scan = found.selection.scan(found.pinned)
        codes = venue_codes(found.selection, scan, self._catalogue) if table in KINDS else ()
        return Chosen(found.pinned, found.selection, self._database, tuple(codes))

    def _selected(self, table: str, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> Wanted:
        """The pinned table, and which of its rows are asked for.

        Symbols are looked up in the state that is read: one that was not known yet has no rows, and is no error.
        """
        symbols, venue = parse_symbols(symbol), parse_venue(venue)
        pinned = when.pin(self.lake, table)
        if symbols is None:
            return Wanted(pinned, Selection(wanted, None, venue), when)
        base = pinned if when.known_at is None else when.base(self.lake, table)
        elsewhere = partial(self._others, table, when)
        found = (Instrument(name, self._catalogue.venue(base, name, venue, elsewhere)) for name in symbols)
        return Wanted(pinned, Selection(wanted, tuple(found), venue), when)

    def _within(self, wanted: Wanted, hours: str) -> Wanted:
        """The rows within hours of trading."""
        home = self.lake.settings.home
        found = within(wanted.selection, [wanted.pinned], parse_hours(hours), self._catalogue, home)
        return replace(wanted, selection=found.of(wanted.pinned.name))

    def _others(self, table: str, when: When) -> list[Pinned]:
        """The other event tables: a symbol may have quotes and no trades."""
        pins = (when.base_or_none(self.lake, kind) for kind in KINDS if kind != table)
        return [pinned for pinned in pins if pinned is not None]

    def _adjustment(self, kind: str, wanted: Wanted) -> Adjustment:
        adjuster = Adjuster(self._database, self._catalogue, self._bars_of)
        return adjuster.plan(kind, wanted.pinned, wanted.selection, wanted.when)

    def _events(  # noqa: PLR0917 - the words of a read
        self,
        wanted: Wanted,
        raw: bool,
        limit: int | None,
        columns: Sequence[str] | None,
        adjustment: str,
        descending: bool,
    ) -> Result:
        names, by = _columns(wanted.pinned.name, columns), self._adjustment(adjustment, wanted)
        read = Events(wanted.pinned, wanted.selection, raw, names, by, descending, self._catalogue)
        planned, zone = read.query(parse_limit(limit)), self._zone(wanted.selection, read.scan)
        cut = None if limit is not None else partial(read.query, keyed=True)
        return Result(self._database, planned, by.snapshots, by.columns(names), zone, cut=cut, **wanted.within)

    def _zone(self, selection: Selection, scan: Scan) -> str | None:
        """The zone of the one venue that the rows are of, for displays; None where there are several or none."""
        codes = sure_venues(selection, scan)
        known = declared_venues(self.lake.settings.home)
        return known[codes[0]].zone if codes is not None and len(codes) == 1 and codes[0] in known else None

    def _bars(
        self, wanted: Wanted, interval: Interval, of: str, eligible: str, *, times: bool = False
    ) -> tuple[Query, str | None]:
        """The statement of bars, and the zone to show them in."""
        values, selection, scan = Values(), wanted.selection, wanted.selection.scan(wanted.pinned)
        codes = venue_codes(selection, scan, self._catalogue)
        declared = [declared_venue(code, self.lake.settings.home) for code in codes]
        planned = Bars(
            of,
            interval,
            buckets(interval, declared, span_us(scan)),
            event_key(scan.files, self._catalogue.bounds(scan.files), interval.within_session),
            counting(self.policies(codes, eligible), values) if of == "trades" else EVERY_QUOTE,
            times,
            all(file.price_never_null for file in scan.files),
        )
        zones = {venue.zone for venue in declared}
        return query(planned.sql(scan, selection, values), values, scan), zones.pop() if len(zones) == 1 else None

    def policies(self, codes: Iterable[str], eligible: str) -> dict[str, Policy]:
        """The policy of each of the venues `codes` by the word `eligible`."""
        home = self.lake.settings.home
        return {code: policy(code, eligible, home) for code in codes} or {"": policy("", eligible, home)}

    def _unknown_conditions(self, wanted: Wanted, day: date, eligible: str) -> tuple[str, ...]:
        """The conditions of one instrument's trades in a session about which the policy says nothing."""
        known = policy(wanted.instrument.venue, eligible, self.lake.settings.home)
        if not known.rules:
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


def _columns(table: str, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns to output: all of the contract in order, or those asked for."""
    known = TABLES[table].names
    if columns is None:
        return known
    names = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"has no column {unknown[0]!r}" if unknown else "is empty or repeats a column"
        raise InvalidParameter("columns", columns, problem, f"Columns: {listed(known, most=40)}")
    return tuple(names)


def _snapshots(pins: Iterable[Pinned]) -> dict[str, int | None]:
    return {pinned.name: pinned.snapshot_id for pinned in pins}


def _snapshots_read(statement: Statement, pins: Mapping[str, Pinned]) -> dict[str, int | None]:
    """The snapshot of each table; a table with its own clause is named with it, as `trades AS OF eod`."""
    labels = {found.relation.lower(): f"{found.table} AS OF {found.as_of}" for found in statement.travels}
    return {labels.get(name, pinned.name): pinned.snapshot_id for name, pinned in pins.items()}
