"""Replay: callbacks, the spacing of a paced stream, and its controls."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import k2kernel as k2
from benchmarks.data import SESSION, START
from benchmarks.report import OURS, Measure, Report

CALLBACKS = 300_000
SPACING_MS = 5.0
CONTROL_MS = 50.0
SPEEDS = (1, 10, 100)


def measure(report: Report, home: Path) -> None:
    """The figures of replay over the lake at `home`."""
    workbench = k2.connect(home)
    called = {OURS: _rate(report.rows, lambda: _callbacks(workbench))}
    report.add(Measure("replay by callbacks", "events/s", called, least=CALLBACKS))
    for pace in SPEEDS:
        late = {OURS: _spacing_ms(workbench, pace)}
        report.add(Measure(f"  error of spacing at {pace}x, median", "ms", late, most=SPACING_MS))
    for name, found in _controls(workbench).items():
        report.add(Measure(f"  {name} takes effect, median", "ms", {OURS: statistics.median(found)}, most=CONTROL_MS))
        report.add(Measure(f"  {name} takes effect, slowest of {len(found)}", "ms", {OURS: max(found)}))


def _rate(rows: int, work: Callable[[], int]) -> float:
    start = time.perf_counter()
    assert work() == rows
    return rows / (time.perf_counter() - start)


def _callbacks(workbench: k2.Workbench) -> int:
    seen = 0

    def count(_: object) -> None:
        nonlocal seen
        seen += 1

    workbench.replay(kinds=("trades",)).run(on_trade=count)
    return seen


def _spacing_ms(workbench: k2.Workbench, pace: int, seconds: float = 8.0) -> float:
    """Median of |time between two events as delivered - time between them in history / pace|."""
    replay = workbench.replay(kinds=("trades",), session=SESSION, start=START, speed=pace)
    arrived, happened = [], []
    until = time.perf_counter() + seconds
    for event in replay:
        now = time.perf_counter()
        arrived.append(now)
        happened.append(event.ts_event_ns / 1e9)
        if now > until:
            break
    steps = zip(arrived, arrived[1:], happened, happened[1:], strict=False)
    return statistics.median(abs((b - a) - (d - c) / pace) for a, b, c, d in steps) * 1e3


def _controls(workbench: k2.Workbench, times: int = 25) -> dict[str, list[float]]:
    """How long seek and pause take from the call until the stream obeys, in ms; a thread reads the stream."""
    found: dict[str, list[float]] = {"seek": [], "pause": []}
    for wanted in _instants(times):
        found["seek"].append(_seek_ms(workbench, wanted))
        found["pause"].append(_pause_ms(workbench))
    return found


def _instants(times: int) -> list[datetime]:
    """Places spread over four hours of the session."""
    return [START + timedelta(hours=4) * n / times for n in range(times)]


class _Reader(threading.Thread):
    """Reads a replay and remembers the last event and when it came."""

    def __init__(self, replay: k2.Replay) -> None:
        super().__init__(daemon=True)
        self.replay, self.seen, self.last, self.at = replay, threading.Event(), 0, 0.0
        self.start()

    def run(self) -> None:
        """Until it is stopped."""
        for event in self.replay:
            self.last, self.at = event.ts_event_ns, time.perf_counter()
            self.seen.set()
            if event.sequence % 64 == 0:
                time.sleep(0)


def _seek_ms(workbench: k2.Workbench, wanted: datetime) -> float:
    """From the call of `seek` until the first event from there."""
    reader = _Reader(workbench.replay(kinds=("trades",), session=SESSION, speed=10))
    reader.seen.wait()
    start = time.perf_counter()
    reader.replay.seek(wanted)
    instant = int(wanted.timestamp() * 1e6) * 1_000
    while reader.last < instant:
        time.sleep(0.0005)
    spent = reader.at - start
    reader.replay.stop()
    reader.join()
    return spent * 1e3


def _pause_ms(workbench: k2.Workbench) -> float:
    """From the call of `pause` until the last event that still came; 0 where none did."""
    reader = _Reader(workbench.replay(kinds=("trades",), session=SESSION))
    reader.seen.wait()
    start = time.perf_counter()
    reader.replay.pause()
    time.sleep(0.2)
    spent = max(0.0, reader.at - start)
    reader.replay.stop()
    reader.join()
    return spent * 1e3
