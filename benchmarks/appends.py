"""Many small commits: what planning them costs, and a query over them beside the same rows in one file."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import k2kernel as k2
from benchmarks import contest, data
from benchmarks.contender import scope
from benchmarks.report import OURS, Measure, Report, race

ASKED = scope(data.BUSY, data.SESSIONS[0])


def measure(report: Report, folder: Path, commits: int) -> None:
    """Over the lake that the contest left."""
    small, one = contest.small(folder), folder / "one"
    shutil.rmtree(one, ignore_errors=True)
    k2.connect(one).ingest(contest.appended(folder, commits), profile=data.PROFILE)
    planned = statistics.median(_planning(small) for _ in range(7))
    report.add(Measure(f"planning {commits} appends, new connection", "ms", {OURS: planned}))
    many, single = k2.connect(small), k2.connect(one)
    figures = race({"many": lambda: _asked(many).to_arrow(), "single": lambda: _asked(single).to_arrow()})
    report.add(Measure("  point query over one file", "ms", {OURS: figures["single"]}))
    report.add(Measure(f"  point query over {commits} appends", "ms", {OURS: figures["many"]}))
    report.add(Measure("  the latter over the former", "x", {OURS: figures["many"] / figures["single"]}, most=4))


def _planning(home: Path) -> float:
    """A result is planned when it is made, and scanned later."""
    workbench = k2.connect(home)
    start = time.perf_counter()
    _asked(workbench)
    return (time.perf_counter() - start) * 1_000


def _asked(workbench: k2.Workbench) -> k2.Result:
    return workbench.trades(ASKED.symbol, start=ASKED.start, end=ASKED.end)
