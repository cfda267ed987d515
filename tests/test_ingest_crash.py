"""Processes that die, commits that fail, writers that race: a rerun always ends in exactly the right tables."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from k2kernel import profiles
from k2kernel.config import Settings
from k2kernel.errors import CommitConflict, LakeNotFound
from k2kernel.ingest import ingest_file
from k2kernel.lake import Lake, commit
from k2kernel.sample import generate
from tests.ingest_files import (
    assert_no_orphans,
    command,
    committed_files,
    content,
    counts,
    data_files,
    fingerprint,
    ingest,
    lines,
    mixed,
    rows_of,
    run,
    write,
)
from tests.support import ROOT

TABLES = ("dead_letter", "trades", "quotes")
MANY = [*lines(0, 4_000, "TQB"), "T,x,AAA,1,1,1", "Q,1,AAA,1,much,1"]


def new_lake(home: Path) -> Lake:
    return Lake.open(Settings(home=home, ingest_buffer_rows=1_000), create=True)


@pytest.fixture
def right(tmp_path: Path) -> tuple[Path, str, dict[str, str]]:
    """A file, its profile, and what its tables must be."""
    path = write(tmp_path / "a.csv", MANY)
    lake = new_lake(tmp_path / "right")
    ingest(lake, path, mixed(tmp_path))
    return path, mixed(tmp_path), {table: fingerprint(lake, table) for table in TABLES}


def prints(lake: Lake) -> dict[str, str]:
    return {table: fingerprint(lake, table) for table in TABLES}


class Faults:
    """Counts the commits of a lake, and lets `act` take the place of the one with a number."""

    def __init__(self, lake: Lake, number: int, act: Callable[..., Any], last: int | None = None) -> None:
        self.count = 0
        real = lake.catalog.commit_table

        def commit_table(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            hit = number <= self.count <= (last or number)
            return act(real, *args, **kwargs) if hit else real(*args, **kwargs)

        lake.catalog.commit_table = commit_table  # type: ignore[method-assign]


KILLED = """
import os, signal, sys
from pathlib import Path
from k2kernel.config import Settings
from k2kernel.lake import Lake
from tests.ingest_files import ingest
from tests.test_ingest_crash import Faults
home, path, profile, number, when, how = sys.argv[1:]
lake = Lake.open(Settings(home=Path(home), ingest_buffer_rows=1000), create=True)
def die(real, *args, **kwargs):
    if when == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
