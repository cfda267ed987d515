"""Bars of a replay: those of the read verb, handed out when the replay passes their end, so never too early."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter
from k2kernel.query.intervals import parse_interval
from k2kernel.replay.events import Bar
from k2kernel.times import to_ns

if TYPE_CHECKING:
    from k2kernel.query import Result

_LONGEST_US = 3_600_000_000
_READ = Bar._fields[:-1]


class BarFeed:
    """Time bars of up to an hour, ordered by their ends.

    A bar is that of the pinned state as the read verb `bars` answers it, with the same exact arithmetic. It comes
    before the first event at or after its end. Those that ended by `after` (ns) are passed over.
    """

    def __init__(self, found: Result, interval: str, after: int | None) -> None:
        self._us = bar_us(interval)
        self._rows = self._read(found, after)
        self._next = next(self._rows, None)

    def _read(self, found: Result, after: int | None) -> Iterator[Bar]:
        for batch in found.batches():
            for row in batch.to_pylist():
                close = to_ns(row["ts_open"]) + self._us * 1_000
                if after is None or close > after:
                    yield Bar(**{name: row[name] for name in _READ}, ts_close_ns=close)

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


def bar_us(interval: str) -> int:
    """The length of a bar in µs; InvalidParameter for those that end by the wall clock."""
    us = parse_interval(interval).us
    if us is None or us > _LONGEST_US:
        remedy = "Ask `bars` for longer ones, or build them from these"
        raise InvalidParameter("interval", interval, "is longer than an hour, which a replay does not follow", remedy)
    return us
