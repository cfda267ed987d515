"""Many writers of one table, and the paper model of how a table grows held to what it does."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

import k2kernel as k2
from benchmarks import data
from benchmarks.sizing import (
    BUFFER_KB_A_ROW,
    BYTES_A_ROW,
    FILE_BYTES,
    FILE_BYTES_A_ROW,
    LOAD_MB,
    ROWS_A_CORE_S,
    START_S,
    TIMES_A_COPY,
    file_bytes,
    grown,
    kept,
    load_mb,
)
from k2kernel.config import Settings
from k2kernel.lake import Lake
from tests.lake_frames import DAY, load, trades
from tests.support import ROOT

WRITERS, COMMITS, ROWS = 8, 5, 10


def write(home: Path, writer: int, ready: Barrier) -> None:
    """A process that commits files of its own, from when all writers are ready."""
    lake = Lake.open(Settings(home=home, _env_file=None))
    lake.write("trades", trades(1, "warm"), DAY)
    ready.wait(180)
    for number in range(COMMITS):
        load(lake, f"{writer:032d}{number:032d}", ROWS)


@pytest.mark.long
def test_eight_writers_get_on_alike_and_every_row_is_there_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ".k2", _env_file=None)
    lake = Lake.open(settings, create=True)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(WRITERS)
    workers = [spawn.Process(target=write, args=(settings.home, writer, ready)) for writer in range(WRITERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    done = [source.digest for ingest in lake.provenance("trades") for source in ingest.sources]
    assert len(set(done)) == len(done) == WRITERS * COMMITS
    assert lake.files("trades", lake.head("trades")).rows == WRITERS * COMMITS * ROWS
    assert len(lake.ancestors("trades")) == WRITERS * COMMITS
    ingests = lake.provenance("trades")
    order = sorted((str(each.committed_at), source.digest[:32]) for each in ingests for source in each.sources)
    assert len({writer for _, writer in order[: len(order) // 2]}) == WRITERS


def test_the_paper_reproduces_the_measured_growth(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ".k2", _env_file=None)
    lake = Lake.open(settings, create=True)
    for number in range(1, 31):
        load(lake, f"{number:064d}", ROWS)
        if number in {5, 15, 22, 30}:
            _holds(lake, number)


def _holds(lake: Lake, commits: int) -> None:
    """Manifests and files exactly, the size of metadata.json to 5 %."""
    table = lake.table("trades")
    paper = grown(commits, location=len(table.location()))
    head = table.current_snapshot()
    assert head is not None
    assert len(head.manifests(table.io)) == paper.manifests_to_plan
    folder = Path(lake.settings.warehouse_path) / "market_data" / "trades"
    assert len([path for path in folder.rglob("*.*") if path.is_file()]) == paper.files
    assert Path(table.metadata_location).stat().st_size == pytest.approx(paper.metadata_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("commits_a_day", "days", "states"), [(39, 90, 140), (390, 90, 154), (2_340, 90, 236), (24, 1, 26)]
)
def test_expiry_keeps_what_the_paper_says(commits_a_day: int, days: int, states: int) -> None:
    assert kept(commits_a_day, days) == states


def test_the_page_shows_what_the_model_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import sizing

    monkeypatch.setattr("sys.argv", ["sizing"])
    sizing.main()
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert all(table in page for table in capsys.readouterr().out.strip().split("\n\n"))
    for text in (
        f"**bytes a row** are {FILE_BYTES_A_ROW:g} in the file of a commit, which has {FILE_BYTES / 1e3:g} kB beside",
        f"and {BYTES_A_ROW} in a sorted session",
        f"is {LOAD_MB} MB and {BUFFER_KB_A_ROW} kB for each row",
        f"a processor loads {ROWS_A_CORE_S:,} rows",
    ):
        assert text in page


def test_the_readme_measured_the_bytes_of_the_model() -> None:
    (line,) = (
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| bytes a row on disk, B |")
    )
    assert float(line.split("|")[2].strip(" *")) == pytest.approx(BYTES_A_ROW, rel=0.05)


def test_the_files_of_commits_are_as_large_as_the_paper_says(tmp_path: Path) -> None:
    bench = k2.connect(tmp_path / "lake")
    for rows in (500, 5_000, 50_000):
        bench.ingest(data.csv(tmp_path, rows, 1), data.PROFILE)
        (nbytes,) = (
            file.nbytes for file in bench.lake.files("trades", bench.lake.head("trades")).files if file.rows == rows
        )
        assert nbytes == pytest.approx(file_bytes(rows), rel=0.15)


LOAD = """
import resource, sys
import k2kernel as k2
from benchmarks import data
k2.connect(sys.argv[2]).ingest(sys.argv[1], data.PROFILE)
spent = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(spent.ru_utime + spent.ru_stime, peak)
"""


COPY = """
import resource, sys
import duckdb
duckdb.execute("SET enable_progress_bar = false")
copy = "COPY (FROM read_csv($csv) ORDER BY ALL) TO $file (FORMAT parquet, COMPRESSION zstd)"
duckdb.execute(copy, {"csv": sys.argv[1], "file": sys.argv[2]})
spent = resource.getrusage(resource.RUSAGE_SELF)
print(spent.ru_utime + spent.ru_stime)
"""


def spent(program: str, *words: Path, **settings: object) -> list[float]:
    """What a Python program prints."""
    env = os.environ | {name: str(value) for name, value in settings.items()}
    run = [sys.executable, "-c", program, *map(str, words)]
    return [*map(float, subprocess.run(run, env=env, cwd=ROOT, capture_output=True, check=True).stdout.split())]


@pytest.mark.long
@pytest.mark.parametrize("buffer_rows", [100_000, 500_000])
def test_a_load_needs_what_the_paper_says(buffer_rows: int, tmp_path: Path) -> None:
    """Processor time within a third of what is said and memory within a quarter."""
    rows = 2_000_000
    csv = data.csv(tmp_path, rows, 1)
    (copied,) = spent(COPY, csv, tmp_path / "copy.parquet")
    seconds, peak_kb = spent(LOAD, csv, tmp_path / "lake", K2_INGEST_BUFFER_ROWS=buffer_rows)
    assert (seconds - START_S) / copied == pytest.approx(TIMES_A_COPY, rel=0.33)
    assert peak_kb / 1e3 == pytest.approx(load_mb(buffer_rows), rel=0.25)
    files = (tmp_path / "lake").rglob("trades/data/**/*.parquet")
    assert sum(path.stat().st_size for path in files) / rows == pytest.approx(BYTES_A_ROW, rel=0.1)
