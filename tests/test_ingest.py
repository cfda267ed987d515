"""Files in: every line accounted for, every row once, every bad row kept apart, every unusable file refused whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import k2kernel as k2
from k2kernel import profiles
from k2kernel.config import Settings
from k2kernel.errors import AlreadyIngested, FileFault
from k2kernel.ingest import ingest_file
from k2kernel.lake import Lake
from k2kernel.sample import generate
from k2kernel.sources import files as source_files
from tests.ingest_files import (
    BASE,
    HEADER,
    MIXED,
    assert_no_orphans,
    content,
    counts,
    fingerprint,
    ingest,
    lines,
    mixed,
    rows_of,
    write,
)
from tests.support import ROOT


def test_every_row_lands_once_in_its_table(lake: Lake, tmp_path: Path) -> None:
    rows = ["# a comment", *lines(0, 40, "TQBX"), "", "END of file"]
    receipt = ingest(lake, write(tmp_path / "a.csv", rows), mixed(tmp_path))
    assert counts(lake) == {"trades": 20, "quotes": 20}
    assert (receipt.lines, receipt.fanout, receipt.rows, receipt.rejected) == (43, 10, 40, 0)
    assert receipt.skipped == {"comment": 1, "X": 10, "blank": 1, "trailer": 1}
    assert receipt.tables["trades"].snapshot_id == lake.head("trades")
    assert receipt.snapshot_id is None, "two tables were written"
    trades = rows_of(lake, "trades").sort("sequence")
    assert trades["sequence"].to_list() == [n for n in range(40) if n % 4 in (0, 2)]
    assert trades["price"].to_list() == [Decimal(f"{n}.5") for n in trades["sequence"]]
    assert trades["source_offset"].to_list() == [n + 2 for n in trades["sequence"]]
    assert trades["ts_event_ns"].to_list() == [BASE + n * 1_000 for n in trades["sequence"]] or trades[
        "ts_event"
    ].dt.timestamp("us").to_list() == [BASE // 1_000 + n for n in trades["sequence"]]
    assert len({*trades["source"], *rows_of(lake, "quotes")["source"]}) == 1


def test_the_same_content_adds_nothing_whatever_it_is_called_or_packed(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*lines(0, 400), "T,never,AAA,1,1,1"])
    ingest(lake, path, mixed(tmp_path))
    heads = {name: lake.head(name) for name in ("trades", "quotes", "dead_letter")}
    before = {name: content(lake, name) for name in heads}
    packed = {
        "b.csv": path.read_bytes(),
        "c.gz": gzip.compress(path.read_bytes()),
        "d.bz2": bz2.compress(path.read_bytes()),
        "e.xz": lzma.compress(path.read_bytes()),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        receipt = ingest(lake, tmp_path / name, mixed(tmp_path))
        assert (receipt.rows, receipt.duplicate, receipt.rejected) == (0, 401, 0)
        assert "there already" in str(receipt)
    assert {name: lake.head(name) for name in heads} == heads
    assert {name: content(lake, name) for name in heads} == before
    assert_no_orphans(lake)


def test_rows_that_repeat_another_byte_for_byte_all_survive(lake: Lake, tmp_path: Path) -> None:
    fill = "2024-03-04T15:00:00.001Z,BHP,XASX,,1.5,100,"
    path = tmp_path / "a.csv"
    path.write_text(HEADER + f"{fill}\n" * 500)
    assert ingest(lake, path, "k2-trades").rows == 500
    assert ingest(lake, path, "k2-trades").duplicate == 500
    trades = rows_of(lake, "trades")
    assert trades["source_offset"].sort().to_list() == list(range(2, 502))
    assert trades.drop("source_offset", "sequence").unique().height == 1


@pytest.mark.parametrize("file", ["trades/7078.csv", "trades/7181.csv"])
def test_real_repeats_survive_one_load_and_a_second_adds_none(lake: Lake, shared_data: Path, file: str) -> None:
    path = shared_data / "asx-2014-03" / "raw" / file
    texts = path.read_bytes().splitlines()
    receipt = ingest(lake, path, "asx-trades", {"symbol": "X"})
    assert receipt.rows == len(texts) == len(rows_of(lake, "trades"))
    again = ingest(lake, path, "asx-trades", {"symbol": "X"})
    assert (again.rows, again.duplicate) == (0, len(texts))
    assert len(rows_of(lake, "trades")) == len(texts)
    if file.endswith("7078.csv"):
        assert len(texts) - len(set(texts)) > 3_000


@pytest.mark.parametrize(
    ("profile", "values"), [("mixed", {"venue": "FXCM"}), ("other", {}), ("other", {"venue": "FXCM"})]
)
def test_the_same_content_asked_for_otherwise_is_refused(
    lake: Lake, tmp_path: Path, profile: str, values: dict[str, str]
) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10))
    ingest(lake, path, mixed(tmp_path))
    other = tmp_path / "other.toml"
    other.write_text(MIXED.replace('size = { column = "b" }', 'size = { column = "a" }'))
    before = content(lake, "trades")
    with pytest.raises(AlreadyIngested, match=r"trades already, loaded as --profile mixed, now asked for .*--replace"):
        ingest(lake, path, str(tmp_path / f"{profile}.toml"), values)
    assert content(lake, "trades") == before


def test_a_profile_for_other_tables_is_refused_too(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 10, "T"))
    ingest(lake, path, mixed(tmp_path))
    other = tmp_path / "other.toml"
    other.write_text(
        MIXED.replace('table = "trades"', 'table = "quotes"').replace("price", "ask_px").replace("size", "ask_sz")
    )
    with pytest.raises(AlreadyIngested):
        ingest(lake, path, str(other))


BY_PATH = MIXED.replace('symbol = { column = "symbol" }', r"symbol = { path = '([A-Z]+)\.csv' }")


def test_what_the_path_says_is_part_of_what_was_asked_for(lake: Lake, tmp_path: Path) -> None:
    profile = mixed(tmp_path, BY_PATH)
    ingest(lake, write(tmp_path / "AAA.csv", lines(0, 10)), profile)
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns(".k2"))
    assert ingest(lake, tmp_path / "copy" / "AAA.csv", profile).duplicate == 10
    with pytest.raises(
        AlreadyIngested, match=r"with symbol AAA by its path, now asked for .* with symbol BBB by its path"
    ):
        ingest(lake, write(tmp_path / "BBB.csv", lines(0, 10)), profile)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for name in ("CCC.csv", "DDD.csv"):
            archive.writestr(name, "\n".join(lines(50, 60)))
    with pytest.raises(FileFault, match=r"DDD\.csv: has the content of .*CCC\.csv, and its path says something else"):
        ingest(lake, tmp_path / "both.zip", profile)
    assert counts(lake) == {"trades": 5, "quotes": 5}


def test_bad_rows_are_kept_with_their_line_text_and_reason(lake: Lake, tmp_path: Path) -> None:
    good = "2024-03-04T15:00:00Z,BHP,XASX,1,1.5,100,a;b"
    bad = {
        3: ("2024-03-04T15:00:00Z,BHP,XASX,1,1.5", "ragged", "has 5 fields, not 7"),
        5: ("yesterday,BHP,XASX,1,1.5,100,", "value", "ts_event"),
        6: ("2024-03-04T15:00:00Z,BHP,XASX,1,12345678901.5,100,", "value", "price"),
        8: ("2024-03-04T15:00:00Z,BHP,XASX,1,0.123456789,100,", "value", "price"),
        9: ("2024-03-04T15:00:00Z,BHP,NOWHERE,1,1.5,100,", "value", "venue"),
        11: ("2024-03-04T15:00:00Z,BHP,XASX,1,1.5,100,a,b", "ragged", "has 8 fields, not 7"),
        12: ('2024-03-04T15:00:00Z,"BHP,XASX,1,1.5,100,', "text", "quote"),
    }
    undecodable = b"2024-03-04T15:00:00Z,B\xff,XASX,1,1.5,100,\r"
    texts = [bad[n][0].encode() if n in bad else good.encode() for n in range(2, 500)]
    texts[18] = undecodable
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER.encode() + b"\n".join(texts) + b"\n")
    receipt = ingest(lake, path, "k2-trades", max_rejects=0.02)
    assert (receipt.lines, receipt.rows, receipt.rejected) == (498, 490, 8)
    letters = {row["source_offset"]: row for row in rows_of(lake, "dead_letter").to_dicts()}
    assert letters.keys() == bad.keys() | {20}
    for line, (text, error, reason) in bad.items():
        assert (letters[line]["raw"], letters[line]["error"]) == (text.encode(), error)
        assert reason in letters[line]["reason"]
        assert letters[line]["target"] == ("trades" if error == "value" else None)
    assert letters[20]["raw"] == undecodable
    assert {row["attempt"] for row in letters.values()} == {1}
    trades = rows_of(lake, "trades")
    assert set(trades["source_offset"]) == set(range(2, 500)) - letters.keys()
    assert {row["source"] for row in letters.values()} == set(trades["source"])


def test_rejects_are_visible_before_the_rows(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, write(tmp_path / "a.csv", [*lines(0, 300), "T,x,x,x,x,x"]), mixed(tmp_path))
    (rejects,), (rows,) = lake.provenance("dead_letter"), lake.provenance("trades")
    assert rejects.committed_at is not None
    assert rows.committed_at is not None
    assert rejects.committed_at <= rows.committed_at


def test_a_file_that_says_that_it_has_no_records_is_fine(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["NO RECORDS TO REPORT"])
    for _ in range(2):
        receipt = ingest(lake, path, mixed(tmp_path))
        assert (receipt.rows, receipt.skipped, receipt.lines) == (0, {"no_records": 1}, 1)
    assert lake.head("trades") is None


def _zip(path: Path, **members: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in members.items():
            archive.writestr(f"{name}.csv", "".join(row + "\n" for row in rows))
    return path


def test_a_zip_is_one_commit_a_table_and_each_member_a_source(lake: Lake, tmp_path: Path) -> None:
    a, b = lines(0, 30, symbol="A"), lines(0, 40, symbol="B")
    ingest(lake, write(tmp_path / "a.csv", a), mixed(tmp_path))
    path = _zip(
        tmp_path / "all.zip", a=a, b=b, again=b, none=["NO RECORDS"], c=[*lines(0, 200, "T", "C"), "T,x,C,1,1,1"]
    )
    receipt = ingest(lake, path, mixed(tmp_path))
    assert (receipt.rows, receipt.duplicate, receipt.rejected) == (240, 30, 1)
    assert receipt.notes == (f"{path}!again.csv is the same as {path}!b.csv: read once",)
    assert counts(lake) == {"trades": 15 + 20 + 200, "quotes": 15 + 20, "dead_letter": 1}
    assert [len(lake.ancestors(name)) for name in ("trades", "quotes", "dead_letter")] == [2, 2, 1]
    assert [source.name for source in lake.provenance("quotes")[-1].sources] == [f"{path}!b.csv"]
    again = ingest(lake, path, mixed(tmp_path))
    assert (again.rows, again.duplicate) == (0, 271)


def test_one_bad_member_refuses_the_whole_zip(lake: Lake, tmp_path: Path) -> None:
    for bad in (["T,x,C,1,1,1"] * 3, ["X,1,C,1,1,1"], []):
        path = _zip(tmp_path / "all.zip", a=lines(0, 3_000, symbol="A"), bad=bad)
        with pytest.raises(FileFault, match=r"all\.zip!bad\.csv"):
            ingest(lake, path, mixed(tmp_path))
    assert counts(lake) == {}
    assert_no_orphans(lake)


def test_members_that_begin_with_another_are_refused(lake: Lake, tmp_path: Path) -> None:
    path = _zip(tmp_path / "all.zip", at_nine=lines(0, 30), at_ten=lines(0, 60))
    with pytest.raises(FileFault, match=r"at_ten\.csv: begins with all of .*at_nine\.csv"):
        ingest(lake, path, mixed(tmp_path))
    ingest(lake, write(tmp_path / "a.csv", lines(0, 30)), mixed(tmp_path))
    assert ingest(lake, path, mixed(tmp_path), append_grown=True).rows == 30
    assert counts(lake) == {"trades": 30, "quotes": 30}
    assert ingest(lake, path, mixed(tmp_path)).rows == 0


def test_a_rolled_back_file_loads_again_where_it_is_missing(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, write(tmp_path / "a.csv", lines(0, 10)), mixed(tmp_path))
    first = lake.head("trades")
    path = write(tmp_path / "b.csv", [*lines(100, 300), "Q,x,A,1,1,1"])
    ingest(lake, path, mixed(tmp_path))
    before = {name: content(lake, name) for name in ("trades", "quotes", "dead_letter")}
    assert first is not None
    lake.rollback("trades", first)
    receipt = ingest(lake, path, mixed(tmp_path))
    assert (receipt.rows, receipt.duplicate, receipt.rejected) == (100, 101, 0)
    assert {name: content(lake, name) for name in before} == before
    assert ingest(lake, path, mixed(tmp_path)).rows == 0


def test_ts_ingest_never_decreases_along_commits(lake: Lake, tmp_path: Path) -> None:
    for n in range(4):
        ingest(lake, write(tmp_path / f"{n}.csv", lines(n * 10, n * 10 + 10)), mixed(tmp_path))
    times = [by.ts_ingest for by in lake.provenance("trades")]
    assert times == sorted(times)
    assert set(rows_of(lake, "trades")["ts_ingest"]) == set(times)


def test_a_small_buffer_makes_several_sorted_files_a_session_and_loses_nothing(tmp_path: Path) -> None:
    paths = generate(tmp_path / "sample", rows=6_000, sessions=2, symbols=6)
    small = Lake.open(Settings(home=tmp_path / "small", ingest_buffer_rows=1_000), create=True)
    large = Lake.open(Settings(home=tmp_path / "large"), create=True)
    for path in paths[:-1]:
        for lake in (small, large):
            ingest(lake, path, "k2-trades" if path.name.startswith("trades") else "k2-quotes")
    files = small.files("trades", small.head("trades")).files
    assert Counter(file.session for file in files).most_common(1)[0][1] > 1
    for file in files:
        frame = pl.read_parquet(file.path, hive_partitioning=False)
        keys = frame.select("symbol", "ts_event", "ts_event_ns", "venue", "sequence", "source", "source_offset")
        assert keys.equals(keys.sort(keys.columns, maintain_order=True))
        assert frame["session"].unique().to_list() == [file.session]
    for table in ("trades", "quotes"):
        assert fingerprint(small, table) == fingerprint(large, table)
        assert len(rows_of(small, table)) == 6_000


def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", [*lines(0, 300, "TQBX"), "T,x,A,1,1,1", *lines(300, 310), "END"], "\r\n")
    seen = []
    for nbytes in (400, 4_097, 1 << 24):
        monkeypatch.setattr(source_files, "BLOCK_BYTES", nbytes)
        lake = Lake.open(Settings(home=tmp_path / str(nbytes)), create=True)
        ingest(lake, path, mixed(tmp_path))
        seen.append([fingerprint(lake, table) for table in ("trades", "quotes", "dead_letter")])
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("packing", ["plain", "gz", "zip"])
def test_progress_adds_up(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str) -> None:
    monkeypatch.setattr(source_files, "BLOCK_BYTES", 5_000)
    path = write(tmp_path / "a.csv", ["# one", *lines(0, 1_000), "END"])
    data = path.read_bytes()
    if packing == "gz":
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(data))
    if packing == "zip":
        path = _zip(tmp_path / "a.zip", a=["# one", *lines(0, 1_000), "END"])
    told: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def tell(file: str, phase: str, nbytes: int, total: int) -> None:
        told.setdefault((file, phase), []).append((nbytes, total))

    ingest_file(lake, path, profiles.load(mixed(tmp_path)), progress=tell)
    name = f"{path}!a.csv" if packing == "zip" else str(path)
    assert list(told) == [(name, "checking"), (name, "loading")]
    for (_, phase), steps in told.items():
        known = phase == "loading" or packing != "gz"
        assert sum(nbytes for nbytes, _ in steps) == len(data)
        assert {total for _, total in steps} == {len(data) if known else 0}
        assert len(steps) > 3


def test_the_workbench_takes_paths_globs_and_makes_the_lake(tmp_path: Path) -> None:
    for n in range(3):
        write(tmp_path / f"{n}.csv", lines(n * 10, n * 10 + 10))
    bench = k2.connect(tmp_path / "lake")
    receipt = bench.ingest([tmp_path / "[01].csv", tmp_path / "2.csv"], mixed(tmp_path), progress=True)
    assert (receipt.rows, len(receipt.files)) == (30, 3)
    with pytest.raises(FileFault, match="matches no file"):
        bench.ingest(tmp_path / "*.parquet", mixed(tmp_path))
    assert bench.ingest(tmp_path / "1.csv", mixed(tmp_path), replace=True, venue="FXCM").rows == 10
    assert set(rows_of(bench.lake, "trades")["venue"]) == {"BINANCE", "FXCM"}


PRINT = """
import sys
from pathlib import Path
from k2kernel.config import Settings
from k2kernel.lake import Lake
from tests.ingest_files import fingerprint, ingest
lake = Lake.open(Settings(home=Path(sys.argv[1])), create=True)
ingest(lake, Path(sys.argv[2]), sys.argv[3])
print(fingerprint(lake, "trades"), end="")
"""


def test_the_host_zone_does_not_matter(tmp_path: Path) -> None:
    hours = [
        (f"2024-{day}T{hour:02d}:30:00{zone}", zone)
        for day in ("04-06", "04-07", "10-05", "10-06", "03-10", "11-03")
        for hour in range(24)
        for zone in ("Z", "+11:00", "-04:00")
    ]
    path = tmp_path / "a.csv"
    rows = [
        f"{time},BHP,{venue},,1.5,{n},\n" for n, (time, _) in enumerate(hours) for venue in ("XASX", "XNYS", "FXCM")
    ]
    path.write_text(HEADER + "".join(rows))
    started = []
    for number, zone in enumerate(("UTC", "Australia/Sydney", "America/New_York")):
        args = [sys.executable, "-c", PRINT, str(tmp_path / str(number)), str(path), "k2-trades"]
        started.append(subprocess.Popen(args, env=os.environ | {"TZ": zone}, cwd=ROOT, stdout=subprocess.PIPE))
    printed = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(printed) == 1
    frame = rows_of(Lake.open(Settings(home=tmp_path / "1")), "trades")
    sydney = frame.filter(pl.col("venue") == "XASX")
    local = sydney["ts_event"].dt.convert_time_zone("Australia/Sydney").dt.date()
    assert sydney["session"].to_list() == local.to_list()
    evening = frame.filter(
        (pl.col("venue") == "FXCM") & (pl.col("ts_event") == datetime(2024, 3, 10, 21, 30, tzinfo=UTC))
    )
    assert set(evening["session"]) == {date(2024, 3, 11)}, "17:30 in New York, whose clocks had gone forward that day"
