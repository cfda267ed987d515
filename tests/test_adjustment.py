"""Prices across splits and dividends, against factors computed in fractions from the closes of the test's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from tests.query_lake import DAY, add, at, event
from tests.test_cli import call

DAYS = [DAY + timedelta(days=number) for number in range(5)]
CLOSES = dict(zip(DAYS, map(Decimal, ("36.16", "36.45", "12.10", "12.31", "11.77")), strict=True))
SPLIT = {"kind": "split", "ex_date": DAYS[2], "ratio": Decimal(3)}
DIVIDEND = {"kind": "dividend", "ex_date": DAYS[3], "net_amount": Decimal("0.59"), "currency": "AUD"}
EARLIER = {"kind": "dividend", "ex_date": DAYS[1], "gross_amount": Decimal("1.2014"), "currency": "AUD"}


def half_even(value: Fraction, places: int) -> Decimal:
    """A fraction rounded half to even at so many decimals."""
    scaled = value * 10**places
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    up = 2 * rest > scaled.denominator or (2 * rest == scaled.denominator and whole % 2)
    return Decimal(whole + up).scaleb(-places, Context(prec=60, rounding=ROUND_HALF_EVEN))


def instrument(**columns: Any) -> dict[str, Any]:
    return {"symbol": "BHP", "venue": "XASX", "price_currency": "AUD"} | columns


def action(given: Mapping[str, Any], **columns: Any) -> dict[str, Any]:
    return {"symbol": "BHP", "venue": "XASX", **given} | columns


def fill(lake: Lake, *actions: Mapping[str, Any], symbol: str = "BHP") -> None:
    """Two trades a day, the second one at the close; the instrument; and the actions."""
    rows = [
        row
        for day, close in CLOSES.items()
        for row in (
            event(symbol=symbol, session=day, ts_event=at(0, day), price=close + Decimal("0.07"), size=Decimal(7)),
            event(symbol=symbol, session=day, ts_event=at(9, day), price=close, size=Decimal("2.5")),
            # printed off the market: neither a close nor volume
            event(symbol=symbol, session=day, ts_event=at(99, day), price=Decimal(99), conditions=["X"]),
        )
    ]
    add(lake, f"trades-{symbol}", rows)
    add(lake, f"instrument-{symbol}", [instrument(symbol=symbol)], "instruments")
    if actions:
        add(lake, f"actions-{symbol}", [action(each, symbol=symbol) for each in actions], "corporate_actions")


def price_factors(*, split: bool, dividend: bool) -> dict[date, Fraction]:
    """What SPLIT, DIVIDEND and EARLIER make of the prices of each day."""
    one = Fraction(1)
    by_split = one / 3 if split else one
    late = one - Fraction("0.59") / Fraction(CLOSES[DAYS[2]]) if dividend else one
    early = one - Fraction("1.2014") / Fraction(CLOSES[DAYS[0]]) if dividend else one
    return dict(zip(DAYS, (by_split * late * early, by_split * late, late, one, one), strict=True))


@pytest.mark.parametrize(
    ("adjustment", "split", "dividend"), [("split", True, False), ("dividend", False, True), ("all", True, True)]
)
def test_bars_and_trades_are_multiplied_by_the_factor_of_their_session(
    lake: Lake, engine: QueryEngine, *, adjustment: str, split: bool, dividend: bool
) -> None:
    fill(lake, SPLIT, DIVIDEND, EARLIER)
    expected = price_factors(split=split, dividend=dividend)
    sizes = {day: Fraction(3) if split and day < DAYS[2] else Fraction(1) for day in DAYS}
    for interval in ("session", "1d", "1m"):
        bars = engine.bars("BHP", interval, adjustment=adjustment).to_arrow()
        assert bars.column_names[-2:] == ["eligible", "adjustment"]
        for bar, raw in zip(bars.to_pylist(), engine.bars("BHP", interval).to_arrow().to_pylist(), strict=True):
            price, size = expected[bar["session"]], sizes[bar["session"]]
            for name in ("open", "high", "low", "close", "vwap"):
                assert bar[name] == half_even(Fraction(raw[name]) * price, 12)
            assert bar["volume"] == half_even(Fraction(raw["volume"]) * size, 8)
            assert bar["notional"] == half_even(Fraction(raw["notional"]) * price * size, 16)
            assert bar["adjustment"] == adjustment
            assert {name: bar[name] for name in raw.keys() - bar.keys()} == {}
    for bar in engine.bars("BHP", "session", adjustment=adjustment).to_arrow().to_pylist():
        summary = engine.summary("BHP", bar["session"], adjustment=adjustment)
        shown = ("open", "high", "low", "close", "vwap", "volume", "notional", "adjustment")
        assert {name: getattr(summary, name) for name in shown} == {name: bar[name] for name in shown}
    found = engine.trades("BHP", adjustment=adjustment).to_arrow().to_pylist()
    for row, raw in zip(found, engine.trades("BHP").to_arrow().to_pylist(), strict=True):
        assert row["price"] == half_even(Fraction(raw["price"]) * expected[row["session"]], 12)
        assert row["size"] == half_even(Fraction(raw["size"]) * sizes[row["session"]], 12)
        assert {**row, "price": 0, "size": 0} == {**raw, "price": 0, "size": 0, "adjustment": adjustment}


def test_the_change_of_the_adjusted_close_is_the_total_return(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, SPLIT, DIVIDEND, EARLIER)
    closes = engine.bars("BHP", "session", adjustment="all").to_arrow()["close"].to_pylist()
    # Dividends are reinvested at the close before the ex-date, less the dividend, as the price goes ex.
    shares = 1 / (1 - Fraction("1.2014") / Fraction(CLOSES[DAYS[0]])) * 3
    shares /= 1 - Fraction("0.59") / Fraction(CLOSES[DAYS[2]])
    worth = shares * Fraction(CLOSES[DAYS[4]]) / Fraction(CLOSES[DAYS[0]])
    assert abs(Fraction(closes[-1]) / Fraction(closes[0]) - worth) < Fraction(1, 10**11)
    assert closes[-2:] == [CLOSES[DAYS[3]], CLOSES[DAYS[4]]]


def test_raw_is_the_default_and_reads_no_other_table(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, SPLIT)
    for read in (engine.bars, engine.trades):
        assert read("BHP", adjustment="raw").to_arrow().equals(read("BHP").to_arrow())
        assert list(read("BHP").snapshots) == ["trades"]
    adjusted = engine.bars("BHP", "1d", adjustment="all").snapshots
    assert adjusted == {name: lake.head(name) for name in ("trades", "corporate_actions", "instruments")}


def test_quotes_and_thirds_of_large_prices_are_exact(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, SPLIT)
    price = Decimal("1000000000.00000001")
    rows = [event(session=day, ts_event=at(0, day), bid_px=price, ask_px=price + 1) for day in DAYS]
    add(lake, "quotes", rows, "quotes")
    for of, raw in (("bid", price), ("ask", price + 1), ("mid", price + Decimal("0.5"))):
        bars = engine.bars("BHP", "session", of=of, adjustment="split").to_arrow()
        assert bars["close"].to_pylist() == [half_even(Fraction(raw) / 3, 12)] * 2 + [raw] * 3
        assert bars.column_names[-3:] == ["n_quotes", "mean_spread", "adjustment"]
        spreads = [half_even(Fraction(1, 3), 12)] * 2 + [Decimal(1)] * 3
        assert bars["mean_spread"].to_pylist() == spreads


@pytest.mark.parametrize("interval", ["1m", "tick:2", "session"])
def test_figures_that_are_asked_for_are_adjusted_in_their_order(lake: Lake, engine: QueryEngine, interval: str) -> None:
    fill(lake, SPLIT)
    factors = price_factors(split=True, dividend=False)
    whole = engine.bars("BHP", interval).to_arrow().select(["ts_open", "session"]).to_pylist()
    raw = engine.bars("BHP", interval, columns=["ts_open", "twap", "n_trades"]).to_arrow().to_pylist()
    found = engine.bars("BHP", interval, columns=["ts_open", "twap", "n_trades"], adjustment="split").to_arrow()
    assert found.column_names == ["ts_open", "twap", "n_trades", "adjustment"]
    assert [row["ts_open"] for row in whole] == found["ts_open"].to_pylist()
    for bar, before, at_ in zip(found.to_pylist(), raw, whole, strict=True):
        assert bar["twap"] == half_even(Fraction(before["twap"]) * factors[at_["session"]], 12)
        assert bar["n_trades"] == before["n_trades"]


def test_one_symbols_actions_are_not_anothers(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, SPLIT)
    fill(lake, symbol="RIO")
    add(lake, "elsewhere", [action(SPLIT, symbol="RIO", venue="CXAC")], "corporate_actions", minute=1)
    bars = engine.bars(interval="session", adjustment="all").to_arrow().to_pylist()
    closes = {(bar["symbol"], bar["session"]): bar["close"] for bar in bars}
    assert closes["RIO", DAYS[0]] == CLOSES[DAYS[0]]
    assert closes["BHP", DAYS[0]] == half_even(Fraction(CLOSES[DAYS[0]]) / 3, 12)


def test_actions_outside_the_sessions_there_are_change_nothing(lake: Lake, engine: QueryEngine) -> None:
    """Before the first session there is nothing to adjust; after the last one the price has not gone ex yet."""
    early, late = DAYS[0] - timedelta(days=9), DAYS[-1] + timedelta(days=1)
    fill(lake, SPLIT | {"ex_date": late}, DIVIDEND | {"ex_date": early}, DIVIDEND | {"ex_date": late})
    assert engine.bars("BHP", "session", adjustment="all").to_arrow()["close"].to_pylist() == list(CLOSES.values())


def test_rows_that_say_the_same_count_once_and_several_of_a_day_together(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, DIVIDEND, DIVIDEND, DIVIDEND | {"net_amount": Decimal("0.2")}, SPLIT, SPLIT)
    factor = 1 - (Fraction("0.59") + Fraction("0.2")) / Fraction(CLOSES[DAYS[2]])
    closes = engine.bars("BHP", "session", adjustment="all").to_arrow()["close"].to_pylist()
    assert closes[2] == half_even(Fraction(CLOSES[DAYS[2]]) * factor, 12)
    assert closes[1] == half_even(Fraction(CLOSES[DAYS[1]]) * factor / 3, 12)


def test_pence_are_hundredths_of_a_pound(lake: Lake, engine: QueryEngine) -> None:
    fill(lake)
    add(lake, "pence", [instrument(price_currency="GBP", price_unit="GBX")], "instruments", minute=1)
    add(lake, "actions", [action(DIVIDEND, currency="GBP", net_amount=Decimal("0.0059"))], "corporate_actions")
    factor = 1 - Fraction("0.59") / Fraction(CLOSES[DAYS[2]])
    closes = engine.bars("BHP", "session", adjustment="dividend").to_arrow()["close"].to_pylist()
    assert closes[0] == half_even(Fraction(CLOSES[DAYS[0]]) * factor, 12)
    add(lake, "odd", [instrument(price_currency="GBP", price_unit="bushel")], "instruments", minute=2)
    with pytest.raises(InvalidParameter, match="price_unit='bushel'"):
        engine.bars("BHP", "session", adjustment="dividend")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (DIVIDEND | {"currency": "USD"}, "is in USD and its price in AUD"),
        (DIVIDEND | {"currency": None}, "is in no currency and its price in AUD"),
        (DIVIDEND | {"net_amount": None}, "has no amount"),
        (DIVIDEND | {"ex_date": None}, "has no ex_date"),
        (DIVIDEND | {"net_amount": Decimal("12.10")}, "is not less than the close before it, 12.1"),
        (SPLIT | {"ratio": None}, "has no ratio"),
        (SPLIT | {"ratio": Decimal(-2)}, "has the ratio -2"),
    ],
)
def test_what_cannot_be_used_is_one_error_about_the_action(
    lake: Lake, engine: QueryEngine, wrong: dict[str, Any], problem: str
) -> None:
    fill(lake, wrong)
    with pytest.raises(InvalidParameter, match=f"the {wrong['kind']} of BHP on XASX of .*{problem}"):
        engine.bars("BHP", "1d", adjustment="all")
    with pytest.raises(InvalidParameter, match="adjustment"):
        engine.trades("BHP", adjustment=wrong["kind"])
    assert engine.bars("BHP", "1d", adjustment="raw").to_arrow().num_rows == 5


def test_missing_reference_data_and_wrong_words_are_errors(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "trades", [event(session=day, ts_event=at(0, day)) for day in DAYS])
    with pytest.raises(InvalidParameter, match="corporate_actions has no rows"):
        engine.bars("BHP", "1d", adjustment="split")
    with pytest.raises(InvalidParameter, match="raw, split, dividend, all"):
        engine.trades("BHP", adjustment="total")
    add(lake, "actions", [action(DIVIDEND)], "corporate_actions")
    with pytest.raises(InvalidParameter, match="instruments does not say what the price is in"):
        engine.bars("BHP", "1d", adjustment="all")
    assert engine.bars("BHP", "1d", adjustment="split").to_arrow().num_rows == 5
    with pytest.raises(InvalidParameter, match="an adjusted bar is of one session"):
        engine.bars("BHP", "2d", adjustment="split")
    # A range that begins at the ex-date has no price that the dividend could change.
    for words in ({"session": DAYS[3]}, {"start": DAYS[3]}, {"start": at(10_800, DAYS[4])}):
        assert engine.trades("BHP", adjustment="all", **words).columns[-1] == "adjustment"


def test_a_session_without_a_trade_that_counts_has_no_close(lake: Lake, engine: QueryEngine) -> None:
    prices = {DAYS[0]: [Decimal(10)], DAYS[1]: [], DAYS[2]: [Decimal(8)]}
    rows = [event(session=day, ts_event=at(5, day), price=Decimal(99), conditions=["X"]) for day in DAYS[:3]]
    rows += [event(session=day, ts_event=at(0, day), price=price) for day, each in prices.items() for price in each]
    add(lake, "trades", rows)
    add(lake, "instrument", [instrument()], "instruments")
    paid = DIVIDEND | {"ex_date": DAYS[2], "net_amount": Decimal(1)}
    add(lake, "actions", [action(paid)], "corporate_actions")
    assert engine.bars("BHP", "1d", adjustment="all").to_arrow()["close"].to_pylist() == [9, 8]
    off_market = [event(symbol="RIO", session=day, ts_event=at(0, day), conditions=["X"]) for day in DAYS[:3]]
    add(lake, "rio", off_market, minute=1)
    add(lake, "rio-instrument", [instrument(symbol="RIO")], "instruments", minute=1)
    add(lake, "rio-actions", [action(paid, symbol="RIO")], "corporate_actions", minute=1)
    with pytest.raises(InvalidParameter, match=r"the dividend of RIO on XASX of .* has no close before it"):
        engine.bars("RIO", "1d", adjustment="all")


def test_actions_are_pinned_as_other_tables_are(lake: Lake, engine: QueryEngine) -> None:
    fill(lake, SPLIT)
    before = engine.bars("BHP", "session", adjustment="all")
    lake.tag("corporate_actions", "early")
    for name in ("trades", "instruments"):
        lake.tag(name, "early")
    raw, first = CLOSES[DAYS[0]], half_even(Fraction(CLOSES[DAYS[0]]) / 3, 12)
    add(lake, "later", [action(SPLIT, ex_date=DAYS[4], ratio=Decimal("0.5"))], "corporate_actions", minute=30)
    after = half_even(Fraction(raw) / 3 * 2, 12)
    since = lake.snapshots("corporate_actions")[0].committed_at
    closes = {
        None: after,
        "early": first,
        since - timedelta(milliseconds=1): first,
    }
    for as_of, close in closes.items():
        words: dict[str, Any] = {"adjustment": "all", "as_of": as_of}
        assert engine.bars("BHP", "session", **words).to_arrow()["close"][0].as_py() == close
        assert engine.trades("BHP", **words, columns=["price"]).to_arrow().column_names == ["price", "adjustment"]
    known = engine.bars("BHP", "session", adjustment="all", known_at=since - timedelta(milliseconds=1))
    assert known.to_arrow()["close"][0].as_py() == first
    again = engine.bars("BHP", "session", adjustment="all", as_of=before.snapshots)
    assert again.to_arrow().equals(before.to_arrow())


def test_the_command_line_and_views_adjust_too(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    fill(lake, SPLIT)
    code, out, _ = call(capsys, monkeypatch, query_main, "bars", "BHP", "1d", "--adjustment", "split", "-o", "csv")
    assert code == 0
    assert out.splitlines()[0].endswith("eligible,adjustment")
    assert out.splitlines()[1].endswith(",split")
    code, out, _ = call(capsys, monkeypatch, query_main, "trades", "-s", "BHP", "--adjustment", "split", "-n", "1")
    assert "12.076666666667" in out
    code, _, err = call(capsys, monkeypatch, query_main, "bars", "BHP", "--adjustment", "x")
    assert (code, err.count("\n")) == (2, 1)
    view = k2.connect(settings=lake.settings).at(None)
    assert view.bars("BHP", "1d", adjustment="split").to_arrow()["adjustment"][0].as_py() == "split"


def test_real_dividends_before_the_week_change_nothing_and_one_in_dollars_is_refused(
    tmp_path: Path, shared_data: Path
) -> None:
    raw = shared_data / "asx-2014-03" / "raw"
    bench = k2.connect(tmp_path / "lake")
    for profile, name in (("companies", "company_info"), ("dividends", "dividends"), ("splits", "stock_splits")):
        bench.ingest(raw / f"reference-data/{name}.csv", f"asx-{profile}")
    bench.ingest(raw / "trades/7078.csv", "asx-trades")
    week = "2014-03-10..2014-03-14"
    bars = bench.bars("BHP", "session", session=week, adjustment="all").to_arrow()
    assert bars.drop_columns(["adjustment"]).column("close").to_pylist() == (
        bench.bars("BHP", "session", session=week).to_arrow()["close"].to_pylist()
    )
    # Asked for every session there is, BHP's dividend of 0.59 US dollars would count against a price in AUD.
    with pytest.raises(InvalidParameter, match="of BHP on XASX of 2014-03-03 is in USD and its price in AUD"):
        bench.bars("BHP", "session", adjustment="all")
