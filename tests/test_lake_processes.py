"""Writers in several processes: at once, killed, and stopped."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k2kernel.errors import CommitConflict
from k2kernel.lake import Lake, turns
from tests.lake_frames import load, rows_of, settings


def _load_some(home: str, name: str, count: int) -> None:
    lake = Lake.open(settings(Path(home)), create=True)
    for number in range(count):
        load(lake, f"{name}{number}", rows=3)


def test_several_processes_make_the_lake_and_load_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_load_some, args=(str(tmp_path), name, 4)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    lake = Lake.open(settings(tmp_path))
    assert len(lake.ancestors("trades")) == 12
    assert rows_of(lake)["source"].value_counts()["count"].to_list() == [3] * 12


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_writer_leaves_the_whole_file_or_nothing(lake: Lake, when: str) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.lake_frames import load, settings
from k2kernel.lake import Lake
lake = Lake.open(settings(Path({str(lake.settings.home.parent)!r})))
real = lake.catalog.commit_table
def commit_table(*args, **kwargs):
    if {when!r} == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
lake.catalog.commit_table = commit_table
load(lake, "a")
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1])
    assert killed.returncode == -9
    if when == "before":
        load(lake, "a")
    else:
        with pytest.raises(CommitConflict):
            load(lake, "a")
    assert rows_of(lake).height == 10


HOLD = """
import sys
from pathlib import Path
from k2kernel.lake.turns import Turns
with Turns(Path(sys.argv[1])).at("trades"):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_writers_take_turns_and_one_that_is_stopped_is_not_waited_for_long(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has its turn: it is waited for while it may end soon, then the commit is made without one."""
    words = [sys.executable, "-c", HOLD, str(lake.settings.home / "turns")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        monkeypatch.setattr(turns, "PATIENCE_S", 0.2)
        load(lake, "a")
        monkeypatch.setattr(turns, "PATIENCE_S", 60.0)
        other.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(load, lake, "b", minute=1)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            other.kill()
            assert waiting.result(30) == lake.head("trades")
    assert len(lake.ancestors("trades")) == 2
