"""Trades and quotes: order, ranges, pins, the view of what stands, deletes, ambiguity."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from k2kernel.config import Settings
from k2kernel.errors import (
    AmbiguousSymbol,
    InvalidParameter,
    LakeNotFound,
    UnknownReference,
    UnknownSymbol,
)
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine, Result
from k2kernel.query.order import sources_meet
from k2kernel.query.scan import Pinned, Scan, Values
from k2kernel.schemas import QUOTES, TRADES
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event

DAYS = timedelta(days=1)


def column(result: Result, name: str) -> list[Any]:
    found: list[Any] = result.to_arrow()[name].to_pylist()
    return found


def test_an_empty_lake_answers_with_all_columns_and_no_rows(engine: QueryEngine) -> None:
    for result, table in ((engine.trades(), TRADES), (engine.quotes(), QUOTES)):
        assert result.columns == list(table.names)
        assert result.to_arrow().num_rows == 0
        assert [str(kind) for kind in result.to_polars().dtypes] == [str(kind) for kind in table.polars.values()]
        assert result.snapshots == {table.name: None}


def test_a_missing_lake_says_so(settings: Settings) -> None:
    with pytest.raises(LakeNotFound, match="k2 ingest"):
        QueryEngine(Lake.open(settings))


def test_rows_come_with_all_columns_in_the_total_order_whatever_order_they_came_in(
    lake: Lake, engine: QueryEngine
) -> None:
    rows = [
        event(price=Decimal(number), sequence=number, source_offset=number, ts_event=at(number // 4), symbol=symbol)
        for number, symbol in enumerate(["BHP", "RIO", "BHP", "CBA"] * 25)
    ]
    shuffled = rows[:]
    random.Random(7).shuffle(shuffled)
    add(lake, "a", shuffled)
    result = engine.trades()
    assert result.columns == list(TRADES.names)
    got = [(row["ts_event"], row["symbol"], row["sequence"]) for row in result.to_arrow().to_pylist()]
    assert got == sorted((row["ts_event"], row["symbol"], row["sequence"]) for row in rows)
    assert column(engine.trades("BHP"), "sequence") == [row["sequence"] for row in rows if row["symbol"] == "BHP"]


def test_equal_time_and_sequence_are_told_apart_by_source_and_offset(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "b", [event(sequence=1, price=Decimal(number)) for number in (3, 4)])
    add(lake, "a", [event(sequence=1, price=Decimal(number)) for number in (1, 2)], minute=1)
    assert column(engine.trades("BHP"), "price") == [1, 2, 3, 4]
    assert sources_meet(lake.files("trades", lake.head("trades")).files, per_session=True)
    bar = engine.bars("BHP").to_arrow().to_pylist()[0]
    assert (bar["open"], bar["close"]) == (1, 4)


def test_limit_is_the_first_rows_of_the_order_after_every_filter(lake: Lake, engine: QueryEngine) -> None:
    for number, day in enumerate((NEXT, DAY, NEXT + DAYS)):
        rows = [event(session=day, ts_event=at(9 - second, day), symbol=f"S{second % 2}") for second in range(10)]
        add(lake, f"f{number}", rows, minute=number)
    everything = column(engine.trades(), "ts_event")
    for limit in (0, 1, 5, 10, 11, 30, 99):
        assert column(engine.trades(limit=limit), "ts_event") == everything[:limit]
    later = [moment for moment in everything if moment >= at(5, NEXT)]
    assert column(engine.trades(start=at(5, NEXT), limit=7), "ts_event") == later[:7]
    assert column(engine.trades("S1", limit=3), "symbol") == ["S1"] * 3
    with pytest.raises(InvalidParameter, match="limit"):
        engine.trades(limit=-1)


def test_columns_can_be_chosen(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    assert engine.trades("BHP", columns=["price", "symbol"]).to_arrow().column_names == ["price", "symbol"]
    for wrong in (["prize"], [], ["price", "price"], ['price", secret AS "x']):
        with pytest.raises(InvalidParameter, match="Columns: symbol"):
            engine.trades("BHP", columns=wrong)


def test_ranges_are_half_open_to_the_microsecond_and_to_the_nanosecond(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ns=ns) for ns in (0, 1, 999, 1_000, 1_001, 2_000)])
    add(lake, "b", [event(ts_event=at(1)), event(ts_event=at(2))], minute=1)

    def found(start: int, end: int) -> list[int]:
        base = datetime.fromtimestamp(OPEN_NS // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        result = engine.trades("BHP", start=f"{base}.{start:09d}Z", end=f"{base}.{end:09d}Z")
        return [ns - OPEN_NS for ns in column(result, "ts_event_ns")]

    assert found(0, 1) == [0]
    assert found(1, 1_000) == [1, 999]
    assert found(1_000, 2_000) == [1_000, 1_001]
    assert found(1_001, 2_001) == [1_001, 2_000]
    assert found(0, 0) == []
    assert len(column(engine.trades("BHP", start=at(1), end=at(2)), "sequence")) == 1
    with pytest.raises(InvalidParameter, match="time zone"):
        engine.trades("BHP", start=datetime(2014, 3, 10))  # noqa: DTZ001 - that is what is refused


def test_a_date_in_start_or_end_is_the_start_of_that_session(lake: Lake, engine: QueryEngine) -> None:
    days = [DAY + number * DAYS for number in range(4)]
    add(lake, "a", [event(session=day, ts_event=at(0, day)) for day in days])
    assert column(engine.trades("BHP", start=days[1]), "session") == days[1:]
    assert column(engine.trades("BHP", end=days[1]), "session") == days[:1]
    assert column(engine.trades("BHP", start=days[1], end=days[3]), "session") == days[1:3]
    assert column(engine.trades("BHP", session="2014-03-11..2014-03-12"), "session") == days[1:3]
    assert column(engine.trades("BHP", session=days[2]), "session") == [days[2]]
    assert column(engine.trades("BHP", session=days[2], start=days[3]), "session") == []


def test_a_symbol_on_two_venues_is_an_error_that_lists_them(lake: Lake, engine: QueryEngine) -> None:
    both = [event(symbol="BTCUSDT", venue=venue) for venue in ("BINANCE", "BINANCE_USDM")]
    add(lake, "a", [*both, event()])
    with pytest.raises(AmbiguousSymbol, match=r"BINANCE, BINANCE_USDM.*venue="):
        engine.trades("BTCUSDT")
    assert column(engine.trades("BTCUSDT", venue="BINANCE"), "venue") == ["BINANCE"]
    assert column(engine.trades(["BHP"]), "venue") == ["XASX"]
    assert column(engine.trades(venue="BINANCE_USDM"), "symbol") == ["BTCUSDT"]
    engine.symbols().to_arrow()  # the catalogue is there now, and gives the same answer
    with pytest.raises(AmbiguousSymbol):
        QueryEngine.bars(engine, "BTCUSDT")
    with pytest.raises(UnknownSymbol, match="XNYS"):
        engine.trades("BTCUSDT", venue="XNYS")


def test_several_symbols_of_several_venues_are_matched_in_pairs(lake: Lake, engine: QueryEngine) -> None:
    rows = [event(symbol=symbol, venue=venue) for symbol, venue in (("A", "XASX"), ("B", "XNYS"), ("C", "XNYS"))]
    add(lake, "a", rows)
    assert column(engine.trades(["A", "B"]), "symbol") == ["A", "B"]
    assert column(engine.trades(["A", "B"], columns=["venue"]), "venue") == ["XASX", "XNYS"]
    assert column(engine.trades([]), "symbol") == []


def test_an_unknown_symbol_names_what_is_like_it(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(), event(symbol="RIO")])
    with pytest.raises(UnknownSymbol, match=r"Did you mean BHP\?"):
        engine.trades("bhp")
    with pytest.raises(UnknownSymbol, match="k2-query symbols"):
        engine.trades("")
    with pytest.raises(InvalidParameter, match="symbol"):
        engine.trades(7)  # type: ignore[arg-type]


def test_a_symbol_with_quotes_only_has_no_trades_and_is_known(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    add(lake, "q", [event(symbol="EURUSD", venue="OANDA")], "quotes")
    assert engine.trades("EURUSD").to_arrow().num_rows == 0
    assert engine.quotes("EURUSD").to_arrow().num_rows == 1


@pytest.mark.parametrize("hostile", ["BHP' OR '1'='1", "'; DROP TABLE trades; --", '"', "$k2_0", "BHP\0", "%", "é'\\"])
def test_hostile_symbols_and_venues_are_only_texts(lake: Lake, engine: QueryEngine, hostile: str) -> None:
    add(lake, "a", [event(), event(symbol=hostile, price=Decimal(7))])
    assert column(engine.trades(hostile), "price") == [7]
    assert len(column(engine.bars(hostile), "open")) == 1
    assert column(engine.trades(venue=hostile), "price") == []
    with pytest.raises(UnknownSymbol):
        engine.trades("BHP", venue=hostile)
    assert engine.trades().to_arrow().num_rows == 2


def test_as_of_an_id_a_tag_and_a_time_keep_answering_after_later_writes(lake: Lake, engine: QueryEngine) -> None:
    first = add(lake, "a", [event()])
    lake.tag("trades", "eod", first)
    moment = datetime.now(UTC)
    pinned = engine.trades("BHP")
    second = add(lake, "b", [event(ts_event=at(1)), event(ts_event=at(2))], minute=1)
    for as_of in (first, str(first), "eod", moment):
        result = engine.trades("BHP", as_of=as_of)
        assert (result.to_arrow().num_rows, result.snapshots) == (1, {"trades": first})
        assert engine.sql("SELECT * FROM trades", as_of=as_of).to_arrow().num_rows == 1
        assert column(engine.bars("BHP", as_of=as_of), "n_trades") == [1]
    assert pinned.to_arrow().num_rows == 1
    assert engine.trades("BHP").snapshots == {"trades": second}
    assert engine.trades("BHP").to_arrow().num_rows == 3
    with pytest.raises(UnknownReference, match="eod"):
        engine.trades("BHP", as_of="nightly")
    with pytest.raises(InvalidParameter, match="bare date"):
        engine.trades("BHP", as_of="2014-03-10")


def test_trades_are_the_fills_that_stand_and_raw_is_every_row(lake: Lake, engine: QueryEngine) -> None:
    rows = [
        event(trade_id="1", price=Decimal(1)),
        event(trade_id="2", price=Decimal(2)),
        event(trade_id="3", price=Decimal(3)),
        event(trade_id="4", price=Decimal(4), status="cancelled"),
        event(trade_id="5", price=Decimal(5), status="superseded"),
        event(trade_id="6", price=Decimal(6), symbol="RIO"),
        event(trade_id="x1", price=Decimal(1), status="cancel", corrects="1"),
        event(trade_id="x2", price=Decimal(20), status="correction", corrects="2"),
        event(trade_id="x3", price=Decimal(9), status="order_cancel"),
        event(trade_id="x4", price=Decimal(3), status="cancel", corrects="3", session=NEXT),
        event(trade_id="x5", price=Decimal(9), status="cancel"),
    ]
    add(lake, "a", rows)
    assert column(engine.trades(), "trade_id") == ["3", "x2", "6"]
    assert column(engine.trades("BHP"), "price") == [3, 20]
    assert engine.trades(raw=True).to_arrow().num_rows == len(rows)
    assert engine.sql("SELECT count(*) n FROM trades").to_arrow()["n"].to_pylist() == [3]
    assert engine.sql("SELECT count(*) n FROM trades_raw").to_arrow()["n"].to_pylist() == [len(rows)]
    assert column(engine.bars("BHP"), "n_trades") == [2]


def test_the_last_of_several_corrections_stands(lake: Lake, engine: QueryEngine) -> None:
    rows = [
        event(trade_id="1", price=Decimal(1)),
        event(trade_id="1", price=Decimal(2), status="correction", corrects="1"),
        event(trade_id="1", price=Decimal(3), status="correction", corrects="1"),
    ]
    add(lake, "a", rows)
    assert column(engine.trades("BHP"), "price") == [3]
    add(lake, "b", [event(ts_event=at(60), sequence=9, trade_id="c", status="cancel", corrects="1")], minute=1)
    assert column(engine.trades("BHP"), "price") == []


def test_a_cancel_outside_the_range_still_undoes_its_trade(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(trade_id="1"), event(trade_id="2", ts_event=at(1))])
    add(lake, "b", [event(trade_id="c", ts_event=at(3_600), status="cancel", corrects="1")], minute=1)
    assert column(engine.trades("BHP", start=at(0), end=at(10)), "trade_id") == ["2"]
    moment = at(10).isoformat()
    text = "SELECT trade_id FROM trades WHERE symbol = 'BHP' AND ts_event < $t::TIMESTAMPTZ"
    assert column(engine.sql(text, {"t": moment}), "trade_id") == ["2"]
    assert column(engine.trades(limit=1), "trade_id") == ["2"]


def test_without_statuses_the_view_adds_no_predicate(lake: Lake) -> None:
    snapshot = add(lake, "a", [event()])
    pinned = Pinned(lake, "trades", snapshot)
    assert Scan(pinned, pinned.files.files).relation(False, Values().bind).startswith("read_parquet(")


def position_delete(lake: Lake, path: str, positions: list[int], folder: Path) -> Path:
    """Write a position delete file for a data file, as other engines do."""
    schema = pa.schema([pa.field("file_path", pa.string()), pa.field("pos", pa.int64())])
    target = folder / f"deletes-{len(positions)}.parquet"
    pl.from_arrow(pa.table({"file_path": [path] * len(positions), "pos": positions}, schema)).write_parquet(target)  # type: ignore[union-attr]
    return target


def test_position_deletes_hide_rows_of_their_file_only(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ts_event=at(number)) for number in range(5)])
    add(lake, "b", [event(ts_event=at(10 + number)) for number in range(3)], minute=1)
    pinned = Pinned(lake, "trades", lake.head("trades"))
    files = sorted(pinned.files.files, key=lambda file: file.ts_event_min or 0)
    folder = Path(files[0].path.removeprefix("file://")).parent
    deletes = position_delete(lake, files[0].path, [1, 3], folder)
    changed = [replace(files[0], deletes=(str(deletes),)), files[1]]
    values = Values()
    text = f"SELECT sequence FROM {Scan(pinned, changed).relation(False, values.bind)} ORDER BY ts_event"
    cursor = engine._database.cursor()
    assert [row[0] for row in cursor.execute(text, values.bound).fetchall()] == [0, 2, 4, 0, 1, 2]


def test_files_with_deletion_vectors_are_read_by_pyiceberg(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ts_event=at(number), conditions=["X", "3"]) for number in range(5)])
    add(lake, "b", [event(ts_event=at(10 + number)) for number in range(3)], minute=1)
    pinned = Pinned(lake, "trades", lake.head("trades"))
    files = sorted(pinned.files.files, key=lambda file: file.ts_event_min or 0)
    scan = Scan(pinned, [replace(files[0], has_deletion_vector=True), files[1]])
    values = Values()
    text = f"SELECT {', '.join(TRADES.names)} FROM {scan.relation(False, values.bind)} ORDER BY ts_event"
    cursor = engine._database.cursor()
    for name, frame in scan.frames().items():
        cursor.register(name, frame())
    assert cursor.sql(text, params=values.bound).to_arrow_table().to_pylist() == engine.trades().to_arrow().to_pylist()


def test_copy_on_write_deletes_are_followed(lake: Lake, engine: QueryEngine) -> None:
    before = add(lake, "a", [event(ts_event=at(number), symbol=f"S{number}") for number in range(4)])
    lake.table("trades").delete("symbol = 'S1'")
    assert column(engine.trades(), "symbol") == ["S0", "S2", "S3"]
    assert column(engine.trades(as_of=before), "symbol") == ["S0", "S1", "S2", "S3"]
    assert engine.stats().to_arrow().to_pylist()[0]["rows"] == 3


def test_renamed_and_added_columns_are_read_by_field_id(lake: Lake, engine: QueryEngine) -> None:
    from pyiceberg.types import StringType

    before = add(lake, "a", [event(extra="{}")])
    with lake.table("trades").update_schema() as update:
        update.rename_column("extra", "vendor")
        update.add_column("desk", StringType())
    for as_of in (None, before):
        rows = engine.sql("SELECT vendor, desk, price FROM trades", as_of=as_of).to_arrow().to_pylist()
        assert rows == [{"vendor": "{}", "desk": None, "price": Decimal("35.1")}]


def test_terminals_agree_and_stay_exact(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(price=Decimal("0.00000001")), event(price=Decimal("9999999999.99999999"), ts_event=at(1))])
    result = engine.trades("BHP", columns=["session", "price", "conditions"])
    arrow = result.to_arrow()
    assert arrow["price"].to_pylist() == [Decimal("0.00000001"), Decimal("9999999999.99999999")]
    assert result.to_polars().equals(pl.DataFrame(arrow))
    assert list(result.to_pandas()["price"]) == arrow["price"].to_pylist()
    assert result.to_duckdb().to_arrow_table().equals(arrow)
    assert pa.Table.from_batches(result.batches(rows=1)).to_pylist() == arrow.to_pylist()
    assert result.to_arrow().equals(arrow)


def test_displays_show_venue_time_or_utc_labelled(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a" * 64, [event(ts_event=at(number)) for number in range(25)])
    shown = repr(engine.trades("BHP", columns=["ts_event", "price"]))
    assert "ts_event (Australia/Sydney)" in shown
    assert "2014-03-10 10:00:00.000" in shown
    assert "first 20 rows" in shown
    html = engine.trades("BHP", columns=["symbol", "side", "source"])._repr_html_()
    assert html.count(">BHP</td>") == 20
    assert html.count(">aaaaaaaaaaaa…</td>") == 20
    assert "nothing in side" in html
    assert "ts_event (Australia/Sydney)" in repr(engine.sql("SELECT ts_event FROM trades LIMIT 1"))
    add(lake, "c", [event(venue="XNYS")], minute=2)
    assert "ts_event (UTC)" in repr(engine.sql("SELECT ts_event FROM trades LIMIT 1"))
    at_home = "SELECT ts_event FROM (FROM trades WHERE venue = 'XNYS')"
    assert "ts_event (America/New_York)" in repr(engine.sql(at_home))
    add(lake, "b", [event(symbol="<b>", venue="XNYS")], minute=1)
    assert "<b>" not in engine.trades("<b>")._repr_html_()
    assert "ts_event (UTC)" in repr(engine.trades(columns=["ts_event"]))


def test_parallel_reads_do_not_mix(lake: Lake, engine: QueryEngine) -> None:
    symbols = [f"S{number}" for number in range(8)]
    add(lake, "a", [event(symbol=symbol, price=Decimal(index)) for index, symbol in enumerate(symbols * 20)])

    def read(symbol: str) -> bool:
        text = "WITH trades AS (SELECT * FROM trades WHERE symbol = $s) SELECT DISTINCT symbol FROM trades"
        return (
            column(engine.sql(text, {"s": symbol}), "symbol")
            == [symbol]
            == [*dict.fromkeys(column(engine.trades(symbol), "symbol"))]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, symbols * 5))


def test_files_outside_the_range_are_not_opened(lake: Lake, engine: QueryEngine) -> None:
    days = [DAY + number * DAYS for number in range(3)]
    add(lake, "a", [event(session=day, ts_event=at(0, day)) for day in days])
    files = {
        file.session: Path(file.path.removeprefix("file://")) for file in lake.files("trades", lake.head("trades"))
    }
    files[days[0]].unlink()
    assert engine.trades("BHP", session=days[1]).to_arrow().num_rows == 1
    assert engine.trades("BHP", start=at(-1, days[1])).to_arrow().num_rows == 2
    for where, values in (
        ("session >= '2014-03-11'", {}),
        ("session >= $d AND symbol = 'BHP'", {"d": date(2014, 3, 11)}),
        ("ts_event >= $t", {"t": at(0, days[1])}),
        ("session IN ('2014-03-11', '2014-03-12')", {}),
        ("session BETWEEN DATE '2014-03-11' AND '2014-03-12' AND price > 0", {}),
    ):
        assert engine.sql(f"SELECT * FROM trades WHERE {where}", values).to_arrow().num_rows == 2
