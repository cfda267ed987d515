"""What one engine does in a process of its own: a stage of the contest, timed; its last line of output is JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import answers, data
from benchmarks.engines import ENGINES, opened
from benchmarks.engines.engine import ORDER, Engine, Scope

Work = Callable[[], Any]
Timed = dict[str, list[float]]
"""Of each task, the time of its first run and of those after it."""

RUNS, SECONDS = 5, 3.0
"""So many runs of a question after its first, fewer where they would take longer."""

EDGE = 20
INGEST, REPLAY, AFTER = "ingest of the CSV", "replay of all rows", " after appends"
JOIN = "as-of join of 100,000 trades in memory"
APPENDS = (f"append of a small CSV, first {EDGE}", f"append of a small CSV, last {EDGE}")
ROWS = ("ts_event", "sequence", "trade_id", "price", "size", "side")
PRICES = ("open", "high", "low", "close", "volume", "notional", "vwap", "n_trades")
KEPT = 100_000
"""Events of a replay that are compared."""


def scope(symbol: str, session: date) -> Scope:
    """The minute after 15:00 in UTC is one of trading."""
    start = datetime(session.year, session.month, session.day, 15, tzinfo=UTC)
    return Scope(symbol, session, start, start + timedelta(minutes=1))


def questions(engine: Engine, session: date) -> Iterator[tuple[str, tuple[str, ...], Work]]:
    """What each is called, the columns of its answer that are compared, and how it is asked."""
    for word, symbol in data.ASKED.items():
        asked = scope(symbol, session)
        yield f"a minute of a {word} symbol", ROWS, partial(engine.minute, asked)
        yield f"a day of a {word} symbol", ROWS, partial(engine.day, asked)
        yield f"1-minute bars of a {word} day", ("ts_open", *PRICES), partial(engine.bars, asked)
    yield "daily bars of all symbols", ("symbol", "session", *PRICES), engine.daily


class Contender:
    """An engine, and the folder where its answers are left to be compared."""

    def __init__(self, engine: Engine, answers: Path) -> None:
        self.engine, self._answers = engine, answers
        answers.mkdir(parents=True, exist_ok=True)

    def load(self, csv: Path) -> Timed:
        """Seconds of the file, until all is on disk."""
        begun = time.perf_counter()
        self.engine.load(csv)
        self.engine.close()
        return {INGEST: [time.perf_counter() - begun]}

    def read(self, _: Path) -> Timed:
        """Milliseconds of every question."""
        return self._asked(data.SESSION, "")

    def replay(self, _: Path) -> Timed:
        """Seconds of all rows in order, after a first batch; those that come first are kept."""
        next(self.engine.replay())
        begun, seen, first = time.perf_counter(), 0, []
        for batch in self.engine.replay():
            if seen < KEPT:
                first.append(batch)
            seen += len(batch)
        spent = time.perf_counter() - begun
        self._keep(REPLAY, pl.concat([pl.DataFrame(batch).select(ORDER) for batch in first]).head(KEPT), ORDER)
        self._keep(f"{REPLAY}, rows", pl.DataFrame({"rows": [seen]}), ("rows",))
        return {REPLAY: [spent]}

    def append(self, folder: Path) -> Timed:
        """Milliseconds of the first and of the last small files, each after one that is apart; then every question."""
        spent = []
        for path in sorted(folder.iterdir()):
            begun = time.perf_counter()
            self.engine.append(path)
            spent.append((time.perf_counter() - begun) * 1_000)
        edges = (spent[: EDGE + 1], spent[-EDGE - 1 :])
        return dict(zip(APPENDS, edges, strict=True)) | self._asked(data.SESSIONS[0], AFTER)

    def join(self, _: Path) -> Timed:
        """Milliseconds of the join of a symbol-day with its quotes."""
        work = self.engine.join(data.events("price", "size", 1), data.events("bid_px", "bid_sz", 2))
        return {JOIN: self._timed(JOIN, ("sequence", "bid_px"), work)}

    def _asked(self, session: date, when: str) -> Timed:
        asked = questions(self.engine, session)
        return {name + when: self._timed(name + when, columns, work) for name, columns, work in asked}

    def _timed(self, name: str, columns: tuple[str, ...], work: Work) -> list[float]:
        spent: list[float] = []
        while len(spent) < 2 or (len(spent) <= RUNS and sum(spent[1:]) < SECONDS * 1_000):
            begun = time.perf_counter()
            answer = work()
            spent.append((time.perf_counter() - begun) * 1_000)
        self._keep(name, answer, columns)
        return spent

    def _keep(self, name: str, answer: Any, columns: tuple[str, ...]) -> None:
        answers.keep(self._answers, name, answer, columns)


def peak_mb() -> float:
    """Peak resident memory; on Linux ru_maxrss starts at that of the parent, so the program's own mark is read."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) / 1e3 for line in status.open() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _done(engine: Engine, stage: str, source: Path, folder: Path) -> dict[str, Any]:
    if stage in engine.cannot:
        return {"cannot": f"no {stage}, {engine.cannot[stage]}"}
    return {"times": getattr(Contender(engine, folder), stage)(source)}


def main() -> None:
    """Do one stage with one engine, and print the times, the peak of memory and the versions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender", description=__doc__)
    parser.add_argument("stage", choices=("load", "read", "replay", "append", "join"))
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("store", type=Path)
    parser.add_argument("source", type=Path, help="the CSV, or the folder of small ones")
    parser.add_argument("answers", type=Path, help="the folder to write answers to")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"times": {}}
    try:
        engine = opened(chosen.engine, chosen.store)
    except ModuleNotFoundError as exc:
        found["cannot"] = str(exc)
    else:
        found["versions"] = {name: version(name) for name in engine.packages}
        found |= _done(engine, chosen.stage, chosen.source, chosen.answers)
    print(json.dumps(found | {"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
