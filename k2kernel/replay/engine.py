"""`ReplayEngine`: pins, plans and resumes replays of a lake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from k2kernel.cached import cached_property
from k2kernel.errors import (
    AmbiguousSymbol,
    ExpiredReference,
    InvalidParameter,
    InvalidPosition,
    UnknownReference,
    UnknownSymbol,
    counted,
    listed,
    one_of,
)
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Database
from k2kernel.query.engine import QueryEngine
from k2kernel.query.hours import parse_hours
from k2kernel.query.position import Position, Since, digest_of
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Instrument, Selection, parse_symbols, parse_venue
from k2kernel.query.when import Moment, When, parse_when
from k2kernel.query.within import within
from k2kernel.replay.controls import GAPS
from k2kernel.replay.footers import Footers
from k2kernel.replay.how import How, parse_speed
from k2kernel.replay.pacing import Clock, SystemClock
from k2kernel.replay.plan import CLOCKS, Plan
from k2kernel.replay.replay import Replay
from k2kernel.schemas import KINDS
from k2kernel.times import AsOf, AsOfLike, Range, parse_as_of, parse_range
from k2kernel.words import parse_limit

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.lake import Lake, Snapshot
    from k2kernel.query import Result

TIES = ("quotes_first", "trades_first")

Symbols = str | Sequence[str] | None


class ReplayEngine:
    """Replays of a lake, with a DuckDB of their own that keeps to `settings.replay_memory`."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        settings = lake.settings.model_copy(update={"memory_limit": lake.settings.replay_memory})
        self._database = Database(settings, lambda path: lake.maintenance.expired(path))  # noqa: PLW0108 - loaded when it is needed
        self._catalogue = Catalogue(self._database)
        self._footers = Footers(self._database)

    @cached_property
    def _engine(self) -> QueryEngine:
        return QueryEngine(self.lake)

    def close(self) -> None:
        """Let go of DuckDB; the next replay opens it again."""
        self._database.close()
        self._engine.close()

    def replay(
        self,
        symbols: Symbols = None,
        kinds: Sequence[str] = ("trades", "quotes"),
        *,
        start: object = None,
        end: object = None,
        session: object = None,
        venue: str | None = None,
        as_of: AsOfLike = None,
        known_at: Moment = None,
        clock: str = "ingest",
        raw: bool = False,
        hours: str = "all",
        speed: float = 0,
        order_by: str = "ts_event",
        ties: str = "quotes_first",
        batch_rows: int = 65_536,
        limit: int | None = None,
        position: str | None = None,
        digest: bool = False,
        gaps: str | None = None,
        pace_clock: Clock | None = None,
        expected: bool = False,
    ) -> Replay:
        """The events of `symbols` (None: all) in one order, of the tables `kinds` as they stand at `as_of`.

        The order is (ns, kind, venue, symbol, sequence, source, source_offset), where ns is `order_by`: the event's
        instant, or with ts_recv that of its capture (rows without one are an error). At equal ns quotes come before
        trades, so that a trade sees the quote of its own instant, unless `ties` is trades_first. `start`, `end` and
        `session` choose by event time, whatever the order, with the meaning that they have in `trades`; so do `raw` and
        `hours`.

        `as_of` is resolved once for each table, as in every read; a mapping, such as the `snapshots` of another
        replay, names a state for each. `known_at` and `clock` keep, as in every read, what was known then. `position`
        is the token of an equal replay to go on from, at its snapshots. `speed` is 0 (unpaced) or a multiple of the
        pace of history, measured by `pace_clock` (default: this machine's). `gaps` says what sequence numbers count,
        for `gap` records: instrument or source. `digest` keeps a digest of what was delivered. `expected` allows
        symbols of a named `venue` that have no row yet.
        """
        how = How(
            parse_speed(speed), _rows(batch_rows), parse_limit(limit), digest, _gaps(gaps), pace_clock or SystemClock()
        )
        named = _kinds(kinds, one_of("ties", ties, TIES))
        words = parse_range(session, start, end)
        place = None if position is None else Position.decode(position)
        when = parse_when(as_of, known_at, clock)
        pins = self._pins(named, when) if place is None else self._pins_at(named, place, when)
        selection = self._selection(symbols, parse_venue(venue), words, pins, expected=expected)
        home = self.lake.settings.home
        selection = within(selection, list(pins.values()), parse_hours(hours), self._catalogue, home)
        plan = Plan(
            named,
            pins,
            selection,
            self._footers,
            raw,
            one_of("order_by", order_by, tuple(CLOCKS)),
            self.lake.settings.replay_slice_rows,
        )
        asked = _digest(plan, when)
        if place is not None and place.query != asked:
            raise InvalidPosition("is of another query", "Repeat the words of the replay that it came from")
        if order_by == "ts_recv":
            self._check_captured(plan)
        same = {"venue": venue, "session": session, "start": start, "end": end, "hours": hours}
        bars = _Bars(self._engine, plan, symbols, {**same, "known_at": known_at, "clock": clock})
        return Replay(self._database, plan, asked, Since() if place is None else place.since, how, bars)

    def cold_start(self, symbols: Symbols = None, **words: Any) -> Iterator[pa.RecordBatch]:
        """All events from the first one on, unpaced, as Arrow batches: `replay(...).batches()`, for a back-test."""
        return self.replay(symbols, **words).batches()

    def rewind_to(self, timestamp: object, table: str = "trades") -> Snapshot:
        """The snapshot of a table that was current at `timestamp` (with zone); its `id` is an `as_of`.

        UnknownReference, which names the nearest ones, where there was none yet or where it has expired.
        """
        at = parse_as_of(timestamp, "timestamp")  # type: ignore[arg-type]  # it refuses what is none
        if at is None or at.instant is None:
            raise InvalidParameter("timestamp", timestamp, "is no time", "Write it like 2014-03-10T10:00:00+11:00")
        wanted = self.lake.resolve(table, at)
        return next(found for found in self.lake.snapshots(table) if found.id == wanted)

    def list_snapshots(self, table: str = "trades") -> list[Snapshot]:
        """Every kept state of a table, newest first."""
        return self.lake.snapshots(table)

    def _pins(self, kinds: Sequence[str], when: When) -> dict[str, Pinned]:
        return {kind: self._pin(kind, when) for kind in kinds}

    def _pin(self, kind: str, when: When) -> Pinned:
        """The table, empty if it came later than the state. An id is of one table only."""
        try:
            return _read(when.pin_or_empty(self.lake, kind))
        except ExpiredReference:
            raise
        except UnknownReference as exc:
            known = f"{exc.known}; or leave {kind} out with kinds="
            raise UnknownReference(kind, when.as_of, known, exc.problem.partition(". It has")[0]) from exc

    def _pins_at(self, kinds: Sequence[str], place: Position, when: When) -> dict[str, Pinned]:
        """The tables at the snapshots of a position."""
        if set(place.snapshots) != set(kinds):
            raise InvalidPosition(f"is of {listed(sorted(place.snapshots))}", "Repeat the kinds of that replay")
        if when.as_of is not None:
            asked = {kind: pin.snapshot_id for kind, pin in self._pins(kinds, when).items()}
            if asked != dict(place.snapshots):
                raise InvalidPosition("is of other snapshots than as_of", "Leave as_of out: the position knows them")
        return {kind: self._pin_again(kind, place.snapshots[kind], when) for kind in kinds}

    def _pin_again(self, kind: str, snapshot_id: int | None, when: When) -> Pinned:
        if snapshot_id is None:
            return _read(Pinned(self.lake, kind, None))
        try:
            return _read(replace(when, as_of=AsOf(id=snapshot_id)).pin(self.lake, kind))
        except UnknownReference as exc:
            problem = f"the snapshot {snapshot_id} of {kind}, which the position is of, is no longer kept; begin again"
            raise ExpiredReference(kind, snapshot_id, exc.known, problem) from exc

    def _selection(
        self, symbols: Symbols, venue: str | None, words: Range, pins: Mapping[str, Pinned], *, expected: bool
    ) -> Selection:
        names, tables = parse_symbols(symbols), list(pins.values())
        if names is None:
            return Selection(words, None, venue)
        found = (self._instrument(name, venue, tables, expected=expected) for name in names)
        return Selection(words, tuple(found), venue)

    def _instrument(self, symbol: str, venue: str | None, pins: Sequence[Pinned], *, expected: bool) -> Instrument:
        """The one instrument that a symbol stands for in all tables together."""
        found = {code for pinned in pins for code in self._catalogue.venues(pinned, symbol)}
        matching = found if venue is None else found & {venue}
        if len(matching) > 1:
            raise AmbiguousSymbol(symbol, matching)
        if not matching and expected and venue is not None:
            return Instrument(symbol, venue)
        if not matching:
            code = self._catalogue.venue(pins[0], symbol, venue, lambda: pins[1:])  # raises, and names what is near
            raise UnknownSymbol(symbol, [code])
        return Instrument(symbol, matching.pop())

    def _check_captured(self, plan: Plan) -> None:
        """InvalidParameter where a row has no capture time; where footers do not prove it, rows are counted."""
        for kind in plan.kinds:
            scan = plan.selection.scan(plan.pins[kind])
            if all(footer.complete("ts_recv") for footer in self._footers.of(scan.files)):
                continue
            values = Values()
            where = " AND ".join(
                [*plan.selection.of(kind).conditions(values), "ts_recv IS NULL AND ts_recv_ns IS NULL"]
            )
            rows = Scan(scan.pinned, scan.files, scan.undoing, ("ts_recv", "ts_recv_ns", "conditions"))
            text = f"SELECT count(*) AS n FROM {rows.relation(plan.raw, values.bind)} WHERE {where}"
            if count := self._database.arrow(query(text, values, rows))["n"][0].as_py():
                problem = f"is missing in {counted(count, 'row')} of {kind}"
                raise InvalidParameter("order_by", "ts_recv", problem, "Use order_by='ts_event', or leave them out")


