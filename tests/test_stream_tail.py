"""The freshest rows: a table together with what topics hold past its offsets, and history that goes on live."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import polars as pl
import pytest

from k2kernel.errors import InvalidParameter, UnknownSymbol
from k2kernel.replay import Control, Trade
from tests.feeds import Feed, wait_for

KEY = ["ts_event", "venue", "symbol", "sequence", "source", "source_offset"]


def count(seen: list[Trade | Control]) -> int:
    return sum(isinstance(each, Trade) for each in seen)


def check(feed: Feed, found: pl.DataFrame) -> None:
    """Every row that was published is there once, in the total order."""
    assert sorted(found["sequence"]) == list(range(feed.sent))
    assert found.equals(found.sort(KEY))
    assert found.n_unique(["source", "source_offset"]) == feed.sent


def test_each_row_once_wherever_it_is(feed: Feed) -> None:
    files = set(Path(feed.bench.settings.warehouse_path).rglob("*.parquet"))
    for step in range(4):
        feed.publish(random.Random(step).randrange(50, 200), bad=2)
        # The first commits some of what is there, so that the end is another one in each partition.
        if step != 2:
            feed.bench.stream([feed.topic], rows=30).run(max_messages=60)
        found = feed.bench.trades(tail=True)
        assert found.snapshots == {"trades": feed.bench.lake.head("trades")}
        check(feed, found.to_polars())
        assert found.count() == feed.sent
    one = feed.bench.trades("S3", session="2024-07-02", tail=[feed.topic], limit=7, columns=["sequence"]).to_polars()
    assert one["sequence"].to_list() == list(range(3, feed.sent, 10))[:7]
    feed.drain()
    check(feed, feed.bench.trades(tail=True).to_polars())
    feed.check()
    del found
    kept = {Path(file.path) for file in feed.bench.lake.files("trades", feed.bench.lake.head("trades"))}
    left = {path for path in Path(feed.bench.settings.warehouse_path).rglob("*.parquet") if "/trades/" in str(path)}
    assert left - files == kept


def test_a_table_without_a_row_has_a_tail(feed: Feed) -> None:
    feed.publish(40)
    assert feed.bench.trades(tail=True).to_polars().is_empty()
    check(feed, feed.bench.trades(tail=[feed.topic]).to_polars())
    assert feed.bench.quotes(tail=[feed.topic]).to_polars().is_empty()


def test_a_tail_has_no_past(feed: Feed) -> None:
    feed.publish(10)
    feed.drain()
    head = feed.bench.lake.head("trades")
    with pytest.raises(InvalidParameter, match=r"as_of=.*is given with tail"):
        feed.bench.trades(tail=True, as_of=head)
    with pytest.raises(InvalidParameter, match=r"as_of=.*is given with tail"):
        feed.bench.at(head).trades(tail=True)


def test_history_goes_on_at_the_offset_where_it_ends(feed: Feed) -> None:
    feed.publish(300, bad=3)
    feed.bench.stream([feed.topic], rows=40).run(max_messages=120)
    at = feed.bench.lake.offsets("trades")
    follow = feed.bench.replay(kinds=["trades"], follow=True)
    seen: list[Trade | Control] = []
    thread = threading.Thread(target=seen.extend, args=[follow.records()], daemon=True)
    thread.start()
    wait_for(lambda: count(seen) == 300)
    feed.drain()  # what a sink does meanwhile changes nothing
    feed.publish(50, bad=1)
    wait_for(lambda: count(seen) == 350)
    follow.stop()
    thread.join(5)
    assert not thread.is_alive()
    names = [each.name if isinstance(each, Control) else None for each in seen]
    place = names.index("caught_up")
    assert names[place + 1 :] == [None] * (len(seen) - place - 1)
    caught_up = seen[place]
    assert isinstance(caught_up, Control)
    ends = {source: None if source not in at else at[source].end for source in caught_up.details["offsets"]}
    assert caught_up.details["offsets"] == ends
    past, live = ([each for each in part if isinstance(each, Trade)] for part in (seen[:place], seen[place:]))
    assert all(each.source_offset < (ends[each.source] or 0) for each in past)
    assert all(each.source_offset >= (ends[each.source] or 0) for each in live)
    assert sorted(each.sequence for each in [*past, *live]) == list(range(350))
    rows = {row["sequence"]: row for row in feed.bench.trades(tail=True).to_polars().iter_rows(named=True)}
    for each in live:
        assert (each.price, each.size, each.ts_event, each.symbol) == tuple(
            rows[each.sequence][name] for name in ("price", "size", "ts_event", "symbol")
        )


def test_what_follows_keeps_to_what_was_asked(feed: Feed) -> None:
    feed.publish(100)
    feed.drain()
    feed.publish(100)
    follow = feed.bench.replay("S4", kinds=["trades"], follow=[feed.topic])
    found = []
    for each in follow:
        found.append(each.sequence)
        if len(found) == 20:
            follow.stop()
    assert sorted(found) == list(range(4, 200, 10))
    assert repr(follow).startswith("Follow(stopped, 10 live events, Replay(")
    with pytest.raises(InvalidParameter, match=r"limit=3: is given with follow"):
        feed.bench.replay(follow=True, limit=3)


def test_there_is_a_topic_to_go_on_with(feed: Feed) -> None:
    """Else it would wait for ever, for rows that nothing brings."""
    for follow in (True, ["market.equity.quotes.xasx"]):
        with pytest.raises(InvalidParameter, match=r"follow=.*finds no topic of trades to go on with"):
            feed.bench.replay(kinds=["trades"], follow=follow)


def test_a_symbol_that_has_no_row_yet_is_waited_for(feed: Feed) -> None:
    feed.publish(3)  # S0, S1 and S2
    feed.drain()
    with pytest.raises(UnknownSymbol, match="There is no symbol 'S5'"):
        feed.bench.replay("S5", kinds=["trades"], follow=True)
    follow = feed.bench.replay("S5", kinds=["trades"], venue="XASX", follow=True)
    seen = [follow.history.events]
    feed.publish(30)
    for event in follow:
        seen.append(event.sequence)
        if len(seen) == 4:
            follow.stop()
    assert sorted(seen) == [0, 5, 15, 25]
