"""Turnover against fractions: multipliers, pence, inverse contracts, and what is never summed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.query.money import COLUMNS, turnover
from tests.query_lake import DAY, NEXT, add, at, event
from tests.test_adjustment import half_even
from tests.test_cli import call

FILLS = {
    ("BHP", "XASX"): [("36.16", "100"), ("36.17", "7")],
    ("VOD", "XLON"): [("68.42", "1000"), ("68.4", "3")],
    ("ES", "XCME"): [("5321.25", "2"), ("-0.5", "1")],
    ("BTCUSD", "BINANCE"): [("61234.5", "10"), ("61234.6", "3"), ("0", "1")],
    ("RIO", "XASX"): [("66.5", "10")],
    ("NOK", "XASX"): [("2", "3")],
}
INSTRUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("BHP", "XASX"): {"price_currency": "AUD"},
    ("VOD", "XLON"): {"price_currency": "GBP", "price_unit": "GBX"},
    ("ES", "XCME"): {"price_currency": "USD", "multiplier": Decimal(50)},
    ("BTCUSD", "BINANCE"): {"price_currency": "USD", "multiplier": Decimal(100), "inverse": True},
    ("RIO", "XASX"): {"price_currency": "AUD", "multiplier": Decimal("0.1"), "price_unit": "0.001"},
}
LINEAR = {
    ("BHP", "XASX"): ("AUD", Fraction(1)),
    ("VOD", "XLON"): ("GBP", Fraction(1, 100)),
    ("ES", "XCME"): ("USD", Fraction(50)),
    ("RIO", "XASX"): ("AUD", Fraction(1, 10_000)),
}


def fill(lake: Lake) -> None:
    """Every fill twice, in two sessions."""
    rows = [
        event(symbol=symbol, venue=venue, session=day, ts_event=at(0, day), price=Decimal(price), size=Decimal(size))
        for (symbol, venue), fills in FILLS.items()
        for day in (DAY, NEXT)
        for price, size in fills
    ]
    add(lake, "trades", rows)
    add(lake, "instruments", [{"symbol": s, "venue": v, **row} for (s, v), row in INSTRUMENTS.items()], "instruments")


def linear(key: tuple[str, str]) -> Fraction:
    """price * size * multiplier * unit, summed."""
    return sum((Fraction(price) * Fraction(size) for price, size in FILLS[key]), Fraction(0)) * LINEAR[key][1]


def test_each_instruments_money_is_in_its_currency(lake: Lake, engine: QueryEngine) -> None:
    fill(lake)
    found = turnover(engine).to_arrow()
    assert found.column_names == list(COLUMNS)
    rows = {(row["symbol"], row["venue"]): row for row in found.to_pylist() if row["session"] == NEXT}
    for key, (currency, _) in LINEAR.items():
        assert (rows[key]["currency"], rows[key]["measure"]) == (currency, "currency")
        assert rows[key]["value"] == half_even(linear(key), 16)
    coin = rows["BTCUSD", "BINANCE"]
    assert (coin["currency"], coin["measure"], coin["n_trades"]) == (None, "base", 3)
    worth = [half_even(Fraction(size) * 100 / Fraction(price), 16) for price, size in FILLS["BTCUSD", "BINANCE"][:2]]
    assert coin["value"] == sum(worth)
    unknown = rows["NOK", "XASX"]
    assert (unknown["currency"], unknown["measure"], unknown["value"]) == (None, "raw", Decimal(6))
    assert engine.summary("NOK", NEXT).notional == Decimal(6)


def test_sums_stay_within_a_currency_and_what_has_none_stays_apart(lake: Lake, engine: QueryEngine) -> None:
    fill(lake)
    rows = turnover(engine, by=()).to_arrow().to_pylist()
    sums = {(row["currency"], row["symbol"]): row["value"] for row in rows}
    assert sums == {
        ("AUD", None): half_even(2 * (linear(("BHP", "XASX")) + linear(("RIO", "XASX"))), 16),
        ("GBP", None): half_even(2 * linear(("VOD", "XLON")), 16),
        ("USD", None): half_even(2 * linear(("ES", "XCME")), 16),
        (None, "BTCUSD"): sums[None, "BTCUSD"],
        (None, "NOK"): Decimal(12),
    }
    by_session = turnover(engine, ["BHP", "RIO", "ES"], by="session").to_arrow().to_pylist()
    assert [(row["session"], row["currency"]) for row in by_session] == [
        (DAY, "AUD"), (DAY, "USD"), (NEXT, "AUD"), (NEXT, "USD"),
    ]  # fmt: skip
    one = turnover(engine, "ES", venue="XCME", session=DAY, by=["symbol"]).to_arrow().to_pylist()
    assert [(row["venue"], row["symbol"], row["value"]) for row in one] == [
        (None, "ES", half_even(linear(("ES", "XCME")), 16))
    ]


def test_the_policy_and_cancels_say_which_trades_count(lake: Lake, engine: QueryEngine) -> None:
    fill(lake)
    more = [
        event(ts_event=at(5), trade_id="1", price=Decimal(99), conditions=["X"]),
        event(ts_event=at(6), trade_id="2", price=Decimal(50)),
        event(ts_event=at(7), trade_id="3", status="cancel", corrects="2"),
    ]
    add(lake, "more", more, minute=1)
    words: dict[str, Any] = {"symbol": "BHP", "session": DAY}
    (row,) = turnover(engine, **words).to_arrow().to_pylist()
    assert (row["value"], row["n_trades"]) == (half_even(linear(("BHP", "XASX")), 16), 2)
    (row,) = turnover(engine, **words, eligible="all").to_arrow().to_pylist()
    assert row["value"] == half_even(linear(("BHP", "XASX")) + 99 * 100, 16)
    assert row["value"] == engine.summary("BHP", DAY, eligible="all").notional


def test_instruments_are_those_of_the_session_and_of_the_state(lake: Lake, engine: QueryEngine) -> None:
    fill(lake)
    before = turnover(engine, "NOK")
    row = {"symbol": "NOK", "venue": "XASX"}
    add(lake, "first", [row | {"price_currency": "FIM", "end_date": DAY}], "instruments", minute=1)
    add(lake, "then", [row | {"price_currency": "EUR", "start_date": NEXT}], "instruments", minute=2)
    currencies = {each["session"]: each["currency"] for each in turnover(engine, "NOK").to_arrow().to_pylist()}
    assert currencies == {DAY: "FIM", NEXT: "EUR"}
    add(lake, "late", [row | {"price_currency": "NOK", "multiplier": Decimal(2)}], "instruments", minute=3)
    assert turnover(engine, "NOK", by="symbol").to_arrow()["value"].to_pylist() == [24]
    assert turnover(engine, "NOK", as_of=before.snapshots).to_arrow()["measure"].to_pylist() == ["raw", "raw"]
    since = lake.snapshots("instruments")[0].committed_at
    known = turnover(engine, "NOK", known_at=since - timedelta(milliseconds=1))
    assert known.to_arrow()["currency"].to_pylist() == ["FIM", "EUR"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"multiplier": Decimal(0)}, "multiplier"),
        ({"price_unit": "pound"}, "price_unit"),
        ({"price_unit": "-1"}, "price_unit"),
    ],
)
def test_what_instruments_say_wrongly_is_one_error(
    lake: Lake, engine: QueryEngine, given: dict[str, Any], problem: str
) -> None:
    fill(lake)
    add(lake, "wrong", [{"symbol": "BHP", "venue": "XASX", "price_currency": "AUD", **given}], "instruments", minute=1)
    with pytest.raises(InvalidParameter, match=f"{problem}=.*of BHP on XASX"):
        turnover(engine, "BHP")
    with pytest.raises(InvalidParameter, match="venue, symbol and session"):
        turnover(engine, "VOD", by="currency")


def test_the_workbench_its_views_and_the_command_line(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    fill(lake)
    code, out, _ = call(capsys, monkeypatch, query_main, "turnover", "-s", "ES", "--by", "symbol", "-o", "csv")
    assert code == 0
    assert out.splitlines() == [",".join(COLUMNS), ",ES,,USD,currency,1064200,4,all"]
    bench = k2.connect(settings=lake.settings)
    assert bench.turnover("ES").to_arrow().equals(bench.at(None).turnover("ES").to_arrow())
    assert turnover(QueryEngine(lake), session="2020-01-01").to_arrow().num_rows == 0
