"""Corrections and cancels from a file: what is received stays, what stands follows, as known at any time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2

HEADER = "ts_event,symbol,venue,trade_id,price,size,status,corrects,session"
FILLS = [
    "2024-03-04T01:00:00Z,BHP,XASX,a,10,1,,,",
    "2024-03-04T01:00:01Z,BHP,XASX,b,20,2,,,",
    "2024-03-04T01:00:02Z,BHP,XASX,c,30,3,,,",
    "2024-03-05T01:00:00Z,BHP,XASX,a,40,4,,,",
]
"""Ids begin again with each session."""

STEPS: list[tuple[str, list[str], dict[str, list[int]], int]] = [
    ("the fills", FILLS, {"2024-03-04": [10, 20, 30], "2024-03-05": [40]}, 0),
    (
        "a correction with an id of its own",
        ["2024-03-04T02:00:00Z,BHP,XASX,b2,21,2,correction,b,"],
        {"2024-03-04": [10, 21, 30], "2024-03-05": [40]},
        0,
    ),
    (
        "a cancel of the correction takes the trade away: the fill that was corrected does not come back",
        ["2024-03-04T03:00:00Z,BHP,XASX,x1,,,cancel,b2,"],
        {"2024-03-04": [10, 30], "2024-03-05": [40]},
        0,
    ),
    (
        "cancels that name no fill of their session, and one that names none at all",
        ["2024-03-04T03:00:00Z,BHP,XASX,x2,30,3,cancel,zz,", "2024-03-04T03:00:00Z,BHP,XASX,x3,30,3,cancel,,"],
        {"2024-03-04": [10, 30], "2024-03-05": [40]},
        2,
    ),
    (
        "an order that was cancelled is no trade",
        ["2024-03-04T03:30:00Z,BHP,XASX,o1,9,9,order_cancel,,"],
        {"2024-03-04": [10, 30], "2024-03-05": [40]},
        2,
    ),
    (
        "a late cancel says the session of its fill, and leaves the same id of its own day alone",
        ["2024-03-05T02:00:00Z,BHP,XASX,x4,,,cancel,a,2024-03-04"],
        {"2024-03-04": [30], "2024-03-05": [40]},
        2,
    ),
    (
        "without saying so it is of its own day",
        ["2024-03-06T02:00:00Z,BHP,XASX,x5,,,cancel,c,"],
        {"2024-03-04": [30], "2024-03-05": [40]},
        3,
    ),
    (
        "a late correction",
        ["2024-03-06T03:00:00Z,BHP,XASX,c2,31,5,correction,c,2024-03-04"],
        {"2024-03-04": [31], "2024-03-05": [40]},
        3,
    ),
]


def standing(bench: k2.Workbench, **words: Any) -> dict[str, list[int]]:
    """The prices of the trades that stand, by session, the same through every verb."""
    trades = bench.trades("BHP", **words).to_arrow().to_pylist()
    found: dict[str, list[int]] = {}
    for row in trades:
        found.setdefault(str(row["session"]), []).append(int(row["price"]))
    text = "SELECT price, size FROM trades WHERE symbol = 'BHP' ORDER BY ts_event, sequence"
    assert bench.sql(text, **words).to_arrow()["price"].to_pylist() == [row["price"] for row in trades]
    bars = {str(bar["session"]): bar for bar in bench.bars("BHP", "session", **words).to_arrow().to_pylist()}
    assert {day: bar["n_trades"] for day, bar in bars.items()} == {day: len(prices) for day, prices in found.items()}
    for day, prices in found.items():
        rows = [row for row in trades if str(row["session"]) == day]
        summary = bench.summary("BHP", day, **words)
        volume, notional = sum(row["size"] for row in rows), sum(row["price"] * row["size"] for row in rows)
        assert (summary.trade_count, summary.volume, summary.notional) == (len(rows), volume, notional)
        assert [summary.high, summary.low] == [max(prices), min(prices)]
        assert (bars[day]["volume"], bars[day]["notional"]) == (volume, notional)
    return {day: sorted(prices) for day, prices in found.items()}


@pytest.fixture
def bench(tmp_path: Path) -> k2.Workbench:
    return k2.connect(tmp_path / "lake")


def load(bench: k2.Workbench, number: int, lines: list[str]) -> None:
    path = Path(f"{number}.csv")
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    bench.ingest(path, "k2-trades")


def test_every_verb_follows_step_by_step_and_back_again(bench: k2.Workbench) -> None:
    moments, received = [], 0
    for number, (_, lines, prices, unmatched) in enumerate(STEPS):
        load(bench, number, lines)
        received += len(lines)
        assert standing(bench) == prices
        assert bench.trades(raw=True).to_arrow().num_rows == received
        assert bench.quality().totals["unmatched"] == unmatched
        assert bench.quality().totals["off_session"] == 0
        time.sleep(0.003)
        moments.append(datetime.now(UTC))
        time.sleep(0.003)
    for moment, (_, _, prices, _) in zip(moments, STEPS, strict=True):
        assert standing(bench, known_at=moment) == prices
        assert standing(bench, as_of=moment) == prices
    by_event = standing(bench, known_at="2024-03-04T02:30:00Z", clock="event")
    assert by_event == {"2024-03-04": [10, 21, 30]}
    assert standing(bench, known_at="2024-03-05T01:30:00Z", clock="event") == STEPS[4][2]
    assert standing(bench, known_at="2024-03-05T02:00:00Z", clock="event") == STEPS[5][2]


def test_what_undoes_a_fill_may_be_loaded_before_it(bench: k2.Workbench) -> None:
    for number, (_, lines, _, _) in reversed(list(enumerate(STEPS))):
        load(bench, number, lines)
    assert standing(bench) == STEPS[-1][2]


def test_a_fill_that_is_printed_again_under_its_id_after_its_cancel_stands(bench: k2.Workbench) -> None:
    again = "2024-03-04T04:00:00Z,BHP,XASX,a,11,1,,,"
    load(bench, 0, [FILLS[0], "2024-03-04T03:00:00Z,BHP,XASX,x,,,cancel,a,", again])
    assert standing(bench) == {"2024-03-04": [11]}


def test_a_session_that_is_no_date_is_rejected(bench: k2.Workbench) -> None:
    Path("bad.csv").write_text("\n".join([HEADER, *FILLS, FILLS[0] + "monday"]) + "\n")
    assert bench.ingest("bad.csv", "k2-trades", max_rejects=0.5).rejected == 1
    reason = bench.sql("SELECT reason FROM dead_letter").to_arrow()["reason"][0].as_py()
    assert reason.startswith("session: 'monday' is not a date")
    assert bench.summary("BHP", "2024-03-04").volume == Decimal(6)
