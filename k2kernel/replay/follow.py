"""`Follow`: history, and from the offset where it ends what arrives."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter
from k2kernel.ingest.tail import Tail, merged
from k2kernel.query.computed import arrow
from k2kernel.replay.chunk import Chunk, Layout
from k2kernel.replay.events import Bar, Control, Event, Record
from k2kernel.replay.replay import Replay

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.lake import Lake

_PAST = ("end", "session", "as_of", "known_at", "position", "hours", "limit")
"""Words of a replay that say where history ends, or that need to know all of it."""


class Follow:
    """A replay that goes on: the events of the tables at one state of each, a `caught_up` record, and then the events
    after the offsets that those states have, each once, as they come (in the total order where they come together).

    `records()` gives all of them, iteration the events alone; both go on until `stop`, which may be called from any
    thread. Live events keep to the symbols, venue, kinds, `start` and `raw` of the replay: without `raw`, fills and
    corrections come, and nothing takes an event back that was delivered. `topics` are those that the tables have rows
    of, or the ones given, with the partitions that they get later. Bars and the place to resume at are of `history`,
    which may be paced, paused and stopped.
    """

    def __init__(
        self,
        history: Replay,
        lake: Lake,
        services: tuple[str, str],
        topics: Sequence[str] | None,
        words: Mapping[str, Any],
    ) -> None:
        for name in (name for name in _PAST if words.get(name) is not None):
            raise InvalidParameter(name, words[name], "is given with follow", "A stream that goes on has no such end")
        if words.get("order_by", "ts_event") != "ts_event":
            raise InvalidParameter("order_by", words["order_by"], "is given with follow", "Leave it out")
        self.history = history
        """The replay of the tables."""
        self._tail = Tail(lake, *services, history.snapshots, topics, follows=True)
        self._stopped = threading.Event()
        self._live = 0

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else "live" if self._live else "in history"
        return f"Follow({state}, {self._live:,} live events, {self.history!r})"

    def __iter__(self) -> Iterator[Event]:
        return (record for record in self.records() if not isinstance(record, Control | Bar))

    @property
    def offsets(self) -> dict[str, int | None]:
        """The offset that comes next by `topic/partition`; None: the oldest there is."""
        return {f"{topic}/{number}": offset for (topic, number), offset in self._tail.offsets.items()}

    def stop(self) -> None:
        """End the stream, within a moment."""
        self._stopped.set()
        self.history.stop()

    def records(self) -> Generator[Record, None, None]:
        """The events with the control records between them."""
        # Opened before history is read: what the topics hold must not be deleted unseen meanwhile.
        with self._tail:
            yield from self._past()
            if self.history.state != "completed":
                return
            details = {"events": self.history.events, "snapshots": dict(self.history.snapshots)}
            yield Control("caught_up", details=details | {"offsets": self.offsets})
            while not self._stopped.is_set():
                yield from self._events(self._tail.poll())

    def _past(self) -> Iterator[Record]:
        """History without its end: sessions go on."""
        closed: list[Record] = []
        for record in self.history.records():
            if isinstance(record, Control) and record.name in {"session_close", "replay_completed"}:
                closed.append(record)
                continue
            yield from closed
            closed.clear()
            yield record

    def _events(self, found: Mapping[str, pl.DataFrame]) -> Iterator[Event]:
        kinds = self.history.plan.kinds
        rows = merged({kind: self._chosen(frame) for kind, frame in found.items()}, kinds)
        for batch in arrow(rows).combine_chunks().to_batches() if len(rows) else ():
            for event in Chunk(batch, Layout(kinds, kinds, {})).rows():
                if self._stopped.is_set():
                    return
                self._live += 1
                yield event

    def _chosen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those that the replay asked for."""
        wanted, start = self.history.plan.selection, self.history.plan.selection.range.start
        if wanted.instruments is not None:
            pairs = zip(rows["venue"], rows["symbol"], strict=True)
            asked = {(each.venue, each.symbol) for each in wanted.instruments}
            rows = rows.filter([pair in asked for pair in pairs])
        elif wanted.venue is not None:
            rows = rows.filter(rows["venue"] == wanted.venue)
        if isinstance(start, date):
            rows = rows.filter(rows["session"] >= start)
        elif start is not None:
            rows = rows.filter(rows["ts_event_ns"].fill_null(rows["ts_event"].dt.epoch("ns")) >= start)
        if self.history.plan.raw or "status" not in rows.columns:
            return rows
        return rows.filter(rows["status"].is_null() | (rows["status"] == "correction"))
