"""Timing, and what was measured as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

OURS, DUCKDB, POLARS = "k2kernel", "DuckDB", "Polars"
OVERHEAD_MS = 10.0
"""What a call may cost beside its multiple of the hand-written SQL, in ms."""


@dataclass(frozen=True)
class Measure:
    """One line: what was measured, in which unit, the figure of each contender, and the target for ours.

    `times` is the most that ours may be of that of `rival`, with `OVERHEAD_MS` on top where the unit is ms; `most` and
    `least` bound ours directly. A measure without a target is for information.
    """

    name: str
    unit: str
    figures: Mapping[str, float]
    times: float | None = None
    most: float | None = None
    least: float | None = None
    rival: str = DUCKDB

    @property
    def ratio(self) -> float | None:
        """Ours over the rival's."""
        ours, theirs = self.figures.get(OURS), self.figures.get(self.rival)
        return ours / theirs if ours is not None and theirs else None

    @property
    def limit(self) -> str:
        """The target in words, empty where there is none."""
        if self.times is not None:
            return f"<= {self.times:g} x{'' if self.rival == DUCKDB else f' {self.rival}'}" + (
                f" + {OVERHEAD_MS:g} ms" if self.unit == "ms" else ""
            )
        if self.most is not None:
            return f"<= {self.most:g} {self.unit}"
        return "" if self.least is None else f">= {self.least:g} {self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether ours meets the target; None without one."""
        ours = self.figures[OURS]
        if self.times is not None:
            spare = OVERHEAD_MS if self.unit == "ms" else 0
            return ours <= self.times * self.figures[self.rival] + spare
        if self.most is not None:
            return ours <= self.most
        return None if self.least is None else ours >= self.least


@dataclass
class Report:
    """The measures of a run, with the machine and versions they hold for."""

    rows: int
    measures: list[Measure] = field(default_factory=list)

    def add(self, measure: Measure) -> None:
        """Keep a measure and print its line at once."""
        self.measures.append(measure)
        print(line(measure), flush=True)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        facts = {
            "rows": self.rows,
            "cpus": os.cpu_count(),
            "machine": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("k2kernel", "duckdb", "polars", "pyarrow", "pyiceberg")},
            "measures": [asdict(one) | {"ratio": one.ratio, "met": one.met} for one in self.measures],
        }
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


HEADING = f"{'':44} {OURS:>12} {DUCKDB:>12} {POLARS:>12} {'':8} {'ratio':>7}  target"


def line(measure: Measure) -> str:
    """A measure as a line under `HEADING`."""
    figures = " ".join(_figure(measure.figures.get(name)) for name in (OURS, DUCKDB, POLARS))
    ratio = "" if measure.ratio is None else f"{measure.ratio:.2f} x"
    verdict = "" if measure.met is None else "  met" if measure.met else "  MISSED"
    return f"{measure.name:44} {figures} {measure.unit:8} {ratio:>7}  {measure.limit}{verdict}".rstrip()


def _figure(value: float | None) -> str:
    if value is None:
        return f"{'':12}"
    return f"{value:12,.0f}" if value >= 1_000 else f"{value:12,.2f}"


def race(contenders: Mapping[str, Callable[[], object]], runs: int = 15, warm_up: int = 2) -> dict[str, float]:
    """Median ms of each contender, who take turns after a warm-up of each."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(warm_up + runs):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if run >= warm_up:
                spent[name].append((time.perf_counter() - start) * 1_000)
    return {name: statistics.median(times) for name, times in spent.items()}