Faults(lake, int(number), die)
ingest(lake, Path(path), profile, replace=how == "replace", append_grown=how == "grown")
"""


def killed(home: Path, path: Path, profile: str, number: int, when: str, how: str = "plain") -> None:
    """A process that is killed before or after its commit with this number."""
    args = [sys.executable, "-c", KILLED, str(home), str(path), profile, str(number), when, how]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("number", "when"), [(1, "before"), (1, "after"), (2, "after"), (3, "after")])
def test_killed_around_a_commit(tmp_path: Path, right: Any, number: int, when: str) -> None:
    path, profile, wanted = right
    killed(tmp_path / "lake", path, profile, number, when)
    lake = Lake.open(Settings(home=tmp_path / "lake"))
    done = number if when == "after" else number - 1
    assert [lake.head(table) is not None for table in ("dead_letter", "trades", "quotes")] == [
        n < done for n in range(3)
    ]
    receipt = ingest(lake, path, profile)
    assert prints(lake) == wanted
    assert receipt.lines == 4_002
    assert receipt.rejected == (2 if done == 0 else 0)
    assert [lake.snapshots(table)[0].rows_total for table in TABLES] == [len(rows_of(lake, table)) for table in TABLES]
    assert ingest(lake, path, profile).rows == 0


def test_killed_while_replacing(tmp_path: Path, right: Any) -> None:
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")
    first = tmp_path / "first.csv"
    write(first, MANY[:1_000])
    ingest(lake, first, profile)
    killed(tmp_path / "lake", path, profile, 2, "after", "replace")
    ingest(lake, path, profile, replace=True)
    assert prints(lake) == wanted


def test_killed_while_appending_what_has_grown(tmp_path: Path, right: Any) -> None:
    path, profile, _ = right
    lake = new_lake(tmp_path / "lake")
    ingest(lake, write(tmp_path / "first.csv", MANY[:1_000]), profile)
    killed(tmp_path / "lake", path, profile, 1, "after", "grown")
    ingest(lake, path, profile, append_grown=True)
    whole = new_lake(tmp_path / "right")
    for table in TABLES:
        mine, other = (rows_of(each, table).drop("ts_ingest", "source").sort("source_offset") for each in (lake, whole))
        assert mine.equals(other)


def test_interrupted_between_commits(tmp_path: Path, right: Any) -> None:
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")

    def interrupt(*_args: Any, **_kwargs: Any) -> Any:
        raise KeyboardInterrupt

    Faults(lake, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ingest(lake, path, profile)
    assert counts(lake) == {"dead_letter": 2}
    assert committed_files(lake) <= data_files(lake)
    ingest(lake, path, profile)
    assert prints(lake) == wanted


def test_answers_that_are_lost_on_every_attempt(tmp_path: Path, right: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table's commit lands while its writer is told that nobody knows."""
    monkeypatch.setattr(commit, "_LONGEST_WAIT", 0.001)
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")

    def lost(real: Any, *args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise CommitStateUnknownException("timed out")

    Faults(lake, 1, lost, last=100)
    ingest(lake, path, profile)
    assert prints(lake) == wanted
    assert_no_orphans(lake)


def test_the_answer_to_the_last_attempt_is_lost(tmp_path: Path, right: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_LONGEST_WAIT", 0.001)
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")
    attempts = commit._ATTEMPTS

    def fail_then_lose(real: Any, *args: Any, **kwargs: Any) -> Any:
        if faults.count == attempts:
            real(*args, **kwargs)
        raise CommitStateUnknownException("timed out")

    faults = Faults(lake, 1, fail_then_lose, last=attempts)
    ingest(lake, path, profile)
    assert prints(lake) == wanted
    assert len(lake.snapshots("dead_letter")) == 1
    assert committed_files(lake) <= data_files(lake)


def test_commits_that_never_succeed_leave_nothing(tmp_path: Path, right: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_LONGEST_WAIT", 0.001)
    path, profile, _ = right
    lake = new_lake(tmp_path / "lake")

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise CommitFailedException("no")

    Faults(lake, 1, refuse, last=10_000)
    with pytest.raises(CommitConflict):
        ingest(lake, path, profile)
    assert counts(lake) == {}
    assert data_files(lake) == set()


def test_an_error_of_the_writer_reaches_the_caller_and_leaves_nothing(tmp_path: Path, right: Any) -> None:
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")
    folder = Path(lake.settings.warehouse_path) / "market_data" / "quotes"
    (folder / "data").write_text("a file where a folder must be")
    with pytest.raises(OSError, match=r"."):
        ingest(lake, path, profile)
    assert counts(lake) == {}
    assert data_files(lake) == set()
    (folder / "data").unlink()
    ingest(lake, path, profile)
    assert prints(lake) == wanted
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("k2-write")]


def test_two_processes_with_the_same_file(tmp_path: Path, right: Any) -> None:
    path, profile, wanted = right
    args = command("ingest", path, "--profile", profile, home=tmp_path / "lake")
    started = [subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    finished = [process.communicate(timeout=90) for process in started]
    assert [process.returncode for process in started] == [0, 0], finished
    lake = Lake.open(Settings(home=tmp_path / "lake"))
    assert prints(lake) == wanted
    assert_no_orphans(lake)


@pytest.mark.parametrize("how", ["plain", "replace"])
def test_another_writer_is_quicker_at_each_table_in_turn(tmp_path: Path, right: Any, how: str) -> None:
    """The other one commits a table just before each of ours, so every look is out of date by one table."""
    path, profile, wanted = right
    lake, other = new_lake(tmp_path / "lake"), new_lake(tmp_path / "lake")
    if how == "replace":
        ingest(other, path, profile, {"venue": "FXCM"})
    turns = [threading.Semaphore(0) for _ in range(2)]
    mine, theirs = lake.append, other.append

    def step_aside(*args: Any, **kwargs: Any) -> int:
        turns[0].release()
        turns[1].acquire(timeout=5)
        return mine(*args, **kwargs)

    def be_quicker(*args: Any, **kwargs: Any) -> int:
        turns[0].acquire(timeout=5)
        try:
            return theirs(*args, **kwargs)
        finally:
            turns[1].release()

    lake.append, other.append = step_aside, be_quicker  # type: ignore[method-assign]
    threads = [
        threading.Thread(target=ingest, args=(each, path, profile), kwargs={"replace": how == "replace"})
        for each in (other, lake)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert prints(Lake.open(lake.settings)) == wanted


def test_a_conflict_in_the_middle_ends_well_without_the_caller_knowing(tmp_path: Path, right: Any) -> None:
    path, profile, wanted = right
    lake, other = new_lake(tmp_path / "lake"), new_lake(tmp_path / "lake")

    def overtaken(real: Any, *args: Any, **kwargs: Any) -> Any:
        ingest(other, path, profile)
        return real(*args, **kwargs)

    Faults(lake, 2, overtaken)
    receipt = ingest(lake, path, profile)
    assert receipt.duplicate == 2 + 1_333 * 4 + 1
    assert prints(lake) == wanted
    assert_no_orphans(lake)


def sample(folder: Path, rows: int) -> tuple[Path, str]:
    """Generated trades and quotes of one venue in one file in order of time, some of its rows spoilt; and its profile."""
    trades, quotes = (
        pl.read_csv(path, infer_schema=False).with_columns(kind=pl.lit(kind))
        for path, kind in zip(generate(folder, rows=rows, symbols=2, kinds=("trades", "quotes"))[:2], "TQ", strict=True)
    )
    both = pl.concat([trades, quotes], how="diagonal").sort("ts_event", maintain_order=True).fill_null("")
    spoilt = pl.int_range(len(both)) % 1_999 == 1_000
    both = both.with_columns(ts_event=pl.when(spoilt).then(pl.lit("?")).otherwise("ts_event"))
    path = folder / "both.csv"
    both.write_csv(path, quote_style="never")
    routes = []
    for table, kind, names in (
        ("trades", "T", "trade_id price size side exec_venue"),
        ("quotes", "Q", "bid_px ask_px bid_sz ask_sz"),
    ):
        columns = "\n".join(f'{name} = {{ column = "{name}" }}' for name in f"symbol venue sequence {names}".split())
        routes.append(
            f'[[route]]\ntable = "{table}"\nwhen = {{ column = "kind", equals = "{kind}" }}\n[route.columns]\n{columns}\n'
            'ts_event = { column = "ts_event", layout = "iso8601" }\nconditions = { column = "conditions", split = ";" }\n'
        )
    profile = folder / "both.toml"
    profile.write_text('title = "both"\n[file]\nnull_if = ""\n' + "".join(routes))
    return path, str(profile)


class Killing:
    """`k2 ingest` of a file into a fresh lake, killed at some moment, and run again."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.path, self.profile = sample(folder, rows)
        began = time.monotonic()
        done = run("ingest", self.path, "--profile", self.profile, home=folder / "right")
        self.seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        lake = Lake.open(Settings(home=folder / "right"))
        self.right = prints(lake)
        kinds = pl.col("kind").replace_strict({"T": "trades", "Q": "quotes"})
        table = pl.when(pl.col("ts_event") == "?").then(pl.lit("dead_letter")).otherwise(kinds)
        self.counts = dict(
            pl.read_csv(self.path, infer_schema=False).select(table)["literal"].value_counts().iter_rows()
        )
        assert counts(lake) == self.counts

    def at(self, home: Path, moment: Callable[[subprocess.Popen[bytes]], None]) -> str:
        """Start, kill at the moment, look that no table is half there, run again and compare; what had been done."""
        args = command("ingest", self.path, "--profile", self.profile, home=home)
        settings = os.environ | {"K2_INGEST_BUFFER_ROWS": "50000"}
        process = subprocess.Popen(args, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        moment(process)
        process.kill()
        process.wait()
        there = self._there(home)
        assert there.items() <= self.counts.items(), "a table is there wholly or not at all"
        done = run("ingest", self.path, "--profile", self.profile, home=home)
        assert done.returncode == 0, done.stderr
        lake = Lake.open(Settings(home=home))
        assert counts(lake) == self.counts
        assert prints(lake) == self.right
        assert committed_files(lake) <= data_files(lake)
        again = run("ingest", self.path, "--profile", self.profile, home=home)
        assert "there already" in again.stdout
        assert counts(lake) == self.counts
        return f"{', '.join(there) or 'nothing'} committed (exit {process.returncode})"

    @staticmethod
    def _there(home: Path) -> dict[str, int]:
        try:
            return counts(Lake.open(Settings(home=home), create=True))
        except LakeNotFound:
            return {}

    def commits(self, home: Path, number: int) -> Callable[[subprocess.Popen[bytes]], None]:
        """The moment at which so many tables have a snapshot."""

        def moment(process: subprocess.Popen[bytes]) -> None:
            folder = home / "warehouse" / "market_data"
            while process.poll() is None and len(list(folder.glob("*/metadata/snap-*.avro"))) < number:
                time.sleep(0.001)

        return moment


def sleep(seconds: float) -> Callable[[object], None]:
    return lambda _process: time.sleep(seconds)


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Killing:
    return Killing(tmp_path_factory.mktemp("killing"), 40_000)


def test_killed_while_it_reads(killing: Killing, tmp_path: Path) -> None:
    killing.at(tmp_path / "lake", sleep(killing.seconds * random.uniform(0.4, 0.8)))


@pytest.mark.parametrize("number", [1, 3])
def test_killed_while_it_commits(killing: Killing, tmp_path: Path, number: int) -> None:
    killing.at(tmp_path / "lake", killing.commits(tmp_path / "lake", number))


def test_interrupted_by_the_keyboard(killing: Killing, tmp_path: Path) -> None:
    home = tmp_path / "lake"
    args = command("ingest", killing.path, "--profile", killing.profile, home=home)
    settings = os.environ | {"K2_INGEST_BUFFER_ROWS": "2000"}
    process = subprocess.Popen(args, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(home.glob("warehouse/market_data/*/data/**/*.parquet")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    lake = Lake.open(Settings(home=home))
    assert counts(lake).items() <= killing.counts.items()
    assert_no_orphans(lake)
    assert run("ingest", killing.path, "--profile", killing.profile, home=home).returncode == 0
    assert prints(lake) == killing.right


def test_a_full_disk_is_an_error_and_leaves_nothing_committed(killing: Killing, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a disk that is full: no file may pass 20 kB."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from k2kernel.config import Settings;"
        "from k2kernel.lake import Lake; from tests.ingest_files import ingest;"
        "lake = Lake.open(Settings(home=Path(sys.argv[1])), create=True);"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "ingest(lake, Path(sys.argv[2]), sys.argv[3])"
    )
    args = [sys.executable, "-c", code, str(tmp_path / "lake"), str(killing.path), killing.profile]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "IO Error" in done.stderr or "OSError" in done.stderr
    lake = Lake.open(Settings(home=tmp_path / "lake"))
    assert counts(lake) == {}
    ingest(lake, killing.path, killing.profile)
    assert prints(lake) == killing.right


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    killing = Killing(tmp_path / "made", 700_000)
    dice = random.Random()
    for number in range(10):
        share = (number + dice.random()) / 10
        outcome = killing.at(tmp_path / f"lake-{number}", sleep(killing.seconds * share))
        print(f"killed after {share:.0%} of {killing.seconds:.1f} s: {outcome}")  # noqa: T201 - figures for the reader
    for number in (1, 2, 3):
        home = tmp_path / f"commit-{number}"
        print(f"killed in commit {number}: {killing.at(home, killing.commits(home, number))}")  # noqa: T201


def test_the_content_of_a_lake_does_not_depend_on_how_often_it_failed(tmp_path: Path, right: Any) -> None:
    path, profile, _ = right
    lake = new_lake(tmp_path / "lake")
    for _ in range(2):

        def fail(*_args: Any, **_kwargs: Any) -> Any:
            raise RuntimeError("a fault that nobody foresaw")

        Faults(lake, 2, fail)
        with pytest.raises(RuntimeError):
            ingest_file(lake, path, profiles.load(profile))
        del lake.catalog.commit_table
    ingest(lake, path, profile)
    once = new_lake(tmp_path / "once")
    ingest(once, path, profile)
    assert [content(lake, table) for table in TABLES] == [content(once, table) for table in TABLES]
