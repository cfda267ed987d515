"""Many small commits: what each costs, and what a query over them costs beside the same rows in one file."""

from __future__ import annotations

import shutil
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import k2kernel as k2
from benchmarks import data
from benchmarks.report import OURS, Measure, Report, race

COMMITS, ROWS = 200, 1_000
EDGE = 20
START, END = datetime(2024, 3, 4, 15, 0, tzinfo=UTC), datetime(2024, 3, 4, 15, 1, tzinfo=UTC)


def measure(report: Report, folder: Path, commits: int = COMMITS) -> None:
    """Append `commits` files of `ROWS` rows one by one, then plan and query them, and the same rows in one file."""
    source = data.csv(folder, commits * ROWS, sessions=1)
    small, one = folder / "small", folder / "one"
    shutil.rmtree(small, ignore_errors=True)
    shutil.rmtree(one, ignore_errors=True)
    spent = _append(small, data.pieces(source, folder / "pieces", ROWS))
    k2.connect(one).ingest(source, profile=data.PROFILE)
    report.add(_ms(f"append of {ROWS:,} rows, first {EDGE}", spent[:EDGE]))
    report.add(_ms(f"append of {ROWS:,} rows, last {EDGE}", spent[-EDGE:]))
    report.add(_ms(f"planning {commits} appends, new connection", [_planning(small) for _ in range(7)]))
    _point_query(report, small, one, commits)


def _append(home: Path, paths: list[Path]) -> list[float]:
    workbench = k2.connect(home)
    spent = []
    for path in paths:
        start = time.perf_counter()
        workbench.ingest(path, profile=data.PROFILE)
        spent.append((time.perf_counter() - start) * 1_000)
    return spent


def _planning(home: Path) -> float:
    """A result is planned when it is made, and scanned later."""
    workbench = k2.connect(home)
    start = time.perf_counter()
    workbench.trades(data.BUSY, start=START, end=END)
    return (time.perf_counter() - start) * 1_000


def _point_query(report: Report, small: Path, one: Path, commits: int) -> None:
    many, single = k2.connect(small), k2.connect(one)
    figures = race(
        {
            "many": lambda: many.trades(data.BUSY, start=START, end=END).to_arrow(),
            "single": lambda: single.trades(data.BUSY, start=START, end=END).to_arrow(),
        }
    )
    report.add(Measure("  point query over one file", "ms", {OURS: figures["single"]}))
    report.add(Measure(f"  point query over {commits} appends", "ms", {OURS: figures["many"]}))
    report.add(Measure("  the latter over the former", "x", {OURS: figures["many"] / figures["single"]}, most=4))


def _ms(name: str, spent: list[float]) -> Measure:
    return Measure(name, "ms", {OURS: statistics.median(spent)})
