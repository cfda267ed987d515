"""Drafts of profiles: they load, and plain files decode by them as they are."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2kernel.errors import FileFault
from k2kernel.ingest.suggest import suggest
from tests.decoding import Decoding, dec, decode, profile_of, utc


def drafted(folder: Path, path: Path, **options: str) -> Decoding:
    return decode(profile_of(folder, suggest(path), "draft"), path, lookup=None, **options)


def test_a_plain_headered_file_works_as_drafted(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv.gz"
    rows = "2024-03-04T10:00:00.5Z;ABC;XASX;12.50;100;B;7\n2024-03-04T10:00:01Z;ABC;XASX;12.51;;S;8\n"
    path.write_bytes(gzip.compress(("Timestamp;Ticker;MIC;Last Price;Qty;Side;Comment\n" + rows).encode()))
    done = drafted(tmp_path, path)
    assert done.column("symbol") == ["ABC", "ABC"]
    assert done.column("ts_event")[0] == utc(2024, 3, 4, 10, 0, 0, 500000)
    assert done.column("price") == dec("12.50", "12.51")
    assert done.column("size") == dec("100", None)
    assert done.column("side") == ["buy", "sell"]
    assert json.loads(done.column("extra")[0]) == {"Comment": "7"}
    assert not done.rejected


def test_quotes_with_local_times_say_what_to_check(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("# made by x\nDate|Time|Sym|Bid|Ask|BidSize|AskSize\n03/04/2024|10:00:00.123|A|1.5|1.6|1|2\n")
    text = suggest(path)
    assert 'zone = "UTC"' in text
    assert "CHECK: whose local time it is" in text
    assert "give --venue" in text
    done = drafted(tmp_path, path, venue="XASX")
    assert done.column("ts_event", "quotes") == [utc(2024, 3, 4, 10, 0, 0, 123000)]
    assert done.column("ask_sz", "quotes") == dec("2")


def test_a_log_of_json_with_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "log.ndjson"
    lines = [f'17231612539370857{n:02} {{"d":{{"s":"X","p":"1.{n}","q":{n},"T":172316125393{n}}}}}' for n in range(5)]
    path.write_text("\n".join(lines))
    done = drafted(tmp_path, path, venue="BINANCE")
    assert done.column("price") == dec(*(f"1.{n}" for n in range(5)))
    assert done.column("ts_recv_ns")[0] == 1_723_161_253_937_085_700
    assert done.column("ts_event")[1] == utc(2024, 8, 8, 23, 54, 13, 931000)


def test_columns_without_names_are_guessed_by_their_values(tmp_path: Path) -> None:
    path = tmp_path / "20240304.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20240304_x.csv", "".join(f"{n * 1000},1.{n:04},1.{n + 1:04}\n" for n in range(20)))
    assert "# CHECK: columns without a telling name" in suggest(path)
    done = drafted(tmp_path, path, symbol="X", venue="FXCM")
    assert done.column("ts_event", "quotes")[1] == utc(2024, 3, 4, 0, 0, 1)
    assert done.column("ask_px", "quotes")[0] == dec("1.0001")[0]


def test_printed_floats_get_a_tick(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        "time,symbol,price\n" + "".join(f"2024-03-04T10:00:00Z,A,{price!r}\n" for price in (7.4, 7.1 + 0.2, 0.1 + 0.2))
    )
    assert 'tick = "0.1"' in suggest(path)
    assert drafted(tmp_path, path, venue="XASX").column("price") == dec("7.4", "7.3", "0.3")


def test_parquet_and_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    times = pa.array([1_709_546_400_000_000], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"ts_event": times, "symbol": ["A"], "venue": ["XASX"], "price": [1.5]}), path)
    assert drafted(tmp_path, path).column("price") == dec("1.5")
    path = tmp_path / "zh.csv"
    path.write_bytes("time,代码,price\n2024-03-04T10:00:00Z,甲,1\n".encode("gbk"))
    assert 'encoding = "gbk"' in suggest(path)
    assert drafted(tmp_path, path, venue="XSHG", symbol="1").column("price") == dec("1")


PRICES = {
    "zeros behind nine decimals": (",", ["175.200000000", "175.250000000"], ["175.2", "175.25"]),
    "a comma behind a zero": (";", ["0,125", "0,250"], ["0.125", "0.25"]),
    "three decimals behind a comma": (";", ["12,345", "12,346"], ["12.345", "12.346"]),
    "thousands in quotes": (",", ['"12,345"', '"1,002.5"'], ["12345", "1002.5"]),
    "blanks around": (",", ["   1.5", " 12.5 "], ["1.5", "12.5"]),
}


@pytest.mark.parametrize("kind", PRICES)
def test_numbers_as_they_are_written(tmp_path: Path, kind: str) -> None:
    delimiter, texts, numbers = PRICES[kind]
    lines = [["time", "symbol", "price"], *(["2024-03-04T10:00:00Z", "A", text] for text in texts)]
    (tmp_path / "x.csv").write_text("".join(delimiter.join(line) + "\n" for line in lines))
    assert drafted(tmp_path, tmp_path / "x.csv", venue="XASX").column("price") == dec(*numbers)


def test_exact_decimals_are_no_printed_floats(tmp_path: Path) -> None:
    """A tick that a few lines suggest would reject the finer prices of the lines after them."""
    (tmp_path / "x.csv").write_text("time,symbol,price\n2024-03-04T10:00:00Z,A,175.200000000\n")
    assert "tick" not in suggest(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("time,symbol,price\n2024-03-04T10:00:00Z,A,175200000000\n")
    assert "is a scale missing?" in suggest(tmp_path / "x.csv")


@pytest.mark.parametrize("text", ['"[12, 37]"', "\"['12', '37']\"", '"[""12"",""37""]"', '"12,37"', "12;37"])
def test_conditions_however_they_are_listed(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(f"time,symbol,price,conditions\n2024-03-04T10:00:00Z,A,1,{text}\n")
    assert drafted(tmp_path, tmp_path / "x.csv", venue="XASX").column("conditions") == [["12", "37"]]


BARS = {
    "by name": "time,symbol,open,high,low,close,volume\n|2024-03-04T10:{0:02}:00Z,A,1.5,1.6,1.4,1.5,{0}\n",
    "in brackets": "<TICKER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>\n|A,20240304,10{0:02}00,15,17,14,1{0}\n",
    "by value": "|17101152000{0:02},68000.01,68010.{0:02},67990.0,68005.{0:02},12.5,17101152599{0:02},85.1,5{0:02}\n",
}


@pytest.mark.parametrize("kind", BARS)
def test_bars_are_said_to_be_no_ticks(tmp_path: Path, kind: str) -> None:
    head, _, line = BARS[kind].rpartition("|")
    (tmp_path / "x.csv").write_text(head + "".join(line.format(number) for number in range(20)))
    with pytest.raises(FileFault, match=r"holds bars, with .* as open, high, low and close"):
        suggest(tmp_path / "x.csv")


def test_what_cannot_be_read_is_rejected_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("symbol,time,price,size\nA,45362.5 Mon,$1.50,1 000\n")
    text = suggest(tmp_path / "x.csv")
    for told in ("how '45362.5 Mon' says a time", "'$1.50' is no plain number", "'1 000' is no plain number"):
        assert f"CHECK: {told}" in text
    (fault,) = drafted(tmp_path, tmp_path / "x.csv", venue="XASX").rejected
    for name in ("ts_event", "price", "size"):
        assert f"{name}: " in fault["reason"]


def test_a_word_among_prices_is_rejected_and_leaves_the_prices(tmp_path: Path) -> None:
    rows = "".join(f"2024-03-04T10:00:00Z,A,{price}\n" for price in ("1.5", "N/A", "1.6"))
    (tmp_path / "x.csv").write_text("time,symbol,price\n" + rows)
    assert "CHECK: 'N/A' is no plain number" in suggest(tmp_path / "x.csv")
    done = drafted(tmp_path, tmp_path / "x.csv", venue="XASX")
    assert (done.column("price"), len(done.rejected)) == (dec("1.5", "1.6"), 1)


def test_files_that_were_put_together_have_their_header_again(tmp_path: Path) -> None:
    part = "time,symbol,price\n2024-03-04T10:00:00Z,A,1.5\n"
    (tmp_path / "x.csv").write_text(part * 3)
    assert "# CHECK: the header is there again" in suggest(tmp_path / "x.csv")
    done = drafted(tmp_path, tmp_path / "x.csv", venue="XASX")
    assert (done.column("price"), len(done.rejected)) == (dec("1.5") * 3, 2)


def test_what_was_not_found_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("time,symbol\n2024-03-04T10:00:00Z,A\n")
    text = suggest(tmp_path / "x.csv")
    assert "# CHECK: no column of prices was found" in text
    assert "# CHECK: no column of sizes was found" in text


def test_events_that_are_no_trades_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = "".join(f"2024-03-04T10:00:00Z,{kind},1.5,10\n" for kind in ("TRADE", "BID", "ASK"))
    (tmp_path / "x.csv").write_text("Time,Type,Value,Size\n" + rows)
    assert "only rows that are trades by Type are taken" in suggest(tmp_path / "x.csv")
    done = drafted(tmp_path, tmp_path / "x.csv", symbol="A", venue="XASX")
    assert done.column("price") == dec("1.5")
    assert done.skipped == {"BID": 1, "ASK": 1}


@pytest.mark.parametrize(
    "names", ["bids[0].price,asks[0].price,bids[0].amount,asks[0].amount", "bid_px,ask_px,bid_sx,ask_sx"]
)
def test_the_best_level_of_a_book(tmp_path: Path, names: str) -> None:
    (tmp_path / "x.csv").write_text(f"time,symbol,{names}\n2024-03-04T10:00:00Z,A,1.5,1.6,10,20\n")
    assert drafted(tmp_path, tmp_path / "x.csv", venue="XASX").column("ask_sz", "quotes") == dec("20")


TIMES = {
    "an offset of hours": ("2024-03-11 14:30:{0:02}.5+00", ""),
    "UTC behind it": ("2024-03-11 14:30:{0:02}.5 UTC", ""),
    "an offset from GMT": ("11.03.2024 15:30:{0:02}.500 GMT+0100", ""),
    "ISO without marks": ("20240311T1430{0:02}.5Z", ""),
    "the name of a month": ("11-Mar-2024 14:30:{0:02}.5", "whose local time"),
    "a year of two digits": ("14:30:{0:02}.5,13/03/24", "whose local time"),
    "day or month": ("14:30:{0:02}.5,03/11/2024", "whether day or month comes first"),
    "no zero before the hour": ("930{0:02}500,20240311", "whose local time"),
    "a zero-padded hour": ("1430{0:02}500,20240311", "whose local time"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_many_kinds(tmp_path: Path, kind: str) -> None:
    form, check = TIMES[kind]
    lines = [form.format(second) for second in range(20)]
    names = "time,date" if "," in form else "time"
    path = tmp_path / "x.csv"
    path.write_text(f"{names},symbol,price\n" + "".join(f"{line},A,1.5\n" for line in lines))
    done = drafted(tmp_path, path, venue="XASX")
    hour, minute = (9, 30) if lines[0].startswith("9") else (14, 30)
    day = 13 if "13/03" in form else 11
    assert done.column("ts_event") == [utc(2024, 3, day, hour, minute, second, 500_000) for second in range(20)]
    told = next(line for line in suggest(path).splitlines() if line.startswith("ts_event"))
    assert check in told if check else "CHECK" not in told


ENCODED = {
    "utf-16": "MÜV2",
    "utf-16-le": "MÜV2",
    "utf-16-be": "MÜV2",
    "utf-32": "MÜV2",
    "cp1252": "MÜV2",
    "gbk": "平安银行",
    "utf-8-sig": "MÜV2",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    name = ENCODED[encoding]
    (tmp_path / "x.csv").write_bytes(f"time,symbol,price\n2024-03-04T10:00:00Z,{name},1\n".encode(encoding))
    assert drafted(tmp_path, tmp_path / "x.csv", venue="XASX").column("symbol") == [name]


JSON = {
    "an array": ('[{{"time":"2024-03-04T10:00:00Z","price":{0}}},\n', "has no object in each line"),
    "an array in one line": ('[{{"time":"2024-03-04T10:00:00Z","price":{0}}}]', "has no object in each line"),
    "spread over lines": ('{{\n "time": "2024-03-04T10:00:00Z",\n "price": {0}\n}}\n', "has no object in each line"),
    "carriage returns": ("time,symbol,price\r2024-03-04T10:00:00Z,A,{0}\r", "its lines end in carriage returns alone"),
}


@pytest.mark.parametrize("kind", JSON)
def test_what_has_no_rows_as_lines_says_so(tmp_path: Path, kind: str) -> None:
    form, told = JSON[kind]
    (tmp_path / "x.json").write_text(form.format(1))
    with pytest.raises(FileFault, match=told):
        suggest(tmp_path / "x.json")


LAYOUTS = {
    "EURUSD-ticks.csv": ("EUR/USD,20240311 14:30:{0:02},1.1{0:04},1.101\n", "quotes ask_px 1.101"),
    "histdata.csv": ("20240311 1430{0:02}000,1.1{0:04},1.1{0:04},0\n", "quotes bid_px 1.10007"),
    "epoch.csv": ("1710167{0:03}.25,68000.1{0},0.5\n", "trades size 0.5"),
    "kdb.csv": ("date,time,sym,price,size\n|2024.03.11,14:30:{0:02}.5,A,1{0},2\n", "trades price 17"),
    "d.csv": ("timestamp,symbol,price,trdMatchID\n|2024-03-11D14:30:{0:02}.5,XBT,1{0},a-{0}\n", "trades trade_id a-7"),
    "us.csv": ('Symbol,Time,Price\n|IBM,3/11/2024 2:30:{0:02} PM,"1,0{0:02}.5"\n', "trades price 1007.5"),
    "de.csv": ("Datum;Zeit;ISIN;Kurs;Stück\n|11.03.2024;14:30:{0:02},5;DE000;1.100,5{0};1.10{0}\n", "trades size 1107"),
    "boerse.csv": ("Zeit;Geld;Brief\n|11.03.2024 14:30:{0:02},5;1.1{0:02},5;1.1{0:02},6\n", "quotes ask_px 1107.6"),
    "jp.tsv": ("コード\t日付\t時刻\t約定値\n|7203\t2024/03/11\t14:30:{0:02}\t25{0:02}\n", "trades price 2507"),
    "x_20240311_34200000_1.csv": ("523{0:02}.5,1.{0:02},3\n", "trades price 1.07"),
}
"""A header and a line of each kind of file, with the table and a value of the eighth row."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_many_vendors_decode_as_drafted(tmp_path: Path, name: str) -> None:
    form, told = LAYOUTS[name]
    table, column, value = told.split()
    head, _, line = form.rpartition("|")
    path = tmp_path / name
    path.write_text(head + "".join(line.format(number) for number in range(20)), encoding="utf-8")
    done = drafted(tmp_path, path, symbol="A", venue="XASX")
    assert not done.rejected
    assert [when.date() for when in done.column("ts_event", table)] == [date(2024, 3, 11)] * 20
    assert str(done.column(column, table)[7]).removesuffix("0").rstrip("0").rstrip(".") == value


