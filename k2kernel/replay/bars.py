"""Bars of a replay: those of the read verb, handed out when the replay passes their end, so never too early."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from k2kernel.replay.events import Bar

if TYPE_CHECKING:
    from k2kernel.query import Result


class BarFeed:
    """Bars of any kind, ordered by their ends.

    A bar is that of the pinned state as the read verb `bars` answers it, with the same exact arithmetic. It comes
    before the first event at or after its end. Those that ended by `after` (ns) are passed over.
    """

    def __init__(self, found: Result, after: int | None) -> None:
        self._rows = self._read(found, after)
        self._next = next(self._rows, None)

    @staticmethod
    def _read(found: Result, after: int | None) -> Iterator[Bar]:
        for batch in found.batches():
            for row in batch.to_pylist():
                if after is None or row["ts_close_ns"] > after:
                    yield Bar(**row)

    def before(self, times: Sequence[int]) -> list[tuple[int, Any]]:
        """The bars that end by an event of `times` (ns), each with the index of the event that it comes before."""
        found = []
        while self._next is not None and times and self._next.ts_close_ns <= times[-1]:
            found.append((bisect_left(times, self._next.ts_close_ns), self._next))
            self._next = next(self._rows, None)
        return found

    def rest(self) -> Iterator[Bar]:
        """The bars that the last event left open."""
        if self._next is not None:
            yield self._next
        yield from self._rows
        self._next = None
