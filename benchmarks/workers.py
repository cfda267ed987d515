"""Four files side by side, beside one worker with every core, and one that is held to one thread on one core."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import data
from benchmarks.report import OURS, Measure, Report

FILES = 4
_ONE_CORE = ("taskset", "--cpu-list", "0", "env", "K2_THREADS=1", "POLARS_MAX_THREADS=1", "OMP_NUM_THREADS=1")
"""One thread for each library on one core, because a load writes while it reads, however few threads they have; left
out where the system cannot hold a process to a core.
"""

_ARMS: dict[str, tuple[int, tuple[str, ...]]] = {
    "4 workers": (FILES, ()),
    "1 worker": (1, ()),
    "1 worker on 1 core": (1, _ONE_CORE),
}


def measure(report: Report, folder: Path, rounds: int, rows: int) -> None:
    """Load a quarter of the rows from each of four files, `k2 ingest` and its start included, in turns."""
    files = data.pieces(data.csv(folder, rows), folder / f"quarters-{rows}", -(-rows // FILES))
    arms = {name: arm for name, arm in _ARMS.items() if not arm[1] or shutil.which(arm[1][0])}
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, (workers, held) in arms.items():
            spent[name].append(_seconds(files, folder / "workers", workers, held))
    speed = {name: rows / statistics.median(each) for name, each in spent.items()}
    for name, pace in speed.items():
        report.add(Measure(f"ingest of {FILES} files, {name}", "rows/s", {OURS: pace}))
    for rival, least in (("1 worker", 0.95), ("1 worker on 1 core", 1.3)):
        if rival in speed:
            figure = {OURS: speed["4 workers"] / speed[rival]}
            report.add(Measure(f"  4 workers beside {rival}", "x", figure, least=least))


def _seconds(files: list[Path], home: Path, workers: int, held: Sequence[str]) -> float:
    shutil.rmtree(home, ignore_errors=True)
    code = "from k2kernel.cli import ingest_main; ingest_main()"
    words = [*map(str, files), "-p", data.PROFILE, "--workers", str(workers), "--home", str(home)]
    begun = time.perf_counter()
    subprocess.run([*held, sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun
