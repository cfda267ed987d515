"""Ten million events: memory stays bounded, and batches come at no less than half of DuckDB's own pace."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.schemas import TABLES
from tests.lake_frames import came_from
from tests.support import ROOT

EVENTS = 10_000_000
DAYS = [date(2024, 3, 4) + timedelta(days=n) for n in range(4)]

READ = """
import json, sys, time
from pathlib import Path
from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.replay import ReplayEngine
replay = ReplayEngine(Lake.open(Settings(home=Path(sys.argv[1]), _env_file=None))).replay()
began, seen = time.monotonic(), 0
if sys.argv[2] == "batches":
    for batch in replay.batches():
        seen += batch.num_rows
else:
    def count(event):
        global seen
        seen += 1
    replay.run(count, count)
seconds = time.monotonic() - began
# The peak of this program; what getrusage says includes the parent's memory at the fork.
rss = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"events": seen, "rate": seen / seconds, "rss_mb": rss}))
"""

SORT = """
import json, sys, time
from pathlib import Path
import duckdb
home, began, seen = Path(sys.argv[1]), time.monotonic(), 0
files = {kind: str(home / f"warehouse/market_data/{kind}/data/**/*.parquet") for kind in ("quotes", "trades")}
union = " UNION ALL BY NAME ".join(f"SELECT {n} AS kind, * FROM '{path}'" for n, path in enumerate(files.values()))
order = "ts_event, kind, venue, symbol, sequence, source, source_offset"
connection = duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(home / "tmp")})
connection.execute("SET enable_progress_bar = false")
for batch in connection.sql(f"SELECT * FROM ({union}) ORDER BY {order}").to_arrow_reader(65_536):
    seen += batch.num_rows
print(json.dumps({"events": seen, "rate": seen / (time.monotonic() - began)}))
"""


def day(kind: str, session: date, rows: int, symbols: int) -> pl.DataFrame:
    """`rows` events over eight hours; the n-th symbol has a share of about 1/n."""
    first = datetime(session.year, session.month, session.day, tzinfo=UTC)
    n = pl.int_range(rows, eager=True)
    draw = n.hash(1)
    rank = (symbols ** ((draw % 1_000_003) / 1_000_003)).cast(pl.Int64)
    cents = (draw // 7 % 100 + rank * 10).cast(pl.Decimal(18, 8)) / 100
    columns = {
        "symbol": pl.Series([f"S{i:04}" for i in range(symbols + 1)]).gather(rank),
        "venue": "XASX",
        "session": session,
        "ts_event": pl.select(first + pl.duration(milliseconds=pl.lit(n * 28_800_000 // rows))).to_series(),
        "clock": "venue",
        "sequence": n,
        "source": f"{kind}{session}".ljust(64, "0"),
        "source_offset": n,
        "ts_ingest": first,
    }
    size = (draw // 11 % 900).cast(pl.Decimal(18, 8))
    trade = {"price": cents, "size": size, "trade_id": n.cast(pl.String)}
    columns |= trade if kind == "trades" else {"bid_px": cents, "ask_px": cents, "bid_sz": size, "ask_sz": size}
    return pl.select(pl.lit(columns.get(name)).cast(type_).alias(name) for name, type_ in TABLES[kind].polars.items())


def big_lake(home: Path, symbols: int) -> None:
    lake = Lake.open(Settings(home=home, _env_file=None), create=True)
    rows = EVENTS // (2 * len(DAYS))
    for session in DAYS:
        for kind in ("trades", "quotes"):
            written = lake.write(kind, day(kind, session, rows, symbols), session)
            lake.append(kind, [written.path], came_from(f"{kind}{session}", rows))


def run(script: str, *words: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("symbols", [12, 2_000])
def test_ten_million_events_in_bounded_memory(tmp_path: Path, symbols: int) -> None:
    big_lake(tmp_path, symbols)
    batches, rows = run(READ, str(tmp_path), "batches"), run(READ, str(tmp_path), "rows")
    own = run(SORT, str(tmp_path))
    print(batches, rows, own)  # noqa: T201 - `pytest -s` shows the figures
    assert batches["events"] == rows["events"] == own["events"] == EVENTS
    assert batches["rss_mb"] < 500
    assert rows["rss_mb"] < 500
    assert batches["rate"] > own["rate"] / 2
