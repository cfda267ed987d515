"""The quality report: each kind of fault put into clean data once and found there, and the truths of real files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.quality import COLUMNS, Quality, quality
from k2kernel.quality.report import FACTS
from k2kernel.query import QueryEngine
from k2kernel.times import parse_as_of
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event
from tests.test_cli import call

CENT = Decimal("0.01")
PRICES = [Decimal("35.10") + CENT * (number % 5 - 2) for number in range(50)]


def clean(kind: str, symbol: str = "BHP") -> list[dict[str, Any]]:
    """Fifty rows, one a second, trades a moment after their quote."""
    rows = []
    for number, price in enumerate(PRICES):
        row = event(symbol=symbol, ts_event=at(number), ts_recv=at(number + 0.002), sequence=1_000 + number)
        if kind == "trades":
            row |= {"price": price, "trade_id": f"t{number}", "ts_event": at(number + 0.001)}
        else:
            row |= {"bid_px": price - CENT, "ask_px": price + CENT}
        rows.append(row)
    return rows


def report(lake: Lake, **words: Any) -> Quality:
    return quality(QueryEngine(lake), **words)


def fill(lake: Lake, trades: Iterable[Any], quotes: Iterable[Any]) -> None:
    add(lake, "trades", list(trades))
    add(lake, "quotes", list(quotes), "quotes")


def test_clean_data_has_nothing_against_it(lake: Lake) -> None:
    fill(lake, clean("trades"), clean("quotes"))
    found = report(lake)
    assert found.found == {}
    assert found.table.columns == ["venue", "symbol", "session", *COLUMNS]
    (row,) = found.table.to_dicts()
    assert (row["venue"], row["symbol"], row["session"], row["trades"], row["quotes"]) == ("XASX", "BHP", DAY, 50, 50)
    assert (row["first"], row["last"], row["longest_pause_us"]) == (at(0), at(49.001), 999_000)
    assert (row["sequence_gaps"], row["sequence_missing"]) == (0, 0)


def test_an_empty_lake_has_an_empty_report(lake: Lake) -> None:
    found = report(lake)
    assert found.table.columns == ["venue", "symbol", "session", *COLUMNS]
    assert (len(found.table), found.found) == (0, {})
    assert "nothing found" in repr(found)
    assert found._repr_html_().startswith("<table>")


TRADE_FAULTS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "a number is left out": ({"sequence": 1_052}, {"sequence_gaps": 1, "sequence_missing": 2}),
    "long after the others": ({"ts_event": at(800), "ts_recv": None}, {"time_gaps": 1, "stale_quotes": 1}),
    "before the row before": ({"ts_event": at(40.5)}, {"out_of_order": 1}),
    "captured before it happened": ({"ts_recv": at(49)}, {"recv_before_event": 1}),
    "captured a nanosecond before": (
        {"ts_event_ns": OPEN_NS + 50_001_000_001, "ts_recv_ns": OPEN_NS + 50_001_000_000, "ts_recv": at(50.001)},
        {"recv_before_event": 1},
    ),
    "by the clock of the recorder": ({"clock": "recv"}, {"recv_clock": 1}),
    "beyond the book": ({"price": Decimal("35.50")}, {"outside_book": 1, "outliers": 1}),
    "beyond the book, below": ({"price": Decimal("34.70")}, {"outside_book": 1, "outliers": 1}),
    "without a price": ({"price": None}, {"null_prices": 1}),
    "without a size": ({"size": None}, {"null_sizes": 1}),
    "of size zero": ({"size": Decimal(0)}, {"zero_sizes": 1}),
    "with an id that was there": ({"trade_id": "t7"}, {"repeated_ids": 1}),
    "undone by nobody's name": ({"status": "cancel", "corrects": None}, {"unmatched": 1}),
    "after the auction": (
        {"ts_event": at(22_320), "ts_recv": None},
        {"off_session": 1, "time_gaps": 1, "stale_quotes": 1},
    ),
    "in the auction": ({"ts_event": at(22_319), "ts_recv": None}, {"time_gaps": 1, "stale_quotes": 1}),
    "between the close and the auction": (
        {"ts_event": at(21_600), "ts_recv": None},
        {"off_session": 1, "time_gaps": 1, "stale_quotes": 1},
    ),
    "undoing nothing": ({"status": "cancel", "corrects": "nowhere"}, {"unmatched": 1}),
    "undoing a fill": ({"status": "cancel", "corrects": "t7"}, {}),
    "equal to another": (
        {"ts_event": at(49.001), "trade_id": "t49", "price": PRICES[49]},
        {"repeats": 1, "repeated_ids": 1},
    ),
}


QUOTE_FAULTS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "no ask": ({"ask_px": None, "ask_sz": None}, {"one_sided": 1}),
    "a bid of nothing at zero": ({"bid_px": Decimal(0), "bid_sz": Decimal(0)}, {"one_sided": 1}),
    "locked": ({"bid_px": Decimal("35.12")}, {"locked": 1}),
    "crossed": ({"bid_px": Decimal("35.13")}, {"crossed": 1}),
    "a number of a quote is left out": ({"sequence": 1_060}, {"sequence_gaps": 1, "sequence_missing": 10}),
    "before the quote before": ({"ts_event": at(48.5)}, {"out_of_order": 1}),
    "in the session before": ({"ts_event": at(50, NEXT)}, {"off_session": 1, "time_gaps": 1}),
}


def against(row: dict[str, Any]) -> dict[str, int]:
    """What a row of the report has against its instrument."""
    return {name: count for name, count in row.items() if isinstance(count, int) and count and name not in FACTS}


def test_every_fault_is_found_once_where_it_is_and_alone(lake: Lake) -> None:
    """One symbol for each fault, which is in its last trade or quote."""
    trade = {"sequence": 1_050, "ts_event": at(50.001), "ts_recv": at(60), "trade_id": "t50", "price": Decimal("35.10")}
    quote = {"sequence": 1_050, "ts_event": at(50), "bid_px": Decimal("35.10"), "ask_px": Decimal("35.12")}
    trades, quotes = [], []
    for symbol in (*TRADE_FAULTS, *QUOTE_FAULTS):
        trades += clean("trades", symbol)
        quotes += clean("quotes", symbol)
    for faults, last, rows in ((TRADE_FAULTS, trade, trades), (QUOTE_FAULTS, quote, quotes)):
        for symbol, (given, _) in faults.items():
            columns: dict[str, Any] = {"symbol": symbol, **last, **given}
            rows.append(event(**columns))
    fill(lake, trades, quotes)
    found = {row["symbol"]: row for row in report(lake).table.to_dicts()}
    for symbol, (given, expected) in (TRADE_FAULTS | QUOTE_FAULTS).items():
        assert {symbol: against(found[symbol])} == {symbol: expected}
        assert found[symbol]["undoing"] == (1 if "status" in given else 0)
        assert (found[symbol]["trades"], found[symbol]["quotes"]) == ((51, 50) if symbol in TRADE_FAULTS else (50, 51))


def test_a_trade_sees_the_last_quote_of_its_own_instant_and_session(lake: Lake) -> None:
    quotes = [
        event(ts_event=at(0), bid_px=Decimal(10), ask_px=Decimal(11)),
        event(ts_event=at(0), bid_px=Decimal(20), ask_px=Decimal(21)),
        event(ts_event=at(1), bid_px=Decimal(30), ask_px=Decimal(29)),
    ]
    trades = [
        event(ts_event=at(-1), price=Decimal(99)),  # no quote yet
        event(ts_event=at(0), price=Decimal(20)),
        event(ts_event=at(0), price=Decimal(10), sequence=9),  # the first quote is not the last one
        event(ts_event=at(2), price=Decimal(99)),  # the book is crossed
        event(ts_event=at(3, NEXT), session=NEXT, price=Decimal(99)),  # another session
    ]
    fill(lake, trades, quotes)
    assert report(lake, outlier=1e9).totals["outside_book"] == 1
    assert report(lake, outside="0.5", outlier=1e9).totals["outside_book"] == 0
    assert report(lake, stale="1ms", outlier=1e9).totals["stale_quotes"] == 1


def test_numbers_of_a_source_are_counted_where_told(lake: Lake) -> None:
    """Two instruments that share the numbers of one source; one is left out between them."""
    rows = [
        event(symbol=symbol, ts_event=at(number), sequence=number + (number > 10))
        for number in range(20)
        for symbol in [("BHP", "RIO")[number % 2]]
    ]
    add(lake, "trades", rows)
    auto = report(lake)
    assert auto.table["sequence_gaps"].to_list() == [None, None]
    assert auto.found == {}
    by_source = report(lake, gaps="source")
    assert by_source.table["sequence_gaps"].to_list() == [0, 1]
    assert by_source.totals["sequence_missing"] == 1
    assert report(lake, gaps="instrument").totals["sequence_gaps"] == 18


def test_it_is_of_what_is_asked_for_and_pinned(lake: Lake) -> None:
    fill(lake, clean("trades"), clean("quotes"))
    lake.tag("trades", "before")
    lake.tag("quotes", "before")
    add(lake, "rio", [row | {"size": Decimal(0)} for row in clean("trades", "RIO")], minute=1)
    assert report(lake).totals["zero_sizes"] == 50
    assert report(lake, symbol="BHP").found == {}
    assert report(lake, symbol="RIO", session=NEXT).table.is_empty()
    before = {name: lake.resolve(name, parse_as_of("before")) for name in ("trades", "quotes")}
    assert report(lake, as_of=before).found == {}
    assert report(lake).snapshots["trades"] == lake.head("trades")
    for words in ({"outside": "2"}, {"gaps": "all"}, {"quiet": "session"}, {"outlier": 0}):
        with pytest.raises(InvalidParameter, match=next(iter(words))):
            report(lake, **words)


ROWS = """\
ts_event,symbol,venue,sequence,price,size
2024-03-04T00:00:00Z,BHP,XASX,1,44.1,100
2024-03-04T00:00:01Z,BHP,XASX,2,44.1,0
2024-03-04T00:00:02Z,BHP,XASX,3,x,5
"""


def test_rejected_rows_the_command_line_and_the_notebook(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("t.csv").write_text(ROWS)
    Path("u.csv").write_text(ROWS.replace("BHP", "RIO").replace("x,5", "1,y"))
    bench = k2.connect()
    for name in ("t.csv", "u.csv"):
        bench.ingest(name, "k2-trades", max_rejects=0.5)
    found = bench.quality("BHP")
    assert found.found == {"zero_sizes": 1, "rejected": 1}
    assert found.rejected.select("target", "rows").rows() == [("trades", 1)]
    assert bench.quality().totals["rejected"] == 2
    code, out, _ = call(capsys, monkeypatch, main, "table", "quality", "-s", "BHP")
    assert code == 0
    assert re.search(r"zero_sizes +1 ", out)
    code, out, _ = call(capsys, monkeypatch, main, "table", "quality", "-o", "json")
    assert [(row["symbol"], row["zero_sizes"]) for row in json.loads(out)] == [("BHP", 1), ("RIO", 1)]
    shown = found._repr_html_()
    assert "zero_sizes" in shown
    assert "<svg" not in shown, "one session has no course"
    Path("v.csv").write_text(ROWS.replace("03-04", "03-05"))
    bench.ingest("v.csv", "k2-trades", max_rejects=0.5)
    assert "2024-03-05: 1</title>" in bench.quality("BHP")._repr_html_()
    assert found.to_polars().equals(pl.DataFrame(found.to_arrow()))


def test_the_truths_of_a_real_week(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "asx-2014-03"
    truths = json.loads((folder / "truths.json").read_text())
    bench = k2.connect(tmp_path / "lake")
    bench.ingest(folder / "raw/reference-data/company_info.csv", "asx-companies")
    for kind in ("trades", "quotes"):
        bench.ingest(str(folder / f"raw/{kind}/*.csv"), f"asx-{kind}")
    totals = bench.quality().totals
    assert totals["trades"] == truths["trades"]["row_count"]
    assert totals["repeats"] == truths["trades"]["exact_duplicate_rows"]
    assert totals["out_of_order"] == truths["trades"]["out_of_order_rows"] + truths["quotes"]["out_of_order_rows"]
    assert totals["locked"] == truths["quotes"]["rows_locked_bid_eq_ask"]
    assert totals["crossed"] == truths["quotes"]["rows_crossed_bid_gt_ask_both_nonzero"]
    assert totals["one_sided"] == truths["quotes"]["rows_with_zero_ask"]
    assert totals["sequence_missing"] == totals["unmatched"] == 0
    times = (
        bench.trades(columns=["ts_event"]).to_polars()["ts_event"].dt.convert_time_zone("Australia/Sydney").dt.time()
    )
    assert totals["off_session"] == sum(
        not (time(9, 59, 45) <= each < time(16) or time(16, 10) <= each < time(16, 12)) for each in times
    )
    assert totals["off_session"] == 72
    assert timedelta(microseconds=bench.quality("BHP").table["longest_pause_us"].max()) < timedelta(hours=2)  # type: ignore[arg-type]
