"""How a replay runs, how far it is, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from k2kernel.errors import InvalidParameter
from k2kernel.html import facts, record
from k2kernel.query.position import Since
from k2kernel.replay.chunk import Chunk, Whole
from k2kernel.replay.pacing import Clock, SystemClock


@dataclass(frozen=True)
class How:
    """How a replay runs: nothing here changes which events come, or their order."""

    speed: float = 0
    batch_rows: int = 65_536
    limit: int | None = None
    digest: bool = False
    gaps: str | None = None
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class Ran:
    """What was delivered: events, the digest (None: not asked for, or a seek broke it), and the token to go on from."""

    events: int
    digest: str | None
    position: str
    state: str

    def _repr_html_(self) -> str:
        return record(facts(self) | {"position": f"{self.position[:24]}…"}, "replay")


@dataclass(slots=True)
class Mark:
    """How far the consumer is: it has the rows of `chunk` before `upto`, of which those from `start` on are not
    counted yet. Before the chunk it was at `since`: a place, or a row of another chunk.
    """

    since: Since | tuple[Chunk | Whole, int]
    chunk: Chunk | Whole | None = None
    start: int = 0
    upto: int = 0

    def before(self, chunk: Chunk | Whole) -> Mark:
        """The mark of a consumer that gets `chunk` next."""
        return Mark(self._last(), chunk)

    def place(self, clock: str) -> Since:
        """The place after the last row delivered."""
        last = self._last()
        return last if isinstance(last, Since) else Since(key=last[0].key(last[1], clock))

    def _last(self) -> Since | tuple[Chunk | Whole, int]:
        return self.since if self.chunk is None or not self.upto else (self.chunk, self.upto - 1)


def parse_speed(value: object) -> float:
    """A number from 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise InvalidParameter("speed", value, "is no speed", "Give 0 for no pacing, 1 for the pace of history, 10, ...")


def ignore(_: object) -> None:
    """What is called back for where nobody listens."""
