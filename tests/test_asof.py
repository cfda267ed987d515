"""As-of joins against a slow join in plain Python, a replay, and the independently computed figures of real files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k2kernel as k2
from k2kernel.errors import InvalidParameter
from k2kernel.query.connection import Query
from k2kernel.replay import Quote, Trade
from k2kernel.schemas import TABLES
from k2kernel.times import from_ns
from tests import oracles
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event
from tests.replays import sample_bench

RIGHT = ("bid_px", "ask_px", "session_right", "source_right", "source_offset_right")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    return sample_bench(tmp_path_factory.mktemp("asof"))


def frame(rows: Sequence[dict[str, Any]], table: str) -> pl.DataFrame:
    types = TABLES[table].polars
    full = [{"source": "s", "source_offset": number, "sequence": number, **row} for number, row in enumerate(rows)]
    return pl.DataFrame({name: [row.get(name) for row in full] for name in types}, schema=types)


def tick(number: int) -> Decimal:
    return Decimal(number) / 100


prices = st.none() | st.integers(-2, 2).map(tick)


@st.composite
def events(draw: st.DrawFn, table: str) -> pl.DataFrame:
    """Few instants, so that most rows tie; some with ns; two symbols on two venues; in any order."""
    rows = []
    for _ in range(draw(st.integers(0, 25))):
        ns = draw(st.sampled_from([0, 1, 999, 1_000, 5_000, 86_400 * 10**9, 86_400 * 10**9 + 1]))
        instant = OPEN_NS + ns
        row = {
            "symbol": draw(st.sampled_from(["BHP", "RIO"])),
            "venue": draw(st.sampled_from(["XASX", "CXAC"])),
            "session": DAY if ns < 86_400 * 10**9 else NEXT,
            "ts_event": from_ns(instant),
            "ts_event_ns": instant if ns % 1_000 or draw(st.booleans()) else None,
            "clock": "venue",
            "sequence": draw(st.integers(0, 2)),
            "source": draw(st.sampled_from("ab")),
        }
        rows.append(
            row
            | (
                {"price": draw(prices)}
                if table == "trades"
                else dict(zip(RIGHT, draw(st.tuples(prices, prices)), strict=False))
            )
        )
    return frame(rows, table)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_it_agrees_with_a_slow_join_and_not_with_chance(bench: k2.Workbench, data: st.DataObject) -> None:
    left, right = data.draw(events("trades")), data.draw(events("quotes"))
    within = data.draw(st.sampled_from([None, 0, 1, 999, 1_000]))
    how: dict[str, Any] = {
        "inclusive": data.draw(st.booleans()),
        "same_session": data.draw(st.booleans()),
        "sides": data.draw(st.sampled_from(["any", "two_sided", "uncrossed"])),
        "by": data.draw(st.sampled_from([("venue", "symbol"), ("symbol",), ("venue",)])),
    }
    quotes = right.to_dicts()
    wanted = [oracles.prevailing(row, quotes, tolerance=within, **how) for row in left.iter_rows(named=True)]
    tolerance = None if within is None else f"{within}ns"
    found = bench.asof(left, right, tolerance=tolerance, **how).to_polars()
    names = ("bid_px", "ask_px", "source_right", "source_offset_right")
    assert found.select(names).rows() == [
        (None,) * 4 if row is None else tuple(row[name.removesuffix("_right")] for name in names) for row in wanted
    ]
    assert found.select(left.columns).equals(left)
    shuffled = right.sample(fraction=1, shuffle=True, seed=data.draw(st.integers(0, 9)))
    assert bench.asof(left, shuffled, tolerance=tolerance, **how).to_polars().equals(found)


def test_rows_that_no_column_tells_apart_count_in_the_order_of_the_frame(bench: k2.Workbench) -> None:
    """What Polars does with equal times: the join stands on it."""
    keys = {"symbol": ["BHP"] * 3, "venue": ["XASX"] * 3}
    left = pl.DataFrame({**keys, "ts_event": [at(0), at(1), at(2)]})
    right = pl.DataFrame({**keys, "ts_event": [at(1), at(1), at(1)], "n": [1, 2, 3]})
    several = pl.concat([right, right.with_columns(symbol=pl.lit("RIO"))])
    for quotes in (right, several):
        assert bench.asof(left, quotes).to_polars()["n"].to_list() == [None, 3, 3]
        assert bench.asof(left, quotes, inclusive=False).to_polars()["n"].to_list() == [None, None, 3]


def prevailing_in_replay(bench: k2.Workbench, **words: Any) -> Iterator[tuple[Trade, Quote | None]]:
    """Each trade of a replay with the last quote of its instrument before it in the stream."""
    last: dict[tuple[str, str], Quote] = {}
    for record in bench.replay(**words):
        if isinstance(record, Quote):
            last[record.venue, record.symbol] = record
        elif isinstance(record, Trade):
            yield record, last.get((record.venue, record.symbol))


def check_replay(bench: k2.Workbench, on: str = "ts_event") -> int:
    for ties, inclusive in (("quotes_first", True), ("trades_first", False)):
        found = bench.asof(bench.trades(), bench.quotes(), on=on, inclusive=inclusive).to_polars()
        quotes = zip(found["source_right"], found["source_offset_right"], strict=True)
        joined = dict(zip(zip(found["source"], found["source_offset"], strict=True), quotes, strict=True))
        seen = 0
        for trade, quote in prevailing_in_replay(bench, order_by=on, ties=ties):
            wanted = (None, None) if quote is None else (quote.source, quote.source_offset)
            assert joined[trade.source, trade.source_offset] == wanted
            seen += 1
        assert seen == len(joined) == len(found)
    return seen


def test_a_replay_and_the_join_agree_on_every_trade(bench: k2.Workbench) -> None:
    assert check_replay(bench) > 5_000


def test_sql_over_the_last_quotes_of_an_instant_says_the_same(bench: k2.Workbench) -> None:
    text = """
        SELECT source, source_offset, bid_px, ask_px FROM trades ASOF LEFT JOIN (
            SELECT venue, symbol, ts_event, bid_px, ask_px FROM quotes QUALIFY row_number() OVER (
                PARTITION BY venue, symbol, ts_event ORDER BY sequence DESC, source DESC, source_offset DESC) = 1
        ) USING (venue, symbol, ts_event) ORDER BY source, source_offset"""
    found = bench.asof(bench.trades(), bench.quotes()).to_polars()
    wanted = found.select("source", "source_offset", "bid_px", "ask_px").sort("source", "source_offset")
    assert bench.sql(text).to_polars().equals(wanted)
    setting = Query("SELECT current_setting('asof_loop_join_threshold')")
    assert bench.engine.database.rows(setting) == [(0,)]


def test_times_within_a_microsecond_are_told_apart(bench: k2.Workbench) -> None:
    left = frame([event(1_500, price=Decimal(1))], "trades")
    right = frame([event(1_400, bid_px=Decimal(1)), event(1_501, bid_px=Decimal(2))], "quotes")
    assert bench.asof(left, right).to_polars()["bid_px"].to_list() == [Decimal(1)]
    exactly = bench.asof(left, right, tolerance="100ns").to_polars()
    assert exactly["bid_px"].to_list() == [Decimal(1)]
    assert bench.asof(left, right, tolerance="99ns").to_polars()["bid_px"].to_list() == [None]


def test_an_older_quote_never_stands_in_for_a_one_sided_one(bench: k2.Workbench) -> None:
    left = frame([event(ts_event=at(3), price=Decimal(1))], "trades")
    whole = {"bid_px": Decimal(1), "ask_px": Decimal(2)}
    right = frame([event(ts_event=at(1)) | whole, event(ts_event=at(2), bid_px=Decimal(1))], "quotes")
    for sides, bid in (("any", Decimal(1)), ("two_sided", None), ("uncrossed", None)):
        assert bench.asof(left, right, sides=sides).to_polars()["bid_px"].to_list() == [bid]


def test_pandas_arrow_and_lazy_frames_are_frames(bench: k2.Workbench) -> None:
    trades, quotes = bench.trades("CBA"), bench.quotes("CBA")
    wanted = bench.asof(trades, quotes).to_polars()
    assert wanted["bid_px"].count() > 0
    names = ["bid_px", "source_offset_right"]
    for left, right in (
        (trades.to_pandas(), quotes.to_pandas()),
        (trades.to_arrow(), quotes.to_arrow()),
        (trades.to_polars().lazy(), quotes.to_polars()),
    ):
        assert bench.asof(left, right).to_polars().select(names).equals(wanted.select(names))


def test_it_is_a_result_like_any_other(bench: k2.Workbench) -> None:
    trades, quotes = bench.trades("CBA"), bench.quotes("CBA")
    found = bench.asof(trades, quotes)
    assert found.snapshots == {**trades.snapshots, **quotes.snapshots}
    table = found.to_arrow()
    assert found.columns == table.column_names == found.to_polars().columns == list(found.to_pandas().columns)
    assert table.schema.field("symbol").type == pa.string()
    assert table.schema.field("bid_px").type == pa.decimal128(18, 8)
    assert pa.Table.from_batches(found.batches(100)).equals(table)
    assert sum(len(batch) for batch in found.batches(100, limit=150)) == 150
    assert found.head(3).equals(table.slice(0, 3))
    assert found.to_duckdb().fetchall()[0][0] == "CBA"
    assert "ts_event (Australia/Sydney)" in repr(found)
    nothing = bench.asof(bench.trades("CBA", session="1999-01-04"), quotes)
    assert [batch.num_rows for batch in nothing.batches()] == [0]
    assert nothing.to_arrow().schema == table.schema


def test_two_states_of_one_table_are_told_apart(lake: k2.lake.Lake) -> None:
    wb = k2.connect(settings=lake.settings)
    first = add(lake, "d1", [event(bid_px=Decimal(1))], "quotes")
    second = add(lake, "d2", [event(ts_event=at(1), bid_px=Decimal(2))], "quotes", minute=1)
    now, then = wb.quotes("BHP"), wb.quotes("BHP", as_of=first)
    found = wb.asof(now, then)
    assert found.snapshots == {"quotes": second, "quotes (right)": first}
    assert wb.asof(now, now).snapshots == {"quotes": second}
    assert found.to_polars()["bid_px_right"].to_list() == [Decimal(1), Decimal(1)]


def refused(bench: k2.Workbench, left: Any, right: Any, match: str, **words: Any) -> None:
    with pytest.raises(InvalidParameter, match=match):
        bench.asof(left, right, **words).to_arrow()


def test_what_cannot_be_joined_says_why(bench: k2.Workbench) -> None:
    trade = frame([event(price=Decimal(1))], "trades")
    quote = frame([event(bid_px=Decimal(1))], "quotes")
    for words, match in (
        ({"on": "ts_ingest"}, "on='ts_ingest'.*ts_event, ts_recv"),
        ({"sides": "both"}, "sides='both'.*two_sided"),
        ({"book": "best"}, "book='best'.*nbbo, same_exec_venue, last_row"),
        ({"tolerance": "soon"}, "tolerance='soon'.*such as 5s"),
        ({"by": ()}, "by="),
        ({"by": "isin"}, "left=.*no column 'isin'"),
        ({"suffix": ""}, "suffix=''"),
        ({"on": "ts_recv"}, "is missing in 1 row of right.*on='ts_event'"),
    ):
        refused(bench, trade, quote, match, **words)
    refused(bench, trade, quote.drop("symbol"), "right=.*no column 'symbol'")
    refused(bench, trade, quote.drop("ask_px"), "right=.*no column 'ask_px'", sides="two_sided")
    refused(bench, trade, quote.drop("session"), "right=.*no column 'session'", same_session=True)
    refused(
        bench,
        trade,
        quote.with_columns(pl.col("ts_event").dt.replace_time_zone(None)),
        "right=.*not a time with a zone",
    )
    coded = quote.with_columns(pl.col("symbol").cast(pl.Categorical))
    refused(bench, trade, coded, "by='symbol': is String in left and Categorical in right")
    refused(bench, "trades", quote, "left='str': is no table.*wb.trades")


def test_two_clocks_are_not_compared(bench: k2.Workbench) -> None:
    trade = frame([event(price=Decimal(1), ts_recv=at(2))], "trades")
    quotes = [event(ts_event=at(-1), clock="recv", ts_recv=at(1), bid_px=Decimal(1))]
    refused(bench, trade, frame(quotes, "quotes"), "XASX, BHP are partly by the venue's clock.*on='ts_recv'")
    assert bench.asof(trade, frame(quotes, "quotes"), on="ts_recv").to_polars()["bid_px"].to_list() == [Decimal(1)]
    elsewhere = frame([event(venue="CXAC", clock="recv", bid_px=Decimal(1))], "quotes")
    assert bench.asof(trade, elsewhere).to_polars()["bid_px"].to_list() == [None]


def test_quotes_of_several_venues_need_a_book(bench: k2.Workbench) -> None:
    trades = frame([event(ts_event=at(9), exec_venue=name) for name in ("ARCX", "XNAS", None)], "trades")
    quotes = frame(
        [
            event(ts_event=at(1), exec_venue="ARCX", bid_px=tick(100), ask_px=tick(104)),
            event(ts_event=at(2), exec_venue="XNAS", bid_px=tick(99), ask_px=tick(102)),
        ],
        "quotes",
    )
    refused(bench, trades, quotes, "XASX, BHP are of several venues: ARCX, XNAS.*nbbo.*same_exec_venue.*last_row")
    for book, wanted in (
        ("last_row", [(tick(99), tick(102))] * 3),
        ("same_exec_venue", [(tick(100), tick(104)), (tick(99), tick(102)), (None, None)]),
        ("nbbo", [(tick(100), tick(102))] * 3),
    ):
        found = bench.asof(trades, quotes, book=book)
        assert found.to_polars().select("bid_px", "ask_px").rows() == wanted
        assert found.columns == found.to_polars().columns
    each = quotes.with_columns(symbol=pl.Series(["BHP", "RIO"]))
    assert bench.asof(trades, each).to_polars()["bid_px"].to_list() == [tick(100)] * 3


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York"])
def test_the_zone_of_the_machine_changes_nothing(
    bench: k2.Workbench, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    words: dict[str, Any] = {"start": "2024-03-04T23:30:00Z", "end": "2024-03-05T02:00:00+00:00"}
    wanted = bench.asof(bench.trades("CBA", **words), bench.quotes("CBA")).to_arrow()
    costs = bench.spreads("CBA", **words).to_arrow()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        again = k2.connect(settings=bench.settings)
        assert again.asof(again.trades("CBA", **words), again.quotes("CBA")).to_arrow().equals(wanted)
        assert again.spreads("CBA", **words).to_arrow().equals(costs)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(wanted)
