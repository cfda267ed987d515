"""`Replay`: one pinned stretch of history as an ordered, resumable, paced stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from k2kernel.errors import InvalidParameter
from k2kernel.metrics import METRICS
from k2kernel.query.intervals import parse_interval
from k2kernel.query.position import Position, Since
from k2kernel.replay.bars import BarFeed
from k2kernel.replay.chunk import Chunk, Whole, schema_of
from k2kernel.replay.controls import Jumps, Sessions
from k2kernel.replay.digest import Digest
from k2kernel.replay.events import Bar, Control, Event, Quote, Record, Trade
from k2kernel.replay.extras import Extras, MakeExtras, NoExtras
from k2kernel.replay.feed import Feed
from k2kernel.replay.how import How, Mark, Ran, ignore, parse_speed
from k2kernel.replay.pacing import Gate
from k2kernel.replay.plan import Plan
from k2kernel.replay.stream import chunks, cut
from k2kernel.times import parse_instant

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from k2kernel.query import Result
    from k2kernel.query.connection import Database
    from k2kernel.sinks import Sink

T = TypeVar("T", bound="Chunk | Whole")

_Piece = Iterator[tuple[int, Event]]

_BREATH = 256  # rows between two chances for other tasks of an event loop


class Replay:
    """Events in the total order, of one resolved snapshot a table, whatever is written meanwhile.

    Take them with `batches()`, iteration, `async for`, `records()`, `feed()`, `run()` or `publish()`: each goes on
    where the one before ended, one at a time. `pause`, `resume`, `step`, `seek` and `stop` may be called from any
    thread, and hold from the next event (of `batches`: the next batch) on. A stopped replay is over; an equal one with
    its `position` goes on.

    `state` is ready, running, paused, stopped, completed or failed.
    """

    def __init__(  # noqa: PLR0917 - the engine makes it
        self,
        database: Database,
        plan: Plan,
        query: str,
        since: Since,
        how: How,
        bars: Callable[[str, str, str], Result | None],
    ) -> None:
        self._database, self.plan, self._query, self._how, self._bars = database, plan, query, how, bars
        self._resumed = since.ns is not None
        self._gate = Gate(how.speed, how.clock)
        self._mark = Mark(since)
        self._digest = Digest() if how.digest else None
        self._state, self._counted = "ready", 0

    def __repr__(self) -> str:
        return f"Replay({self.state}, {self.events} events, {dict(self.snapshots)})"

    @property
    def state(self) -> str:
        """ready, running, paused, stopped, completed or failed."""
        return "paused" if self._gate.paused and self._state in {"ready", "running"} else self._state

    @property
    def events(self) -> int:
        """Events delivered so far."""
        return self._counted + self._mark.upto - self._mark.start

    @property
    def snapshots(self) -> Mapping[str, int | None]:
        """The snapshot of each table that is replayed; None where a table has none yet."""
        return {name: self.plan.pins[name].snapshot_id for name in self.plan.kinds}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unsure about the hours of trading, a sentence each."""
        return () if self.plan.selection.hours is None else self.plan.selection.hours.notes

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches: `kind` (trades or quotes), the columns of trades, those that only quotes have."""
        return schema_of(self.plan.kinds)

    @property
    def position(self) -> str:
        """The token of the place after the last event delivered: `position=` of an equal replay goes on from it."""
        return self._token(self._mark)

    @property
    def digest(self) -> str | None:
        """The digest of the events that this replay delivered; None where it was not asked for, or a seek broke it."""
        self._settle()
        return None if self._digest is None else self._digest.hexdigest()

    @property
    def speed(self) -> float:
        """Times the pace at which the events happened; 0: as fast as they can be read."""
        return self._gate.speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._gate.change(parse_speed(value))

    def pause(self) -> None:
        """Hold the stream before its next event."""
        self._gate.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._gate.resume()

    def step(self, events: int = 1) -> None:
        """Let so many events pass, and be paused then."""
        if events < 1:
            raise InvalidParameter("events", events, "is no number of events", "Give a number from 1")
        self._gate.step(events)

    def seek(self, time: object) -> None:
        """Go to the first event at or after `time` (with zone; on the clock that orders the replay), back or ahead."""
        instant = parse_instant(time, "time")
        if self._state == "running":
            self._gate.seek(instant)
        else:
            self._jump(instant)
            self._state = "ready"

    def stop(self) -> None:
        """End the stream for good; `position` says where."""
        self._gate.stop()
        if self._state in {"ready", "running"}:
            self._state = "stopped"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events as Arrow batches of `batch_rows`, the last one shorter. Paced, a batch holds what is due."""

        def sized(found: Iterable[Chunk]) -> Iterator[Whole]:
            return cut(found, self._how.batch_rows, self.plan.kinds)

        for whole, at, upto in self._admitted(sized):
            self._mark.upto = upto
            yield whole.batch if upto - at == len(whole) else whole.batch.slice(at, upto - at)

    def marked(self) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
        """As `batches`, each with the token of the place after each of its events."""
        for batch in self.batches():
            mark = self._mark
            yield (
                batch,
                [self._token(replace(mark, upto=at)) for at in range(mark.upto - len(batch) + 1, mark.upto + 1)],
            )

    def __iter__(self) -> Iterator[Event]:
        return self._records(lambda: NoExtras)  # type: ignore[return-value]  # without extras there are only events

    async def __aiter__(self) -> AsyncIterator[Event]:
        pieces = self._pieces()
        try:
            while (piece := await self._in_thread(pieces)) is not None:
                for at, row in piece:
                    self._mark.upto = at
                    yield row
                    if at % _BREATH == 0:
                        await asyncio.sleep(0)
                    if self._gate.interrupted:
                        break
        finally:
            pieces.close()

    def _pieces(self) -> Generator[_Piece, None, None]:
        """The rows that may pass together, each with the mark to set when it was delivered."""
        current: Chunk | None = None
        rows: Iterator[Event] = iter(())
        for chunk, start, upto in self._admitted(lambda found: found):
            if chunk is not current:
                current, rows = chunk, chunk.rows()
            yield zip(range(start + 1, upto + 1), rows, strict=False)

    async def _in_thread(self, pieces: Generator[_Piece, None, None]) -> _Piece | None:
        """The next piece, waited for in a thread. A task that is cancelled meanwhile stops the replay."""
        waiting = asyncio.get_running_loop().run_in_executor(None, next, pieces, None)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([waiting])
            raise

    def records(self) -> Generator[Record, None, None]:
        """The events with the control records between them, `replay_completed` at the end."""
        return self._records(self._controls)

    def feed(self, capacity: int = 1_024, slow: str = "block") -> Feed:
        """The records through a queue of `capacity` events that a thread fills at the replay's pace: see `Feed`."""
        marked = ((record, replace(self._mark)) for record in self.records())
        return Feed(marked, self._token, self._stop_running, capacity, slow)

    def run(
        self,
        on_trade: Callable[[Trade], object] | None = None,
        on_quote: Callable[[Quote], object] | None = None,
        on_bar: Callable[[Bar], object] | None = None,
        on_control: Callable[[Control], object] | None = None,
        on_end: Callable[[Ran], object] | None = None,
        *,
        interval: str = "1m",
        of: str = "trades",
        eligible: str = "venue",
    ) -> Ran:
        """Call back for each event in order, and `on_end` when there are no more or the replay was stopped.

        `on_bar` gets the bars of the pinned state, of any kind, the very ones that `bars` answers with `interval`, `of`
        and `eligible`, each before the first event at or after its end; a replay ordered by ts_recv has none. An
        event whose callback raises counts as not delivered.
        """
        given: dict[type, Any] = {Trade: on_trade, Quote: on_quote, Bar: on_bar, Control: on_control}
        handlers = {kind: handler or ignore for kind, handler in given.items()}
        bars = None if on_bar is None else lambda: self._bar_feed(interval, of, eligible)
        records = self._records(self._extras(on_control is not None, bars))
        record: Record | None = None
        try:
            for record in records:
                handlers[type(record)](record)
        except BaseException:
            if self._state != "failed":  # a handler raised, not the stream
                self._mark.upto -= isinstance(record, Trade | Quote)
            raise
        finally:
            records.close()
        ran = self.ran()
        (on_end or ignore)(ran)
        return ran

    def publish(self, sink: Sink | str | Path) -> Ran:
        """Write all events to a sink, or to a file that its suffix names: .ndjson, .jsonl or .parquet.

        A file takes its name when it is whole; a stopped replay leaves what it delivered.
        """
        from k2kernel.sinks import open_sink

        target = open_sink(sink, self.schema)
        try:
            for batch in self.batches():
                target.write(batch)
        except BaseException:
            target.discard()
            raise
        target.close()
        return self.ran()

    def ran(self) -> Ran:
        """What was delivered so far."""
        return Ran(self.events, self.digest, self.position, self.state)

    def _extras(self, controls: bool, bars: Callable[[], BarFeed | None] | None) -> MakeExtras:
        def make() -> Extras:
            made = self._controls() if controls else Extras(self.plan.order_by)
            made.bars = None if bars is None else bars()
            return made

        return make

    def _controls(self) -> Extras:
        jumps = None if self._how.gaps is None else Jumps(self._how.gaps)
        return Extras(self.plan.order_by, Sessions(self._resumed or self.events > 0), jumps)

    def _bar_feed(self, interval: str, of: str, eligible: str) -> BarFeed | None:
        if self.plan.order_by != "ts_event":
            problem = "orders a replay by capture, in which a bar is never known to be over"
            raise InvalidParameter("order_by", self.plan.order_by, problem, "Use order_by='ts_event' with on_bar")
        parse_interval(interval)
        found = self._bars(interval, of, eligible)
        return None if found is None else BarFeed(found, self._mark.place(self.plan.order_by).ns)

    def _records(self, make: MakeExtras) -> Generator[Record, None, None]:
        """The events, and what `make` places between them."""
        extras = make()
        current: Chunk | None = None
        due: deque[tuple[int, Record]] = deque()
        rows: Iterator[Event] = iter(())

        def restart() -> None:
            nonlocal extras
            extras = make()

        for chunk, start, upto in self._admitted(lambda found: found, restart):
            if chunk is not current:
                current, rows, due = chunk, chunk.rows(), extras.before(chunk)
            yield from self._piece(rows, start, upto, due)
        if self._state == "completed":
            pins = {name: None if pin is None else str(pin) for name, pin in self.snapshots.items()}
            yield from extras.after({"events": self.events, "digest": self.digest, "snapshots": pins})

    def _piece(
        self, rows: Iterator[Event], start: int, upto: int, due: deque[tuple[int, Record]]
    ) -> Generator[Record, None, None]:
        """Some rows and what is due before each, until the gate wants to be asked again."""
        mark, gate, at = self._mark, self._gate, start
        while at < upto:
            while due and due[0][0] <= at:
                yield due.popleft()[1]
            for row in islice(rows, (min(upto, due[0][0]) if due else upto) - at):
                at += 1
                mark.upto = at
                yield row
                if gate.interrupted:
                    return

    def _admitted(
        self, shape: Callable[[Iterable[Chunk]], Iterable[T]], on_jump: Callable[[], None] | None = None
    ) -> Generator[tuple[T, int, int], None, None]:
        """(chunk, first, end) of the events that may pass, as the gate lets them; who takes them moves the mark."""
        if self._state == "running":
            raise InvalidParameter("replay", repr(self), "is being read already", "Make another one")
        if self._state != "ready":
            return
        self._state = "running"
        METRICS.replays_running.inc()
        try:
            while True:
                found = chunks(self._database, self.plan, self._mark.place(self.plan.order_by))
                try:
                    yield from self._through(shape(found))
                finally:
                    self._settle()
                    found.close()
                if (wanted := self._gate.take_seek()) is None:
                    break
                self._jump(wanted)
                if on_jump is not None:
                    on_jump()
            self._finish()
        except GeneratorExit:
            raise
        except BaseException:
            self._state = "failed"
            raise
        finally:
            self._state = "ready" if self._state == "running" else self._state
            METRICS.replays_running.dec()
            METRICS.replays.labels(self._state).inc()

    def _through(self, shaped: Iterable[T]) -> Generator[tuple[T, int, int], None, None]:
        """The pieces of chunks, until the gate or the limit ends them."""
        for chunk in shaped:
            at, times = 0, None
            self._settle()
            self._mark = self._mark.before(chunk)
            while at < len(chunk):
                if self._gate.speed and times is None:
                    times = chunk.times(self.plan.order_by)
                most = len(chunk) if self._how.limit is None else min(len(chunk), at + self._how.limit - self.events)
                upto = self._gate.admit(times, at, most) if most > at else at
                if upto == at:
                    return
                yield chunk, at, upto
                at = self._mark.upto

    def _finish(self) -> None:
        """Say how the stream ended, if it was not stopped: at its end, or at the limit."""
        if self._state == "running":
            limited = self._how.limit is not None and self.events >= self._how.limit
            self._state = "stopped" if limited else "completed"

    def _settle(self) -> None:
        """Count what was delivered, and take it into the digest."""
        mark = self._mark
        if mark.chunk is not None and mark.upto > mark.start:
            if self._digest is not None:
                self._digest.update(mark.chunk.batch.slice(mark.start, mark.upto - mark.start))
            self._counted += mark.upto - mark.start
            METRICS.replay_events.inc(mark.upto - mark.start)
            mark.start = mark.upto

    def _jump(self, instant: int) -> None:
        self._settle()
        self._mark, self._resumed, self._digest = Mark(Since(instant)), True, None

    def _stop_running(self) -> None:
        """Stop a stream that is under way; one that is over stays as it is."""
        if self._state == "running":
            self.stop()

    def _token(self, mark: Mark) -> str:
        return Position(self._query, self.snapshots, mark.place(self.plan.order_by)).encode()
