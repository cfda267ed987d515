"""Timing, and what was measured as a table, as JSON and as the README shows it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

OURS, DUCKDB, DUCKDB_FILE, POLARS = "k2kernel", "DuckDB on Parquet", "DuckDB", "Polars"
ARCTICDB, CHDB, PYICEBERG = "ArcticDB", "chDB", "PyIceberg"
COLUMNS = (OURS, DUCKDB, DUCKDB_FILE, POLARS, ARCTICDB, CHDB, PYICEBERG)
OVERHEAD_MS = 10.0
"""What a call may cost beside its multiple of the hand-written SQL, in ms."""

_TEXT = """\
{rows:,} trades of 100 symbols and five sessions on {cpus} cores with {memory_gb:.0f} GB of memory ({machine},
Python {python}, {date}, load {load:.1f} before it began). Every engine keeps them in a store of its own, made of the
same CSV, and works in processes of its own, the engines in turns: medians of {rounds} rounds, files in the page cache,
imports and the first run of each question left out. A time counts only where the answer is the same as ours. Less is
better; `ratio` is ours to the best of the others. A *busy* symbol has a seventh of the trades, a *quiet* one 0.4 %; the
appends are {commits} files of 1,000 rows, each committed and none compacted.

{contest}

DuckDB on Parquet and Polars have sorted files, a folder a session, without catalog or transaction; DuckDB has a
database file, ArcticDB an item for each symbol on LMDB, with prices as floats, chDB (ClickHouse in the process) a
MergeTree table, PyIceberg a sorted table, and PyArrow for the sums. What k2kernel takes in it also checks, accounts for
and knows again.
{notes}
Versions: {versions}.

k2kernel alone, and beside hand-written DuckDB over its own files:

{alone}

`make bench` repeats it, `make bench ROWS=1000000` is the quick version. `.bench/figures.md` has
this text, `.bench/figures.json` all figures, with first runs and targets (`JSON=file` puts them elsewhere).
"""


@dataclass(frozen=True)
class Measure:
    """One line: what was measured, in which unit, the figure of each engine, and the target for ours.

    `first` has the figures of first runs, which the others leave out. `times` is the most that ours may be of that of
    `rival`, with `OVERHEAD_MS` on top where the unit is ms; `most` and `least` bound ours directly. A measure without a
    target is for information. Where engines are beside ours, less is better.
    """

    name: str
    unit: str
    figures: Mapping[str, float]
    times: float | None = None
    most: float | None = None
    least: float | None = None
    rival: str = DUCKDB
    first: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours over the best of the others."""
        others = [figure for name, figure in self.figures.items() if name != OURS]
        return self.figures[OURS] / min(others) if others else None

    @property
    def contest(self) -> bool:
        """Whether others than DuckDB are beside ours."""
        return bool(set(self.figures) - {OURS, DUCKDB})

    @property
    def limit(self) -> str:
        """The target in words, empty where there is none."""
        if self.times is not None:
            return f"<= {self.times:g} x {self.rival}{f' + {OVERHEAD_MS:g} ms' if self.unit == 'ms' else ''}"
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


def _conditions() -> dict[str, object]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpus": os.cpu_count(),
        "memory_gb": memory / 1e9,
        "load": os.getloadavg()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@dataclass
class Report:
    """The measures of a run, with the machine and versions they hold for.

    `notes` are the tasks that an engine has nothing for.
    """

    rows: int
    rounds: int
    commits: int
    measures: list[Measure] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in ("k2kernel", "duckdb")})
    notes: list[str] = field(default_factory=list)
    conditions: dict[str, object] = field(default_factory=_conditions)

    def add(self, measure: Measure) -> None:
        """Keep a measure and print its line at once."""
        if not self.measures:
            print(
                f"{self.rows:,} rows; medians after a warm-up; 'ratio' is ours to the best of the others\n\n{HEADING}"
            )
        self.measures.append(measure)
        print(line(measure), flush=True)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        facts = {
            "rows": self.rows,
            "rounds": self.rounds,
            "commits": self.commits,
            **self.conditions,
            "versions": self.versions,
            "notes": self.notes,
            "measures": [asdict(one) | {"ratio": one.ratio, "met": one.met} for one in self.measures],
        }
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def markdown(self) -> str:
        """The section of the README; what a line is made of has lines of its own, which are left out of it."""
        contest = [one for one in self.measures if one.contest]
        alone = [one for one in self.measures if not one.contest and not one.name.startswith(" ")]
        values = self.conditions | {
            "rows": self.rows,
            "rounds": self.rounds,
            "commits": self.commits,
            "contest": _table((*COLUMNS, "ratio"), (_contest_row(one) for one in contest)),
            "alone": _table((OURS, "DuckDB"), (_alone_row(one) for one in alone)),
            "versions": ", ".join(f"{name} {number}" for name, number in sorted(self.versions.items())),
            "notes": "".join(f"\n- {note}" for note in dict.fromkeys(self.notes)) + "\n",
        }
        return _TEXT.format_map(values)


_WIDTHS = {name: max(len(name), 9) + 1 for name in COLUMNS}
HEADING = f"{'':48}{''.join(f'{name:>{width}}' for name, width in _WIDTHS.items())} {'':8} {'ratio':>7}  target"


def line(measure: Measure) -> str:
    """A measure as a line under `HEADING`."""
    figures = "".join(f"{_figure(measure.figures.get(name), ''):>{width}}" for name, width in _WIDTHS.items())
    ratio = "" if measure.ratio is None else f"{measure.ratio:.2f} x"
    verdict = "" if measure.met is None else "  met" if measure.met else "  MISSED"
    return f"{measure.name:48}{figures} {measure.unit:8} {ratio:>7}  {measure.limit}{verdict}".rstrip()


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    heads = list(heads)
    return "\n".join((f"| | {' | '.join(heads)} |", f"|---{'|---:' * len(heads)}|", *rows))


def _contest_row(measure: Measure) -> str:
    """The best is set in bold."""
    best = min(measure.figures.values())
    figures = ((value, _figure(value)) for value in map(measure.figures.get, COLUMNS))
    cells = (f"**{text}**" if value == best else text for value, text in figures)
    return f"| {measure.name.strip()}, {measure.unit} | {' | '.join(cells)} | {_figure(measure.ratio)} |"


def _alone_row(measure: Measure) -> str:
    ours, theirs = (_figure(measure.figures.get(name), "") for name in (OURS, DUCKDB))
    return f"| {measure.name}, {measure.unit} | {ours} | {theirs} |"


def _figure(value: float | None, absent: str = "-") -> str:
    """Three digits, or all before the point."""
    if value is None:
        return absent
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


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
