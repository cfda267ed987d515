"""Topics into the lake, exactly once, in micro-batches; `deliver` is the protocol, this is the loop around it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from k2kernel.errors import CommitConflict, StreamFault, counted
from k2kernel.html import Spoken
from k2kernel.ingest.deliver import Batch, Delivered, Delivery, Parts
from k2kernel.ingest.messages import Read
from k2kernel.ingest.receipt import summed
from k2kernel.lake import Lake
from k2kernel.metrics import METRICS
from k2kernel.sources.brokers import Partition
from k2kernel.sources.kafka import KafkaSource
from k2kernel.wire import Registry, RegistryDown

_LOG = logging.getLogger("k2kernel.stream")
_WAIT_S = 0.2
_HOLD_S = 1.0
_CONFLICTS = 8
"""How often in a row a batch may find that its table has moved on."""

_SMALL = 50_000
"""Messages that a stop still commits; more are left to the next start, so that a stop takes about a second."""

_PARTS = 8
"""Parts of a full batch that are decoded while the next ones are fetched."""


class Bad(StrEnum):
    """What becomes of a message that is no row: `suspend` stops the stream before its batch, `skip` only counts it, and
    `dead_letter` keeps it, with its bytes, in the table of that name.
    """

    suspend = "suspend"
    skip = "skip"
    dead_letter = "dead_letter"


@dataclass(frozen=True)
class How:
    """When a batch is committed (whichever comes first: `rows`, `nbytes`, `seconds` since its first message), and what
    becomes of `bad` messages. `gaps` says what the sequence numbers count, where they are to be watched: the rows of
    each `instrument` of a partition, or of a whole partition (`source`).
    """

    rows: int = 500_000
    nbytes: int = 64 * 1024 * 1024
    seconds: float = 10.0
    bad: Bad = Bad.dead_letter
    gaps: str | None = None


@dataclass(frozen=True)
class Streamed(Spoken):
    """What a stream did: `messages` committed, of which `rows` by table, and `rejected`, in so many `batches`; the
    events of sequence numbers (`gaps`) by name; and how many messages the brokers held after the last one (`behind`).
    """

    messages: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    rejected: int = 0
    batches: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict)
    behind: int = 0

    def __str__(self) -> str:
        told = [f"{counted(rows, 'row')} into {table}" for table, rows in sorted(self.rows.items())]
        told += [f"{self.rejected:,} rejected"] if self.rejected else []
        told += [f"{counted(count, event)}" for event, count in sorted(self.gaps.items())]
        batches = f" in {counted(self.batches, 'batch')}: {', '.join(told)}" if self.batches else ""
        return f"{counted(self.messages, 'message')}{batches}; {self.behind:,} behind"

    def plus(self, messages: int, delivered: Delivered) -> Streamed:
        """With one more batch."""
        rows, gaps = summed(self.rows, delivered.rows), summed(self.gaps, delivered.gaps)
        rejected = self.rejected + delivered.rejected
        return Streamed(self.messages + messages, rows, rejected, self.batches + 1, gaps, self.behind)


class Stream:
    """Reads topics into their tables until it is stopped: `run` does it here, `start` in a thread. It runs once.

    `topics` (None: every `market.*` topic there is) are shared with the other members of `group`; without one, this
    stream reads all their partitions. It sets no signal handler.
    """

    def __init__(
        self,
        lake: Lake,
        bootstrap: str,
        registry_url: str,
        topics: Sequence[str] | None = None,
        *,
        group: str | None = None,
        how: How | None = None,
    ) -> None:
        self.how = how or How()
        self.done = Streamed()
        self._registry = Registry(registry_url)
        self._delivery = Delivery(lake, self._registry, self.how.bad is Bad.dead_letter, self.how.gaps)
        self._source = KafkaSource(bootstrap, topics, self._begin, self._lost, group=group)
        self._batch, self._flying = Batch(), Batch()
        self._flight: Future[Delivered] | None = None
        self._held_until, self._conflicts = 0.0, 0
        self._left: int | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._tell: Callable[[Streamed], object] | None = None
        self._ran = self._told = False
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else "running" if self._thread else "ready"
        state = "failed" if self._failure is not None else state
        return f"Stream({state}, {self.done})"

    @property
    def writer(self) -> str:
        """What commits of this stream say who made them."""
        return self._delivery.writer

    def start(self) -> Self:
        """Run in a thread; `stop` ends it and raises what went wrong there."""
        self._thread = threading.Thread(target=self._run_quietly, name="k2-stream", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> Streamed:
        """End the stream within about a second: a small batch is committed, a large one left to the next start."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self.done

    def _run_quietly(self) -> None:
        try:
            self.run()
        except BaseException as exc:  # noqa: BLE001 - `stop` raises it
            _LOG.error("ended: %s", exc)
            self._failure = exc

    def run(
        self,
        max_messages: int | None = None,
        *,
        until_end: bool = False,
        tell: Callable[[Streamed], object] | None = None,
    ) -> Streamed:
        """Read until stopped, until exactly `max_messages` are committed, or, with `until_end`, until everything is
        that the topics held when it began. Without `until_end`, topics and partitions that are made later are read,
        too, from their beginning, and where there is no topic yet the first is waited for. `tell` hears of where it
        begins, and of each batch.

        StreamFault where it cannot go on, or has run already; WriterFenced where another writer has taken a partition
        over.
        """
        if self._ran:
            raise StreamFault("stream", "has run already", "Open another one: it goes on where the tables end")
        self._ran, self._left, self._tell = True, max_messages, tell
        self._source.follows = not until_end
        with self._registry, self._source, ThreadPoolExecutor(2, thread_name_prefix="k2-deliver") as self._worker:
            while not self._ready_to_leave(until_end):
                self._take()
                if self._flight is not None and (self._flight.done() or self._full()):
                    self._land()
                if self._flight is None and self._due():
                    self._launch()
            self._measure()
        return self.done

    def _measure(self) -> None:
        """How far this is behind; it is told at the beginning, and where a batch was committed."""
        self.done = replace(self.done, behind=self._source.behind(self._delivery.next))
        METRICS.stream_lag.set(self.done.behind)

    def _ready_to_leave(self, until_end: bool) -> bool:
        """True where nothing more is to be read, and what was read is committed or left to the next start."""
        while self._finished(until_end):
            if self._flight is not None:
                self._land()
            elif self._batch.rows == 0 or (self._stopped.is_set() and self._gives_up()):
                return True
            elif time.monotonic() < self._held_until:
                self._source.fetch(1, _WAIT_S)
            else:
                self._launch()
        return False

    def _finished(self, until_end: bool) -> bool:
        """True where nothing more is to be read."""
        if self._stopped.is_set() or self._left == 0:
            return True
        return until_end and self._source.at_end(self._batch.ends, self._flying.ends, self._delivery.next)

    def _gives_up(self) -> bool:
        return self._batch.rows > _SMALL or self._held_until > 0

    def _full(self) -> bool:
        return self._batch.rows >= self.how.rows or self._batch.nbytes >= self.how.nbytes

    def _take(self) -> None:
        """Read what comes next, never more than is wanted."""
        # Rows that wait for a registry may be two batches; those who fetch nothing are soon no member of their group.
        most = max(1, self.how.rows - self._batch.rows)
        for at, run in self._source.fetch(most if self._left is None else min(most, self._left), _WAIT_S):
            if not self._batch.rows:
                self._batch.since = time.monotonic()
            self._batch.add(at, run)
            self._want(-len(run))
        if not self._held_until:
            self._batch.read_ahead(self._read, self.how.rows // _PARTS)
        METRICS.stream_buffered.set(self._batch.rows)
        METRICS.stream_held.set(bool(self._held_until))
        METRICS.stream_partitions.set(len(self._source.partitions))
        self._measure()
        if self._source.partitions and not self._told:
            self._say()

    def _say(self) -> None:
        self._told = True
        if self._tell is not None:
            self._tell(self.done)

    def _want(self, messages: int) -> None:
        if self._left is not None:
            self._left += messages

    def _due(self) -> bool:
        now = time.monotonic()
        if not self._batch.rows or now < self._held_until:
            return False
        return self._full() or now - self._batch.since >= self.how.seconds

    def _launch(self) -> None:
        """Deliver the batch in another thread, while the next one is read."""
        self._batch.read_ahead(self._read)
        self._flying, self._batch = self._batch, Batch()
        self._flight = self._worker.submit(self._deliver, self._flying)

    def _read(self, parts: Parts) -> Future[dict[str, Read]]:
        return self._worker.submit(self._delivery.read, parts)

    def _deliver(self, batch: Batch) -> Delivered:
        with METRICS.stream_seconds.time():
            found = batch.found()
            self._suspend(found)
            return self._delivery.commit(batch, found)

    def _land(self) -> None:
        """Wait for the batch under way: it is committed, to be tried again, or void because its table has moved on."""
        flight, self._flight = self._flight, None
        batch, self._flying = self._flying, Batch()
        if flight is None:
            return
        try:
            delivered = flight.result()
        except RegistryDown as exc:
            self._hold(exc, batch)
        except CommitConflict as exc:
            self._go_back(exc, batch)
        else:
            self._release()
            self._conflicts = 0
            self.done = self.done.plus(batch.rows, delivered)
            _count(batch, delivered)
            self._measure()
            self._source.acknowledge(batch.ends)
            self._say()

    def _suspend(self, found: Mapping[str, Read]) -> None:
        for each in found.values() if self.how.bad is Bad.suspend else ():
            for row in each.rejected.head(1).iter_rows(named=True):
                where = f"{row['source']} at {row['source_offset']}"
                raise StreamFault(where, row["reason"], "Its batch was not committed; go on with skip or dead_letter")

    def _hold(self, exc: RegistryDown, batch: Batch) -> None:
        """Keep the batch, fetch no more, and try again shortly: a registry that is away says nothing about rows."""
        if not self._held_until:
            _LOG.warning("waiting: %s", exc)
            self._source.pause()
        self._held_until = time.monotonic() + _HOLD_S
        for at, runs in self._batch.parts.items():
            for run in runs:
                batch.add(at, run)
        batch.unread()
        self._batch = batch

    def _release(self) -> None:
        if self._held_until:
            _LOG.warning("going on: the schema registry answers again")
            self._source.resume()
        self._held_until = 0.0

    def _go_back(self, exc: CommitConflict, batch: Batch) -> None:
        """Forget what was read and read on from where the tables end."""
        self._conflicts += 1
        METRICS.stream_conflicts.inc()
        if self._conflicts > _CONFLICTS:
            raise exc
        _LOG.warning("going on from where the table ends: %s", exc)
        self._release()
        self._want(batch.rows + self._batch.rows)
        self._batch = Batch()
        self._source.seek(self._delivery.begin(list(self._source.partitions), {}, again=True))

    def _begin(self, partitions: Sequence[Partition]) -> dict[Partition, int | None]:
        self._land()
        return self._delivery.begin(partitions, self._source.topic_ids)

    def _lost(self, partitions: Sequence[Partition]) -> None:
        """Forget what was read of partitions that another member has now: it reads them from where the table ends."""
        self._land()
        for at in partitions:
            self._want(self._batch.drop(at))
            self._delivery.forget(at)


def _count(batch: Batch, delivered: Delivered) -> None:
    """A batch that was committed."""
    METRICS.stream_messages.inc(batch.rows)
    METRICS.stream_batch.observe(batch.rows)
    METRICS.stream_bytes.inc(batch.nbytes)
    METRICS.stream_letters.inc(delivered.rejected)
    METRICS.stream_last.set(time.time())
    if delivered.watermark is not None:
        METRICS.stream_watermark.set(delivered.watermark.timestamp())
    for table, rows in delivered.rows.items():
        METRICS.stream_rows.labels(table).inc(rows)
    for event, count in delivered.gaps.items():
        METRICS.stream_gaps.labels(event).inc(count)