def _read(pinned: Pinned) -> Pinned:
    """The table with its files and columns known now, so that nothing that happens later can matter."""
    assert pinned.files is not None  # noqa: S101 - both are read here and kept
    assert pinned.fields  # noqa: S101
    return pinned


class _Bars:
    """The bars of a replay's selection and snapshot, by the read verb."""

    def __init__(self, engine: QueryEngine, plan: Plan, symbols: Symbols, words: Mapping[str, Any]) -> None:
        self._engine, self._plan, self._symbols, self._words = engine, plan, symbols, words

    def __call__(self, interval: str, of: str, eligible: str) -> Result | None:
        """Bars in order of their end; None where the snapshot has no such rows."""
        table = "trades" if of == "trades" else "quotes"
        pinned = self._plan.pins.get(table)
        if pinned is None:
            raise InvalidParameter("of", of, f"needs {table}, which are not replayed", f"Replay {table}, too")
        if pinned.snapshot_id is None:
            return None
        words = {**self._words, "as_of": AsOf(id=pinned.snapshot_id), "columns": "all", "by_close": True}
        try:
            return self._engine.bars(self._symbols, interval, of=of, eligible=eligible, **words)
        except UnknownSymbol:
            return None  # they have events of the other kind only


def _digest(plan: Plan, when: When) -> str:
    """The digest of what decides which events come and in which order, the snapshots apart."""
    chosen, words = plan.selection, plan.selection.range
    sessions = words.sessions
    return digest_of(
        {
            "kinds": plan.kinds,
            "instruments": None
            if chosen.instruments is None
            else sorted([item.symbol, item.venue] for item in chosen.instruments),
            "venue": chosen.venue,
            "sessions": None if sessions is None else [sessions.first.isoformat(), sessions.last.isoformat()],
            "start": _plain(words.start),
            "end": _plain(words.end),
            "raw": plan.raw,
            **({} if chosen.hours is None else {"hours": chosen.hours.word}),
            "order_by": plan.order_by,
            "known_at": None if when.known_at is None else [when.clock, when.known_at],
        }
    )


def _plain(bound: date | int | None) -> str | int | None:
    return bound.isoformat() if isinstance(bound, date) else bound


def _kinds(kinds: object, ties: str) -> tuple[str, ...]:
    """The kinds in the order in which they follow at one instant."""
    given = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(given, Sequence) or not given or not set(given) <= set(KINDS):
        raise InvalidParameter("kinds", kinds, "are no kinds of events", f"Use one or more of: {listed(KINDS)}")
    order = KINDS if ties == "quotes_first" else KINDS[::-1]
    return tuple(kind for kind in order if kind in given)


def _gaps(value: str | None) -> str | None:
    return None if value is None else one_of("gaps", value, GAPS)


def _rows(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise InvalidParameter("batch_rows", value, "is no number of rows", "Give a whole number from 1")
