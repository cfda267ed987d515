"""`QueryEngine`: the read verbs over a lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING

from k2kernel.cached import cached_property
from k2kernel.calendars import venues as declared_venues
from k2kernel.errors import SqlRefused, one_of
from k2kernel.query import metadata
from k2kernel.query.adjustment import RAW as AS_IT_IS
from k2kernel.query.bar_reads import BarReads
from k2kernel.query.calls import Call
from k2kernel.query.connection import Query
from k2kernel.query.engines import ENGINES, DuckDB, Engine, Plan
from k2kernel.query.events import Events
from k2kernel.query.pages import cut_by
from k2kernel.query.pushdown import push_down
from k2kernel.query.reads import Symbols
from k2kernel.query.result import Result
from k2kernel.query.scan import Pinned
from k2kernel.query.selection import parse_columns
from k2kernel.query.sql import NAMES, Statement, bound, conjuncts, named, read
from k2kernel.query.when import Moment, When, parse_when
from k2kernel.query.within import Wanted, sure_venues, venues_of
from k2kernel.schemas import TABLES
from k2kernel.times import AsOfLike, parse_as_of, parse_range
from k2kernel.words import parse_limit

if TYPE_CHECKING:
    from k2kernel.query.diff import Diff


class QueryEngine(BarReads):
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

    def sql(  # noqa: PLR0917 - the state has always come by position
        self,
        text: str,
        params: Mapping[str, object] | Sequence[object] | None = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
        engine: str | None = None,
    ) -> Result:
        """One read-only statement over trades, trades_raw, quotes, instruments, corporate_actions, dead_letter and
        ingest_log, at `as_of` and `known_at` except where a table has its own FOR VERSION AS OF.

        `params` gives the values of `$names`. `engine` is `duckdb` or `spark` (None: of the settings); columns and
        rows are the same. SqlRefused says why a statement may not run; QueryError carries the engine's message when
        it fails.
        """
        given = named(params)
        statement = read(self._database, text, given, self._arguments)
        values, when = bound(statement, given), parse_when(as_of, known_at, clock)
        pins = self._pins(statement, when)
        terms = conjuncts(statement)
        scans = {name: push_down(terms.get(name, ()), values).scan(pinned) for name, pinned in pins.items()}
        made = {call.relation: self._called(call, when) for call in statement.calls}
        snapshots = _snapshots_read(statement, pins) | _snapshots_called(statement, made)
        zones = [*(bars.zone for bars in made.values()), *(self._zone(venues_of(scan)) for scan in scans.values())]
        zone = zones[0] if len(set(zones)) == 1 else None
        return self._runner(engine).result(Plan(statement, values, scans, made, snapshots, zone))

    def _runner(self, name: str | None) -> Engine:
        """The engine `name`, or the one of the settings."""
        wanted = one_of("engine", name or self.lake.settings.engine, ENGINES)
        return self._spark if wanted == "spark" else DuckDB(self._database)

    @cached_property
    def _spark(self) -> Engine:
        from k2kernel.query.spark import Spark

        return Spark(self.lake.settings, self._database)

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
        from k2kernel.query.diff import Diff

        before, after = (Pinned(self.lake, table, self.lake.resolve(table, parse_as_of(state))) for state in (a, b))
        return Diff(self._database, before, after, self._bars_of)

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
        made = {call.relation for call in statement.calls}
        for name in (name for name in statement.relations if name not in made):
            own = travels.get(name)
            pins[name] = When(own.as_of).pin(self.lake, own.table) if own else when.pin(self.lake, NAMES[name])
        return pins

    def _events(  # noqa: PLR0917 - the words of a read
        self,
        wanted: Wanted,
        raw: bool,
        limit: int | None,
        columns: Sequence[str] | None,
        adjustment: str,
        descending: bool,
    ) -> Result:
        known, by = TABLES[wanted.pinned.name].names, self._adjustment(adjustment, wanted)
        names = known if columns is None else parse_columns(columns, known)
        read = Events(wanted.pinned, wanted.selection, raw, names, by, descending, self._catalogue)
        planned, zone = read.query(parse_limit(limit)), self._zone(sure_venues(wanted.selection, read.scan))
        cut = None if limit is not None else partial(read.query, keyed=True)
        return Result(self._database, planned, by.snapshots, by.columns(names), zone, cut=cut, **wanted.within)

    def _zone(self, codes: Sequence[str] | None) -> str | None:
        """The zone of the one venue that the rows are of, for displays; None where there are several or none."""
        known = declared_venues(self.lake.settings.home)
        return known[codes[0]].zone if codes is not None and len(codes) == 1 and codes[0] in known else None


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
