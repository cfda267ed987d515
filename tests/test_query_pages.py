"""Pages of a result are the result, cut; and what runs is ended by a scope, a time limit, or an interrupt."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.errors import InvalidPosition, QueryCancelled
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.query.position import EVENT_KEY, Position, digest_of
from tests.query_lake import add, event

SLOW = "SELECT sum(a.i * b.i) AS n FROM range(1000000) AS a(i), range(1000000) AS b(i) WHERE (a.i + b.i) % 7 = 3"


@pytest.fixture
def bench(lake: Lake) -> k2.Workbench:
    """Trades with equal times, with and without ns, of two symbols and three sources; some are undone."""
    for part in range(3):
        some = [event(ns=n // 4 if part == 1 else None, symbol="AB"[n % 2], trade_id=f"{part}-{n}") for n in range(40)]
        add(lake, f"{part}" * 64, [*some, event(symbol="A", status="cancel", corrects=f"{part}-8")], minute=part)
    return k2.connect(settings=lake.settings)


def whole(result: k2.Result, limit: int) -> list[dict[str, Any]]:
    """The rows of all pages."""
    found: list[dict[str, Any]] = []
    page = result.page(limit)
    while True:
        assert page.rows.num_rows == limit or not page.more
        found += page.rows.to_pylist()
        if not page.more:
            return found
        page = result.page(limit, page.after)


@pytest.mark.parametrize("limit", [11, 59, 118, 1_000])
@pytest.mark.parametrize(
    "words",
    [{}, {"raw": True}, {"symbol": "A"}, {"columns": ["trade_id"]}, {"start": "2014-03-10T00:00:00Z"}],
    ids=["standing", "raw", "one symbol", "one column", "from a time"],
)
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_events_are_the_result(
    bench: k2.Workbench, words: dict[str, Any], limit: int, descending: bool
) -> None:
    result = bench.trades(**words, descending=descending)
    rows = result.to_arrow().to_pylist()
    assert whole(result, limit) == rows
    assert result.count() == len(rows)
    assert rows == bench.trades(**words, descending=not descending).to_arrow().to_pylist()[::-1]


def test_pages_of_bars_and_lists_are_the_result(bench: k2.Workbench) -> None:
    for result in (bench.bars(None, "1s"), bench.symbols(), bench.sessions()):
        assert whole(result, 1) == result.to_arrow().to_pylist()


def test_a_result_without_an_order_has_a_first_page_only(bench: k2.Workbench) -> None:
    for result in (bench.sql("SELECT * FROM trades"), bench.trades(limit=10), bench.stats()):
        page = result.page(2)
        assert (page.rows.num_rows, page.more, page.after) == (2, result.count() > 2, None)
        with pytest.raises(InvalidPosition, match="no order"):
            result.page(2, (0, 0, "", "", 0, "", 0))


def test_a_position_keeps_its_key_and_refuses_another_shape() -> None:
    key = (1, 0, "XASX", "BHP", 2, "a", 3)
    place = Position.after(digest_of({"verb": "trades"}), {"trades": 7}, key)
    assert Position.decode(place.encode()) == place
    assert Position.decode(place.encode(), EVENT_KEY).key == key
    with pytest.raises(InvalidPosition, match="no key of this order"):
        Position.decode(place.encode(), (str, str))


def test_a_scope_ends_what_runs_under_it_and_nothing_else(bench: k2.Workbench) -> None:
    scope, ended, count = k2.CancelScope(), threading.Event(), bench.trades().count()

    def run() -> None:
        with scope, pytest.raises(QueryCancelled):
            bench.sql(SLOW).to_arrow()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not ended.wait(0.05):
        scope.cancel()
    thread.join()
    with scope, pytest.raises(QueryCancelled):
        bench.trades().to_arrow()
    assert bench.trades().to_arrow().num_rows == count


def test_a_scope_ends_batches_and_replays_from_another_thread(bench: k2.Workbench) -> None:
    for make in (lambda: bench.sql(SLOW).batches(), lambda: bench.replay(kinds=["trades"]).batches()):
        with k2.CancelScope() as scope:
            timer = threading.Timer(0.3, scope.cancel)
            timer.start()
            with pytest.raises(QueryCancelled):
                _read_slowly(make)
            timer.join()


def _read_slowly(make: Callable[[], Iterator[Any]]) -> None:
    """Read batches until they end, and begin again."""
    for _ in make():
        time.sleep(0.4)
    next(make())


def test_a_query_that_does_not_fit_its_memory_says_so(tmp_path: Path) -> None:
    from k2kernel.errors import QueryTooLarge

    bench = k2.connect(settings=k2.Settings(home=tmp_path / ".k2", memory_limit="20MB")).init()
    with pytest.raises(QueryTooLarge, match="K2_MEMORY_LIMIT"):
        bench.sql("SELECT list(i::VARCHAR || repeat('x', 50)) AS x FROM range(3000000) AS t(i)").to_arrow()


def test_a_slow_query_is_interrupted_and_leaves_others_alone(lake: Lake) -> None:
    add(lake, "a", [event()])
    engine = QueryEngine(lake)
    slow = engine.sql(SLOW)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(lambda: [engine.trades("BHP").to_arrow().num_rows for _ in range(5)])
        with pytest.raises(QueryCancelled, match="interrupted"):
            slow.to_arrow(timeout=0.3)
        assert other.result() == [1] * 5
    with pytest.raises(QueryCancelled):
        list(slow.batches(timeout=0.3))


def test_ctrl_c_ends_a_query(lake: Lake) -> None:
    engine = QueryEngine(lake)
    slow = engine.sql(SLOW)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for terminal in (slow.to_arrow, lambda: list(slow.batches())):
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            with pytest.raises(QueryCancelled, match="interrupted"):
                terminal()
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.sql("SELECT 1 AS x").to_arrow()["x"].to_pylist() == [1]
