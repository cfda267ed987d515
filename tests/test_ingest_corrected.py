"""A vendor's corrected file: the same path, other content."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from k2kernel import Workbench
from k2kernel.errors import FileFault, GrownFile
from k2kernel.lake import Lake
from tests.ingest_files import BASE, content, counts, ingest, lines, mixed, rows_of, run, write

FIRST = [*lines(0, 10), "T,x,AAA,1,1,1"]
CORRECTED = [line.replace(",2.5,", ",7.25,") for line in lines(0, 11) if ",4.5," not in line]
"""Of the trades 0, 2, 4, 6 and 8: 2 at another price, 4 dropped, and 10 added; the bad line is gone."""

DATABENTO = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"
LEVELS = "bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol"


def prices(lake: Lake) -> list[str]:
    return [f"{price:.2f}" for price in rows_of(lake, "trades").sort("price")["price"]]


def test_without_replace_both_count_and_the_receipt_says_so(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", FIRST), mixed(tmp_path)
    assert ingest(lake, path, profile, max_rejects=0.5).notes == ()
    at = lake.provenance("trades")[0].ts_ingest.astimezone(UTC)
    receipt = ingest(lake, write(path, CORRECTED), profile)
    assert counts(lake) == {"trades": 10, "quotes": 10, "dead_letter": 1}
    (note,) = receipt.notes
    assert note == (
        f"this path was loaded before with other content (at {at:%Y-%m-%d %H:%M:%S.%f} UTC), which is there, too: "
        "5 rows of trades, 5 rows of quotes, 1 row of dead_letter. Both count; --replace takes the earlier out"
    )
    again = ingest(lake, path, profile)
    assert (again.rows, again.notes) == (0, ())
    (note,) = ingest(lake, write(path, lines(20, 30)), profile).notes
    assert "other content (2 times, the last at " in note
    assert "10 rows of trades, 10 rows of quotes, 1 row of dead_letter" in note


def test_replace_takes_the_earlier_load_of_the_path_out(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", FIRST), mixed(tmp_path)
    other = ingest(lake, write(tmp_path / "b.csv", lines(50, 60)), profile)
    ingest(lake, path, profile, max_rejects=0.5)
    states = [len(lake.ancestors(name)) for name in ("trades", "quotes", "dead_letter")]
    receipt = ingest(lake, write(path, CORRECTED), profile, replace=True)
    assert (receipt.rows, other.rows) == (10, 10)
    assert counts(lake) == {"trades": 10, "quotes": 10}
    assert prices(lake)[:5] == ["0.50", "6.50", "7.25", "8.50", "10.50"]
    assert [len(lake.ancestors(name)) for name in ("trades", "quotes", "dead_letter")] == [n + 1 for n in states]
    (note,) = receipt.notes
    rows = "5 rows of trades, 5 rows of quotes, 1 row of dead_letter"
    assert note.startswith(f"took out {rows}, loaded from {path} at 2")
    again = ingest(lake, path, profile)
    assert (again.rows, again.duplicate, again.notes) == (0, 10, ())
    assert len(ingest(lake, path, profile, replace=True).notes) == 1
    assert ingest(lake, write(tmp_path / "old.csv", FIRST), profile, max_rejects=0.5).rows == 10
    assert counts(lake) == {"trades": 15, "quotes": 15, "dead_letter": 1}


def test_a_second_load_beside_the_first_can_still_be_undone(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", FIRST), mixed(tmp_path)
    ingest(lake, path, profile, max_rejects=0.5)
    ingest(lake, write(path, CORRECTED), profile)
    receipt = ingest(lake, path, profile, replace=True)
    assert [note.partition(",")[0] for note in receipt.notes] == ["took out 5 rows of trades"] * 2
    assert counts(lake) == {"trades": 5, "quotes": 5}


def test_states_before_it_answer_as_before(wb: Workbench, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", FIRST), mixed(tmp_path)
    before = wb.ingest(path, profile, max_rejects=0.5).tables["trades"].snapshot_id
    rows = wb.trades("AAA", as_of=before).to_polars()
    moment = datetime.now(UTC)
    after = wb.ingest(write(path, CORRECTED), profile, replace=True).tables["trades"].snapshot_id
    for state in (before, moment):
        assert wb.trades("AAA", as_of=state).to_polars().equals(rows)
    diff = wb.diff("trades", before)
    assert (diff.summary.added, diff.summary.removed, diff.summary.b_id) == (5, 5, after)
    old, new = rows.row(1, named=True), wb.trades("AAA").to_polars().row(1, named=True)
    assert wb.trace("trades", new["source"], new["source_offset"]).raw == f"T,{BASE + 2000},AAA,2,7.25,3"
    told = wb.at(before).trace("trades", old["source"], old["source_offset"])
    assert (told.file, told.why) == (str(path), "the file has changed since it was loaded")


def test_tables_that_get_nothing_any_more_are_emptied_of_it(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", FIRST), mixed(tmp_path)
    ingest(lake, path, profile, max_rejects=0.5)
    ingest(lake, write(path, lines(0, 4, "T")), profile, replace=True)
    assert counts(lake) == {"trades": 4}


def test_both_tables_of_one_file(lake: Lake, tmp_path: Path) -> None:
    def rows(*prices: str) -> list[str]:
        start = 1_609_160_400_000_000_000
        events = [f"{start + n},{start + n},1,1,5,T,A,0,{price},5,0,0,{n}" for n, price in enumerate(prices)]
        return [f"{DATABENTO},{LEVELS}", *(f"{event},100.25,100.5,24,3,15,9,ESH1" for event in events)]

    path = write(tmp_path / "tbbo.csv", rows("100.25", "100.5", "100.25"))
    ingest(lake, path, "databento-tbbo-csv")
    write(path, rows("100.5", "100.5"))
    receipt = ingest(lake, path, "databento-tbbo-csv", replace=True)
    assert counts(lake) == {"trades": 2, "quotes": 2}
    assert receipt.notes[0].startswith("took out 3 rows of trades, 3 rows of quotes, loaded from")


def test_members_and_files_of_one_folder_stay_apart(lake: Lake, tmp_path: Path) -> None:
    profile, path = mixed(tmp_path), tmp_path / "all.zip"

    def pack(**parts: list[str]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, rows in parts.items():
                archive.writestr(f"{name}.csv", "".join(row + "\n" for row in rows))

    ingest(lake, write(tmp_path / "A.csv", lines(50, 60)), profile)
    pack(A=FIRST, B=lines(30, 40), C=lines(40, 50))
    ingest(lake, path, profile, max_rejects=0.5)
    pack(A=CORRECTED, B=lines(30, 40))
    receipt = ingest(lake, path, profile)
    assert (receipt.rows, receipt.duplicate, len(receipt.notes)) == (10, 10, 1)
    assert receipt.notes[0].startswith("A.csv was loaded before")
    ingest(lake, path, profile, replace=True)
    assert counts(lake) == {"trades": 20, "quotes": 20}
    assert prices(lake).count("7.25") == 1


def test_a_path_is_where_the_file_lies(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = mixed(tmp_path)
    for day, rows in (("monday", lines(0, 10)), ("tuesday", lines(10, 20))):
        (tmp_path / day).mkdir()
        monkeypatch.chdir(tmp_path / day)
        assert ingest(lake, write(Path("a.csv"), rows), profile, replace=True).notes == ()
    (tmp_path / "latest").symlink_to("monday")
    write(tmp_path / "monday" / "a.csv", CORRECTED)
    assert len(ingest(lake, tmp_path / "latest" / "a.csv", profile, replace=True).notes) == 1
    assert counts(lake) == {"trades": 10, "quotes": 10}


def test_a_file_that_has_grown_is_no_corrected_one(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", lines(0, 10)), mixed(tmp_path)
    ingest(lake, path, profile)
    write(path, lines(0, 20))
    with pytest.raises(GrownFile):
        ingest(lake, path, profile)
    assert ingest(lake, path, profile, append_grown=True).notes == ()
    receipt = ingest(lake, write(path, CORRECTED), profile, replace=True)
    assert counts(lake) == {"trades": 5, "quotes": 5}
    assert len(receipt.notes) == 2


def test_a_corrected_file_that_is_refused_takes_nothing_out(lake: Lake, tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", lines(0, 10)), mixed(tmp_path)
    ingest(lake, path, profile)
    before = content(lake, "trades")
    with pytest.raises(FileFault, match="no row was accepted"):
        ingest(lake, write(path, ["T,x,AAA,1,1,1"]), profile, replace=True)
    assert content(lake, "trades") == before


def test_the_command_line_says_it(tmp_path: Path) -> None:
    path, profile = write(tmp_path / "a.csv", lines(0, 10)), mixed(tmp_path)
    words = ("ingest", path, "--profile", profile)
    run(*words, home=tmp_path / "lake")
    write(path, CORRECTED)
    beside, replaced = (run(*words, *how, home=tmp_path / "lake") for how in ((), ("--replace",)))
    assert f"{path}: this path was loaded before with other content (at " in beside.stderr
    assert f"took out 5 rows of trades, 5 rows of quotes, loaded from {path} at " in replaced.stderr
    assert replaced.stdout.startswith(f"{path}: trades: 5 rows; quotes: 5 rows")
