"""Replays equal the sorted rows, for every batch size, from every position, whatever is written meanwhile."""

from __future__ import annotations

import random
from bisect import bisect_right
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2kernel.errors import (
    AmbiguousSymbol,
    ExpiredReference,
    InvalidParameter,
    InvalidPosition,
    UnknownReference,
    UnknownSymbol,
)
from k2kernel.lake import Lake
from k2kernel.replay import Quote, ReplayEngine, Trade
from k2kernel.workbench import Workbench
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event
from tests.replays import Row, expected, flat, identity, ids, key, same, sample_bench
from tests.travel import compact, writer_at_work

SIZES = (1, 7, 1_000, 65_536)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return sample_bench(tmp_path_factory.mktemp("replay"), rows=3_000)


@pytest.fixture(scope="module")
def rows(bench: Workbench) -> list[Row]:
    """Every row of the bench, in order."""
    return expected(bench.lake)


@pytest.mark.parametrize("size", SIZES)
def test_a_replay_is_the_sorted_rows_in_batches_of_the_size(bench: Workbench, rows: list[Row], size: int) -> None:
    batches = list(bench.replay(raw=True, batch_rows=size).batches())
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert 0 < len(batches[-1]) <= size
    assert same(flat(batches), rows)


def test_typed_rows_hold_the_same_values(bench: Workbench, rows: list[Row]) -> None:
    events = list(bench.replay(raw=True))
    assert len(events) == len(rows)
    for found, row in zip(events, rows, strict=True):
        assert isinstance(found, Trade if row["kind"] == "trades" else Quote)
        assert found.ts_event_ns == key(row)[0]
        assert found.ts_event == row["ts_event"]
        assert found.ts_recv == row["ts_recv"]
        names = [name for name in found._fields if not name.endswith("_ns") and name != "conditions"]
        assert [getattr(found, name) for name in names] == [row[name] for name in names]
        assert found.conditions == (None if row["conditions"] is None else tuple(row["conditions"]))


def test_trades_are_the_fills_that_stand_unless_raw(bench: Workbench) -> None:
    standing = bench.trades().to_polars()
    found = pl.DataFrame(pa.Table.from_batches(bench.replay(kinds=("trades",)).batches()))
    assert found.drop("kind").equals(standing)
    assert len(list(bench.replay(kinds=["trades"], raw=True))) > len(standing)


def test_words_choose_the_rows_that_the_read_verbs_choose(bench: Workbench) -> None:
    days = bench.sessions().to_polars()["session"].unique().sort()
    words = {"venue": "XASX", "session": days[0], "start": at(0, days[0])}
    found = flat(bench.replay(["BHP", "CBA"], **words).batches())
    wanted = bench.trades(["BHP", "CBA"], **words).to_arrow().to_pylist()
    assert [row["source_offset"] for row in found if row["kind"] == "trades"] == [r["source_offset"] for r in wanted]
    assert {row["symbol"] for row in found} == {"BHP", "CBA"}
    with pytest.raises(AmbiguousSymbol):
        bench.replay("BHP")
    with pytest.raises(UnknownSymbol, match="CBA"):
        bench.replay("CBAA")


@pytest.mark.parametrize(
    "words",
    [
        {"kinds": ()},
        {"kinds": ("bars",)},
        {"order_by": "sequence"},
        {"ties": "none"},
        {"batch_rows": 0},
        {"speed": -1},
        {"gaps": "all"},
        {"limit": -1},
        {"position": "abc"},
    ],
)
def test_words_that_mean_nothing_are_refused(bench: Workbench, words: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=str(next(iter(words)))):
        bench.replay(**words)


def test_limit_is_the_first_events(bench: Workbench, rows: list[Row]) -> None:
    wanted = [identity(row) for row in rows]
    for limit in (0, 1, 999, 3_001):
        replay = bench.replay(raw=True, limit=limit, batch_rows=500)
        assert [identity(row) for row in flat(replay.batches())] == wanted[:limit]
        assert (replay.events, replay.state) == (limit, "stopped")
        rest = bench.replay(raw=True, position=replay.position)
        assert ids(rest) == wanted[limit:]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 4_000), min_size=1, max_size=4),
    sizes=st.lists(st.sampled_from([1, 7, 100, 65_536]), min_size=5, max_size=5),
    by_rows=st.booleans(),
    ties=st.sampled_from(["quotes_first", "trades_first"]),
)
def test_going_on_from_any_position_is_exactly_the_rest(  # noqa: PLR0917 - what hypothesis draws, and fixtures
    bench: Workbench, rows: list[Row], cuts: list[int], sizes: list[int], by_rows: bool, ties: str
) -> None:
    wanted = [identity(row) for row in sorted(rows, key=lambda row: key(row, first=ties.partition("_")[0]))]
    found, position = [], None
    for cut, size in zip(cuts, sizes, strict=False):
        replay = bench.replay(raw=True, ties=ties, position=position, limit=cut, batch_rows=size)
        found += ids(replay) if by_rows else [identity(row) for row in flat(replay.batches())]
        position = replay.position
    found += ids(bench.replay(raw=True, ties=ties, position=position))
    assert found == wanted


