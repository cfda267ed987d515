"""The sample in a lake answers what was computed slowly from its text: through Python, SQL and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.sample import generate
from tests import truths
from tests.truths import Bar, Key, Policy, Trade

NAMES = ("n_trades", "open", "high", "low", "close", "volume", "notional", "vwap")
BY_VENUE: Policy = {
    **truths.without({"XASX": ["X"]}),
    "XNYS": {"open": "B4TZI", "high_low": "BTI", "last": "B4TZI", "volume": "", "vwap": "BT"},
}
"""What the codes of the sample keep from counting, by the tables that the policies are made from."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sample:
    """Two days on three venues, in a lake and as text."""

    def __init__(self, folder: Path) -> None:
        paths = generate(folder / "files", rows=30_000, sessions=2, symbols=9, seed=11)
        self.of = {kind: [path for path in paths if path.name.startswith(kind)] for kind in ("trades", "quotes")}
        self.trades = truths.read_trades(self.of["trades"])
        self.quotes = truths.read_quotes(self.of["quotes"])
        self.bench = k2.connect(folder / "lake")
        self.receipts = {kind: self.bench.ingest(found, f"k2-{kind}") for kind, found in self.of.items()}

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        columns = self.bench.sql(text).to_arrow().columns
        return list(zip(*(column.to_pylist() for column in columns), strict=True))

    @property
    def fills(self) -> list[Trade]:
        return truths.fills(self.trades)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"))


def bar_of(row: dict[str, Any]) -> Bar:
    return Bar(*(row[name] for name in NAMES))


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_rows_symbols_sessions_and_times(sample: Sample, kind: str) -> None:
    rows = sample.trades if kind == "trades" else sample.quotes
    wanted = truths.facts(rows, sample.of[kind])
    table = "trades_raw" if kind == "trades" else "quotes"
    assert (sample.receipts[kind].lines, sample.receipts[kind].rows) == (wanted.rows, wanted.rows)
    by_symbol = sample.sql(f"SELECT venue, symbol, count(*) FROM {table} GROUP BY ALL")
    assert {(venue, symbol): rows for venue, symbol, rows in by_symbol} == wanted.rows_per_symbol
    by_session = sample.sql(f"SELECT venue, session, count(*) FROM {table} GROUP BY ALL")
    assert {(venue, session): rows for venue, session, rows in by_session} == wanted.rows_per_session
    ends = sample.sql(f"SELECT epoch_us(min(ts_event)), epoch_us(max(ts_event)) FROM {table}")
    assert ends == [(wanted.first, wanted.last)]
    listed = sample.bench.symbols().to_arrow().to_pylist()
    assert {(row["venue"], row["symbol"]): row[kind] for row in listed} == wanted.rows_per_symbol


def test_every_fill_that_stands_and_no_other(sample: Sample) -> None:
    """As a multiset: byte-identical repeats are so many trades."""
    found = sample.sql("SELECT venue, symbol, epoch_us(ts_event), price, size, conditions FROM trades")
    wanted = ((t.venue, t.symbol, t.ts, t.price, t.size, t.conditions) for t in sample.fills)
    assert Counter((*row[:5], tuple(row[5])) for row in found) == Counter(wanted)
    assert len(sample.trades) > len(found)


@pytest.mark.parametrize(("eligible", "policy"), [("all", None), ("venue", BY_VENUE)])
def test_daily_bars_and_summaries(sample: Sample, eligible: str, policy: Policy | None) -> None:
    wanted = truths.daily(sample.fills, policy)
    rows = sample.bench.bars(None, "session", eligible=eligible).to_arrow().to_pylist()
    found: dict[Key, Bar] = {(row["venue"], row["symbol"], row["session"]): bar_of(row) for row in rows}
    assert found == wanted
    for (venue, symbol, session), bar in list(wanted.items())[:6]:
        summary = sample.bench.summary(symbol, session, venue=venue, eligible=eligible)
        assert (summary.trade_count, summary.open, summary.high, summary.low, summary.close) == bar[:5]
        assert (summary.volume, summary.notional, summary.vwap) == bar[5:]


@pytest.mark.parametrize("minutes", [1, 5])
def test_minutes(sample: Sample, minutes: int) -> None:
    wanted = truths.intraday(sample.fills, minutes, BY_VENUE)
    rows = sample.bench.bars(None, f"{minutes}m").to_arrow().to_pylist()
    starts = {(row["venue"], row["symbol"], (row["ts_open"] - EPOCH) // timedelta(microseconds=1)) for row in rows}
    assert starts == set(wanted)
    found = {(r["venue"], r["symbol"], (r["ts_open"] - EPOCH) // timedelta(microseconds=1)): bar_of(r) for r in rows}
    assert found == wanted


def test_the_command_line_says_the_same(sample: Sample) -> None:
    wanted = truths.daily(sample.fills, BY_VENUE)
    door = Path(sys.executable).with_name("k2-query")
    words = ["bars", "CBA", "session", "-o", "json", "--home", str(sample.bench.settings.home)]
    rows = json.loads(subprocess.run([door, *words], capture_output=True, text=True, check=True).stdout)
    for row in rows:
        bar = wanted[row["venue"], row["symbol"], datetime.fromisoformat(row["session"]).date()]
        assert Bar(row["n_trades"], *(Decimal(row[name]) for name in NAMES[1:])) == bar
    assert len(rows) == 2
