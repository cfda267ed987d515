"""Files side by side: the same lake as one after another, and each file's fault is its own."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel import profiles
from k2kernel.config import Settings
from k2kernel.errors import AlreadyIngested, CommitConflict, FileFault, InvalidParameter
from k2kernel.ingest import Options
from k2kernel.ingest.workers import _CODE
from k2kernel.lake import Lake
from k2kernel.metrics import METRICS
from k2kernel.sample import generate
from tests.ingest_files import assert_no_orphans, command, data_files, prints


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    parts = [generate(tmp_path / f"sample-{seed}", rows=8_000, sessions=2, symbols=4, seed=seed) for seed in (7, 8)]
    return sorted(path for found in parts for path in found if "trades" in path.name)


def contents(bench: k2.Workbench) -> list[tuple[object, ...]]:
    columns = "symbol, venue, session, ts_event, price, size, source, source_offset"
    return bench.sql(f"SELECT {columns} FROM trades_raw ORDER BY ALL").to_polars().rows()


def test_four_workers_load_what_one_loads(tmp_path: Path, files: list[Path]) -> None:
    one, four = k2.connect(tmp_path / "one"), k2.connect(tmp_path / "four")
    assert len(files) >= 4
    expected = one.ingest(files, "k2-trades")
    found = four.ingest(files, "k2-trades", workers=4)
    assert (found.rows, found.lines, found.files) == (expected.rows, expected.lines, expected.files)
    assert contents(four) == contents(one)
    again = four.ingest(files, "k2-trades", workers=4)
    assert (again.rows, again.duplicate) == (0, expected.rows)
    assert sum(snapshot.rows_added for snapshot in four.snapshots("trades")) == expected.rows


def counts() -> dict[str, float]:
    """What the metrics count of loads and their commits; how often a commit was tried is chance."""
    lines = (line.rpartition(" ") for line in METRICS.text().decode().splitlines())
    grows = re.compile(r"k2_(ingest_\w+_total|ingest_seconds_count|commits_total|commit_seconds_count)\b")
    return {name: float(value) for name, _, value in lines if grows.match(name)}


def test_what_workers_count_is_counted_here(tmp_path: Path, files: list[Path]) -> None:
    (wrong := tmp_path / "wrong.csv").write_text("nothing,of,that\n1,2,3\n")
    found = []
    for workers in (1, 2):
        before, began = counts(), time.time()
        list(k2.connect(tmp_path / f"lake-{workers}").ingest_each([*files[:3], wrong], "k2-trades", workers=workers))
        found.append({name: value - before.get(name, 0) for name, value in counts().items()})
        assert METRICS.ingest_last.series[()][0] >= began
    one, two = found
    assert two == one
    assert one['k2_ingest_files_total{outcome="loaded"}'] == 3
    assert one['k2_ingest_files_total{outcome="failed"}'] == 1
    assert one['k2_ingest_rows_total{table="trades"}'] > 0


def test_a_fault_is_of_its_file_and_the_others_are_loaded(tmp_path: Path, files: list[Path]) -> None:
    bench, wrong = k2.connect(tmp_path / "lake"), tmp_path / "wrong.csv"
    wrong.write_text("nothing,of,that\n1,2,3\n")
    loaded = list(bench.ingest_each([files[0], wrong, *files[1:]], "k2-trades", workers=2))
    assert [each.path for each in loaded] == [files[0], wrong, *files[1:]]
    assert [each.receipt is None for each in loaded] == [False, True, *[False] * len(files[1:])]
    with pytest.raises(FileFault, match=r"wrong\.csv"):
        loaded[1].get()
    assert bench.sql("SELECT count(*) AS n FROM trades_raw").to_arrow()["n"][0].as_py() == sum(
        each.receipt.rows for each in loaded if each.receipt
    )


def test_there_is_at_least_one_worker(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(InvalidParameter, match="workers=0"):
        k2.connect(tmp_path / "lake").ingest(files, "k2-trades", workers=0)


@pytest.mark.parametrize(
    "error",
    [
        FileFault("a.csv", "has no rows"),
        AlreadyIngested("a.csv", "trades", "BHP", "RIO"),
        CommitConflict("trades", "was changed"),
        InvalidParameter("hours", "x", "is no such hours"),
    ],
)
def test_an_error_comes_whole_from_another_process(error: k2.K2Error) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of which a worker writes a part long before it has read them."""
    return generate(tmp_path_factory.mktemp("large"), rows=1_000_000, sessions=1, symbols=4, kinds=("trades",))[:2]


