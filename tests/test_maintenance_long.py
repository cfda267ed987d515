"""Thousands of small commits: a maintained table stays as quick and nearly as small as one that was loaded at once."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import k2kernel as k2
from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.lake.reachable import on_disk
from tests.lake_frames import DAY, OPEN, came_from, trades

COMMITS = int(os.environ.get("TEST_COMMITS", "5000"))
ROWS = 200
EVERY = 25
SYMBOLS = [f"S{number:02}" for number in range(20)]


def rows_of_commit(number: int) -> pl.DataFrame:
    """Trades of twenty symbols in some twenty seconds of a day, prices, sizes and times at random."""
    rng, day = random.Random(number), DAY + timedelta(days=number * 10 // COMMITS)
    start = OPEN + (day - DAY) + timedelta(seconds=number * 10 % COMMITS * 2)
    frame = trades(
        ROWS,
        f"{number:064x}",
        day,
        symbol=rng.choices(SYMBOLS, k=ROWS),
        ts_event=sorted(start + timedelta(microseconds=rng.randrange(20_000_000)) for _ in range(ROWS)),
        price=[Decimal(rng.randrange(3_000, 4_000)) / 100 for _ in range(ROWS)],
        size=[Decimal(rng.randrange(1, 2_000)) for _ in range(ROWS)],
    )
    return frame.with_columns(ts_ingest=pl.lit(OPEN + timedelta(minutes=number)))


def median(work: Callable[[], object], times: int = 15) -> float:
    """Seconds that `work` takes."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def loaded_at_once(home: Path) -> Lake:
    """The same rows in one load, a file a session."""
    lake = Lake.open(Settings(home=home), create=True)
    everything = pl.concat([rows_of_commit(number) for number in range(COMMITS)])
    parts = everything.partition_by("session", as_dict=True)
    files = [lake.write("trades", part, key[0]).path for key, part in parts.items()]
    lake.append("trades", files, came_from("all", everything.height))
    return lake


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_maintained_table_stays_small_and_quick(tmp_path: Path) -> None:
    keep = Settings(home=tmp_path / "small", keep_last=10, keep_every="0s", keep_hourly="0s", keep_daily="0s")
    # Nobody else writes. PyIceberg leaves behind the manifest of each append that merges manifests.
    lake = Lake.open(keep.model_copy(update={"orphan_age": "10s"}), create=True)
    commits = []
    for number in range(COMMITS):
        frame = rows_of_commit(number)
        began = time.perf_counter()
        written = lake.write("trades", frame, frame["session"][0])
        lake.append("trades", [written.path], came_from(f"{number:064x}", ROWS, number))
        commits.append(time.perf_counter() - began)
        if number % EVERY == EVERY - 1:
            lake.maintenance.maintain("trades")
            if number % (EVERY * 8) == EVERY * 8 - 1:
                lake.maintenance.maintain("ingest_log")
    lake.maintenance.maintain()
    fresh = loaded_at_once(tmp_path / "fresh")
    figures = {
        "commit": (statistics.median(commits[-100:]), statistics.median(commits[:100])),
        "plan": (
            median(lambda: Lake.open(lake.settings).files("trades", lake.head("trades"))),
            median(lambda: Lake.open(fresh.settings).files("trades", fresh.head("trades"))),
        ),
        "point query": (median(lambda: point_query(lake)), median(lambda: point_query(fresh))),
        "disk": (nbytes(lake), nbytes(fresh)),
    }
    for name, (maintained, other) in figures.items():
        print(f"{name}: {maintained:,.4f} against {other:,.4f}: {maintained / other:.2f} times")  # noqa: T201 - figures
    assert point_query(lake) == point_query(fresh) > 0
    assert len(lake.provenance("trades")) == COMMITS
    assert figures["commit"][0] <= 1.5 * figures["commit"][1]
    assert figures["plan"][0] <= 1.5 * figures["plan"][1]
    assert figures["point query"][0] <= 1.5 * figures["point query"][1]
    assert figures["disk"][0] <= 1.3 * figures["disk"][1]


def point_query(lake: Lake) -> int:
    """The rows of one symbol in one minute, by a workbench that knows nothing yet."""
    bench = k2.connect(settings=lake.settings)
    start = OPEN + timedelta(minutes=1)
    found = bench.trades("S07", start=start.isoformat(), end=(start + timedelta(minutes=1)).isoformat()).to_arrow()
    bench.engine.close()
    return len(found)


def nbytes(lake: Lake) -> int:
    """Data and metadata of the table on the disk."""
    return sum(file.nbytes for file in on_disk("trades", lake.table("trades")))
