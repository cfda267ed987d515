"""Bars of every kind beside a slow implementation in plain Python, and through every door."""

from __future__ import annotations

from typing import Any

import pytest

from k2kernel.query import QueryEngine
from k2kernel.workbench import Workbench
from tests.replays import sample_bench
from tests.slow_bars import OFF_MARKET, Asked, bars, by_policy

TIMES = ("250ms", "1m", "7m", "1h", "90m", "4h", "1d", "3d", "session")
AMOUNTS = ("tick:1", "tick:7", "volume:2500", "volume:0.5", "dollar:1e5")
VENUE_POLICY = {"codes": by_policy(OFF_MARKET), "label": {"XASX": "asx"}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return sample_bench(tmp_path_factory.mktemp("bars"), rows=4_000)


def rows_of(bench: Workbench | QueryEngine, of: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (bench.trades() if of == "trades" else bench.quotes()).to_arrow().to_pylist()
    return found


def check(bench: Workbench | QueryEngine, asked: Asked, symbol: Any = None, **words: Any) -> list[dict[str, Any]]:
    """Every column of the bars is that of the slow ones; returns them."""
    found: list[dict[str, Any]] = (
        bench.bars(symbol, asked.interval, of=asked.of, align=asked.align, columns="all", **words)
        .to_arrow()
        .to_pylist()
    )
    wanted = bars([row for row in rows_of(bench, asked.of) if symbol in (None, row["symbol"])], asked)
    names = [name for name in wanted[0] if name != "ts_close_ns"]
    assert [{name: bar[name] for name in names} for bar in found] == [
        {name: bar[name] for name in names} for bar in wanted
    ]
    assert not found or set(found[0]) == set(names)
    return found


@pytest.mark.parametrize("interval", [*TIMES, *AMOUNTS])
def test_bars_of_trades_are_the_slow_ones(bench: Workbench, interval: str) -> None:
    check(bench, Asked(interval), eligible="all")
    check(bench, Asked(interval, **VENUE_POLICY))  # type: ignore[arg-type]


@pytest.mark.parametrize("of", ["bid", "ask", "mid"])
@pytest.mark.parametrize("interval", ["10s", "1h", "session", "tick:13"])
def test_bars_of_quotes_are_the_slow_ones(bench: Workbench, interval: str, of: str) -> None:
    check(bench, Asked(interval, of))
