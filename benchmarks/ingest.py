"""Ingest of one large CSV beside DuckDB's own sorted, partitioned COPY of it, each in a process of its own."""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import data
from benchmarks.report import DUCKDB, OURS, Measure, Report

_COPY = """
COPY (
    SELECT * REPLACE (string_split(conditions, ';') AS conditions),
        (ts_event AT TIME ZONE 'America/New_York')::DATE AS session
    FROM read_csv('{csv}', header = true, columns = {types})
    ORDER BY session, symbol, ts_event, sequence
) TO '{folder}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (session), OVERWRITE_OR_IGNORE)
"""


def measure(report: Report, csv: Path, home: Path, rounds: int) -> None:
    """Ingest `csv` into a lake at `home` and COPY it with DuckDB, in turns; the last lake stays."""
    copied = home.with_name("copied")
    runs: dict[str, list[dict[str, float]]] = {OURS: [], DUCKDB: []}
    for _ in range(rounds):
        for name, target in ((DUCKDB, copied), (OURS, home)):
            shutil.rmtree(target, ignore_errors=True)
            runs[name].append(_in_child(name, csv, target))
    speed = {name: report.rows / _median(each, "seconds") for name, each in runs.items()}
    report.add(Measure("ingest of a CSV", "rows/s", speed, least=0.5 * speed[DUCKDB]))
    report.add(Measure("  seconds", "s", {name: _median(each, "seconds") for name, each in runs.items()}))
    peak = {name: max(run["peak_mb"] for run in each) for name, each in runs.items()}
    report.add(Measure("  peak memory of the process", "MB", peak, most=3_000))
    sizes = {OURS: _nbytes(home / "warehouse"), DUCKDB: _nbytes(copied)}
    report.add(Measure("  bytes per row on disk", "B", {name: size / report.rows for name, size in sizes.items()}))
    shutil.rmtree(copied)


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def _in_child(name: str, csv: Path, target: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ingest", name, str(csv), str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _ours(csv: Path, home: Path) -> None:
    import k2kernel as k2

    workbench = k2.connect(home)
    workbench.ingest(csv, profile=data.PROFILE)


def _duckdb(csv: Path, folder: Path) -> None:
    import duckdb

    types = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in data.TYPES.items()) + "}"
    with duckdb.connect() as connection:
        connection.execute(_COPY.format(csv=csv, folder=folder, types=types))


def _peak_mb() -> float:
    """Peak resident memory; on Linux ru_maxrss starts at that of the parent, so the program's own mark is read."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) / 1e3 for line in status.open() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """The child: do the work of one contender, then print its seconds (imports included) and peak memory."""
    name, csv, target = sys.argv[1:]
    start = time.perf_counter()
    (_ours if name == OURS else _duckdb)(Path(csv), Path(target))
    seconds = time.perf_counter() - start
    # Linux counts in KiB, macOS in bytes.
    print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    main()
