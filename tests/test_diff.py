"""What differs between two states: rows, symbols and bars, and nothing where rows only moved."""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.errors import InvalidParameter, UnknownReference
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.schemas import TABLES
from tests.lake_frames import came_from, load, trades
from tests.query_lake import DAY, NEXT, add, at, event
from tests.test_cli import call
from tests.travel import compact


def counts(diff: Any) -> tuple[int, int, int]:
    return diff.summary.added, diff.summary.removed, diff.summary.changed


def reload(lake: Lake, digest: str, minute: int, rows: int = 10, **columns: Any) -> int:
    """Load the source again, in place of its first load."""
    frame = trades(rows, digest, ts_ingest=at(minute * 60), **columns)
    provenance = came_from(digest, rows, minute, profile="other")
    return lake.append("trades", [lake.write("trades", frame, DAY).path], provenance, replace=[digest])


def test_added_removed_and_changed_rows(lake: Lake, engine: QueryEngine) -> None:
    first = load(lake, "a")
    load(lake, "b", rows=4, minute=1)
    prices = [Decimal("35.10")] * 5 + [Decimal(36)] * 2 + [Decimal("35.10")] * 5
    reload(lake, "a", 2, rows=12, price=prices)
    diff = engine.diff("trades", first)
    assert counts(diff) == (4 + 2, 0, 2)
    assert (diff.summary.symbols, diff.summary.sessions) == (1, 1)
    assert str(diff).startswith(
        f"trades from {first} to {lake.head('trades')}: 6 rows added, 0 removed, 2 changed in 1 symbol and 1 session ("
    )
    table = diff.rows().to_arrow()
    assert table.column_names == ["change", "version", "changed_columns", *TABLES["trades"].names]
    rows = [row for row in table.to_pylist() if row["change"] == "changed"]
    assert [(row["version"], row["source_offset"], row["price"], row["changed_columns"]) for row in rows] == [
        ("a", 5, Decimal("35.10"), ["price"]),
        ("b", 5, Decimal(36), ["price"]),
        ("a", 6, Decimal("35.10"), ["price"]),
        ("b", 6, Decimal(36), ["price"]),
    ]
    back = engine.diff("trades", None, first)
    assert counts(back) == (0, 6, 2)
    assert diff.rows().snapshots == {"trades a": first, "trades b": lake.head("trades")}


def test_rows_that_moved_or_were_loaded_again_are_no_difference(lake: Lake, engine: QueryEngine) -> None:
    first = load(lake, "a")
    load(lake, "b", minute=1)
    second = load(lake, "c", rows=3, day=NEXT, minute=2)
    for state in (compact(lake, session=DAY), compact(lake), reload(lake, "a", 3)):
        diff = engine.diff("trades", second, state)
        assert counts(diff) == (0, 0, 0)
        assert diff.summary.files_compared > 0
        assert diff.symbols().to_arrow().num_rows == diff.rows().to_arrow().num_rows == 0
        assert diff.bars().to_arrow().num_rows == 0
        assert counts(engine.diff("trades", first, state)) == (13, 0, 0)


def test_only_files_of_one_state_are_read(lake: Lake, engine: QueryEngine) -> None:
    for number in range(5):
        load(lake, f"a{number}", minute=number)
    before = lake.head("trades")
    load(lake, "b", rows=2, minute=6)
    diff = engine.diff("trades", before)
    assert (diff.summary.files_compared, diff.summary.files_shared) == (1, 5)
    assert counts(diff) == (2, 0, 0)
    same = engine.diff("trades", before, before)
    assert (same.summary.files_compared, counts(same)) == (0, (0, 0, 0))
    assert "0 rows added" in repr(same)


@pytest.mark.parametrize("seed", range(3))
def test_a_diff_is_what_a_full_comparison_finds(lake: Lake, engine: QueryEngine, seed: int) -> None:
    rng = random.Random(seed)
    states = [load(lake, "a0", rows=5)]
    for number in range(1, 6):
        what = rng.random()
        if what < 0.3:
            compact(lake)
        elif what < 0.6:
            size = [Decimal(rng.randint(1, 3)) for _ in range(6)]
            reload(lake, f"a{rng.randrange(1)}", number, rows=6, size=size, symbol=rng.choice(["BHP", "RIO"]))
        else:
            load(lake, f"a{number}", rows=rng.randint(1, 5), minute=number, day=rng.choice((DAY, NEXT)))
        states.append(lake.head("trades") or 0)
    for _ in range(4):
        a, b = rng.choice(states), rng.choice(states)
        diff = engine.diff("trades", a, b)
        left, right = (full(engine, state) for state in (a, b))
        expected = [
            len(right.keys() - left.keys()),
            len(left.keys() - right.keys()),
            sum(left[key] != right[key] for key in left.keys() & right.keys()),
        ]
        assert list(counts(diff)) == expected
        rows = Counter((row["change"], row["version"]) for row in diff.rows().to_arrow().to_pylist())
        assert [rows["added", "b"], rows["removed", "a"], rows["changed", "a"]] == expected
        assert rows["changed", "a"] == rows["changed", "b"]
        by_symbol = diff.symbols().to_arrow().to_pylist()
        assert sum(row["added"] for row in by_symbol) == expected[0]
        assert sum(row["removed"] for row in by_symbol) == expected[1]


