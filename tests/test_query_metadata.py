"""What there is: symbols, sessions, stats; and how little a read does."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from k2kernel.errors import UnknownReference
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.scan import Pinned
from tests.query_lake import DAY, NEXT, add, at, event

if TYPE_CHECKING:
    import pyarrow as pa


@pytest.fixture
def filled(lake: Lake) -> tuple[int, int]:
    """Trades of two symbols on two days and quotes of one of them and of another; the two snapshot ids."""
    trades = [
        event(symbol=symbol, session=day, ts_event=at(5, day)) for symbol in ("BHP", "RIO") for day in (DAY, NEXT)
    ]
    quotes = [event(), event(symbol="EURUSD", venue="OANDA", ts_event=at(-3))]
    return add(lake, "a", [*trades, event(status="order_cancel")]), add(lake, "q", quotes, "quotes")


def test_symbols_count_trades_and_quotes(engine: QueryEngine, filled: tuple[int, int]) -> None:
    rows = engine.symbols().to_arrow().to_pylist()
    assert [(row["symbol"], row["venue"], row["trades"], row["quotes"]) for row in rows] == [
        ("BHP", "XASX", 3, 1),
        ("EURUSD", "OANDA", 0, 1),
        ("RIO", "XASX", 2, 0),
    ]
    assert (rows[0]["first_session"], rows[0]["last_session"]) == (DAY, NEXT)
    assert (rows[0]["first"], rows[0]["last"]) == (at(0), at(5, NEXT))


def test_sessions_count_symbols_by_venue(engine: QueryEngine, filled: tuple[int, int]) -> None:
    rows = engine.sessions().to_arrow().to_pylist()
    found = [(row["session"], row["venue"], row["trades"], row["quotes"], row["symbols"]) for row in rows]
    assert found == [(DAY, "OANDA", 0, 1, 1), (DAY, "XASX", 3, 1, 2), (NEXT, "XASX", 2, 0, 2)]


def test_stats_have_a_row_for_each_table(lake: Lake, engine: QueryEngine, filled: tuple[int, int]) -> None:
    rows = {row["table"]: row for row in engine.stats().to_arrow().to_pylist()}
    assert list(rows) == ["trades", "quotes", "instruments", "corporate_actions", "dead_letter", "gaps", "ingest_log"]
    trades = rows["trades"]
    assert (trades["rows"], trades["files"], trades["symbols"], trades["snapshots"]) == (5, 2, 2, 1)
    assert (trades["first"], trades["last"], trades["snapshot_id"]) == (at(0), at(5, NEXT), filled[0])
    assert trades["bytes"] == lake.files("trades", filled[0]).nbytes
    assert (rows["instruments"]["rows"], rows["instruments"]["symbols"]) == (0, None)


def test_metadata_at_an_id_is_of_the_table_that_has_it(engine: QueryEngine, filled: tuple[int, int]) -> None:
    for verb in (engine.symbols, engine.sessions):
        with pytest.raises(UnknownReference, match="is a snapshot of trades, not of quotes"):
            verb(as_of=filled[0])
    assert engine.stats(as_of=filled[1]).to_arrow()["table"].to_pylist() == ["quotes"]
    with pytest.raises(UnknownReference):
        engine.stats(as_of=7)
    for verb in (engine.symbols, engine.sessions):
        with pytest.raises(UnknownReference):
            verb(as_of=7)


def test_an_empty_lake_has_nothing_and_says_it_with_columns(engine: QueryEngine) -> None:
    for result in (engine.symbols(), engine.sessions()):
        table = result.to_arrow()
        assert (table.num_rows, table.column_names) == (0, result.columns)
    assert engine.stats().to_arrow()["rows"].to_pylist() == [0] * 7


def test_one_scan_for_a_snapshot_and_none_for_reads_that_need_none(
    lake: Lake, engine: QueryEngine, filled: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[tuple[str, int | None]] = []
    scan = Catalogue._scan

    def counted(catalogue: Catalogue, pinned: Pinned) -> pa.Table:
        scanned.append((pinned.name, pinned.snapshot_id))
        return scan(catalogue, pinned)

    monkeypatch.setattr(Catalogue, "_scan", counted)
    engine.trades(limit=5).to_arrow()
    engine.trades("BHP").to_arrow()
    engine.bars("RIO").to_arrow()
    assert scanned == []
    for _ in range(3):
        engine.symbols().to_arrow()
        engine.sessions().to_arrow()
        engine.stats().to_arrow()
    assert sorted(scanned) == [("quotes", filled[1]), ("trades", filled[0])]
    newer = add(lake, "b", [event(symbol="CBA")], minute=1)
    assert "CBA" in engine.symbols().to_arrow()["symbol"].to_pylist()
    assert scanned[-1] == ("trades", newer)


def test_venues_of_a_symbol_come_from_statistics_or_from_the_rows(lake: Lake, engine: QueryEngine) -> None:
    add(
        lake,
        "a",
        [event(symbol=symbol, venue=venue) for symbol, venue in (("A", "XASX"), ("B", "XNYS"), ("C", "XASX"))],
    )
    add(lake, "b", [event(symbol="B", venue="XNAS", price=Decimal(2))], minute=1)
    pinned = Pinned(lake, "trades", lake.head("trades"))
    by_rows, by_catalogue = Catalogue(engine._database), Catalogue(engine._database)
    by_catalogue.entries(pinned)
    for catalogue in (by_rows, by_catalogue):
        found = [catalogue.venues(pinned, symbol) for symbol in ("A", "B", "C", "AA")]
        assert found == [("XASX",), ("XNAS", "XNYS"), ("XASX",), ()]


def test_rows_of_many_sessions_are_found_by_their_files(lake: Lake, engine: QueryEngine) -> None:
    days = [date(2014, 3, 10) + timedelta(days=number) for number in range(30)]
    add(lake, "a", [event(session=day, ts_event=at(0, day)) for day in days])
    assert engine.trades("BHP", session=days[17]).to_arrow()["session"].to_pylist() == [days[17]]
    assert len(engine.bars("BHP", "2d").to_arrow()) in {15, 16}


def test_importing_the_package_loads_no_heavy_library_it_may_not_need() -> None:
    code = (
        "import sys, k2kernel.query; print([m for m in ('polars', 'pandas', 'sqlglot', 'duckdb') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
