"""Kept bars and merged states equal bars that are made from the trades, bit for bit."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2kernel.config import Settings
from k2kernel.errors import CommitConflict, InvalidParameter
from k2kernel.lake import FileSet, Lake
from k2kernel.query import QueryEngine
from k2kernel.query.bar_engine import BarEngine, BarSpec
from k2kernel.query.bars import bar_columns
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Database, Query
from k2kernel.query.intervals import parse_interval
from k2kernel.query.scan import Pinned, query
from k2kernel.query.selection import Selection
from k2kernel.times import Range
from k2kernel.workbench import Workbench
from tests.query_lake import DAY, NEXT, add, at, event
from tests.replays import sample_bench

COARSER = ("1m", "5m", "1h", "90m", "4h", "1d", "2d", "session")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    found = sample_bench(tmp_path_factory.mktemp("kept"), rows=1_500)
    found.materialise_bars("1m")
    return found


@pytest.mark.parametrize("interval", COARSER)
def test_kept_minutes_roll_up_to_the_same_bars(bench: Workbench, interval: str) -> None:
    words: dict[str, Any]
    for words in ({}, {"session": "2024-03-04"}, {"align": "clock"}, {"venue": "XASX"}, {"columns": "all"}):
        direct = bench.bars(None, interval, **words).to_arrow()
        assert bench.bars(None, interval, cached="1m", **words).to_arrow().equals(direct)
    if interval not in {"2d", "session"}:
        filled = bench.bars(None, interval, fill="previous", by_close=True, columns="all")
        assert (
            bench.bars(None, interval, fill="previous", by_close=True, columns="all", cached="1m")
            .to_arrow()
            .equals(filled.to_arrow())
        )


def test_only_sessions_whose_files_changed_are_computed(lake: Lake) -> None:
    engine = QueryEngine(lake)
    with pytest.raises(InvalidParameter, match="no trades"):
        engine.materialise_bars("1m")
    add(lake, "a", [event(), event(session=NEXT, ts_event=at(0, NEXT))])
    with pytest.raises(InvalidParameter, match="materialise_bars"):
        engine.bars("BHP", cached="1m")
    first = engine.materialise_bars("1m")
    assert (first.table, first.bars, first.sessions) == ("bars_1m", 2, (DAY, NEXT))
    assert engine.materialise_bars("1m") == replace(first, sessions=())
    add(lake, "b", [event(session=NEXT, ts_event=at(61, NEXT), price=Decimal(7))], minute=1)
    with pytest.raises(InvalidParameter, match="keeps no bars of snapshot"):
        engine.bars("BHP", cached="1m")
    old = engine.bars("BHP", cached="1m", as_of=first.of)
    assert old.to_arrow().equals(engine.bars("BHP", as_of=first.of).to_arrow())
    second = engine.materialise_bars("1m")
    assert (second.bars, second.sessions) == (3, (NEXT,))
    assert engine.bars("BHP", "1h", cached="1m").to_arrow().equals(engine.bars("BHP", "1h").to_arrow())
    assert old.to_arrow().equals(engine.bars("BHP", as_of=first.of).to_arrow())
    lake.rollback("trades", first.of)
    assert (engine.materialise_bars("1m").bars, engine.materialise_bars("1m").sessions) == (2, ())


def test_of_two_that_keep_bars_at_once_the_slower_one_changes_nothing(lake: Lake) -> None:
    add(lake, "a", [event()])
    engine = QueryEngine(lake)
    kept = engine.materialise_bars("1m")
    before = FileSet(None)
    with pytest.raises(CommitConflict, match="Run it again"):
        lake.rebuild("bars_1m", before, [DAY], [], {})
    assert lake.head("bars_1m") == kept.snapshot_id


def test_a_changed_policy_keeps_everything_anew(lake: Lake) -> None:
    add(lake, "a", [event(conditions=["X"]), event(ts_event=at(60))])
    engine = QueryEngine(lake)
    assert engine.materialise_bars("5m").bars == 1
    everything = engine.materialise_bars("5m", eligible="all")
    assert everything.table == "bars_5m_all"
    assert engine.bars("BHP", "5m", eligible="all", cached="5m").to_arrow()["n_trades"].to_pylist() == [2]
    folder = lake.settings.home / "policies"
    folder.mkdir()
    (folder / "asx.toml").write_text('venues = ["XASX"]')
    with pytest.raises(InvalidParameter, match="by this policy"):
        engine.bars("BHP", "5m", cached="5m")
    assert engine.materialise_bars("5m").sessions == (DAY,)
    assert engine.bars("BHP", "5m", cached="5m").to_arrow()["n_trades"].to_pylist() == [2]


@pytest.mark.parametrize(
    "words",
    [
        {"interval": "tick:3"},
        {"interval": "90s"},
        {"interval": "1h", "of": "mid"},
        {"interval": "1h", "cached": "7m"},
        {"interval": "1h", "start": "2024-03-04T10:00:30Z"},
        {"interval": "1h", "known_at": "2024-03-04T10:00:00Z", "clock": "event"},
    ],
)
def test_what_kept_bars_do_not_answer_is_refused(bench: Workbench, words: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="cached"):
        bench.bars(None, **{"cached": "1m", **words})
    with pytest.raises(InvalidParameter, match="interval"):
        bench.materialise_bars("7m")


TRADES = st.lists(
    st.tuples(
        st.integers(0, 7_199_999_999),  # µs after the open
        st.decimals(-1_000, 1_000, places=8) | st.none(),
        st.decimals(-10, 10_000, places=8) | st.none(),
        st.sampled_from(["A", "B"]),
    ),
    min_size=1,
    max_size=30,
)


class Planned:
    """A lake of its own for one example, and statements of states and bars over it."""

    def __init__(self, folder: str, trades: list[Any], parts: int = 1) -> None:
        lake = Lake.open(Settings(home=Path(folder) / ".k2", _env_file=None, threads=1), create=True)
        rows = [
            event(symbol=symbol, ts_event=at() + timedelta(microseconds=us), price=price, size=size, sequence=number)
            for number, (us, price, size, symbol) in enumerate(sorted(trades, key=lambda trade: trade[0]))
        ]
        add(lake, "a", rows)
        self.rows, self.engine = rows, QueryEngine(lake)
        self._database = Database(lake.settings)
        self._bars, self._pinned = (
            BarEngine(lake.settings.home, Catalogue(self._database)),
            Pinned(lake, "trades", lake.head("trades")),
        )

    def plan(self, interval: str, start: int | None = None, end: int | None = None) -> Any:
        columns = (*bar_columns("trades", "all"), "first", "last")
        spec = BarSpec(parse_interval(interval), "trades", columns, "all")
        return self._bars.plan(self._pinned, Selection(Range(None, start, end)), spec)

    def states(self, interval: str, start: int | None = None, end: int | None = None) -> Query:
        plan = self.plan(interval, start, end)
        return query(plan.bars.states(plan.scan, plan.conditions, plan.values), plan.values, plan.scan)

    def arrow(self, query: Query) -> Any:
        return self._database.arrow(query)

    def merged(self, interval: str, *states: Query) -> Any:
        """Bars from tables of states."""
        frames = {f"k2_part{number}": self.arrow(part) for number, part in enumerate(states)}
        union = " UNION ALL ".join(f"SELECT * FROM {name}" for name in frames)
        plan = self.plan(interval)
        query = plan.query()
        text = plan.bars.shown(plan.bars.merged(union))
        values = {name: value for name, value in query.values.items() if f"${name}" in text}
        return self.arrow(Query(text, values, frames={name: partial(frames.__getitem__, name) for name in frames}))


@settings(max_examples=8, deadline=None)
@given(TRADES, st.sampled_from(["1m", "5m"]), st.sampled_from(["15m", "1h", "session", "1d"]))
def test_rolling_up_equals_direct(trades: list[Any], fine: str, coarse: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        planned = Planned(folder, trades)
        direct = planned.arrow(planned.plan(coarse).query())
        assert planned.merged(coarse, planned.states(fine)).equals(direct)


@settings(max_examples=8, deadline=None)
@given(TRADES, st.integers(0, 7_200_000), st.sampled_from(["1m", "1h", "session"]))
def test_parts_of_the_input_merge_to_the_whole(trades: list[Any], cut_ms: int, interval: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        planned = Planned(folder, trades)
        cut = int(at().timestamp()) * 10**9 + cut_ms * 10**6
        parts = planned.states(interval, end=cut), planned.states(interval, start=cut)
        assert planned.merged(interval, *parts).equals(planned.arrow(planned.plan(interval).query()))


@settings(max_examples=8, deadline=None)
@given(TRADES, st.sampled_from(["10s", "1m", "7m", "1h", "session", "tick:3", "volume:10000", "dollar:5000"]))
def test_no_volume_is_lost(trades: list[Any], interval: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        planned = Planned(folder, trades)
        found = planned.engine.bars(None, interval).to_arrow().to_pylist()
        for name in ("A", "B"):
            sizes = [row["size"] for row in planned.rows if row["symbol"] == name and row["size"] is not None]
            volumes = [bar["volume"] for bar in found if bar["symbol"] == name and bar["volume"] is not None]
            assert sum(volumes) == sum(sizes)
            counts = [bar["n_trades"] for bar in found if bar["symbol"] == name]
            assert sum(counts) == sum(row["symbol"] == name for row in planned.rows)


@settings(max_examples=8, deadline=None)
@given(TRADES, st.integers(0, 7_200_000), st.sampled_from(["tick:3", "volume:10000", "dollar:5000"]))
def test_bars_by_amount_go_on_from_what_came_before(trades: list[Any], cut_ms: int, interval: str) -> None:
    """Two ranges that meet show every trade once, in the bars of the whole."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Planned(folder, trades).engine
        cut = at(cut_ms / 1_000)
        whole = engine.bars(None, interval).to_arrow().to_pylist()
        parts = engine.bars(None, interval, end=cut).to_arrow().to_pylist()
        parts += engine.bars(None, interval, start=cut).to_arrow().to_pylist()
        counts = dict[Any, int]()
        for bar in parts:
            key = bar["symbol"], bar["ts_open"]
            counts[key] = counts.get(key, 0) + bar["n_trades"]
        wanted = dict[Any, int]()
        for bar in whole:
            key = bar["symbol"], bar["ts_open"]
            wanted[key] = wanted.get(key, 0) + bar["n_trades"]
        assert counts == wanted
