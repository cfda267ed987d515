"""Spreads, signs and markouts against the same figures computed row by row in plain Python."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import k2kernel as k2
from k2kernel.cli.app import app
from k2kernel.errors import InvalidParameter, UnknownReference
from k2kernel.lake import Lake
from tests import oracles
from tests.query_lake import DAY, NEXT, add, at, event
from tests.replays import sample_bench

MEASURES = (
    *("bid_px", "ask_px", "bid_sz", "ask_sz", "sign", "mid", "quoted_spread", "effective_spread"),
    *("signed_effective_spread", "realised_spread", "micro_price", "imbalance", "locked", "crossed"),
)
RULES = ("side", "quote", "tick", "lee_ready")
Rows = list[dict[str, Any]]


def rows(result: k2.Result) -> Rows:
    found: Rows = result.to_arrow().to_pylist()
    return found


def workbench(lake: Lake, trades: Rows, quotes: Rows) -> k2.Workbench:
    add(lake, "t", trades)
    add(lake, "q", quotes, "quotes")
    return k2.connect(settings=lake.settings)


def quote(second: float, bid: str | None, ask: str | None, bid_sz: int | None = 100, ask_sz: int | None = 300) -> Any:
    sides = {"bid_px": bid, "ask_px": ask, "bid_sz": bid_sz, "ask_sz": ask_sz}
    return event(ts_event=at(second)) | {
        name: None if value is None else Decimal(value) for name, value in sides.items()
    }


def trade(second: float, price: str | None, side: str | None = "buy", size: int = 100) -> Any:
    return event(ts_event=at(second), price=None if price is None else Decimal(price), side=side, size=Decimal(size))


def test_worked_by_hand(lake: Lake) -> None:
    """Bid 10.00 for 100 and ask 10.03 for 300; after five minutes the mid is 10.045."""
    wb = workbench(
        lake, [trade(1, "10.03"), trade(2, "10.00", "sell")], [quote(0, "10.00", "10.03"), quote(300, "10.03", "10.06")]
    )
    bought, sold = rows(wb.spreads("BHP"))
    assert (bought["mid"], bought["quoted_spread"]) == (Decimal("10.015"), Decimal("0.03"))
    assert (bought["effective_spread"], bought["signed_effective_spread"]) == (Decimal("0.03"), Decimal("0.03"))
    assert (bought["realised_spread"], sold["realised_spread"]) == (Decimal("-0.03"), Decimal("0.09"))
    assert (bought["micro_price"], bought["imbalance"]) == (Decimal("10.0075"), Decimal("-0.5"))
    marks = rows(wb.markouts("BHP", ("1s", "5m")))
    assert [(row["markout_1s"], row["markout_5m"]) for row in marks] == [
        (Decimal(0), Decimal("0.03")),
        (Decimal(0), Decimal("-0.03")),
    ]


def test_what_is_not_defined_is_null_and_what_is_odd_is_flagged(lake: Lake) -> None:
    quotes = [
        quote(0, None, "10"),
        quote(2, "10", "10"),
        quote(4, "11", "10", None, 5),
        quote(6, "9", "10", 0, 0),
        quote(8, "-1", "0"),
    ]
    trades = [trade(second, "10") for second in (1, 3, 5, 7, 9)]
    found = rows(workbench(lake, trades, quotes).spreads("BHP", horizon="0s"))
    names = ("mid", "quoted_spread", "effective_spread", "micro_price", "imbalance", "locked", "crossed")
    assert [tuple(row[name] for name in names) for row in found] == [
        (None, None, None, None, None, False, False),
        (Decimal(10), 0, 0, Decimal(10), Decimal("-0.5"), True, False),
        (Decimal("10.5"), -1, 1, None, None, False, True),
        (Decimal("9.5"), 1, 1, None, None, False, False),
        (Decimal("-0.5"), 1, 21, Decimal("-0.75"), Decimal("-0.5"), False, False),
    ]
    assert [row["sign"] for row in found] == [1] * 5
    uncrossed = rows(k2.connect(settings=lake.settings).spreads("BHP", sides="uncrossed"))
    assert [row["mid"] for row in uncrossed] == [None, Decimal(10), None, Decimal("9.5"), Decimal("-0.5")]


def test_signs(lake: Lake) -> None:
    quotes = [quote(0, "9", "11"), quote(5.5, None, "11")]
    trades = [
        *(trade(1, "10", None), trade(2, "10.5", None), trade(3, "10", "buy"), trade(4, "10", "sell")),
        *(trade(5, None, None), trade(6, "10", None), trade(7, "11", None), trade(8, "11", None)),
    ]
    wb = workbench(lake, trades, quotes)
    found = {rule: [row["sign"] for row in rows(wb.spreads("BHP", sign=rule))] for rule in RULES}
    assert found == {
        "side": [None, None, 1, -1, None, None, None, None],
        "quote": [None, 1, None, None, None, None, None, None],
        "tick": [None, 1, -1, -1, -1, -1, 1, 1],
        "lee_ready": [None, 1, -1, -1, -1, -1, 1, 1],
    }
    late = rows(wb.spreads("BHP", sign="quote", lag="2s"))
    assert [row["sign"] for row in late] == [None, 1, None, None, None, None, 1, None]


def test_a_quote_before_the_start_still_prevails_and_one_after_the_end_is_seen_by_the_horizon(lake: Lake) -> None:
    quotes = [quote(0, "9", "11"), quote(100, "10", "12"), event(ts_event=at(0, NEXT), session=NEXT)]
    wb = workbench(lake, [trade(50, "11"), trade(60, "11"), trade(70, "11")], quotes)
    found = rows(wb.spreads("BHP", start=at(55), end=at(65), horizon="1m"))
    assert [(row["mid"], row["realised_spread"]) for row in found] == [(Decimal(10), Decimal(0))]
    assert rows(wb.spreads("BHP", limit=2, horizon="1m")) == rows(wb.spreads("BHP", horizon="1m"))[:2]
    assert rows(wb.spreads("BHP", start=str(DAY), end=str(NEXT), horizon="1m")) == rows(wb.spreads("BHP", horizon="1m"))


def test_no_quote_of_another_session_prevails(lake: Lake) -> None:
    wb = workbench(lake, [trade(1, "11") | {"session": NEXT, "ts_event": at(1, NEXT)}], [quote(0, "9", "11")])
    assert [(row["bid_px"], row["mid"], row["realised_spread"]) for row in rows(wb.spreads("BHP"))] == [
        (None, None, None)
    ]


def test_without_any_quote_there_is_nothing_beside_a_trade(lake: Lake) -> None:
    add(lake, "t", [trade(1, "10", size=7)])
    wb = k2.connect(settings=lake.settings)
    assert [(row["sign"], row["mid"]) for row in rows(wb.spreads("BHP", sign="lee_ready", book="nbbo"))] == [
        (None, None)
    ]
    (found,) = rows(wb.spread_summary("BHP"))
    assert [found[name] for name in ("quotes", "time_weighted_spread", "trades", "volume", "effective_spread")] == [
        *(0, None, 1, Decimal(7), None)
    ]
    add(lake, "q", [quote(0, "9", "11") | {"symbol": "RIO"}], "quotes")
    (found,) = rows(wb.spread_summary("RIO"))
    assert [found[name] for name in ("quotes", "trades", "volume", "eligible")] == [1, 0, Decimal(0), "asx"]
    assert rows(wb.spreads("BHP"))[0]["bid_px"] is None


def test_both_tables_are_read_at_one_state(lake: Lake) -> None:
    wb = workbench(lake, [trade(1, "10")], [quote(0, "9", "11")])
    view, pinned = wb.at(), {name: wb.snapshots(name)[0].id for name in ("trades", "quotes")}
    wanted = [rows(view.spreads("BHP")), rows(view.markouts("BHP")), rows(view.spread_summary("BHP"))]
    add(lake, "more", [trade(2, "10")], minute=1)
    add(lake, "more", [quote(0.5, "8", "11")], "quotes", minute=1)
    assert view.spreads("BHP").snapshots == pinned
    assert view.asof(view.trades("BHP"), view.quotes("BHP")).snapshots == pinned
    assert [rows(view.spreads("BHP")), rows(view.markouts("BHP")), rows(view.spread_summary("BHP"))] == wanted
    assert rows(wb.spreads("BHP", as_of=pinned)) == wanted[0] != rows(wb.spreads("BHP"))[:1]
    with pytest.raises(UnknownReference):
        wb.spreads("BHP", as_of=pinned["trades"])


def test_bad_words_say_so(lake: Lake) -> None:
    wb = workbench(lake, [trade(1, "10")], [quote(0, "9", "11")])
    for words, match in (
        ({"sign": "guess"}, "sign='guess'.*lee_ready"),
        ({"horizon": "soon"}, "horizon='soon'"),
        ({"lag": -1}, "lag=-1"),
        ({"book": "best"}, "book='best'"),
    ):
        with pytest.raises(InvalidParameter, match=match):
            wb.spreads("BHP", **words)
    wrong: list[Any] = [(), ("1s", "soon"), 5]
    for horizons in wrong:
        with pytest.raises(InvalidParameter, match="horizons="):
            wb.markouts("BHP", horizons)
    with pytest.raises(InvalidParameter, match=r"start=.*cuts a session"):
        wb.spread_summary("BHP", start=at(0))


def test_on_the_command_line(lake: Lake) -> None:
    wb = workbench(lake, [trade(1, "10")], [quote(0, "9", "11")])
    home = ["--home", str(wb.settings.home)]

    def said(*words: str, verb: str = "spreads") -> str:
        done = CliRunner().invoke(app, ["query", verb, "BHP", *words, *home])
        assert done.exit_code == 0, done.output
        return done.stdout

    (found,) = json.loads(said("--sign", "tick", "--horizon", "1s", "--book", "nbbo", "--no-inclusive", "-o", "json"))
    assert (found["mid"], found["effective_spread"], found["sign"]) == ("10", "0", None)
    (found,) = json.loads(said("-o", "json", verb="spread-summary"))
    assert (found["trades"], found["volume"], found["effective_spread"]) == (1, "100", "0")
    assert said().split()[:2] == ["ts_event", "(Australia/Sydney)"]


@st.composite
def market(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Trades and quotes of two symbols at few instants: ties, missing sides and prices, crossed quotes."""
    price = st.none() | st.sampled_from(
        [Decimal(text) for text in ("-0.01", "0", "9.99", "10", "10.00000001", "10.03")]
    )
    size = st.sampled_from([None, Decimal(0), Decimal(1), Decimal(3), Decimal("7.00000001")])

    def rows_of(kind: str) -> Rows:
        found = []
        for number in range(draw(st.integers(1, 12))):
            ns = draw(st.sampled_from([0, 1, 1_000, 5 * 10**9, 6 * 10**9]))
            row = event(
                ns, symbol=draw(st.sampled_from(["BHP", "RIO"])), sequence=draw(st.integers(0, 2)), source_offset=number
            )
            if kind == "trades":
                row |= {"price": draw(price), "size": draw(size), "side": draw(st.sampled_from([None, "buy", "sell"]))}
            else:
                row |= {name: draw(price) for name in ("bid_px", "ask_px")}
                row |= {name: draw(size) for name in ("bid_sz", "ask_sz")}
            found.append(row | {"source": kind[0]})
        return found

    return rows_of("trades"), rows_of("quotes")


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(data=market(), inclusive=st.booleans(), rule=st.sampled_from(RULES))
def test_ties_missing_sides_and_odd_prices(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[Rows, Rows], inclusive: bool, rule: str
) -> None:
    wb = k2.connect(tmp_path_factory.mktemp("spreads")).init()
    add(wb.lake, "t", data[0])
    add(wb.lake, "q", data[1], "quotes")
    check(wb, *data, inclusive=inclusive, rule=rule)