def full(engine: QueryEngine, state: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Every row of a state by its identity, without the time of its ingest."""
    rows = engine.trades(raw=True, as_of=state).to_arrow().drop_columns(["ts_ingest"]).to_pylist()
    return {(row["source"], row["source_offset"]): row for row in rows}


def test_which_symbols_and_bars_changed_and_by_how_much(lake: Lake, engine: QueryEngine) -> None:
    fills = [
        event(ts_event=at(0), trade_id="1", size=Decimal(100)),
        event(ts_event=at(30), trade_id="2", size=Decimal(50), price=Decimal(36)),
        event(ts_event=at(60), trade_id="3"),
        event(symbol="RIO", ts_event=at(0)),
        event(symbol="CBA", session=NEXT, ts_event=at(0, NEXT)),
    ]
    first = add(lake, "a", fills)
    late = [
        event(ts_event=at(400), status="cancel", corrects="2"),
        event(ts_event=at(120), size=Decimal(7)),
        event(symbol="CBA", session=NEXT, ts_event=at(600, NEXT)),
    ]
    add(lake, "b", late, minute=1)
    diff = engine.diff("trades", first)
    assert [tuple(row.values())[:3] for row in diff.symbols().to_arrow().to_pylist()] == [
        ("BHP", "XASX", 2),
        ("CBA", "XASX", 1),
    ]
    rows = {(row["symbol"], row["ts_open"]): row for row in diff.bars().to_arrow().to_pylist()}
    assert {key: row["change"] for key, row in rows.items()} == {
        ("BHP", at(0)): "changed",  # of the fill that was cancelled, not of the cancel
        ("BHP", at(120)): "added",
        ("CBA", at(600, NEXT)): "added",
    }
    bar = rows["BHP", at(0)]
    assert (bar["volume_a"], bar["volume_b"], bar["volume_change"]) == (150, 100, -50)
    assert (bar["high_a"], bar["high_b"], bar["high_change"]) == (36, Decimal("35.10"), Decimal("-0.9"))
    assert (bar["n_trades_change"], bar["close_change"]) == (-1, Decimal("-0.9"))
    assert rows["BHP", at(120)]["volume_change"] == 7
    assert rows["BHP", at(120)]["open_a"] is None
    back = {row["ts_open"]: row["change"] for row in engine.diff("trades", None, first).bars().to_arrow().to_pylist()}
    assert back == {at(0): "changed", at(120): "removed", at(600, NEXT): "removed"}
    assert diff.bars("session").to_arrow().num_rows == 2
    with pytest.raises(InvalidParameter, match="more than a session"):
        diff.bars("2d")


def test_quotes_and_tables_without_events(lake: Lake, engine: QueryEngine) -> None:
    first = add(lake, "q", [event()], "quotes")
    add(lake, "r", [event(ts_event=at(61), bid_px=Decimal(35))], "quotes", minute=1)
    diff = engine.diff("quotes", first)
    assert diff.bars().to_arrow()["open_b"].to_pylist() == [Decimal("35.06")]
    assert diff.bars(of="bid").to_arrow()["open_b"].to_pylist() == [35]
    with pytest.raises(InvalidParameter, match="bid, ask or mid"):
        diff.bars(of="trades")
    state = add(lake, "i", [{"symbol": "BHP", "venue": "XASX", "name": "old"}], "instruments")
    add(lake, "j", [{"symbol": "RIO", "venue": "XASX"}], "instruments", minute=1)
    other = engine.diff("instruments", state)
    assert counts(other) == (1, 0, 0)
    assert other.symbols().to_arrow()["symbol"].to_pylist() == ["RIO"]
    assert "RIO" in other._repr_html_()
    with pytest.raises(InvalidParameter, match="no bars"):
        other.bars()
    letter = {"error": "x", "reason": "bad", "attempt": 1}
    start = add(lake, "d", [letter], "dead_letter")
    add(lake, "e", [letter, letter], "dead_letter", minute=1)
    letters = engine.diff("dead_letter", start)
    assert counts(letters) == (2, 0, 0)
    assert "2 rows added" in letters._repr_html_()
    assert "2 rows added" in repr(letters)
    with pytest.raises(InvalidParameter, match="has no symbol"):
        letters.symbols()
    with pytest.raises(InvalidParameter, match="no row identity"):
        engine.diff("ingest_log", None)


def test_references_and_displays(lake: Lake) -> None:
    wb = k2.connect(settings=lake.settings)
    load(lake, "a")
    wb.tag("trades", "eod")
    wb.pin("close")
    load(lake, "b", rows=3, minute=1)
    for reference in ("eod", "close", wb.snapshots()[1].id):
        assert counts(wb.diff("trades", reference)) == (3, 0, 0)
        assert counts(wb.diff("trades", reference, "main")) == (3, 0, 0)
    shown = wb.diff("trades", "eod")
    assert "<table>" in shown._repr_html_()
    assert "Bars of 1m" in shown._repr_html_()
    assert "BHP" in repr(shown)
    with pytest.raises(UnknownReference):
        wb.diff("trades", "nightly")


def test_the_command_line_shows_a_diff(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    first = str(load(lake, "a"))
    load(lake, "b", rows=3, minute=1)

    def diff(*words: str) -> str:
        code, out, _ = call(capsys, monkeypatch, main, "table", "diff", "trades", first, *words)
        assert code == 0
        return out

    assert diff().splitlines()[0].startswith(f"trades from {first} to")
    assert "BHP" in diff()
    assert len(diff("--show", "summary").splitlines()) == 1
    (summary,) = json.loads(diff("main", "--show", "summary", "-o", "json"))
    assert (summary["added"], summary["a_id"]) == (3, first)
    assert len(json.loads(diff("--show", "rows", "-o", "json"))) == 3
    (bar,) = json.loads(diff("--show", "bars", "-o", "json"))
    assert (bar["change"], bar["n_trades_change"]) == ("changed", 3)
    assert [row["symbol"] for row in json.loads(diff("-o", "json"))] == ["BHP"]
