"""The cost of a diff follows the change, not the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.schemas import TABLES
from tests.lake_frames import DAY, OPEN, came_from
from tests.travel import compact

DAYS, ROWS, ADDED, COMPACTED = 20, 500_000, 1_000, 7

COMPARED = [name for name in TABLES["trades"].names if name not in {"source", "source_offset", "ts_ingest"}]
FULL_JOIN = f"""
    SELECT count(*) FILTER (a.source IS NULL) AS added, count(*) FILTER (b.source IS NULL) AS removed,
        count(*) FILTER (a.source = b.source) AS changed
    FROM trades_raw AT (VERSION => $before) a FULL JOIN trades_raw b
    ON a.source = b.source AND a.source_offset = b.source_offset
    WHERE a.source IS NULL OR b.source IS NULL OR {" OR ".join(f"a.{x} IS DISTINCT FROM b.{x}" for x in COMPARED)}
"""
"""The same question without the pruning of files."""


def fills(rows: int, digest: str, day: date, seed: int) -> pl.DataFrame:
    """Random fills of a hundred symbols on one day."""
    rng = np.random.default_rng(seed)
    us = np.sort(rng.integers(0, 6 * 3_600_000_000, rows))
    start = OPEN + (day - DAY)
    drawn = pl.DataFrame({"us": us, "n": rng.integers(0, 100, rows), "cents": rng.integers(1_000, 9_000, rows)})
    drawn = drawn.select(
        symbol=pl.format("S{}", pl.col("n")),
        venue=pl.lit("XASX"),
        session=pl.lit(day),
        ts_event=pl.lit(start).dt.cast_time_unit("us") + pl.duration(microseconds="us"),
        clock=pl.lit("venue"),
        sequence=pl.int_range(pl.len()),
        price=pl.col("cents") / 100,
        size=pl.col("cents") % 17 + 1,
        ts_ingest=pl.lit(start),
        source=pl.lit(digest * 8),
        source_offset=pl.int_range(pl.len()),
    )
    types = TABLES["trades"].polars
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in types.items() if name not in drawn.columns]
    return drawn.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in types.items())


def best(step: Callable[[], object], times: int = 3) -> float:
    """The seconds of the quickest of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_small_change_of_a_large_table_costs_a_tenth_of_a_full_join(tmp_path: Path) -> None:
    lake = Lake.open(Settings(home=tmp_path / ".k2", _env_file=None), create=True)
    for number in range(DAYS):
        day = DAY + timedelta(days=number)
        rows = fills(ROWS, f"{number:08}", day, number)
        # The session that is compacted has two files.
        parts = [rows[: ROWS // 2], rows[ROWS // 2 :]] if number == COMPACTED else [rows]
        files = [lake.write("trades", part, day).path for part in parts]
        lake.append("trades", files, came_from(f"{number:08}" * 8, ROWS, number))
    before = lake.head("trades")
    file = lake.write("trades", fills(ADDED, "ffffffff", DAY, 99), DAY)
    lake.append("trades", [file.path], came_from("ffffffff" * 8, ADDED, DAYS))
    compact(lake, session=DAY + timedelta(days=COMPACTED))
    engine = QueryEngine(lake)
    assert engine.sql("SELECT count(*) AS n FROM trades").to_arrow()["n"][0].as_py() == DAYS * ROWS + ADDED
    joined = engine.sql(FULL_JOIN, {"before": before})
    assert joined.to_arrow().to_pylist() == [{"added": ADDED, "removed": 0, "changed": 0}]
    diff = engine.diff("trades", before)
    bars = best(lambda: diff.bars().to_arrow())
    full = best(joined.to_arrow)
    seconds = best(lambda: engine.diff("trades", before).summary)
    print(f"diff {seconds:.2f} s, bars {bars:.2f} s, full join {full:.2f} s; {diff.summary}")  # noqa: T201
    assert (diff.summary.added, diff.summary.removed, diff.summary.changed) == (ADDED, 0, 0)
    assert (diff.summary.files_compared, diff.summary.files_shared) == (4, DAYS - 1)
    assert seconds < full / 10