def test_a_broken_off_iteration_goes_on_here_and_elsewhere(bench: Workbench, rows: list[Row]) -> None:
    wanted = [identity(row) for row in rows]
    replay = bench.replay(raw=True)
    first = [(e.kind, e.source, e.source_offset) for e in islice(replay, 1_234)]
    token = replay.position
    assert replay.state == "ready"
    assert first + ids(replay) == wanted
    assert replay.state == "completed"
    assert ids(replay) == []
    assert first + ids(bench.replay(raw=True, position=token)) == wanted
    assert ids(bench.replay(raw=True, position=replay.position)) == []


def test_a_token_of_another_query_or_a_changed_one_is_refused(bench: Workbench) -> None:
    replay = bench.replay("CBA", limit=10)
    ids(replay)
    token = replay.position
    for words in (
        {"symbols": "BHP", "venue": "XASX"},
        {"symbols": "CBA", "raw": True},
        {"symbols": "CBA", "ties": "trades_first"},
    ):
        with pytest.raises(InvalidPosition, match="another query"):
            bench.replay(position=token, **words)
    with pytest.raises(InvalidPosition):
        bench.replay("CBA", kinds=("trades",), position=token)
    generator = random.Random(3)
    for _ in range(200):
        place = generator.randrange(len(token))
        other = generator.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        changed = token[:place] + other + token[place + 1 :]
        if changed != token:
            with pytest.raises(InvalidPosition):
                bench.replay("CBA", position=changed)
    for nonsense in ("", "e30", token[:-4], token + "AAAA", token + "=", " " + token, "é"):
        with pytest.raises(InvalidPosition):
            bench.replay("CBA", position=nonsense)


def test_ten_runs_have_the_same_digest_whatever_the_batches(bench: Workbench) -> None:
    found = set()
    for size in (1, 7, 1_000, 65_536, 3, 99, 4_096, 12_000, 500, 2):
        replay = bench.replay(digest=True, batch_rows=size)
        assert sum(len(batch) for batch in replay.batches()) == replay.events
        found.add(replay.digest)
    rows = bench.replay(digest=True)
    assert len(ids(rows)) == rows.events
    assert found == {rows.digest}
    assert bench.replay(digest=True, ties="trades_first").run().digest not in found
    assert bench.replay(digest=True, limit=rows.events - 1).run().digest not in found
    assert rows.run().digest == rows.digest  # there is nothing left to run
    assert bench.replay().run().digest is None


def test_replays_answer_as_an_as_of_join_does(lake: Lake) -> None:
    generator = random.Random(5)
    quotes = [
        event(generator.randrange(200), bid_px=n, ask_px=n + 1, symbol=generator.choice("AB")) for n in range(150)
    ]
    trades = [event(generator.randrange(200), symbol=generator.choice("AB")) for _ in range(150)]
    add(lake, "q", quotes, "quotes")
    add(lake, "t", trades)
    engine = ReplayEngine(lake)
    for ties, strict in (("quotes_first", False), ("trades_first", True)):
        last: dict[str, int] = {}
        joined = {}
        for found in engine.replay(ties=ties):
            if isinstance(found, Quote):
                last[found.symbol] = found.source_offset
            else:
                joined[found.source_offset] = last.get(found.symbol)
        assert joined == {number: _as_of(quotes, trade, strict) for number, trade in enumerate(trades)}


def _as_of(quotes: list[Row], trade: Row, strict: bool) -> int | None:
    """The offset of the last quote of the symbol at or before (`strict`: before) the trade."""
    keys = sorted((q["ts_event_ns"], n) for n, q in enumerate(quotes) if q["symbol"] == trade["symbol"])
    instant = trade["ts_event_ns"]
    limit = (instant, -1) if strict else (instant, len(quotes))
    place = bisect_right(keys, limit)
    return keys[place - 1][1] if place else None


def test_nanoseconds_order_events_within_a_microsecond(lake: Lake) -> None:
    add(lake, "a", [event(ns) for ns in (3, 1, 1_001, 2)])
    add(lake, "b", [event(ns) for ns in (1, 999)], "quotes", minute=1)
    found = list(ReplayEngine(lake).replay())
    assert [(e.kind, e.ts_event_ns - OPEN_NS) for e in found] == [
        ("quotes", 1),
        ("trades", 1),
        ("trades", 2),
        ("trades", 3),
        ("quotes", 999),
        ("trades", 1_001),
    ]