def test_trades_and_quotes_in_one_file_go_to_their_tables(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    rows = "BHP,2024-03-11T00:30:00Z,Trade,1.5,10,,\nBHP,2024-03-11T00:30:01Z,Quote,,,1.4,1.6\n"
    path.write_text("#RIC,Date-Time,Type,Price,Volume,Bid Price,Ask Price\n" + rows * 3)
    done = drafted(tmp_path, path, venue="XASX")
    assert done.column("price") == dec("1.5") * 3
    assert done.column("ask_px", "quotes") == dec("1.6") * 3


def test_a_date_that_may_be_the_other_way_round_is_to_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for day, unsure in (("03/04/2024", True), ("03/14/2024", False), ("14/03/2024", False)):
        path.write_text(f"time,symbol,price\n{day} 10:00:00,A,1\n")
        assert ("whether day or month comes first" in suggest(path)) == unsure


def test_nothing_to_see(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\n\n")
    with pytest.raises(FileFault, match="has no rows"):
        suggest(path)


def test_real_files(tmp_path: Path, shared_data: Path) -> None:
    files = [path for path in shared_data.glob("*/raw/**/*.*") if path.is_file() and path.stat().st_size > 100]
    assert files
    for path in files:
        profile_of(tmp_path, suggest(path), "draft")
