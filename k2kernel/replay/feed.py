"""A bounded queue between a replay and a consumer that may be slower: it waits, drops or fails, and says so."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Self

from k2kernel.errors import InvalidParameter, SlowConsumer, one_of
from k2kernel.replay.events import Bar, Control, Record

SLOW = ("block", "drop_oldest", "error")
"""What may happen when the queue is full."""

Marked = tuple[Record, Any]
"""A record, and the place in the replay that its consumer has reached with it."""


class Feed:
    """The records of a replay through a queue of `capacity` events, filled by a thread at the replay's pace.

    Iterate it (`for` or `async for`) once. When the queue is full: `block` holds the replay, `drop_oldest` takes out
    the oldest event, counts it in `dropped` and puts a `dropped` record where it was, and `error` ends the feed with
    SlowConsumer once what is queued was read. Bars and control records are never dropped.
    """

    def __init__(
        self,
        records: Generator[Marked, None, None],
        token: Callable[[Any], str],
        interrupt: Callable[[], None],
        capacity: int,
        slow: str,
    ) -> None:
        one_of("slow", slow, SLOW)
        if capacity < 1:
            raise InvalidParameter("capacity", capacity, "holds nothing", "Give a number from 1")
        self._records, self._token, self._interrupt = records, token, interrupt
        self._capacity, self._slow = capacity, slow
        self._queue: deque[Marked] = deque()
        self._changed = threading.Condition()
        self._held = 0
        self._mark: Any = None
        self._failed: Exception | None = None
        self._over = self._closed = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Events that the consumer did not get."""

    @property
    def position(self) -> str:
        """The token of the place after the last event that the consumer got."""
        return self._token(self._mark)

    def start(self) -> Self:
        """Begin to fill the queue; iterating does it too."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._fill, name="k2-feed", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop the replay and forget what is queued."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._interrupt()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        self.start()
        try:
            while (found := self._take(wait=True)) is not None:
                yield found
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[Record]:
        self.start()
        try:
            while not self._ended():
                found = self._take(wait=False)
                if found is None:
                    await asyncio.to_thread(self._await)
                else:
                    yield found
                    await asyncio.sleep(0)
        finally:
            await asyncio.to_thread(self.close)

    def _fill(self) -> None:
        try:
            for item in self._records:
                if not self._put(item):
                    break
        except Exception as exc:  # noqa: BLE001 - the consumer raises it
            self._failed = exc
        finally:
            self._records.close()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _put(self, item: Marked) -> bool:
        """Queue a record; False where the feed is over."""
        with self._changed:
            while self._full(item[0]) and not self._closed:
                if self._slow == "error":
                    self._failed = SlowConsumer(self._capacity)
                    return False
                if self._slow == "drop_oldest":
                    self._drop()
                else:
                    self._changed.wait()
            if not self._closed:
                self._queue.append(item)
                self._held += not _kept(item[0])
                self._changed.notify_all()
            return not self._closed

    def _full(self, record: Record) -> bool:
        return not _kept(record) and self._held >= self._capacity

    def _drop(self) -> None:
        """Take out the oldest event; what stood before it goes first, so the record of the loss is in its place."""
        at = next(number for number, (found, _) in enumerate(self._queue) if not _kept(found))
        record, mark = self._queue[at]
        self.dropped, self._held = self.dropped + 1, self._held - 1
        before = self._queue[at - 1] if at else None
        instant = record.ts_event_ns  # type: ignore[union-attr]  # it is a trade or a quote
        if before is not None and isinstance(before[0], Control) and before[0].name == "dropped":
            details = dict(before[0].details)
            details |= {"count": details["count"] + 1, "last_ns": instant}
            self._queue[at - 1] = (Control("dropped", instant, details=details), mark)
            del self._queue[at]
        else:
            details = {"count": 1, "first_ns": instant, "last_ns": instant}
            self._queue[at] = (Control("dropped", instant, details=details), mark)

    def _take(self, *, wait: bool) -> Record | None:
        """The next record; None where there is none (any more, with `wait`)."""
        with self._changed:
            while wait and not self._queue and not self._over and not self._closed:
                self._changed.wait()
            if self._queue:
                record, self._mark = self._queue.popleft()
                self._held -= not _kept(record)
                self._changed.notify_all()
                return record
            if self._over and self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            return None

    def _ended(self) -> bool:
        with self._changed:
            return (self._over or self._closed) and not self._queue and self._failed is None

    def _await(self) -> None:
        """Wait for something to take, or the end."""
        with self._changed:
            while not self._queue and not self._over and not self._closed:
                self._changed.wait()


def _kept(record: Record) -> bool:
    """True for what is never dropped."""
    return isinstance(record, Bar | Control)
