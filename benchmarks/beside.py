"""What goes on beside a soak: maintenance, questions, replays of a tagged state, and accidents, each in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import k2kernel as k2

_TAG, _EVENTS = "soak", 200_000


@dataclass
class Beside:
    """Seconds of each kind of work, and what went wrong: an error, or an answer that cannot be.

    `accidents` are done as well, each with so many seconds of pause before it.
    """

    bench: k2.Workbench
    accidents: dict[Callable[[], object], float]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _rows: int = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While the block runs, from the first rows on."""
        while self.bench.lake.head("trades") is None:
            time.sleep(1)
        self.bench.tag("trades", _TAG)
        self._replayed = self._replay()
        work: dict[Callable[[], object], float] = {self._maintain: 5, self._ask: 0.5, self._replay_again: 5}
        threads = [threading.Thread(target=self._repeat, args=item) for item in (work | self.accidents).items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _repeat(self, work: Callable[[], object], pause: float) -> None:
        name = work.__name__.strip("_")
        while not self._ended.wait(pause):
            begun = time.perf_counter()
            try:
                work()
            except Exception as exc:  # noqa: BLE001 - the soak goes on, and its report says so
                self.faults.append(f"{name}: {type(exc).__name__}: {exc}")
            self.seconds.setdefault(name, []).append(time.perf_counter() - begun)

    def _maintain(self) -> None:
        self.bench.maintain("trades")

    def _ask(self) -> None:
        rows = self.bench.sql("SELECT count(*) AS n FROM trades_raw").to_polars()["n"][0]
        if rows < self._rows:
            self.faults.append(f"ask: {self._rows:,} rows became {rows:,}")
        self._rows = rows

    def _replay_again(self) -> None:
        if self._replay() != self._replayed:
            self.faults.append("replay: a tagged state was replayed differently")

    def _replay(self) -> str | None:
        replay = self.bench.replay(kinds=("trades",), as_of=_TAG, digest=True, limit=_EVENTS)
        for _ in replay.batches():
            pass
        return replay.digest
