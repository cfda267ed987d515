"""Control records found in the events themselves: sessions that open and close, sequence numbers that jump."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from k2kernel.replay.chunk import KIND
from k2kernel.replay.events import Control

if TYPE_CHECKING:
    import pyarrow as pa

GAPS = ("instrument", "source")
"""What sequence numbers may count."""

Placed = tuple[int, Control]
"""A record, and the index of the event that it comes before."""


class Sessions:
    """Sessions by venue. A session opens with its first event here and closes when the venue's next one opens, or at
    the end. Late rows of an earlier session, such as corrections, open nothing.
    """

    def __init__(self, resumed: bool) -> None:
        self._resumed = resumed
        self._open: dict[str, date] = {}
        self._last: dict[str, int] = {}

    def before(self, batch: pa.RecordBatch, times: list[int]) -> list[Placed]:
        """The records among the events of a batch."""
        import pyarrow as pa

        rows = pa.table([batch.column("venue"), batch.column("session"), pa.array(range(len(batch)))], ["v", "s", "i"])
        ends = rows.group_by(["v", "s"], use_threads=False).aggregate([("i", "min"), ("i", "max")]).to_pylist()
        found: list[Placed] = []
        for row in sorted(ends, key=lambda row: int(row["i_min"])):
            found += self._first(row["v"], row["s"], row["i_min"], times)
            self._last[row["v"]] = max(times[row["i_max"]], self._last.get(row["v"], times[row["i_max"]]))
        self._resumed = False
        return found

    def _first(self, venue: str, session: date, at: int, times: list[int]) -> Iterator[Placed]:
        current = self._open.get(venue)
        if current is not None and session <= current:
            return
        if current is not None:
            yield at, Control("session_close", self._last.get(venue), venue, current)
        self._open[venue] = session
        details = {"resumed": True} if self._resumed and current is None else {}
        yield at, Control("session_open", times[at], venue, session, details)

    def close(self) -> list[Control]:
        """The records at the end."""
        found = [
            Control("session_close", self._last.get(venue), venue, session)
            for venue, session in sorted(self._open.items())
        ]
        self._open.clear()
        return found


class Jumps:
    """Sequence numbers that jump ahead, within an instrument of a source or within a whole source.

    Only the source knows what its numbers count, so the caller says it. Numbers that repeat or go back are no gap.
    """

    def __init__(self, scope: str) -> None:
        self._names = ("source", "venue", "symbol") if scope == "instrument" else ("source",)
        self._greatest: dict[tuple[Any, ...], int] = {}

    def before(self, batch: pa.RecordBatch, times: list[int]) -> list[Placed]:
        """The gaps among the events of a batch."""
        names = (KIND, *self._names)
        keys = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        venues, symbols = batch.column("venue"), batch.column("symbol")
        found: list[Placed] = []
        for at, (key, number) in enumerate(zip(keys, batch.column("sequence").to_pylist(), strict=True)):
            before = self._greatest.get(key)
            if before is not None and number > before + 1:
                details = dict(zip(names, key, strict=True)) | {"expected": before + 1, "found": number}
                details["symbol"] = symbols[at].as_py()
                found.append((at, Control("gap", times[at], venues[at].as_py(), None, details)))
            self._greatest[key] = number if before is None else max(number, before)
        return found
