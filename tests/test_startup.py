"""How long a newcomer waits: medians of warm runs in fresh processes, beside what cannot be avoided.

The runs of the two sides take turns, so that a busy machine slows both. A side that loses gets two more rounds: noise
passes, a library that is loaded too early does not.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

if TYPE_CHECKING:
    from k2kernel.config import Settings

pytestmark = pytest.mark.alone

RUNS, ROUNDS = 9, 3
IMPORT_POLARS = (sys.executable, "-c", "import polars")
IMPORT_CATALOG = (sys.executable, "-c", "import pyiceberg.catalog.sql, duckdb")
BIN = Path(sys.executable).parent


def warm() -> dict[str, str]:
    """The environment, in which Python keeps what it compiles: otherwise no run is warm."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=warm())
    spent = time.perf_counter() - start
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return spent


def ratio(command: Sequence[str], beside: Sequence[str]) -> float:
    """Median time of `command` over that of `beside`, after one warm-up of each."""
    seconds(command), seconds(beside)
    pairs = [(seconds(command), seconds(beside)) for _ in range(RUNS)]
    ours, theirs = zip(*pairs, strict=True)
    return float(statistics.median(ours) / statistics.median(theirs))


def assert_within(most: float, command: Sequence[str], beside: Sequence[str]) -> None:
    seen: list[float] = []
    while not seen or (min(seen) > most and len(seen) < ROUNDS):
        seen.append(ratio(command, beside))
    assert min(seen) <= most, f"{' '.join(command[-3:])} takes {seen} times {' '.join(beside[-1:])}, not {most}"


def test_import_k2kernel_takes_no_longer_than_import_polars() -> None:
    assert_within(1.0, (sys.executable, "-c", "import k2kernel"), IMPORT_POLARS)


@pytest.mark.parametrize("script", ["k2", "k2-query", "k2-ingest"])
def test_help_takes_at_most_one_and_a_half_imports_of_polars(script: str) -> None:
    assert_within(1.5, (str(BIN / script), "--help"), IMPORT_POLARS)


@pytest.fixture
def five_trades(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with a hundred trades, where K2_HOME points."""
    from k2kernel.lake import Lake, Provenance
    from k2kernel.schemas import TRADES

    lake = Lake.open(settings, create=True)
    now = datetime(2024, 7, 1, 3, tzinfo=UTC)
    row = {
        "symbol": "BHP",
        "venue": "XASX",
        "session": date(2024, 7, 1),
        "ts_event": now,
        "clock": "venue",
        "price": Decimal("42.5"),
        "size": Decimal(100),
        "ts_ingest": now,
        "source": "0" * 64,
    }
    rows = [row | {"sequence": number, "source_offset": number} for number in range(100)]
    frame = pl.DataFrame(rows, schema={name: TRADES.polars[name] for name in rows[0]})
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in TRADES.polars.items() if name not in row]
    frame = frame.with_columns(column for column in absent if column.meta.output_name() not in frame.columns)
    file = lake.write("trades", frame.select(TRADES.names), date(2024, 7, 1))
    lake.append("trades", [file.path], Provenance(sources=(), profile="test", profile_digest="", ts_ingest=now))
    monkeypatch.setenv("K2_HOME", str(settings.home))
    return settings.home


@pytest.mark.usefixtures("five_trades")
def test_a_cold_query_takes_at_most_1_4_imports_of_the_catalog_and_duckdb() -> None:
    command = (str(BIN / "k2-query"), "trades", "--limit", "5")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.count("BHP") == 5, done.stderr
    assert_within(1.4, command, IMPORT_CATALOG)