def check(wb: k2.Workbench, trades: Rows, quotes: Rows, *, inclusive: bool, rule: str) -> None:
    """Every column of `spreads` and `markouts` for every trade, in the total order."""
    words: dict[str, Any] = {"inclusive": inclusive, "sign": rule}
    costs = rows(wb.spreads(None, horizon="5s", **words))
    marks = rows(wb.markouts(None, ("1us", "5s"), **words))
    ordered = sorted(trades, key=oracles.place)
    assert len(costs) == len(marks) == len(ordered)
    same: dict[str, Any] = {"same_session": True, "inclusive": inclusive}
    for one, cost, mark in zip(ordered, costs, marks, strict=True):
        now, soon, later = (oracles.prevailing(one, quotes, after=ns, **same) for ns in (0, 1_000, 5 * 10**9))
        sign = oracles.signed(rule, one, trades, now)
        assert {name: cost[name] for name in MEASURES} == oracles.measures(one, now, later, sign)
        assert (mark["source_offset"], mark["sign"]) == (one["source_offset"], sign)
        assert (mark["markout_1us"], mark["markout_5s"]) == (
            oracles.move(now, soon, sign),
            oracles.move(now, later, sign),
        )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    return sample_bench(tmp_path_factory.mktemp("spreads"), rows=1_200)


