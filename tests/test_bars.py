"""Bars of every kind beside a slow implementation in plain Python, and through every door."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from k2kernel.calendars import session_of
from k2kernel.calendars import venue as declared
from k2kernel.config import Settings
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.workbench import Workbench, connect
from tests.bar_checks import check, check_every_door, rows_of
from tests.query_lake import DAY, NEXT, add, at, event, utc
from tests.replays import sample_bench
from tests.slow_bars import OFF_MARKET, US_TAPE, Asked, by_policy

TIMES = ("1m", "7m", "90m", "4h", "3d", "session")
AMOUNTS = ("tick:1", "tick:7", "volume:2500", "dollar:1e5")
VENUE_POLICY = {"codes": by_policy(OFF_MARKET) | {"XNYS": US_TAPE}, "label": {"XASX": "asx", "XNYS": "cta"}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return sample_bench(tmp_path_factory.mktemp("bars"), rows=1_500)


@pytest.mark.parametrize("interval", [*TIMES, *AMOUNTS])
def test_bars_of_trades_are_the_slow_ones(bench: Workbench, interval: str) -> None:
    check(bench, Asked(interval), eligible="all")
    check(bench, Asked(interval, **VENUE_POLICY))  # type: ignore[arg-type]


@pytest.mark.parametrize("of", ["bid", "ask", "mid"])
@pytest.mark.parametrize("interval", ["10s", "session", "tick:13"])
def test_bars_of_quotes_are_the_slow_ones(bench: Workbench, interval: str, of: str) -> None:
    check(bench, Asked(interval, of))


@pytest.mark.parametrize("interval", ["1h", "90m", "3d", "session", "tick:7", "dollar:1e5"])
def test_a_range_cuts_bars_and_they_say_so(bench: Workbench, interval: str) -> None:
    times = bench.trades().to_arrow()["ts_event"].to_pylist()
    start, end = times[len(times) // 5], times[-len(times) // 5]
    found = check(bench, Asked(interval, start=start, end=end), eligible="all", start=start, end=end)
    assert any(bar["is_partial"] for bar in found)
    day = bench.trades().to_arrow()["session"].to_pylist()[0]
    asked = Asked(interval, sessions=(day, day))
    check(bench, asked, eligible="all", session=day)


ODD_POLICY = """
venues = ["XNYS"]
[[codes]]
code = "I"
counts_for = ["volume", "vwap"]
[[codes]]
code = "M"
counts_for = ["open", "high_low", "last"]
[[codes]]
code = "Z"
counts_for = []
"""
ODD_CODES = {
    "XNYS": {"open": "IZ", "high_low": "IZ", "last": "IZ", "volume": "MZ", "vwap": "MZ"},
}


def odd_trades(seed: int, count: int = 300, *, in_ns: bool = True) -> list[dict[str, Any]]:
    """Ties, ns, no or negative prices and sizes, codes that count for some fields, two symbols, three sessions."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        day = DAY + timedelta(days=dice.randrange(3))
        row: dict[str, Any] = {
            "symbol": dice.choice(["A", "B"]),
            "venue": "XNYS",
            "session": day,
            "ts_event": at(dice.randrange(900), day),
            "sequence": dice.randrange(5),
            "price": dice.choice([None, Decimal(dice.randrange(-(10**12), 10**13)).scaleb(-8)]),
            "size": dice.choice([None, Decimal(0), Decimal(-3), Decimal(dice.randrange(1, 10**9)).scaleb(-8)]),
            "conditions": dice.choice([None, [], ["I"], ["M"], ["Z"], ["I", "M"]]),
        }
        if in_ns:
            moment: datetime = row["ts_event"]
            row["ts_event_ns"] = int(moment.timestamp()) * 10**9 + dice.randrange(1_000)
        rows.append(event(**row))
    return rows


