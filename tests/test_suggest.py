"""Drafts of profiles: they load, and plain files decode by them as they are."""

from __future__ import annotations

import gzip
import json
import zipfile
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
