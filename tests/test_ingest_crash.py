"""Processes that die, commits that fail, writers that race: a rerun always ends in exactly the right tables."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from k2kernel import profiles
from k2kernel.config import Settings
from k2kernel.errors import CommitConflict, StorageFault
from k2kernel.ingest import ingest_file
from k2kernel.lake import Lake, commit
from tests.ingest_files import (
    assert_no_orphans,
    command,
    committed_files,
    content,
    counts,
    data_files,
    ingest,
    lines,
    mixed,
    prints,
    rows_of,
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
    return path, mixed(tmp_path), prints(lake)


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


def killed(home: Path, path: Path, profile: str, *how: str) -> None:
    """A process that is killed before or after its commit `how[0]`; `how` goes on with when and option."""
    args = [sys.executable, "-c", KILLED, str(home), str(path), profile, *how]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("number", "when"), [(1, "before"), (1, "after"), (2, "after"), (3, "after")])
def test_killed_around_a_commit(tmp_path: Path, right: Any, number: int, when: str) -> None:
    path, profile, wanted = right
    killed(tmp_path / "lake", path, profile, str(number), when, "plain")
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
    killed(tmp_path / "lake", path, profile, "2", "after", "replace")
    ingest(lake, path, profile, replace=True)
    assert prints(lake) == wanted


@pytest.mark.parametrize("number", ["1", "2"])
def test_killed_while_a_corrected_file_is_loaded(tmp_path: Path, right: Any, number: str) -> None:
    path, profile, wanted = right
    lake = new_lake(tmp_path / "lake")
    ingest(lake, write(path, ["T,x,AAA,1,1,1", *MANY[5:1_000]]), profile)
    write(path, MANY)
    killed(tmp_path / "lake", path, profile, number, "after", "replace")
    ingest(lake, path, profile, replace=True)
    assert prints(lake) == wanted
    assert ingest(lake, path, profile).rows == 0


def test_killed_while_appending_what_has_grown(tmp_path: Path, right: Any) -> None:
    path, profile, _ = right
    lake = new_lake(tmp_path / "lake")
    ingest(lake, write(tmp_path / "first.csv", MANY[:1_000]), profile)
    killed(tmp_path / "lake", path, profile, "1", "after", "grown")
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
    monkeypatch.setattr(commit, "_PATIENCE_S", 0)
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
    with pytest.raises(StorageFault, match="Not a directory"):
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


@pytest.mark.parametrize("how", ["plain", "replace", "corrected"])
def test_another_writer_is_quicker_at_each_table_in_turn(tmp_path: Path, right: Any, how: str) -> None:
    """The other one commits a table just before each of ours, so every look is out of date by one table."""
    path, profile, wanted = right
    lake, other = new_lake(tmp_path / "lake"), new_lake(tmp_path / "lake")
    if how == "replace":
        ingest(other, path, profile, {"venue": "FXCM"})
    if how == "corrected":
        ingest(other, write(path, MANY[1:-2]), profile)
        write(path, MANY)
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
        threading.Thread(target=ingest, args=(each, path, profile), kwargs={"replace": how != "plain"})
        for each in (other, lake)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert prints(Lake.open(lake.settings)) == wanted


@pytest.mark.parametrize("number", [1, 2])
def test_what_another_writer_brings_back_meanwhile_stays(tmp_path: Path, number: int) -> None:
    """The old content of a path is under another name now, and is loaded just before a commit that takes it out."""
    path, profile = write(tmp_path / "a.csv", lines(0, 10)), mixed(tmp_path)
    lake, other = new_lake(tmp_path / "lake"), new_lake(tmp_path / "lake")
    ingest(lake, path, profile)
    path.rename(tmp_path / "a.1.csv")
    write(path, lines(10, 30))

    def overtaken(real: Any, *args: Any, **kwargs: Any) -> Any:
        ingest(other, tmp_path / "a.1.csv", profile, replace=True)
        return real(*args, **kwargs)

    Faults(lake, number, overtaken)
    ingest(lake, path, profile, replace=True)
    assert counts(lake) == {"trades": 15, "quotes": 15}
    assert_no_orphans(lake)


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


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    right: tuple[Path, str, dict[str, str]], tmp_path: Path
) -> None:
    path, profile, tables = right
    lake = new_lake(tmp_path / "full")
    words = command("ingest", path, "--profile", profile, home=tmp_path / "full")
    most = min(Path(file).stat().st_size for file in committed_files(new_lake(tmp_path / "right"))) - 1

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"k2: \S+\.parquet cannot be used: File too large\. Make room .*\.\n", done.stderr)
    assert data_files(lake) == set()
    assert subprocess.run(words, capture_output=True, timeout=120, check=False).returncode == 0
    assert prints(new_lake(tmp_path / "full")) == tables


@pytest.mark.parametrize("kind", ["a file", "a damaged catalog"])
def test_a_home_that_cannot_be_used_is_one_sentence(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    if kind == "a file":
        home.write_text("no folder")
    else:
        home.mkdir()
        (home / "catalog.db").write_text("no database at all" * 100)
    with pytest.raises(StorageFault, match=r"cannot be used: (File exists|file is not a database)"):
        Lake.open(Settings(home=home), create=True)
