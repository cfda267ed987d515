"""What comes between the events: bars that are over, and control records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from k2kernel.replay.controls import Jumps, Sessions
from k2kernel.replay.events import Control, Record

if TYPE_CHECKING:
    from k2kernel.replay.bars import BarFeed
    from k2kernel.replay.chunk import Chunk


@dataclass
class Extras:
    """Records placed among the events. At one place bars come first, then sessions, then gaps."""

    clock: str
    sessions: Sessions | None = None
    jumps: Jumps | None = None
    bars: BarFeed | None = None

    def before(self, chunk: Chunk) -> deque[tuple[int, Record]]:
        """The records among the events of a chunk, each with the index of the event that it comes before."""
        found: list[tuple[int, Record]] = []
        if self.bars is not None:
            found += self.bars.before(chunk.times(self.clock))
        for finder in (self.sessions, self.jumps):
            if finder is not None:
                found += finder.before(chunk.batch, chunk.times(self.clock))
        return deque(sorted(found, key=lambda placed: placed[0]))

    def after(self, completed: Mapping[str, Any]) -> Iterator[Record]:
        """The records after the last event."""
        if self.bars is not None:
            yield from self.bars.rest()
        if self.sessions is not None:
            yield from self.sessions.close()
            yield Control("replay_completed", details=completed)


NoExtras = Extras("ts_event")
"""Events only."""

MakeExtras = Callable[[], Extras]
"""Made at the beginning, and again after each seek."""
