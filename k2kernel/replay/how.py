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
    counted yet. Before the chunk it was at `since`.
    """

    since: Since
    chunk: Chunk | Whole | None = None
    start: int = 0
    upto: int = 0

    def place(self, clock: str) -> Since:
        """The place after the last row delivered."""
        if self.chunk is None or not self.upto:
            return self.since
        return Since(key=self.chunk.key(self.upto - 1, clock))


def parse_speed(value: object) -> float:
    """A number from 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise InvalidParameter("speed", value, "is no speed", "Give 0 for no pacing, 1 for the pace of history, 10, ...")


def ignore(_: object) -> None:
    """What is called back for where nobody listens."""
