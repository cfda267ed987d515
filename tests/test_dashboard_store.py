"""What the dashboard reads: the numbers of the workbench, by snapshot, and where a row came from."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel.config import Settings
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from panel_apps.api.keys import Key
from panel_apps.api.problems import Refused
from panel_apps.dashboard.pages.market import book
from panel_apps.dashboard.state import State
from panel_apps.dashboard.store import Desk, Store, chosen, imbalance, move
from tests.query_lake import DAY, NEXT, add, at, event

KEY = Key("tests", "")
LINES = (
    "symbol,venue,ts_event,price,size",
    "BHP,XASX,2014-03-10T10:00:00+11:00,35.10,100",
    "BHP,XASX,2014-03-11T10:00:00+11:00,35.20,200",
)


@pytest.fixture
def bench(settings: Settings) -> k2.Workbench:
    """Two sessions of BHP, the second by a second commit."""
    lake = Lake.open(settings, create=True)
    add(lake, "a" * 64, [event(price=Decimal("35.00")), event(price=Decimal("35.20"), ts_event=at(5))])
    add(lake, "b" * 64, [event(price=Decimal("36.08"), ts_event=at(0, NEXT), session=NEXT)], minute=5)
    return k2.connect(settings=settings)


def desk(store: Store, key: Key = KEY, as_of: str = "", session: str = str(NEXT)) -> Desk:
    return Desk(store, key, store.states(as_of), "XASX", "BHP", session, hours="all")


def test_the_universe_is_closes_and_returns(bench: k2.Workbench) -> None:
    (line,) = desk(Store(bench)).universe()
    assert (line["symbol"], line["close"], line["volume"]) == ("BHP", Decimal("36.08"), Decimal(100))
    assert line["change"] == Decimal("36.08") / Decimal("35.20") - 1
    assert [(day, close) for day, close, _ in line["days"]] == [(DAY, Decimal("35.20")), (NEXT, Decimal("36.08"))]


def test_a_change_of_a_price_that_is_not_above_zero_has_no_meaning() -> None:
    before, close = Decimal("-37.63"), Decimal("10.01")
    assert (move(before, close), move(Decimal(0), close), move(None, close), move(close, None)) == (None,) * 4
    assert move(close, before) == before / close - 1


def test_a_spread_about_a_price_below_zero_has_no_basis_points(bench: k2.Workbench) -> None:
    quote = {"bid_px": Decimal("-39.06"), "ask_px": Decimal("-39.04"), "bid_sz": None, "ask_sz": None, "ts_event": at()}
    assert "0.02 · -<" in book(desk(Store(bench)), quote)
    assert "5.1 bp" in book(desk(Store(bench)), quote | {"bid_px": Decimal("39.04"), "ask_px": Decimal("39.06")})


def test_a_commit_pins_what_was_there_then(bench: k2.Workbench) -> None:
    store = Store(bench)
    first = store.moments()[0]
    then = desk(store, as_of=str(first.snapshot_id), session=str(DAY))
    assert then.states["trades"] == first.snapshot_id
    assert then.days("XASX") == [str(DAY)]
    assert desk(store).days("XASX") == [str(DAY), str(NEXT)]


def test_what_was_read_of_a_snapshot_is_kept(bench: k2.Workbench) -> None:
    store = Store(bench)
    assert desk(store).summary() is desk(store).summary()
    add(bench.lake, "c" * 64, [event(price=Decimal(37), ts_event=at(9, NEXT), session=NEXT)], minute=9)
    found = Store(bench)
    assert desk(found).summary() == bench.summary("BHP", NEXT)
    assert desk(found).summary() != desk(store).summary()


def test_a_key_that_may_not_read_a_table_sees_nothing_of_it(bench: k2.Workbench) -> None:
    store = Store(bench)
    assert desk(store).instruments  # kept from now on
    with pytest.raises(Refused, match="may not read quotes"):
        desk(store, Key("few", "", frozenset({"trades"})))


def test_a_row_leads_back_to_its_line(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text("\n".join(LINES) + "\n")
    bench = k2.connect(settings=settings)
    bench.ingest(file, "k2-trades")
    rows = bench.trades("BHP").to_arrow().to_pylist()
    traces = [bench.trace("trades", row["source"], row["source_offset"]) for row in rows]
    assert [trace.raw for trace in traces] == list(LINES[1:])
    assert {(trace.file, trace.profile, trace.rows) for trace in traces} == {(str(file), "k2-trades", 2)}
    file.write_text("\n".join(LINES) + "\nanother\n")
    changed = bench.trace("trades", rows[0]["source"], rows[0]["source_offset"])
    assert (changed.raw, changed.why) == (None, "the file has changed since it was loaded")
    file.unlink()
    assert bench.trace("trades", rows[0]["source"], 1).why == "the file is not there any more"
    with pytest.raises(InvalidParameter, match="is of no load of trades"):
        bench.trace("trades", "f" * 64, 1)


def test_an_address_is_a_state_and_back() -> None:
    state = State.of_address({"symbol": "BHP", "live": "false", "interval": "1m", "hours": "no such", "other": "x"})
    assert (state.symbol, state.live, state.interval, state.hours) == ("BHP", False, "1m", "rth+auctions")
    assert state.address == "symbol=BHP&interval=1m&live=false"


@pytest.mark.parametrize(
    ("asked", "found"),
    [("2014-03-10", "2014-03-10"), ("2014-03-09", "2014-03-11"), ("2014-03-10..2014-03-11", "2014-03-10..2014-03-11"),
     ("2015-01-01..2015-01-02", "2014-03-11"), ("x..y", "2014-03-11"), ("", "2014-03-11")],
)  # fmt: skip
def test_the_session_is_one_that_there_is(asked: str, found: str) -> None:
    assert chosen(["2014-03-10", "2014-03-11"], asked) == found


def test_imbalance_is_of_both_sizes() -> None:
    assert imbalance(Decimal(3), Decimal(1)) == Decimal("0.5")
    assert imbalance(Decimal(0), Decimal(0)) is None
    assert imbalance(None, Decimal(1)) is None
