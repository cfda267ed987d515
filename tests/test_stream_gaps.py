"""Sequence numbers of streams: gaps, reorders, duplicates and resets, whatever the batches and restarts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2kernel.errors import InvalidParameter
from k2kernel.ingest.watch import Watch
from k2kernel.schemas import TRADES
from tests.feeds import Feed, k2, trades
from tests.streams import Services

COLUMNS = ("source", "source_offset", "venue", "symbol", "session", "ts_event", "sequence")
START = datetime(2024, 7, 1, 3, tzinfo=UTC)

Told = list[tuple[int, str, int | None, int | None]]
"""Offset, event, expected number, missing ones."""

draws = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 12), st.sampled_from([0, 0, 0, 0, 1]), st.integers(-1, 3)),
    max_size=40,
)
"""Of each row: symbol, number, whether a new session begins, and seconds since the row before."""


def rows_of(drawn: Iterable[tuple[str, int, int, int]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    day, at = 1, START
    for offset, (symbol, number, roll, seconds) in enumerate(drawn):
        day, at = min(28, day + roll), at + timedelta(seconds=seconds)
        row = ("t/0", offset, "XASX", symbol, date(2024, 7, day), at, number)
        found.append(dict(zip(COLUMNS, row, strict=True)))
    return found


def by_hand(rows: Sequence[dict[str, Any]], key: Sequence[str]) -> Told:
    """What a plain loop finds."""
    told: Told = []
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        number, offset = row["sequence"], row["source_offset"]
        state = known.get(tuple(row[name] for name in key))
        begins = state is None
        if state is not None and number <= state["last"]["sequence"]:
            later = row["session"] > state["last"]["session"]
            begins = later or (number <= 1 and row["ts_event"] > state["last"]["ts_event"])
            if begins:
                told.append((offset, "reset", None, None))
        if begins or state is None:
            state = known[tuple(row[name] for name in key)] = {"first": number, "top": number, "missing": set()}
        elif number > state["top"]:
            if number > state["top"] + 1:
                told.append((offset, "gap", state["top"] + 1, number - state["top"] - 1))
            state["missing"] |= set(range(state["top"] + 1, number))
            state["top"] = number
        else:
            came_late = number < state["first"] or number in state["missing"]
            told.append((offset, "reorder" if came_late else "duplicate", state["top"] + 1, None))
            state["missing"].discard(number)
        state["last"] = row
    return told


@pytest.mark.parametrize("scope", ["instrument", "source"])
@settings(max_examples=120, deadline=None)
@given(drawn=draws, cuts=st.sets(st.integers(0, 40), max_size=4))
def test_what_a_loop_finds_is_found_in_any_batches(
    scope: str, drawn: list[tuple[str, int, int, int]], cuts: set[int]
) -> None:
    rows = rows_of(drawn)
    watch = Watch("trades", scope)
    found: Told = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for first, upto in pairwise(edges):
        frame = pl.DataFrame(rows[first:upto], schema={name: TRADES.polars[name] for name in COLUMNS})
        events, watch.state = watch.see(frame)
        found += events.select("source_offset", "event", "expected", "missing").rows()
    key = ["source", "venue", "symbol"] if scope == "instrument" else ["source"]
    assert found == by_hand(rows, key)


def told(feed: Feed, symbol: str) -> list[tuple[Any, ...]]:
    text = "SELECT event, expected, sequence, missing FROM gaps WHERE symbol = $s ORDER BY source, source_offset"
    found = feed.bench.sql(text, {"s": symbol}).to_polars()
    return found.rows()


def publish(feed: Feed, symbol: str, numbers: Iterable[int], day: int = 1) -> None:
    """Trades of one symbol with these sequence numbers, each later than the one before."""
    at = START + timedelta(days=day, seconds=feed.sent)
    frame = trades(numbers)
    later = pl.Series([at + timedelta(seconds=each) for each in range(len(frame))], dtype=pl.Datetime("us", "UTC"))
    frame = frame.with_columns(symbol=pl.lit(symbol), session=pl.lit(date(2024, 7, day)), ts_event=later)
    with feed.bench.producer(asset_class=feed.asset_class, partitions=feed.partitions) as producer:
        producer.send("trades", frame)
    feed.sent += len(frame)


def sink(feed: Feed, rows: int = 7) -> Any:
    return feed.bench.stream([feed.topic], rows=rows, gaps="instrument").run(until_end=True)


def test_an_exact_list_over_restarts(services: Services, tmp_path: Path) -> None:
    feed = Feed(services, tmp_path / ".k2")
    publish(feed, "AAA", [1, 2, 3, 6, 7, 8, 9, 10])
    publish(feed, "BBB", [50, 51, 52])
    sink(feed)
    assert told(feed, "AAA") == [("gap", 4, 6, 2)]
    publish(feed, "AAA", [5, 5, 11, 9, 14])  # late, twice, next, twice, two missing
    assert sink(feed).gaps == {"gap": 1, "reorder": 1, "duplicate": 2}
    publish(feed, "AAA", [1, 2, 4], day=2)  # begins again overnight, one missing
    publish(feed, "BBB", [53, 54], day=2)
    sink(feed)
    assert told(feed, "AAA") == [
        ("gap", 4, 6, 2),
        ("reorder", 11, 5, None),
        ("duplicate", 11, 5, None),
        ("duplicate", 12, 9, None),
        ("gap", 12, 14, 2),
        ("reset", None, 1, None),
        ("gap", 3, 4, 1),
    ]
    assert told(feed, "BBB") == []
    listed = k2(feed, "stream", "gaps", "--event", "gap", "-o", "csv")
    assert listed.stdout.count("gap") == 3, listed.stderr
    assert feed.bench.audit().ok


def test_nothing_is_watched_that_was_not_declared(services: Services, tmp_path: Path) -> None:
    """Numbers that count a whole topic jump within an instrument; nobody calls that a gap unasked."""
    feed = Feed(services, tmp_path / ".k2", partitions=1)
    feed.publish(100)
    feed.drain()
    assert feed.bench.sql("SELECT * FROM gaps").to_arrow().num_rows == 0
    feed.publish(100)
    done = feed.bench.stream([feed.topic], rows=30, gaps="source").run(until_end=True)
    assert done.gaps == {}
    with pytest.raises(InvalidParameter, match="gaps='symbol'"):
        feed.bench.stream([feed.topic], gaps="symbol")
