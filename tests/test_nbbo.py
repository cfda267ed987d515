"""The best bid and offer over venues, against one kept row by row in plain Python."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k2kernel as k2
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.query.asof import in_order, instants
from k2kernel.query.nbbo import nbbo
from k2kernel.schemas import TABLES
from k2kernel.times import from_ns
from tests import oracles
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event

COLUMNS = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_venues", "ask_venues", "locked", "crossed")


def cents(number: int) -> Decimal:
    return Decimal(number) / 100


def quote(second: float, venue: str | None, bid: int | None, ask: int | None, **columns: Any) -> dict[str, Any]:
    """A quote with 100 at each side that it has, prices in cents."""
    sides = {"bid_px": bid, "ask_px": ask}
    offered = {name: None if value is None else cents(value) for name, value in sides.items()}
    row = event(ts_event=at(second), exec_venue=venue, bid_sz=Decimal(100), ask_sz=Decimal(100))
    return row | offered | columns


def workbench(lake: Lake) -> k2.Workbench:
    return k2.connect(settings=lake.settings)


def book(lake: Lake, *quotes: dict[str, Any], **words: Any) -> list[tuple[Any, ...]]:
    """Bid, its size and venues, ask, its size and venues after each quote."""
    add(lake, "book", quotes, "quotes")
    names = ("bid_px", "bid_sz", "bid_venues", "ask_px", "ask_sz", "ask_venues")
    return [tuple(row[name] for name in names) for row in workbench(lake).nbbo("BHP", **words).to_arrow().to_pylist()]


def test_sizes_at_the_best_add_up_and_a_missing_or_empty_side_withdraws(lake: Lake) -> None:
    assert book(
        lake,
        quote(0, "A", 100, 102),
        quote(1, "B", 100, 103),
        quote(2, "C", 101, None),
        quote(3, "C", 101, 102, bid_sz=Decimal(0)),
        quote(4, "A", None, None),
        quote(5, "B", 100, 103, ask_sz=None),
        quote(6, "C", None, None),
    ) == [
        (cents(100), 100, ["A"], cents(102), 100, ["A"]),
        (cents(100), 200, ["A", "B"], cents(102), 100, ["A"]),
        (cents(101), 100, ["C"], cents(102), 100, ["A"]),
        (cents(100), 200, ["A", "B"], cents(102), 200, ["A", "C"]),
        (cents(100), 100, ["B"], cents(102), 100, ["C"]),
        (cents(100), 100, ["B"], cents(102), 100, ["C"]),
        (cents(100), 100, ["B"], cents(103), None, ["B"]),
    ]


def test_a_session_starts_empty_and_a_price_of_zero_is_a_price(lake: Lake) -> None:
    found = book(
        lake,
        quote(0, "A", 100, 102),
        quote(0, "B", -5, 0, session=NEXT, ts_event=at(0, NEXT)),
    )
    assert found[1] == (cents(-5), 100, ["B"], cents(0), 100, ["B"])


def test_locked_and_crossed_are_flagged(lake: Lake) -> None:
    add(
        lake,
        "d",
        [quote(0, "A", 100, 102), quote(1, "B", 102, 104), quote(2, "B", 103, 104), quote(3, "A", 1, None)],
        "quotes",
    )
    rows = workbench(lake).nbbo("BHP").to_arrow().to_pylist()
    assert [(row["locked"], row["crossed"]) for row in rows] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    shares = workbench(lake).spread_summary("BHP", book="nbbo").to_arrow().to_pylist()[0]
    assert [shares[name] for name in ("quotes", "locked_share", "crossed_share", "time_weighted_spread")] == [
        *(4, Decimal("0.333333333333"), Decimal("0.333333333333"), Decimal("0.01"))
    ]


def test_stale_quotes_excluded_venues_and_conditions(lake: Lake) -> None:
    quotes = [
        quote(0, "A", 100, 102),
        quote(5, "B", 99, 103),
        quote(9, "B", 98, 104, conditions=["N"]),
        quote(11, "C", 97, 105),
    ]
    add(lake, "d", quotes, "quotes")
    ask = workbench(lake).nbbo

    def bids(**words: Any) -> list[Decimal | None]:
        return list(ask("BHP", **words).to_polars()["bid_px"])

    assert bids() == [cents(100)] * 4
    assert bids(stale="10s") == [cents(100)] * 3 + [cents(98)]
    assert bids(stale="5s") == [cents(100)] * 2 + [cents(98)] * 2
    assert bids(exclude="A") == [cents(99), cents(98), cents(98)]
    assert bids(exclude=["A", "N"]) == [cents(99), None, cents(97)]
    with pytest.raises(InvalidParameter, match="stale='old'"):
        bids(stale="old")


def test_a_view_and_the_snapshot_that_answers(lake: Lake) -> None:
    first = add(lake, "d", [quote(0, "A", 100, 102)], "quotes")
    add(lake, "e", [quote(1, "B", 101, 102)], "quotes", minute=1)
    wb = workbench(lake)
    assert len(wb.nbbo("BHP").to_arrow()) == 2
    assert wb.nbbo("BHP", as_of=first).snapshots == {"quotes": first}
    assert len(wb.at({"quotes": first}).nbbo("BHP").to_arrow()) == 1
    found = wb.nbbo("BHP")
    assert found.columns == found.to_arrow().column_names


@st.composite
def quotes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Many ties, missing and crossed sides, sizes of 0 and unknown ones."""
    price = st.none() | st.integers(-2, 3).map(cents)
    size = st.sampled_from([None, Decimal(0), Decimal(100), Decimal("0.00000001")])
    rows = []
    for number in range(draw(st.integers(1, 30))):
        late = draw(st.integers(0, 4)) * 1_000 + 86_400 * 10**9 * (number > 15)
        rows.append(
            {
                "symbol": draw(st.sampled_from(["BHP", "RIO"])),
                "venue": "XASX",
                "session": DAY if number <= 15 else NEXT,
                "clock": "venue",
                "ts_event": from_ns(OPEN_NS + late),
                "exec_venue": draw(st.sampled_from(["A", "B", "C", None])),
                "conditions": draw(st.sampled_from([None, ["R"], ["R", "N"]])),
                "bid_px": draw(price),
                "ask_px": draw(price),
                "bid_sz": draw(size),
                "ask_sz": draw(size),
                "sequence": draw(st.integers(0, 2)),
                "source": "d",
                "source_offset": number,
            }
        )
    return rows


@settings(max_examples=100, deadline=None)
@given(rows=quotes(), stale=st.sampled_from([None, 0, 1_000, 2_000]), exclude=st.sampled_from([(), ("A",), ("N",)]))
def test_it_agrees_with_a_book_kept_row_by_row(
    rows: list[dict[str, Any]], stale: int | None, exclude: tuple[str, ...]
) -> None:
    types = TABLES["quotes"].polars
    frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in types}, schema=types)
    ordered = in_order(frame, "ts_event", "quotes")
    found = nbbo(ordered, instants(ordered, "ts_event", "quotes"), stale=stale, exclude=exclude).to_dicts()
    names = ("source_offset", *COLUMNS)
    for symbol in ("BHP", "RIO"):
        wanted = oracles.best([row for row in rows if row["symbol"] == symbol], stale, exclude)
        own = [[row[name] for name in names] for row in found if row["symbol"] == symbol]
        assert own == [[row[name] for name in names] for row in wanted]
