"""A feed that is delivered again: fills whose venue's id another fill has, against a plain Python dictionary."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel import profiles
from k2kernel.cli import main
from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.ingest import Options, ingest_file, repeats
from k2kernel.ingest.runs import Runs
from k2kernel.lake import Lake
from tests.ingest_files import assert_accounted, assert_no_orphans, committed_files, content, data_files, rows_of
from tests.lake_frames import load
from tests.test_cli import call

HEADER = "ts_event,symbol,venue,trade_id,price,size,status,corrects"


def row(number: int, trade_id: object, day: int = 4, symbol: str = "BHP", price: object = 35, **more: str) -> str:
    """A fill so many seconds after noon UTC."""
    status, corrects = more.get("status", ""), more.get("corrects", "")
    time = f"2024-03-{day:02}T12:{number // 60:02}:{number % 60:02}Z"
    return f"{time},{symbol},BINANCE,{trade_id},{price},1,{status},{corrects}"


def write(name: str, rows: Iterable[str]) -> Path:
    path = Path(name).absolute()
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def ingest(lake: Lake, path: Path, how: str, **words: Any) -> k2.Receipt:
    receipt = ingest_file(lake, path, profiles.load("k2-trades"), Options({}, on_duplicate=how, **words))
    assert_accounted(receipt)
    assert_no_orphans(lake)
    return receipt


def prices(lake: Lake) -> list[int]:
    """The prices in the table, as whole numbers, sorted."""
    found = rows_of(lake, "trades")
    return sorted(int(price) for price in found["price"]) if len(found) else []


def chosen(loads: Sequence[Sequence[tuple[str, str, int]]], last: bool = False) -> list[int]:
    """The prices that remain of loads of (day and symbol, id, price), by a dictionary."""
    kept: dict[object, int] = {}
    for number, rows in enumerate(loads):
        for place, (key, trade_id, price) in enumerate(rows):
            of = (key, trade_id) if trade_id else (number, place)
            if last or of not in kept:
                kept[of] = price
    return sorted(kept.values())


REPEATED = [row(1, "a", price=1), row(2, "b", price=2), row(3, "a", price=3), row(4, "", price=4), row(5, "", price=4)]


@pytest.mark.parametrize(
    ("how", "left"), [("keep_all", [1, 2, 3, 4, 4]), ("keep_first", [1, 2, 4, 4]), ("keep_last", [2, 3, 4, 4])]
)
def test_repeats_in_one_file(lake: Lake, how: str, left: list[int]) -> None:
    receipt = ingest(lake, write("feed.csv", REPEATED), how)
    assert prices(lake) == left
    assert (receipt.rows, receipt.duplicate, receipt.lines) == (len(left), 5 - len(left), 5)
    before = content(lake, "trades")
    again = ingest(lake, Path("feed.csv").absolute(), how)
    assert (again.rows, again.duplicate) == (0, 5)
    assert content(lake, "trades") == before


def test_an_error_names_the_first_repeat_with_file_and_line_and_nothing_is_loaded(lake: Lake) -> None:
    path = write("feed.csv", REPEATED)
    with pytest.raises(
        FileFault, match=r"feed\.csv: line 4: the trade_id 'a' of BHP on BINANCE.* line 2 of .*feed\.csv"
    ):
        ingest(lake, path, "error")
    assert prices(lake) == []
    assert_no_orphans(lake)
    ingest(lake, write("first.csv", [row(9, "z"), row(8, "b")]), "error")
    with pytest.raises(FileFault, match=r"line 3: .*'b'.* is in trades already, from line 3 of .*first\.csv"):
        ingest(lake, write("second.csv", REPEATED[:2]), "error")
    assert ingest(lake, write("third.csv", [row(1, "c"), row(1, "")]), "error").rows == 2


def test_rows_that_are_stored_come_first(lake: Lake) -> None:
    ingest(lake, write("first.csv", REPEATED[:2]), "keep_all")
    more = [row(1, "a", price=10), row(6, "d", price=11), row(6, "d", price=12), row(7, "a", day=5, price=13)]
    more += [row(7, "a", symbol="RIO", price=14)]
    path = write("again.csv", more)
    with pytest.raises(FileFault, match=r"line 2: .*'a'.* in trades already.* keep_last chooses among the rows of one"):
        ingest(lake, path, "keep_last")
    receipt = ingest(lake, path, "keep_first")
    assert (receipt.rows, receipt.duplicate) == (3, 2)
    assert prices(lake) == [1, 2, 11, 13, 14]


def test_a_file_of_nothing_new_adds_nothing_as_often_as_it_comes(lake: Lake) -> None:
    ingest(lake, write("first.csv", REPEATED[:2]), "keep_all")
    head = lake.head("trades")
    path = write("again.csv", [row(11, "a"), row(12, "b")])
    for _ in range(2):
        receipt = ingest(lake, path, "keep_first")
        assert (receipt.rows, receipt.duplicate, receipt.tables["trades"].snapshot_id) == (0, 2, None)
        assert lake.head("trades") == head


def test_records_that_undo_a_fill_are_no_repeats_of_it(lake: Lake) -> None:
    rows = [
        row(1, "a", price=1),
        row(2, "a", price=2, status="correction", corrects="a"),
        row(3, "a", price=3, status="correction", corrects="a"),
        row(4, "b", price=4, status="cancelled"),
        row(5, "b", price=4),
        row(6, "b", price=4, status="cancel", corrects="b"),
    ]
    assert ingest(lake, write("feed.csv", rows), "keep_first").duplicate == 1
    assert prices(lake) == [1, 2, 3, 4, 4]


def test_a_replaced_load_is_not_compared_with(lake: Lake) -> None:
    path = write("feed.csv", REPEATED)
    ingest(lake, path, "keep_all")
    assert ingest(lake, path, "keep_last", replace=True).rows == 4
    assert prices(lake) == [2, 3, 4, 4]


def test_what_a_file_has_grown_by_is_compared_with_what_was_there(lake: Lake) -> None:
    ingest(lake, write("feed.csv", REPEATED[:2]), "keep_first")
    receipt = ingest(lake, write("feed.csv", REPEATED), "keep_first", append_grown=True)
    assert (receipt.rows, receipt.duplicate) == (2, 1)


@pytest.mark.parametrize("how", ["keep_first", "keep_last"])
@pytest.mark.parametrize("seed", range(3))
def test_many_files_many_sessions_and_a_small_buffer(tmp_path: Path, how: str, seed: int) -> None:
    """Against a dictionary; keep_last in one file, because it does not choose among stored rows."""
    rng = random.Random(seed)
    settings = k2.Settings(home=tmp_path / ".k2", ingest_buffer_rows=1_000, row_group_rows=2_048)
    lake = Lake.open(settings, create=True)
    loads = []
    for number in range(3 if how == "keep_first" else 1):
        rows = []
        for place in range(3_000):
            day, symbol = rng.randrange(4, 7), rng.choice(("BHP", "RIO"))
            trade_id = "" if rng.random() < 0.1 else str(rng.randrange(1_000))
            rows.append((f"{day}{symbol}", trade_id, number * 3_000 + place))
        loads.append(rows)
        lines = [row(price % 3_000, trade_id, int(key[0]), key[1:], price) for key, trade_id, price in rows]
        ingest(lake, write(f"feed-{number}.csv", lines), how)
    assert prices(lake) == chosen(loads, how == "keep_last")


def test_a_writer_that_came_between_makes_it_look_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real = repeats.drop_repeats
    calls: list[int] = []

    def late(*args: Any) -> repeats.Dropped:
        done = real(*args)
        if not calls:
            calls.append(1)
            load(lake, "other", rows=3)
        return done

    monkeypatch.setattr("k2kernel.ingest.files.drop_repeats", late)
    assert ingest(lake, write("feed.csv", REPEATED), "keep_first").rows == 4
    assert len(rows_of(lake, "trades")) == 7


def test_what_fails_half_way_leaves_nothing_and_the_next_load_is_whole(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [row(number, number % 5, day=day, price=number) for day in (4, 5, 6) for number in range(10)]
    path = write("feed.csv", [*days, "not a row"])
    real, calls = Runs.swap, []

    def fail(self: Runs, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise OSError("the disk is full")
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "swap", fail)
        with pytest.raises((OSError, FileFault), match="full"):
            ingest(lake, path, "keep_first", max_rejects=0.5)
    assert (prices(lake), lake.head("trades"), lake.head("dead_letter")) == ([], None, None)
    for orphan in data_files(lake) - committed_files(lake):
        Path(orphan).unlink()  # the file that was written when it failed; maintenance takes such files away
    receipt = ingest(lake, path, "keep_first", max_rejects=0.5)
    assert (receipt.rows, receipt.duplicate, receipt.rejected, receipt.lines) == (15, 15, 1, 31)
    assert prices(lake) == sorted([0, 1, 2, 3, 4] * 3)


def test_the_command_line_and_the_workbench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("feed.csv", REPEATED)
    words = ("ingest", str(path), "-p", "k2-trades", "--on-duplicate")
    code, _, err = call(capsys, monkeypatch, main, *words, "error")
    assert (code, err.count("\n")) == (2, 1)
    assert "line 4" in err
    code, out, _ = call(capsys, monkeypatch, main, *words, "keep_first")
    assert code == 0
    assert "trades: 4 rows, 1 there already" in out
    with pytest.raises(InvalidParameter, match="keep_all, keep_first, keep_last, error"):
        k2.connect().ingest(path, "k2-trades", on_duplicate="drop")
    assert k2.connect().ingest(path, "k2-trades", on_duplicate="keep_first").duplicate == 5