def test_the_order_of_capture(lake: Lake) -> None:
    rows = [event(ts_event=at(n), ts_recv=at(20 - n)) for n in range(10)]
    add(lake, "a", rows)
    add(lake, "q", [event(ts_event=at(0), ts_recv=at(15))], "quotes", minute=1)
    engine = ReplayEngine(lake)
    found = flat(engine.replay(order_by="ts_recv").batches())
    assert found == sorted(found, key=lambda row: key(row, "ts_recv"))
    replay = engine.replay(order_by="ts_recv", limit=4)
    assert ids(replay) + ids(engine.replay(order_by="ts_recv", position=replay.position)) == [*map(identity, found)]
    add(lake, "b", [event(session=NEXT, ts_event=at(0, NEXT)), event(ts_recv=at(3))], minute=2)
    with pytest.raises(InvalidParameter, match="is missing in 1 row of trades"):
        engine.replay(order_by="ts_recv")
    assert len(ids(engine.replay(order_by="ts_recv", session=DAY))) == 12


def test_a_replay_stays_at_its_snapshots_while_writers_go_on(bench: Workbench, tmp_path: Path) -> None:
    other = sample_bench(tmp_path, rows=2_000, sessions=1)
    replay = other.replay(batch_rows=100, digest=True)
    wanted = other.replay(digest=True).run().digest
    with writer_at_work(other.lake, event(venue="XNYS", session=DAY)):
        half = list(islice(replay.batches(), 5))
        token = replay.position
        rest = ids(other.replay(position=token))
        assert sum(map(len, half)) + len(rest) == replay.events + sum(map(len, replay.batches()))
    assert replay.digest == wanted
    assert replay.snapshots["trades"] != other.lake.head("trades")
    pinned = other.replay(as_of=replay.snapshots, digest=True)
    assert pinned.run().digest == wanted


def test_files_rewritten_in_one_snapshot_and_expired_change_nothing(tmp_path: Path) -> None:
    bench = sample_bench(tmp_path, rows=2_000, sessions=1)
    lake = bench.lake
    replay = bench.replay(batch_rows=100, raw=True)
    wanted = [identity(row) for row in expected(lake)]
    found = [identity(row) for row in flat(islice(replay.batches(), 3))]
    token = replay.position
    compact(lake)
    assert found + [identity(row) for row in flat(replay.batches())] == wanted
    assert found + ids(bench.replay(raw=True, position=token)) == wanted
    after = bench.replay(raw=True)
    assert after.snapshots["trades"] != replay.snapshots["trades"]
    assert ids(after) == wanted
    pinned = replay.snapshots["trades"]
    assert pinned is not None
    lake.table("trades").maintenance.expire_snapshots().by_id(pinned).commit()
    with pytest.raises(ExpiredReference, match="no longer kept"):
        bench.replay(raw=True, position=token)


def test_as_of_of_one_table_wants_the_other_left_out(lake: Lake) -> None:
    first = add(lake, "a", [event()])
    add(lake, "b", [event(), event()], minute=1)
    engine = ReplayEngine(lake)
    assert len(ids(engine.replay(as_of=first, kinds="trades"))) == 1
    add(lake, "q", [event()], "quotes", minute=2)
    with pytest.raises(UnknownReference, match="kinds="):
        engine.replay(as_of=first)
    lake.tag("trades", "eod", first)
    lake.tag("quotes", "eod")
    assert len(ids(engine.replay(as_of="eod"))) == 2
    assert len(ids(engine.replay())) == 4


def test_cold_start_rewind_and_list(lake: Lake) -> None:
    engine = ReplayEngine(lake)
    assert ids(engine.replay()) == []
    assert list(engine.cold_start()) == []
    first = add(lake, "a", [event()])
    moment = engine.list_snapshots()[0].committed_at
    second = add(lake, "b", [event()], minute=1)
    assert [snapshot.id for snapshot in engine.list_snapshots("trades")] == [second, first]
    assert engine.rewind_to(moment).id == first
    assert sum(len(batch) for batch in engine.cold_start("BHP", as_of=moment)) == 1
    assert sum(len(batch) for batch in engine.cold_start()) == 2
    for wrong in ("2014-03-10", "eod", 7):
        with pytest.raises(InvalidParameter):
            engine.rewind_to(wrong)
    with pytest.raises(UnknownReference):
        engine.rewind_to(moment - timedelta(days=1))


def test_one_file_of_many_sources_and_odd_texts(lake: Lake) -> None:
    for number, symbol in enumerate(["Ünï", "日本", "A;B", "'x'", "BHP"] * 3):
        rows = [event(symbol=symbol, ts_event=at(n % 3), conditions=[symbol, ""] if n % 2 else []) for n in range(8)]
        add(lake, f"s{number}", rows, "trades" if number % 2 else "quotes", minute=number)
    engine = ReplayEngine(lake)
    assert same(flat(engine.replay(batch_rows=5).batches()), expected(lake))
    assert [e.conditions for e in engine.replay()] == [tuple(row["conditions"]) for row in expected(lake)]
