"""The tasks by the engines: each engine does each stage in a process of its own, the engines in turns.

A store is what its engine made of the same CSV, and a time counts only where the answer is the same as ours.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import answers, data
from benchmarks.contender import APPENDS, INGEST, JOIN, REPLAY
from benchmarks.engines import ENGINES
from benchmarks.report import OURS, POLARS, Measure, Report

COMMITS, APPENDED = 200, 1_000
"""Small files, and the rows of each."""

TARGETS: dict[str, dict[str, Any]] = {
    INGEST: {"times": 2},
    REPLAY: {"times": 2},
    JOIN: {"times": 1.5, "rival": POLARS},
    **{name: {} for name in APPENDS},
}
QUESTION = {"times": 1.3}


@dataclass(frozen=True)
class Stage:
    """A stage of `benchmarks.contender`: the unit of its times, whether it begins with an empty store, whether its
    memory counts, and whether it is one that measures often enough in one process.
    """

    name: str
    unit: str
    fresh: bool = False
    memory: bool = False
    once: bool = False


READ = (
    Stage("load", "s", fresh=True, memory=True),
    Stage("read", "ms"),
    Stage("replay", "s", memory=True),
    Stage("join", "ms", once=True),
)
APPEND = Stage("append", "ms", fresh=True, once=True)


def home(folder: Path, rows: int) -> Path:
    """The lake that the contest leaves for other measurements."""
    return folder / f"stores-{rows}" / OURS


def small(folder: Path) -> Path:
    """That of many small commits, and the file that has their rows."""
    return folder / "stores-small" / OURS


def appended(folder: Path, commits: int) -> Path:
    """The CSV of the rows that are appended."""
    return data.csv(folder, commits * APPENDED, sessions=1)


class Contest:
    """Runs the stages and tells the report; `python` is an interpreter that has the libraries of the engines."""

    def __init__(self, report: Report, folder: Path, python: Path) -> None:
        self._report, self._folder, self._python = report, folder, python
        self._engines = list(ENGINES)
        self._answers = folder / "answers"
        shutil.rmtree(self._answers, ignore_errors=True)

    def measure(self, rounds: int, commits: int) -> None:
        """Every stage `rounds` times, or once."""
        rows = self._report.rows
        stores = home(self._folder, rows).parent
        for stage in READ:
            self._run(stage, data.csv(self._folder, rows), stores, rounds)
            if stage.name == "load":
                sizes = {name: _on_disk(stores / name) / rows for name in self._engines}
                self._report.add(Measure("  bytes a row on disk", "B", sizes))
        pieces = self._folder / f"pieces-{commits}"
        data.pieces(appended(self._folder, commits), pieces, APPENDED)
        self._run(APPEND, pieces, small(self._folder).parent, 1)

    def _run(self, stage: Stage, source: Path, stores: Path, rounds: int) -> None:
        times: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        peaks: dict[str, float] = {}
        for number in range(1 if stage.once else rounds):
            for name in list(self._engines):
                print(f"  {stage.name} {number + 1}: {name}", file=sys.stderr, flush=True)
                found = self._child(stage, name, source, stores / name)
                for task, spent in found["times"].items():
                    times[task][name].append(spent)
                peaks[name] = max(peaks.get(name, 0), found["peak_mb"])
        for task, spent_by in times.items():
            self._report.add(_measured(task, stage.unit, spent_by))
        if stage.memory:
            self._report.add(Measure(f"  peak memory of the {stage.name}", "MB", peaks))

    def _child(self, stage: Stage, name: str, source: Path, store: Path) -> dict[str, Any]:
        if stage.fresh:
            shutil.rmtree(store, ignore_errors=True)
        kept = self._answers / stage.name
        words = [stage.name, name, str(store), str(source), str(kept / name)]
        done = subprocess.run(
            [self._python, "-m", "benchmarks.contender", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name}, {stage.name}:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if faults := answers.faults(kept / OURS, kept / name):
            raise SystemExit(f"{name}, {stage.name}: its answers differ from ours\n" + "\n".join(faults))
        self._remember(name, found)
        return found

    def _remember(self, name: str, found: dict[str, Any]) -> None:
        """An engine that is not installed is asked no more."""
        self._report.versions |= found.get("versions", {})
        if "cannot" in found:
            self._report.notes.append(f"{name}: {found['cannot']}")
        if "versions" not in found:
            self._engines.remove(name)


def _measured(task: str, unit: str, spent: dict[str, list[list[float]]]) -> Measure:
    """Medians over all rounds without the first run of each, which are kept beside them."""
    warm = {name: statistics.median(t for runs in each for t in runs[1:] or runs) for name, each in spent.items()}
    first = {name: statistics.median(runs[0] for runs in each) for name, each in spent.items()}
    return Measure(task, unit, warm, first=first, **TARGETS.get(task, QUESTION))


def _on_disk(store: Path) -> int:
    """Bytes of all files, as blocks: some databases reserve more than they write."""
    return sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())