class Ingest:
    """`k2 ingest --workers 2` of files into a fresh lake, as a job of its own."""

    def __init__(self, files: list[Path], home: Path) -> None:
        self.files, self.home = files, home
        self.process = subprocess.Popen(
            command("ingest", *files, "-p", "k2-trades", "--workers", 2, home=home),
            env=os.environ | {"K2_INGEST_BUFFER_ROWS": "50000"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def workers(self) -> dict[int, Path | None]:
        """The ids of the workers, each with the file that it has open."""
        found = {}
        for pid in map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()):
            found[pid] = next((path for path in self.files if str(path) in opened(pid)), None)
        return found

    def writing(self) -> dict[int, Path | None]:
        """The workers, once one of them reads and has written a part, or another has."""
        while self.process.poll() is None:
            workers = self.workers
            if any(workers.values()) and list(self.home.rglob("*.parquet")):
                return workers
            time.sleep(0.002)
        raise AssertionError(self.process.communicate())

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def again(self) -> dict[str, str]:
        """Load the files again; the fingerprints of the tables."""
        k2.connect(self.home).ingest(self.files, "k2-trades")
        return prints(Lake.open(Settings(home=self.home)))


@pytest.fixture(scope="module")
def right(large: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The fingerprints of a lake into which one worker loads the files."""
    home = tmp_path_factory.mktemp("right")
    k2.connect(home).ingest(large, "k2-trades")
    return prints(Lake.open(Settings(home=home)))


def test_files_that_load_side_by_side_are_written_once(tmp_path: Path, large: list[Path]) -> None:
    """They commit in the order in which they began, so none has to be given a later time of its ingest."""
    before = METRICS.written_files.series[()][0]
    bench = k2.connect(tmp_path / "lake")
    bench.ingest(large, "k2-trades", workers=2)
    assert METRICS.written_files.series[()][0] - before == len(data_files(bench.lake))
    assert [snapshot.source for snapshot in bench.snapshots("trades")][::-1] == [str(path) for path in large]


def opened(pid: int) -> Iterator[str]:
    """The paths of the files that a process has open."""
    for each in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(FileNotFoundError):
            yield str(each.readlink())


def gone(pids: Iterable[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
        time.sleep(0.02)
    return not left


def test_a_worker_that_is_killed_is_the_fault_of_its_file(
    tmp_path: Path, large: list[Path], right: dict[str, str]
) -> None:
    job = Ingest(large, tmp_path / "lake")
    pid, path = next((pid, path) for pid, path in job.writing().items() if path)
    os.kill(pid, signal.SIGKILL)
    code, out, err = job.ended()
    assert (code, out.count(" rows")) == (2, 1), err
    assert "Traceback" not in err
    assert f"k2: {path}: the process that loaded it was killed (SIGKILL). Run the same again" in err
    assert job.again() == right


@pytest.mark.parametrize("stop", ["interrupt", pytest.param("kill", marks=pytest.mark.long)])
def test_workers_end_with_the_ingest_and_leave_nothing(
    stop: str, tmp_path: Path, large: list[Path], right: dict[str, str]
) -> None:
    job = Ingest(large, tmp_path / "lake")
    workers = job.writing()
    if stop == "interrupt":
        os.killpg(job.process.pid, signal.SIGINT)  # as a terminal does
        code, _, err = job.ended()
        assert (code, err) == (130, "k2: interrupted; nothing half-done is left\n")
        assert gone(workers, 0)
    else:
        job.process.kill()
        job.ended()
        assert gone(workers)
    # Files of a commit whose outcome nobody saw stay, because it may have landed.
    k2.connect(job.home).orphans("trades", older_than="0s", dry_run=False)
    assert_no_orphans(Lake.open(Settings(home=job.home)))
    assert job.again() == right


def test_a_worker_ends_with_an_ingest_that_dies_in_the_middle_of_a_word(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen([sys.executable, "-c", _CODE, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    given = Settings(home=tmp_path / ".k2"), profiles.load("k2-trades"), Options({})
    with ours:
        ours.sendall(pickle.dumps(given) + pickle.dumps((tmp_path / "a.csv", None))[:-5])
    try:
        assert worker.wait(20) == 0
    finally:
        worker.kill()
