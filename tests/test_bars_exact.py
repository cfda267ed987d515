"""Bars and summaries to the last digit: rounding, ties, missing figures, buckets of odd clocks, and policies."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from k2kernel.calendars import session_of
from k2kernel.calendars import venue as declared
from k2kernel.eligibility import EVERYTHING, FIELDS, policies, policy
from k2kernel.errors import InvalidParameter, QueryError, UnknownVenue
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.query.buckets import zone_offsets
from tests.bar_checks import check
from tests.query_lake import DAY, NEXT, add, at, event, utc
from tests.slow_bars import Asked


def bars(engine: QueryEngine, *args: Any, **words: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.bars(*args, **words).to_arrow().to_pylist()
    return found


def random_trades(seed: int, count: int = 400) -> list[dict[str, Any]]:
    """Trades with ties, negative prices, zero and negative sizes, and digits down to the last decimal."""
    dice = random.Random(seed)
    rows = [
        event(
            ts_event=at(dice.randrange(200)),
            sequence=number,
            source_offset=number * 7 % count,
            price=Decimal(dice.randrange(-(10**12), 10**13)).scaleb(-8),
            size=Decimal(dice.choice([0, 1, 7, -3, dice.randrange(1, 10**9)])).scaleb(-dice.choice([0, 8])),
        )
        for number in range(count)
    ]
    dice.shuffle(rows)
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_bars_are_exact_whatever_order_the_trades_came_in(lake: Lake, engine: QueryEngine, seed: int) -> None:
    rows = random_trades(seed)
    add(lake, "a", rows[:200])
    add(lake, "b", rows[200:], minute=1)

    for interval in ("10s", "session"):
        check(engine, Asked(interval), eligible="all")


def test_vwap_rounds_half_to_even_with_the_right_sign(lake: Lake, engine: QueryEngine) -> None:
    cases = [
        ("0.00000001", "1", "-0.00000001", "3"),
        ("0.00000001", "1", "0", "7"),
        ("-0.00000001", "1", "0", "15"),
        ("0.00000001", "1", "0", "79999"),
        ("9999999999.99999999", "9999999999", "9999999999.99999999", "1"),
        ("-9999999999.99999999", "9999999999.99999999", "1", "0.00000001"),
        ("1", "-3", "2", "1"),
        ("0.00000005", "1", "0", "99999"),
        ("0.00000015", "1", "0", "99999"),
    ]
    rows = []
    for minute, (price, size, other, more) in enumerate(cases):
        pairs = ((price, size), (other, more))
        rows += [event(ts_event=at(60 * minute), price=Decimal(cost), size=Decimal(many)) for cost, many in pairs]
    add(lake, "a", rows)
    found = [bar["vwap"] for bar in check(engine, Asked("1m"), eligible="all")]
    assert found[-2] == Decimal("0.000000000000")
    assert all(value.as_tuple().exponent == -12 for value in found)


def test_half_even_against_decimal(lake: Lake, engine: QueryEngine) -> None:
    """k * 1e-8 over 20,000 lots of it is k * 5e-13: every odd k is a tie at the twelfth decimal."""
    rows = []
    for k in range(1, 12):
        rows += [event(ts_event=at(60 * k), price=Decimal(k).scaleb(-8), size=Decimal(1))]
        rows += [event(ts_event=at(60 * k), price=Decimal(0), size=Decimal(19_999))]
    add(lake, "a", rows)
    ties = [Decimal(k * 5).scaleb(-13).quantize(Decimal("1e-12"), ROUND_HALF_EVEN) for k in range(1, 12)]
    assert [bar["vwap"] for bar in bars(engine, "BHP", "1m")] == ties


def test_nothing_is_divided_by_zero_and_missing_prices_and_sizes_are_left_out(lake: Lake, engine: QueryEngine) -> None:
    rows = [
        event(price=Decimal(5), size=Decimal(0)),
        event(ts_event=at(60), price=Decimal(5), size=None),
        event(ts_event=at(120), price=None, size=Decimal(3)),
        event(ts_event=at(120), price=Decimal(7), size=Decimal(2)),
    ]
    add(lake, "a", rows)
    zero, missing, mixed = bars(engine, "BHP", "1m")
    assert (zero["volume"], zero["vwap"]) == (0, None)
    assert (missing["volume"], missing["vwap"], missing["close"]) == (None, None, 5)
    assert (mixed["open"], mixed["volume"], mixed["vwap"], mixed["first_sequence"]) == (7, 5, 7, 2)


def test_overflow_is_an_error(lake: Lake, engine: QueryEngine) -> None:
    most = Decimal("9999999999.99999999")
    add(lake, "a", [event(price=most, size=most) for _ in range(101)])
    with pytest.raises(QueryError, match=r"[Oo]verflow|Out of Range"):
        bars(engine, "BHP")


def test_ties_below_a_microsecond_follow_the_nanoseconds(lake: Lake, engine: QueryEngine) -> None:
    prices = {900: 3, 100: 1, 500: 2}
    add(lake, "a", [event(ns=ns, price=Decimal(price)) for ns, price in prices.items()])
    bar = bars(engine, "BHP")[0]
    assert (bar["open"], bar["close"], bar["first_sequence"], bar["last_sequence"]) == (1, 3, 1, 0)
    assert [row["price"] for row in engine.trades("BHP").to_arrow().to_pylist()] == [1, 2, 3]


@pytest.mark.parametrize("low", [-(2**62), -5, 0, 2**62])
def test_any_sequence_keeps_the_order(lake: Lake, engine: QueryEngine, low: int) -> None:
    rows = [event(sequence=low + step, price=Decimal(step)) for step in (2, 0, 1)]
    rows.append(event(sequence=2**63 - 1, price=Decimal(9)))
    rows.append(event(ts_event=datetime(1960, 1, 1, tzinfo=UTC), sequence=0, price=Decimal(4)))
    add(lake, "a", rows)
    bar = bars(engine, "BHP", "session")[0]
    assert (bar["open"], bar["close"]) == (4, 9)


def test_buckets_are_half_open_and_stamped_by_their_start(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ts_event=at(seconds)) for seconds in (0, 59.999999, 60, 119, 120)])
    found = bars(engine, "BHP", "1m")
    assert [(bar["ts_open"], bar["n_trades"]) for bar in found] == [(at(0), 2), (at(60), 2), (at(120), 1)]
    assert [bar["n_trades"] for bar in bars(engine, "BHP", "1m", start=at(60), end=at(120))] == [2]


ALIGNED = """
XASX    1d      2014-04-05T23:00+11:00                          2014-04-05T00:00+11:00
XASX    1d      2014-04-06T01:30+11:00,2014-04-06T23:30+10:00   2014-04-06T00:00+11:00
XASX    1h      2014-04-06T02:30+11:00,2014-04-06T02:30+10:00   2014-04-06T02:00+11:00,2014-04-06T02:00+10:00
XASX    4h      2014-04-06T01:00+11:00,2014-04-06T03:59+10:00   2014-04-06T00:00+11:00
XASX    2h      2014-10-05T03:10+11:00                          2014-10-05T03:00+11:00
XASX    7m      2014-03-10T10:00+11:00,2014-03-10T23:59+11:00   2014-03-10T09:55+11:00,2014-03-10T23:55+11:00
XASX    90m     2014-03-10T10:00+11:00                          2014-03-10T09:00+11:00
XNYS    1d      2014-03-09T23:59-04:00                          2014-03-09T00:00-05:00
OANDA   1d      2014-05-07T16:59-04:00,2014-05-07T17:00-04:00   2014-05-06T17:00-04:00,2014-05-07T17:00-04:00
OANDA   4h      2014-05-07T20:59-04:00,2014-05-07T21:00-04:00   2014-05-07T17:00-04:00,2014-05-07T21:00-04:00
OANDA   session 2014-05-07T18:00-04:00                          2014-05-07T17:00-04:00
XNSE    1h      2014-05-07T10:10+05:30                          2014-05-07T10:00+05:30
BINANCE 1m      2014-03-10T00:00:59.999999+00:00                2014-03-10T00:00+00:00
BINANCE 250ms   2014-03-10T00:00:00.999999+00:00                2014-03-10T00:00:00.750+00:00
"""
"""Venue, interval, times of trades, and the starts of the bars that hold them."""


@pytest.mark.parametrize("line", ALIGNED.strip().splitlines())
def test_buckets_are_aligned_to_the_venues_session_clock(lake: Lake, engine: QueryEngine, line: str) -> None:
    venue, interval, moments, opens = line.split()
    rows = []
    for moment in map(utc, moments.split(",")):
        session = session_of(declared(venue), int(moment.timestamp()) * 10**9)
        rows.append(event(ts_event=moment, venue=venue, session=session))
    add(lake, "a", rows)
    assert [bar["ts_open"] for bar in bars(engine, "BHP", interval)] == [utc(text) for text in opens.split(",")]


def test_bars_of_several_venues_follow_each_ones_clock(lake: Lake, engine: QueryEngine) -> None:
    moment = utc("2014-03-10T14:30:00+00:00")
    venues = {"XASX": date(2014, 3, 11), "XNYS": DAY, "BINANCE": DAY}
    add(lake, "a", [event(ts_event=moment, venue=venue, session=session) for venue, session in venues.items()])
    found = {bar["venue"]: bar["ts_open"] for bar in bars(engine, None, "1d")}
    assert found == {
        "XASX": utc("2014-03-11T00:00+11:00"),
        "XNYS": utc("2014-03-10T00:00-04:00"),
        "BINANCE": utc("2014-03-10T00:00Z"),
    }
    assert {bar["venue"]: bar["eligible"] for bar in bars(engine, None, "session")} == {
        "XASX": "asx",
        "XNYS": "cta",
        "BINANCE": "all",
    }


def test_a_venue_that_nobody_declared_is_an_error(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(venue="XXXX")])
    with pytest.raises(UnknownVenue, match="zone"):
        bars(engine, "BHP", "1d")


@pytest.mark.parametrize(
    "zone", ["Australia/Sydney", "America/New_York", "Europe/Dublin", "Asia/Shanghai", "Africa/Cairo"]
)
def test_offsets_are_those_of_the_zone_database(zone: str) -> None:
    first, last = utc("2009-06-01T00:00Z"), utc("2016-02-01T00:00Z")
    microseconds = [int(moment.timestamp()) * 1_000_000 for moment in (first, last)]
    changes, offsets = zone_offsets(zone, *microseconds)
    for days in range(0, (last - first).days * 24, 5):
        moment = first + timedelta(hours=days)
        at = int(moment.timestamp()) * 1_000_000
        known = offsets[sum(change <= at for change in changes)]
        assert timedelta(microseconds=known) == moment.astimezone(ZoneInfo(zone)).utcoffset()


@pytest.mark.parametrize(
    "interval",
    [
        "",
        "m",
        "0m",
        "1.5m",
        "-1m",
        "1M",
        "25h",
        "1w",
        "tick:",
        "tick:1.5",
        "volume:0",
        "dollar:-1",
        "tick:x",
        60,
        None,
        "1m'",
    ],
)
def test_what_is_no_interval_is_refused(engine: QueryEngine, interval: Any) -> None:
    with pytest.raises(InvalidParameter, match="interval"):
        engine.bars("BHP", interval)


def test_quote_bars_take_bid_ask_or_the_exact_mid(lake: Lake, engine: QueryEngine) -> None:
    sides = [("1.00000001", "1.00000002"), ("2", None), (None, "4"), ("1", "1.5")]
    rows = [
        event(symbol="EURUSD", venue="OANDA", bid_px=bid and Decimal(bid), ask_px=ask and Decimal(ask))
        for bid, ask in sides
    ]
    add(lake, "q", rows, "quotes")
    expected_prices: dict[str, tuple[str, ...]] = {
        "bid": ("1.00000001", "2", "1", "1"),
        "ask": ("1.00000002", "4", "1.00000002", "1.5"),
    }
    for of, prices in expected_prices.items():
        bar = bars(engine, "EURUSD", "1m", of=of)[0]
        assert (bar["open"], bar["high"], bar["low"], bar["close"]) == tuple(map(Decimal, prices))
    mid = bars(engine, "EURUSD", "1m", of="mid")[0]
    assert (mid["open"], mid["close"]) == (Decimal("1.000000015"), Decimal("1.25"))
    assert (mid["volume"], mid["vwap"], mid["n_trades"], mid["n_quotes"]) == (None, None, None, 4)
    with pytest.raises(InvalidParameter, match="bid, ask, mid"):
        engine.bars("EURUSD", of="last")


def test_off_market_prints_count_for_nothing_by_the_asx_policy(lake: Lake, engine: QueryEngine) -> None:
    rows = [
        event(price=Decimal(42), size=Decimal(1_000), conditions=["1", "X"]),
        event(price=Decimal("35.95"), size=Decimal(10), conditions=["0"]),
        event(price=Decimal("36.45"), size=Decimal(30), conditions=None),
        event(price=Decimal(40), size=Decimal(7), conditions=["X"]),
        event(price=Decimal(40), ts_event=at(60), conditions=["X"]),
    ]
    add(lake, "a", rows)
    venue = bars(engine, "BHP", "1m")
    assert [(bar["high"], bar["volume"], bar["n_trades"], bar["eligible"]) for bar in venue] == [
        (Decimal("36.45"), 40, 2, "asx")
    ]
    assert (venue[0]["open"], venue[0]["close"], venue[0]["vwap"]) == tuple(map(Decimal, ("35.95", "36.45", "36.325")))
    everything = bars(engine, "BHP", "1m", eligible="all")
    assert [(bar["high"], bar["n_trades"], bar["eligible"]) for bar in everything] == [(42, 4, "all"), (40, 1, "all")]
    assert engine.summary("BHP", DAY).high == Decimal("36.45")
    assert engine.summary("BHP", DAY, eligible="all").high == 42
    assert bars(engine, "BHP", "1m", eligible="asx") == venue
    with pytest.raises(InvalidParameter, match=r"eligible.*all, asx"):
        engine.bars("BHP", eligible="nyse")


def test_a_users_policy_says_per_field_and_date_what_counts(lake: Lake, engine: QueryEngine) -> None:
    folder = lake.settings.home / "policies"
    folder.mkdir()
    (folder / "odd.toml").write_text(
        """
        venues = ["XNYS"]
        [[codes]]
        code = "I"
        counts_for = ["volume", "vwap"]
        [[codes]]
        code = "M"
        counts_for = ["open", "high_low", "last"]
        from = 2014-03-11
        """
    )
    rows = []
    for day in (DAY, NEXT):
        prices: tuple[tuple[int, list[str]], ...] = (
            (9, ["I"]),
            (2, []),
            (3, ["M"]),
            (4, ["?"]),
            (8, ["I", "M"]),
            (1, ["I"]),
        )
        rows += [
            event(
                venue="XNYS", session=day, ts_event=at(0, day), price=Decimal(price), size=Decimal(10), conditions=codes
            )
            for price, codes in prices
        ]
    add(lake, "a", rows)
    before, after = bars(engine, "BHP", "session")
    assert [before[name] for name in ("open", "high", "low", "close", "volume", "n_trades")] == [2, 4, 2, 4, 60, 6]
    assert [after[name] for name in ("open", "high", "low", "close", "volume", "n_trades")] == [2, 4, 2, 4, 40, 5]
    assert after["vwap"] == 4
    assert after["eligible"] == "odd"


def test_policies_are_read_and_checked(tmp_path: Path) -> None:
    assert policy("XASX").name == "asx"
    assert policy("BINANCE") == policy("XASX", "all") == EVERYTHING
    assert [rule.code for rule in policy("XASX").rules if set(FIELDS) <= set(rule.excluded)][:1] == ["X"]
    assert set(policies()) == {"all", "asx", "cta", "utp"}
    folder = tmp_path / "policies"
    folder.mkdir()
    for text, problem in (
        ("venues = 7", "venues"),
        ("colour = 1", "colour"),
        ("codes = [1]", "codes"),
        ("counted = 1", "counted"),
        ('auctions = "O"', "auctions"),
        ("[[codes]]\ncounts_for = []", "code"),
        ('[[codes]]\ncode = "A"', "counts_for"),
        ('[[codes]]\ncode = "A"\ncounts_for = ["price"]', "price"),
        ('[[codes]]\ncode = "A"\ncounts_for = []\nfrom = "2014-01-01"', "from"),
        ("[[codes", "TOML"),
    ):
        (folder / "mine.toml").write_text(text)
        with pytest.raises(InvalidParameter, match=problem):
            policies(tmp_path)


def test_a_summary_is_the_bar_of_a_session_with_its_times(lake: Lake, engine: QueryEngine) -> None:
    snapshot = add(lake, "a", random_trades(11))
    summary = asdict(engine.summary("BHP", "2014-03-10"))
    bar = bars(engine, "BHP", "session")[0]
    for name in (
        "symbol",
        "venue",
        "session",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "notional",
        "vwap",
        "eligible",
    ):
        assert summary[name] == bar[name]
    times = engine.trades("BHP").to_arrow()["ts_event"].to_pylist()
    assert (summary["trade_count"], summary["snapshot_id"]) == (400, snapshot)
    assert (summary["first"], summary["last"]) == (times[0], times[-1])


def test_a_summary_without_trades_is_of_the_quotes(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "q", [event(symbol="EURUSD", venue="OANDA") for _ in range(3)], "quotes")
    summary = engine.summary("EURUSD", DAY)
    assert (summary.trade_count, summary.quote_count, summary.open, summary.vwap) == (0, 3, Decimal("35.11"), None)
    assert (summary.of, engine.summary("EURUSD", NEXT).quote_count) == ("mid", 0)
    add(lake, "a", [event(symbol="EURUSD", venue="OANDA", session=NEXT)])
    summary = engine.summary("EURUSD", DAY)
    assert (summary.of, summary.open, summary.quote_count) == ("trades", None, 3)
    with pytest.raises(InvalidParameter, match="session"):
        engine.summary("EURUSD", "2014-03-10..2014-03-11")
