"""`k2 ingest` killed at random moments, interrupted, or out of disk: a rerun ends in exactly the right tables."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.sample import generate
from tests.ingest_files import assert_no_orphans, command, committed_files, counts, data_files, ingest, prints, run
from tests.support import ROOT

ROUTE = """
[[route]]
table = "{table}"
when = {{ column = "kind", equals = "{kind}" }}
[route.columns]
ts_event = {{ column = "ts_event", layout = "iso8601" }}
conditions = {{ column = "conditions", split = ";" }}
{columns}
"""


def _columns(names: str) -> str:
    return "\n".join(f'{name} = {{ column = "{name}" }}' for name in f"symbol venue sequence {names}".split())


def sample(folder: Path, rows: int) -> tuple[Path, str]:
    """Generated trades and quotes in one file in order of time, some of its rows spoilt; and its profile."""
    trades, quotes = (
        pl.read_csv(path, infer_schema=False).with_columns(kind=pl.lit(kind))
        for path, kind in zip(generate(folder, rows=rows, symbols=2, kinds=("trades", "quotes"))[:2], "TQ", strict=True)
    )
    both = pl.concat([trades, quotes], how="diagonal").sort("ts_event", maintain_order=True).fill_null("")
    spoilt = pl.int_range(len(both)) % 1_999 == 1_000
    both = both.with_columns(ts_event=pl.when(spoilt).then(pl.lit("?")).otherwise("ts_event"))
    path = folder / "both.csv"
    both.write_csv(path, quote_style="never")
    columns = {"trades": "trade_id price size side exec_venue", "quotes": "bid_px ask_px bid_sz ask_sz"}
    routes = [
        ROUTE.format(table=table, kind=table[0].upper(), columns=_columns(names)) for table, names in columns.items()
    ]
    profile = folder / "both.toml"
    profile.write_text('title = "both"\n[file]\nnull_if = ""\n' + "".join(routes))
    return path, str(profile)


class Killing:
    """`k2 ingest` of a file into a fresh lake, killed at some moment, and run again."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.path, self.profile = sample(folder, rows)
        self.seconds = min(self._seconds(folder / name) for name in ("warm-up", "right"))
        lake = Lake.open(Settings(home=folder / "right"))
        self.right = prints(lake)
        kinds = pl.col("kind").replace_strict({"T": "trades", "Q": "quotes"})
        table = pl.when(pl.col("ts_event") == "?").then(pl.lit("dead_letter")).otherwise(kinds)
        self.counts = dict(
            pl.read_csv(self.path, infer_schema=False).select(table)["literal"].value_counts().iter_rows()
        )
        assert counts(lake) == self.counts

    def _seconds(self, home: Path) -> float:
        began = time.monotonic()
        done = run("ingest", self.path, "--profile", self.profile, home=home)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - began

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
        assert ingest(lake, self.path, self.profile).rows == 0
        assert counts(lake) == self.counts
        return f"{', '.join(there) or 'nothing'} committed (exit {process.returncode})"

    @staticmethod
    def _there(home: Path) -> dict[str, int]:
        return counts(Lake.open(Settings(home=home), create=True))

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
    assert (process.returncode, said) == (130, "k2: interrupted; nothing half-done is left\n")
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
