"""The ordered events of a plan as chunks, read ahead by one thread, and cut to batches of a size."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from k2kernel.query.connection import Database
from k2kernel.query.scope import current_scope
from k2kernel.replay.chunk import ROWS, Chunk, Whole

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query.position import Since
    from k2kernel.replay.plan import Plan, Slice

_AHEAD = 2
"""Chunks that wait for the consumer."""

_POLL_S = 0.05

_AGAIN_S = 0.002
"""Between two interrupts: one that comes before a statement has begun is lost."""


def chunks(database: Database, plan: Plan, since: Since) -> Generator[Chunk, None, None]:
    """The events after `since` in order. Close the generator to end the thread that reads ahead."""
    ahead = _Ahead(database, plan, since)
    try:
        yield from ahead
    finally:
        ahead.close()


class _Ahead:
    """A thread that scans while the consumer works, at most `_AHEAD` chunks before it."""

    def __init__(self, database: Database, plan: Plan, since: Since) -> None:
        self._database, self._plan, self._since = database, plan, since
        self._ready: Queue[Chunk | Exception | None] = Queue(_AHEAD)
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._scope = current_scope()
        self._running: Any = None
        self._thread = threading.Thread(target=self._work, name="k2-replay", daemon=True)

    def __iter__(self) -> Iterator[Chunk]:
        atexit.register(self.close)  # DuckDB must not be at work when the interpreter goes
        self._thread.start()
        while (found := self._ready.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    def close(self) -> None:
        """End the thread, whatever it does, and wait for it."""
        atexit.unregister(self.close)
        self._closed.set()
        while self._thread.is_alive():
            self._interrupt()
            with suppress(Empty):
                self._ready.get_nowait()
            self._thread.join(_AGAIN_S)

    def _interrupt(self) -> None:
        with self._lock:
            if self._running is not None:
                self._running.interrupt()

    def _work(self) -> None:
        try:
            for part in self._plan.slices(self._since):
                for chunk in self._chunks(part):
                    if not self._put(chunk):
                        return
            self._put(None)
        except Exception as exc:  # noqa: BLE001 - the consumer raises it
            self._put(exc)

    def _put(self, item: Chunk | Exception | None) -> bool:
        """False where nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False

    def _chunks(self, part: Slice) -> Iterator[Chunk]:
        planned = part.query(self._since)
        with (
            self._database.translated(),
            self._database.cursor() as cursor,
            self._interruptible(cursor),
            self._scope.watching(cursor.interrupt),
        ):
            for name, frame in planned.frames.items():
                cursor.register(name, frame())
            relation = cursor.sql(planned.text, params=dict(planned.values) or None)
            for batch in relation.to_arrow_reader(ROWS):
                for at in range(0, batch.num_rows, ROWS):
                    yield Chunk(batch.slice(at, ROWS), part.layout)

    @contextmanager
    def _interruptible(self, cursor: Any) -> Iterator[None]:
        """Let `close` interrupt the cursor, as long as it is open."""
        self._running = cursor
        try:
            yield
        finally:
            with self._lock:
                self._running = None


def cut(found: Iterable[Chunk], rows: int, kinds: Sequence[str]) -> Iterator[Whole]:
    """The events in batches of `rows`, the last one as many as are left."""
    waiting: list[Any] = []
    held = 0
    for chunk in found:
        at = 0
        while held + len(chunk) - at >= rows:
            take = rows - held
            waiting.append(chunk.batch.slice(at, take))
            yield Whole(_joined(waiting), kinds)
            waiting, held, at = [], 0, at + take
        if at < len(chunk):
            waiting.append(chunk.batch.slice(at))
            held += len(chunk) - at
    if waiting:
        yield Whole(_joined(waiting), kinds)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    import pyarrow as pa

    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