@pytest.mark.parametrize("in_ns", [False, True])
@pytest.mark.parametrize("interval", ["10s", "2d", "tick:3", "volume:0.00000001", "volume:20", "dollar:900.5"])
def test_odd_trades_by_an_odd_policy(lake: Lake, interval: str, in_ns: bool) -> None:
    folder = lake.settings.home / "policies"
    folder.mkdir()
    (folder / "odd.toml").write_text(ODD_POLICY)
    rows = odd_trades(7, in_ns=in_ns)
    add(lake, "a", rows[:170])
    add(lake, "b", rows[170:], minute=1)
    engine = QueryEngine(lake)
    check(engine, Asked(interval, codes=ODD_CODES, label={"XNYS": "odd"}))
    check(engine, Asked(interval), eligible="all")
    start, end = at(301), at(600, NEXT)
    check(engine, Asked(interval, start=start, end=end), eligible="all", start=start, end=end)


CHANGES = {
    "XASX": [date(2014, 4, 4), date(2014, 10, 3)],
    "XNYS": [date(2014, 3, 7), date(2014, 10, 31)],
    "OANDA": [date(2014, 3, 7), date(2014, 10, 31)],
}
"""Days before the weekends in which clocks change."""


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Trades and quotes around the clock in weeks in which the clocks change."""
    settings = Settings(home=tmp_path_factory.mktemp("dst") / ".k2", _env_file=None)
    lake, dice = Lake.open(settings, create=True), random.Random(3)
    for number, (venue, days) in enumerate(CHANGES.items()):
        rows = []
        for day in days:
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            for minute in sorted(dice.sample(range(4 * 24 * 60), 60)):
                moment = noon + timedelta(minutes=minute, microseconds=dice.randrange(60_000_000))
                session = session_of(declared(venue), int(moment.timestamp()) * 10**9)
                price = Decimal(dice.randrange(1, 10**6)).scaleb(-2)
                rows.append(event(symbol="S", venue=venue, ts_event=moment, session=session, price=price))
        add(lake, venue, rows, minute=number)
        quotes = [row | {"bid_px": row["price"], "ask_px": row["price"] + 1} for row in rows]
        add(lake, venue, quotes, "quotes", minute=number)
    return connect(settings.home)


@pytest.fixture(params=["UTC", "Australia/Sydney", "America/New_York"])
def in_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in this zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_zone")
def test_weeks_in_which_the_clocks_change_through_every_door(changing: Workbench) -> None:
    for of, intervals in {
        "trades": ("7m", "4h", "1d", "2d", "session", "tick:5", "volume:500", "dollar:1e5"),
        "mid": ("4h", "session", "tick:5"),
    }.items():
        rows = rows_of(changing, of)
        for interval in intervals:
            check_every_door(changing, rows, Asked(interval, of), eligible="all")


@pytest.mark.usefixtures("in_zone")
def test_weeks_in_which_the_clocks_change_by_the_clock(changing: Workbench) -> None:
    for interval in ("7m", "4h", "1d", "2d"):
        check(changing, Asked(interval, align="clock"), eligible="all")


def test_the_clock_and_the_session_align_differently_where_there_is_a_roll(changing: Workbench) -> None:
    for align, hours in (("session", {17, 21, 1, 5, 9, 13}), ("clock", {0, 4, 8, 12, 16, 20})):
        found = changing.bars(None, "4h", venue="OANDA", align=align, start=utc("2014-03-10T12:00Z")).to_arrow()
        opens = {moment.astimezone(ZoneInfo("America/New_York")).hour for moment in found["ts_open"].to_pylist()}
        assert opens
        assert opens <= hours
    with pytest.raises(InvalidParameter, match="align"):
        changing.bars("S", align="utc")


def test_a_filled_session_has_every_bucket_from_its_first_to_its_last(lake: Lake) -> None:
    rows = [event(ts_event=at(seconds), price=Decimal(price)) for seconds, price in ((5, 3), (70, 2), (255, 7))]
    add(lake, "a", [*rows, event(ts_event=at(600, NEXT), session=NEXT, price=Decimal(9))])
    engine = QueryEngine(lake)
    plain = engine.bars("BHP", "1m", columns="all").to_arrow().to_pylist()
    for fill, price, twap in (("null", None, None), ("previous", Decimal(2), Decimal(2))):
        found = engine.bars("BHP", "1m", columns="all", fill=fill).to_arrow().to_pylist()
        assert [bar["ts_open"] for bar in found] == [at(60 * minute) for minute in range(5)] + [at(600, NEXT)]
        assert [bar for bar in found if bar["n_trades"]] == plain
        for bar in found[2:4]:
            assert [bar[name] for name in ("open", "high", "low", "close")] == [price] * 4
            assert [bar[name] for name in ("volume", "notional", "n_trades", "vwap", "twap")] == [0, 0, 0, None, twap]
            assert (bar["first_sequence"], bar["is_partial"], bar["is_incomplete"]) == (None, False, False)
    wrong: list[dict[str, Any]] = [
        {"interval": "tick:3"},
        {"interval": "2d"},
        {"fill": "zero"},
        {"interval": "session"},
    ]
    for words in wrong:
        with pytest.raises(InvalidParameter, match="fill"):
            engine.bars("BHP", **{"fill": "null", **words})


def test_a_bar_is_whole_once_something_later_is_there(lake: Lake) -> None:
    add(lake, "a", [event(ts_event=at(seconds)) for seconds in (0, 61)])
    first = lake.head("trades")
    add(lake, "b", [event(symbol="RIO", ts_event=at(120))], minute=1)
    engine = QueryEngine(lake)

    def partial(**words: Any) -> list[bool]:
        found: list[bool] = engine.bars("BHP", "1m", **words).to_arrow()["is_partial"].to_pylist()
        return found

    assert partial(as_of=first) == [False, True]
    assert partial() == [False, False]
    assert partial(start=at(0), end=at(120)) == [False, False]
    assert partial(start=at(0.5)) == [False]
    assert partial(start=at(-30), end=at(90)) == [False, True]
    assert partial(known_at=at(61), clock="event") == [False, True]


CLOSING = """
2024-03-08 16:11:59 all          session  True
2024-03-08 16:12:00 all          session  False
2024-03-08 16:12:00 all          1d       False
2024-03-08 16:12:00 all          1m       True
2024-03-08 16:12:00 all          1h       False
2024-03-08 16:00:00 rth          session  False
2024-03-08 15:59:59 rth          session  True
2024-03-08 16:05:00 rth+auctions session  True
2024-03-08 16:12:00 rth+auctions session  False
2024-12-24 14:21:59 all          session  True
2024-12-24 14:22:00 all          session  False
2024-04-25 16:30:00 all          session  True
2024-03-08 16:30:00 all          2d       True
"""
"""Local time of the last event of BHP and of XASX, the hours, the interval, and whether the last bar is partial: in
general, on a day with an early close, on a holiday, and across sessions.
"""


@pytest.mark.parametrize("line", CLOSING.strip().splitlines())
def test_a_closed_session_is_whole_and_its_bars_are_not_partial_for_ever(lake: Lake, line: str) -> None:
    day, clock, hours, interval, partial = line.split()
    last = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo("Australia/Sydney"))
    times = [last.replace(hour=11), last.astimezone(UTC)]
    add(lake, "a", [event(ts_event=each.astimezone(UTC), session=last.date()) for each in times])
    found = QueryEngine(lake).bars("BHP", interval, hours=hours).to_arrow()["is_partial"].to_pylist()
    assert found[-1] is (partial == "True")


def test_bars_by_amount_are_those_of_the_whole_session_in_every_range(lake: Lake) -> None:
    sizes = [60, 60, 0, 60, 500, 1, 1]
    rows = [event(ts_event=at(step), size=Decimal(size), price=Decimal(-2)) for step, size in enumerate(sizes)]
    add(lake, "a", rows)
    engine = QueryEngine(lake)

    def shape(interval: str, **words: Any) -> list[tuple[Any, ...]]:
        found = engine.bars("BHP", interval, **words).to_arrow().to_pylist()
        return [(bar["ts_open"], bar["n_trades"], bar["volume"], bar["is_partial"]) for bar in found]

    whole = [(at(0), 2, 120, False), (at(2), 3, 560, False), (at(5), 2, 2, True)]
    assert shape("volume:100") == whole
    assert shape("dollar:200") == whole
    assert shape("volume:100", start=at(3), end=at(6)) == [(at(2), 2, 560, True), (at(5), 1, 1, True)]
    assert [row[1] for row in shape("tick:3")] == [3, 3, 1]
    assert shape("tick:7") == [(at(0), 7, 682, False)]


def test_the_time_weighted_price_of_bars_by_amount_ends_with_the_next_one(lake: Lake) -> None:
    prices = {0: 1, 10: 4, 30: 2, 40: 8, 41: 5}
    add(lake, "a", [event(ts_event=at(step), price=Decimal(price)) for step, price in prices.items()])
    engine = QueryEngine(lake)
    found = engine.bars("BHP", "tick:2", columns=["twap", "close"]).to_arrow().to_pylist()
    assert [bar["twap"] for bar in found] == [3, Decimal("2.545454545455"), 5]
    assert engine.bars("BHP", "session", columns="twap").to_arrow()["twap"][0].as_py() is not None


def test_sessions_of_a_source_with_rejected_rows_are_incomplete(tmp_path: Path) -> None:
    header = "ts_event,symbol,venue,price,size"
    good = [f"2014-03-{day}T00:00:00Z,{symbol},XASX,1,1" for day in (10, 11) for symbol in ("BHP", "RIO")]
    bench = connect(tmp_path / ".k2")
    files = {"bhp": good[:1] + good[2:3], "rio": good[1:2], "later": good[3:]}
    for name, lines in files.items():
        path = tmp_path / f"{name}.csv"
        bad = ["2014-03-10T00:00:00Z,BHP,XASX,none,1"] if name == "bhp" else []
        path.write_text("\n".join([header, *lines, *bad, ""]))
        bench.ingest(path, "k2-trades", max_rejects=1)
    found = bench.bars(None, "session").to_arrow().to_pylist()
    assert {(bar["symbol"], bar["session"].day): bar["is_incomplete"] for bar in found} == {
        ("BHP", 10): True,
        ("BHP", 11): True,
        ("RIO", 10): False,
        ("RIO", 11): False,
    }
    assert bench.bars("BHP", "2d").to_arrow()["is_incomplete"].to_pylist() == [True, True]
    filled = bench.bars("BHP", "1h", fill="null").to_arrow()["is_incomplete"].to_pylist()
    assert set(filled) == {True}


def test_columns_are_chosen_and_checked(bench: Workbench) -> None:
    assert "twap" not in bench.bars(None, "1h").columns
    assert bench.bars(None, "1h", columns=["twap", "first"]).to_arrow().column_names == ["twap", "first"]
    everything = bench.bars(None, "1h", columns="all")
    assert everything.columns == everything.to_arrow().column_names
    for columns in ("nothing", [], ["open", "open"], ["n_quotes"]):
        with pytest.raises(InvalidParameter, match="columns"):
            bench.bars(None, "1h", columns=columns)


@pytest.mark.parametrize("interval", ["volume:100", "dollar:5"])
def test_quotes_have_no_volume(bench: Workbench, interval: str) -> None:
    with pytest.raises(InvalidParameter, match="mid has not"):
        bench.bars(None, interval, of="mid")


def test_instruments_without_trades_have_bars_of_mid(lake: Lake) -> None:
    add(lake, "q", [event(symbol=symbol, ts_event=at(step)) for symbol in ("BHP", "FX") for step in (0, 70)], "quotes")
    snapshot = add(lake, "a", [event()])
    engine = QueryEngine(lake)
    found = engine.bars("FX", "1m")
    assert list(found.snapshots) == ["quotes"]
    assert found.to_arrow().equals(engine.bars("FX", "1m", of="mid").to_arrow())
    assert engine.bars("FX", "1m", of="trades").to_arrow().num_rows == 0
    for symbols in ("BHP", ["BHP", "FX"]):
        assert engine.bars(symbols, "1m").snapshots == {"trades": snapshot}