def of_sample(sample: k2.Workbench, sides: str, rule: str) -> tuple[dict[Any, Rows], dict[Any, list[Any]], Rows]:
    """The quotes of each instrument and session, its trades that count with their costs, and the summary."""
    quotes, costs = defaultdict(list), defaultdict(list)
    for row in rows(sample.quotes()):
        quotes[row["venue"], row["symbol"], row["session"]].append(row)
    trades = rows(sample.trades())
    same: dict[str, Any] = {"same_session": True, "sides": sides}
    for one in trades:
        key = one["venue"], one["symbol"], one["session"]
        now, later = (oracles.prevailing(one, quotes[key], after=ns, **same) for ns in (0, 300 * 10**9))
        if "X" not in (one["conditions"] or ()) or one["venue"] != "XASX":
            sign = oracles.signed(rule, one, [], now)
            costs[key].append((one["size"], oracles.measures(one, now, later, sign)))
    return quotes, costs, rows(sample.spread_summary(sides=sides, sign=rule))


@pytest.mark.parametrize(("sides", "rule"), [("uncrossed", "side"), ("two_sided", "quote")])
def test_the_summary_of_each_session(sample: k2.Workbench, sides: str, rule: str) -> None:
    quotes, costs, found = of_sample(sample, sides, rule)
    assert len(found) == len({*quotes, *costs})
    for row in found:
        key = row["venue"], row["symbol"], row["session"]
        spread, locked, crossed = oracles.time_weighted(quotes[key], crossed=sides == "two_sided")
        assert (row["quotes"], row["time_weighted_spread"]) == (len(quotes[key]), spread)
        assert (row["locked_share"], row["crossed_share"]) == (locked, crossed)
        assert (row["trades"], row["volume"]) == (len(costs[key]), sum(size for size, _ in costs[key]))
        for name in ("effective_spread", "realised_spread"):
            assert row[name] == oracles.weighted([(cost[name], size) for size, cost in costs[key]])
    assert {row["eligible"] for row in found} == {"asx", "cta", "all"}


def test_hours_choose_trades_and_what_is_weighed_but_not_the_quotes_beside_them(lake: Lake) -> None:
    """The Australian session opens at 10:00, which is second 0."""
    quotes = [quote(-60, "9", "11"), quote(-30, "9", "10"), quote(60, "9", "13"), quote(90, "9", "11")]
    wb = workbench(lake, [trade(-45, "11"), trade(30, "10")], quotes)
    found = wb.spreads("BHP", hours="rth")
    assert (found.hours, [(row["price"], row["ask_px"]) for row in rows(found)]) == (
        "rth",
        [(Decimal(10), Decimal(10))],
    )
    (total,) = rows(wb.spread_summary("BHP", hours="rth"))
    assert [total[name] for name in ("quotes", "time_weighted_spread", "trades", "effective_spread")] == [2, 4, 1, 1]
