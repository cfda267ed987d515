"""Files that grow, and loads that take the place of earlier ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2kernel.config import Settings
from k2kernel.errors import AlreadyIngested, FileFault, GrownFile
from k2kernel.lake import Lake
from tests.ingest_files import HEADER, MIXED, assert_accounted, content, counts, ingest, lines, mixed, rows_of, write


def offsets(lake: Lake, table: str) -> dict[int, object]:
    """Line to time of each row; fails where a line is there twice."""
    frame = rows_of(lake, table)
    found = dict(frame.select("source_offset", "sequence").iter_rows()) if len(frame) else {}
    assert len(found) == len(frame)
    return found


GOOD, BAD = "2024-03-04T15:00:00Z,BHP,XASX,{n},1.5,100,", "2024-03-04T15:00:00Z,BHP,XASX,{n},much,100,"


@pytest.mark.parametrize(
    ("end", "header", "cut"),
    [
        ("\n", True, "whole line"),
        ("\n", False, "no line end"),
        ("\r\n", True, "no line end"),
        ("\r\n", True, "between CR and LF"),
        ("\r\n", False, "between CR and LF"),
        ("\r\n", False, "whole line"),
    ],
)
def test_a_grown_file_is_reported_and_its_rest_loaded(
    lake: Lake, tmp_path: Path, end: str, header: bool, cut: str
) -> None:
    rows = [(BAD if n in (7, 150) else GOOD).format(n=n) for n in range(200)]
    names = HEADER.strip().split(",")
    profile = tmp_path / "plain.toml"
    columns = "\n".join(f'{name} = {{ column = "{name}" }}' for name in names if name not in ("ts_event", "conditions"))
    profile.write_text(
        f'title = "t"\n[file]\nheader = {str(header).lower()}\ncolumns = {names}\n[[route]]\ntable = "trades"\n'
        f'[route.columns]\n{columns}\nts_event = {{ column = "ts_event", layout = "iso8601" }}\n'
    )
    whole = ("".join(line + end for line in ([HEADER.strip()] if header else []) + rows)).encode()
    drop = {"whole line": 0, "no line end": len(end), "between CR and LF": 1}[cut]
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "a.csv"
    for number, nbytes in enumerate((ends[99] - drop, ends[149] - drop, len(whole))):
        path.write_bytes(whole[:nbytes])
        if number:
            with pytest.raises(GrownFile, match=r"rows .* are in trades already"):
                ingest(lake, path, str(profile), max_rejects=0.05)
        receipt = ingest(lake, path, str(profile), append_grown=True, max_rejects=0.05)
        assert receipt.lines == ((100 - header), 50, 50 + header)[number]
        assert ingest(lake, path, str(profile)).rows == 0
    first = 1 + header
    assert set(offsets(lake, "trades")) == {n + first for n in range(200) if n not in (7, 150)}
    assert all(line == sequence + first for line, sequence in offsets(lake, "trades").items())  # type: ignore[operator]
    letters = dict(rows_of(lake, "dead_letter").select("source_offset", "raw").iter_rows())
    assert letters == {n + first: (BAD.format(n=n) + end.strip("\n")).encode() for n in (7, 150)}


def test_a_last_line_that_has_grown_is_refused(lake: Lake, tmp_path: Path) -> None:
    text = "\n".join(lines(0, 10))
    path = tmp_path / "a.csv"
    path.write_text(text)
    ingest(lake, path, mixed(tmp_path))
    path.write_text(text + "0\n" + "\n".join(lines(10, 20)))
    with pytest.raises(FileFault, match=r"last line .* is longer now.*--replace"):
        ingest(lake, path, mixed(tmp_path), append_grown=True)
    assert ingest(lake, path, mixed(tmp_path), replace=True).rows == 20
    assert counts(lake) == {"trades": 10, "quotes": 10}


def test_nothing_but_blank_lines_more(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    write(path, [*lines(0, 10), "", "# end"])
    for _ in range(2):
        receipt = ingest(lake, path, mixed(tmp_path), append_grown=True)
        assert (receipt.rows, receipt.skipped) == (0, {"blank": 1, "comment": 1})
    assert counts(lake) == {"trades": 5, "quotes": 5}


def test_a_bad_rest_is_refused_and_the_beginning_stays(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    write(path, [*lines(0, 10), "T,x,A,1,1,1"])
    with pytest.raises(FileFault, match="no row was accepted"):
        ingest(lake, path, mixed(tmp_path), append_grown=True)
    assert counts(lake) == {"trades": 5, "quotes": 5}


def test_the_rest_as_something_else_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    write(path, lines(0, 20))
    with pytest.raises(AlreadyIngested):
        ingest(lake, path, mixed(tmp_path), {"venue": "FXCM"}, append_grown=True)


def test_a_beginning_that_was_rolled_back_cannot_be_built_on(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, write(tmp_path / "zero.csv", lines(900, 910)), mixed(tmp_path))
    before = lake.head("quotes")
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    assert before is not None
    lake.rollback("quotes", before)
    write(path, lines(0, 20))
    with pytest.raises(FileFault, match=r"begins with was ingested, and is no longer .*--replace"):
        ingest(lake, path, mixed(tmp_path), append_grown=True)
    ingest(lake, path, mixed(tmp_path), replace=True)
    assert counts(lake) == {"trades": 15, "quotes": 15}


def test_replace_takes_out_the_whole_chain_of_a_grown_file(lake: Lake, tmp_path: Path) -> None:
    other = write(tmp_path / "other.csv", lines(500, 600, symbol="ZZZ"))
    ingest(lake, other, mixed(tmp_path))
    path = tmp_path / "a.csv"
    for last in (100, 150, 200):
        rows = [*lines(0, 60), "T,x,A,1,1,1", *lines(60, last)]
        ingest(lake, write(path, rows), mixed(tmp_path), append_grown=True)
    assert counts(lake) == {"trades": 150, "quotes": 150, "dead_letter": 1}
    receipt = ingest(lake, path, mixed(tmp_path), {"venue": "FXCM"}, replace=True)
    assert (receipt.rows, receipt.rejected) == (200, 1)
    assert counts(lake) == {"trades": 150, "quotes": 150, "dead_letter": 1}
    trades = rows_of(lake, "trades")
    assert dict(trades.group_by("venue").len().iter_rows()) == {"FXCM": 100, "BINANCE": 50}
    assert trades.filter(venue="FXCM")["source"].n_unique() == 1
    assert len(rows_of(lake, "dead_letter")["source"].unique()) == 1
    assert ingest(lake, path, mixed(tmp_path), {"venue": "FXCM"}).rows == 0


def test_replace_after_growth_without_having_appended(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 100))
    ingest(lake, path, mixed(tmp_path))
    write(path, lines(0, 130))
    assert ingest(lake, path, mixed(tmp_path), replace=True).rows == 130
    assert counts(lake) == {"trades": 65, "quotes": 65}


def test_replace_is_one_snapshot_a_table_and_other_tables_are_emptied(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*lines(0, 300), "T,x,A,1,1,1"])
    ingest(lake, path, mixed(tmp_path))
    trades_only = tmp_path / "trades-only.toml"
    first, second = MIXED.split('[[route]]\ntable = "quotes"')
    trades_only.write_text(first + second[second.index("[skip]") :])
    receipt = ingest(lake, path, str(trades_only), replace=True)
    assert counts(lake) == {"trades": 150, "dead_letter": 1}
    assert receipt.skipped == {"Q": 150}
    assert [len(lake.ancestors(name)) for name in ("trades", "quotes", "dead_letter")] == [2, 2, 2]
    assert ingest(lake, path, str(trades_only)).rows == 0
    ingest(lake, path, mixed(tmp_path), replace=True)
    assert counts(lake) == {"trades": 150, "quotes": 150, "dead_letter": 1}


def test_replace_of_something_new_is_a_plain_load(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    receipt = ingest(lake, path, mixed(tmp_path), replace=True)
    assert_accounted(receipt)
    assert lake.provenance("trades")[0].replaced == ()
    before = content(lake, "trades")
    ingest(lake, path, mixed(tmp_path), replace=True)
    assert content(lake, "trades") == before


def test_a_replace_that_comes_to_nothing_takes_nothing_out(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        MIXED.replace('column = "time", unit = "ns"', 'column = "time", layout = "%Y-%m-%d", zone = "UTC"')
    )
    with pytest.raises(FileFault, match="no row was accepted"):
        ingest(lake, path, str(wrong), replace=True)
    assert counts(lake) == {"trades": 5, "quotes": 5}


def test_one_member_replaced_leaves_the_rest_of_its_zip(tmp_path: Path) -> None:
    """Rows of several sources share a data file; only those of one go."""
    import zipfile

    lake = Lake.open(Settings(home=tmp_path / "lake"), create=True)
    parts = {name: lines(0, 40, symbol=name) for name in ("A", "B", "C")}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, rows in parts.items():
            archive.writestr(f"{name}.csv", "".join(row + "\n" for row in rows))
    ingest(lake, tmp_path / "all.zip", mixed(tmp_path))
    assert len(lake.files("trades", lake.head("trades")).files) == 1
    ingest(lake, write(tmp_path / "b.csv", parts["B"]), mixed(tmp_path), {"venue": "FXCM"}, replace=True)
    venues = rows_of(lake, "quotes").group_by("symbol", "venue").len().sort("symbol").rows()
    assert venues == [("A", "BINANCE", 20), ("B", "FXCM", 20), ("C", "BINANCE", 20)]
