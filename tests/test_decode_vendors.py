"""Three vendor layouts that no one ships, read by TOML alone; together they use all that a profile can say."""

from __future__ import annotations

import json
import zipfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.decoding import dec, decode, decode_text, profile_of, utc

HANZI = """
title = "Hanzi: Chinese ticks in GBK"
notes = "an invented vendor"

[file]
encoding = "gbk"
delimiter = ";"
quote = "'"
skip_lines = 2
comment = "//"
trailer = 'TOTAL\\s+\\d+'
null_if = ["-", "NULL"]
columns = ["日期", "时间", "代码", "名称", "价格", "数量", "买", "卖", "状态", "标志", "备注"]

[[route]]
table = "trades"
when = { column = "状态", in = ["F", "C", "K", "?"] }
keep = ["名称", "备注"]

[route.columns]
symbol = { column = "代码", extract = '^([0-9]+)', strip = true, pad = 6 }
venue = { constant = "XSHG" }
exec_venue = { column = "名称", replace = [['.*(甲).*', 'alpha'], ['.*(乙).*', 'beta']], case = "upper" }
price = { column = "价格", tick = "0.01", max_error = "0.000001", scale = "0.001" }
size = { column = "数量", scale = "100", null_if = ["0", ""] }
status = { column = "状态", map = { F = "", C = "cancelled", K = "cancel" } }
conditions = { columns = ["标志", "备注"], split = "" }

[route.columns.ts_recv]
column = "时间"
layout = "%H时%M分%S秒%3f"
date = { column = "日期", layout = "%Y年%m月%d日" }
offset = "+08:00"

[route.columns.ts_event]
columns = ["日期", "时间"]
join = " "
layout = "%Y年%m月%d日 %H时%M分%S秒%3f"
zone = "Asia/Shanghai"

[route.columns.side]
cases = [
    { when = { column = "买", equals = "是" }, value = "buy" },
    { when = { column = "卖", equals = "是" }, value = "sell" },
]

[skip.kind]
column = "状态"
map = { H = "heartbeat" }
"""

HANZI_TEXT = (
    "Hanzi export\r\nmade by hand; do not edit\r\n// the header follows\r\n"
    "日期;时间;代码;名称;价格;数量;买;卖;状态;标志;备注\r\n"
    "2024年03月04日;09时30分00秒123;1.SH;股份甲;7400.000000000001;5;是;否;F;ab;x\r\n"
    "// a comment between rows\r\n"
    "2024年03月04日;09时30分01秒000;600000.SH;'乙;丙';7.41E3;0;否;是;C;-;\r\n"
    "2024年03月04日;09时30分02秒000;2.SH;丁;7415;3;否;否;F;;y z\r\n"
    "2024年03月04日;09时30分03秒000;3.SH;甲;7420;1;是;是;H;;\r\n"
    "2024年03月04日;09时30分04秒000;4.SH;甲;-;1;-;-;K;;NULL\r\n"
    "2024年03月04日;09时30分05秒000;5.SH;甲;7430;1;是;否;?;;\r\n"
    "TOTAL 6\r\n"
)


def test_a_text_file_in_gbk(tmp_path: Path) -> None:
    done = decode_text(tmp_path, HANZI, HANZI_TEXT.encode("gbk"))
    trades = done.tables["trades"]
    assert done.column("symbol") == ["000001", "600000", "000004"]
    assert done.column("exec_venue") == ["ALPHA", "BETA", "ALPHA"]
    assert done.column("price") == dec("7.4", "7.41", None)
    assert done.column("size") == dec("500", None, "100")
    assert done.column("side") == ["buy", "sell", None]
    assert done.column("status") == [None, "cancelled", "cancel"]
    assert done.column("conditions") == [["a", "b", "x"], [], []]
    assert trades[0]["ts_event"] == trades[0]["ts_recv"] == utc(2024, 3, 4, 1, 30, 0, 123000)
    assert json.loads(trades[1]["extra"]) == {"名称": "乙;丙", "备注": ""}
    assert done.column("source_offset") == done.column("sequence") == [5, 7, 10]
    assert done.skipped == {"comment": 1, "trailer": 1, "heartbeat": 1}
    assert done.reasons == {
        8: "price: '7415' is not within 0.000001 of a multiple of 0.01",
        11: "status: '?' is not in the profile's map (F, C, K)",
    }
    assert done.rejected[1]["raw"].decode("gbk").startswith("2024年03月04日;09时30分05秒000;5.SH")
    assert done.dropped == []


def test_the_same_in_utf_16(tmp_path: Path) -> None:
    by_gbk = decode_text(tmp_path, HANZI, HANZI_TEXT.encode("gbk"))
    by_utf16 = decode_text(tmp_path, HANZI.replace('"gbk"', '"utf-16"'), HANZI_TEXT.encode("utf-16"))
    assert by_utf16.tables == by_gbk.tables
    assert by_utf16.reasons == by_gbk.reasons


def test_bytes_that_are_not_of_the_encoding(tmp_path: Path) -> None:
    lines = HANZI_TEXT.encode("gbk").split(b"\r\n")
    data = b"\r\n".join([*lines[:5], lines[4].replace(b"x", b"\xff\xff"), *lines[5:]])
    done = decode_text(tmp_path, HANZI, data)
    assert done.column("symbol") == ["000001", "600000", "000004"]
    assert done.reasons[6] == "the line is not in the profile's encoding"


PULSE = """
title = "Pulse: a socket's log, one JSON message a line"

[file]
format = "ndjson"
prefix = '\\[(?P<host>\\w+) (?P<clock>\\d+\\.\\d+)\\] '

[file.columns]
kind = "$.k"
ticker = "$.d.ticker"
at = "$.d.at"
px = "$.d.trade.px"
qty = "$.d.trade.qty"
maker = "$.d.trade.maker"
flags = "$.d.trade.flags"
bid = "$.d.book[0].p"
bidq = "$.d.book[0].q"
ask = "$.d.book[1].p"
askq = "$.d.book[1].q"
live = "$.d.live"

[[route]]
table = "trades"
when = [{ column = "kind", equals = "tb" }, { column = "px", empty = false }]
keep = ["host", "live"]

[route.columns]
symbol = { column = "ticker", lookup = { file = "tickers.csv", from = "short", to = "symbol" } }
venue = { option = "venue", constant = "BINANCE" }
ts_event = { column = "at", unit = "us" }
ts_recv = { column = "clock", unit = "s", precision = "ns" }
trade_id = { expr = "concat_ws('-', kind, ticker, \\"at\\")" }
price = { column = "px", scale = "0.01" }
size = { column = "qty" }
side = { column = "maker", map = { true = "sell", false = "buy" } }
conditions = { column = "flags", split = "+", map = { A = "auction+late" } }

[[route]]
table = "quotes"
when = { expr = "kind IN ('tb', 'b') AND bid IS NOT NULL" }

[route.columns]
symbol = { column = "ticker", lookup = { file = "tickers.csv", from = "short", to = "symbol" } }
venue = { option = "venue", constant = "BINANCE" }
ts_event = { column = "at", unit = "us", optional = true }
ts_recv = { column = "clock", unit = "s" }
bid_px = "bid"
ask_px = "ask"
bid_sz = { column = "bidq", null_if = "0" }
ask_sz = { column = "askq", null_if = "0" }

[skip]
kind = { expr = "'kind ' || kind" }
"""

PULSE_LINES = [
    (
        '[a1 1709546400.000000001] {"k":"tb","d":{"ticker":"B","at":1709546400000001,"live":true,'
        '"trade":{"px":6183763,"qty":1.50e-3,"maker":true,"flags":"x + y"},'
        '"book":[{"p":61837.63,"q":0},{"p":61837.64,"q":12345678.12345678}]}}'
    ),
    '[a1 1709546400.5] {"k":"b","d":{"ticker":"B","book":[{"p":1,"q":2},{"p":3,"q":4}]}}',
    '[a1 1709546401.0] {"k":"hello"}',
    '[a1 1709546402.0] {"k":"tb","d":{"ticker":"Z","at":1709546400000002,"trade":{"px":1,"qty":1,"maker":false}}}',
    '[a1 1709546403.0] {"k":"tb","d":{"ticker":"B","at":1709546400000003,"trade":{"px":-37630,"qty":1,"flags":"A"}}}',
    '[a1 1709546404.0] {"k":"tb","d":{"ticker":"B"',
    '{"k":"hello"}',
]


def test_a_log_of_json_messages(tmp_path: Path) -> None:
    lookup = {"B": "BTC-USD"}
    (tmp_path / "log.txt").write_text("\n".join(PULSE_LINES) + "\n")
    done = decode(profile_of(tmp_path, PULSE), tmp_path / "log.txt", lookup=lookup)
    first, second = done.tables["trades"]
    assert (first["symbol"], first["venue"]) == ("BTC-USD", "BINANCE")
    assert (first["ts_event"], first["ts_event_ns"]) == (utc(2024, 3, 4, 10, 0, 0, 1), None)
    assert (first["ts_recv"], first["ts_recv_ns"]) == (utc(2024, 3, 4, 10), 1_709_546_400_000_000_001)
    assert [first["price"], first["size"]] == dec("61837.63", "0.0015")
    assert second["price"] == Decimal("-376.3")
    assert (first["side"], first["conditions"], first["trade_id"]) == ("sell", ["x", "y"], "tb-B-1709546400000001")
    assert (second["side"], second["conditions"], second["extra"]) == (
        None,
        ["auction", "late"],
        '{"host":"a1","live":null}',
    )
    assert json.loads(first["extra"]) == {"host": "a1", "live": "true"}

    both, book = done.tables["quotes"]
    assert both["source_offset"] == first["source_offset"] == 1
    assert [both[name] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")] == dec(
        "61837.63", "61837.64", None, "12345678.12345678"
    )
    assert (both["clock"], book["clock"]) == ("venue", "recv")
    assert book["ts_event"] == book["ts_recv"] == utc(2024, 3, 4, 10, 0, 0, 500000)
    assert done.skipped == {"kind hello": 1}
    assert done.fanout == 1
    assert done.reasons[4] == "symbol: 'Z' is not in tickers.csv.short"
    assert set(done.reasons) == {4, 6, 7}


DEPOT = """
title = "Depot: a zip with a file per market and day, packed decimals, times of day"

[file]
delimiter = "|"
header = false
quote = ""
members = "ticks/*.txt"
columns = ["hhmmss", "next", "root", "suffix", "type", "px", "qty", "px2", "qty2", "cond", "corr", "ref"]

[[route]]
table = "trades"
when = { column = "type", matches = '^T' }

[route.columns]
symbol = { columns = ["root", "suffix"], join = ".", replace = [['\\s', ''], ['\\.$', '']] }
venue = { path = '/([A-Z]{4})-\\d{8}\\.txt$' }
exec_venue = { option = "desk", optional = true }
trade_id = { column = "ref", strip = true, null_if = "" }
price = { column = "px", scale = "0.0001", null_if = "9223372036854775807" }
size = "qty"
conditions = { column = "cond", split = "" }
status = { column = "corr", map = { "00" = "", "10" = "cancel" } }
corrects = { column = "ref", extract = '->(\\w+)' }

[route.columns.ts_event]
column = "hhmmss"
layout = "%H%M%S%9f"
date = { option = "date", path = '-(\\d{8})\\.txt$', layout = "%Y%m%d" }
zone = "America/New_York"
ambiguous = "latest"
precision = "ns"

[[route]]
table = "quotes"
when = { column = "type", equals = "Q" }

[route.columns]
symbol = "root"
venue = { path = '!ticks/([A-Z]{4})-' }
bid_px = { column = "px", scale = "0.0001" }
ask_px = { column = "px2", scale = "0.0001", null_if = "9223372036854775807" }
bid_sz = "qty"
ask_sz = { column = "qty2", null_if = ["0", " "] }

[route.columns.ts_event]
column = "hhmmss"
layout = "%H%M%S%9f"
date = { path = '-(\\d{8})', layout = "%Y%m%d" }
offset = "-05:00"

[route.columns.ts_recv]
column = "next"
unit = "ms"
since = "midnight"
date = { path = '-(\\d{8})', layout = "%Y%m%d" }
offset = "-05:00"
"""

DEPOT_ROWS = {
    "ticks/XNYS-20241103.txt": "013000000000001|5400000|BRK |B |T@|4512345|100|||@ TI|00|id1\n"
    "113000000000000|41400500|IBM|  |Q |1|1|||||\n"
    "113000000000000|41400500|IBM|  |Q|1230000|3|9223372036854775807|0|||\n"
    "113000123456789|41400500|IBM|  |TX|9223372036854775807|0|||B|10|x->id1\n",
    "ticks/XNAS-20241104.txt": "093000000000000|0|AAPL||T|-5|1||||00|\n",
    "notes/readme.txt": "not a row\n",
}


def depot(folder: Path) -> Path:
    path = folder / "depot.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in DEPOT_ROWS.items():
            archive.writestr(name, text)
    return path


def test_a_zip_with_a_file_per_market(tmp_path: Path) -> None:
    done = decode(profile_of(tmp_path, DEPOT), depot(tmp_path), desk="D1")
    assert done.column("symbol") == ["BRK.B", "IBM", "AAPL"]
    assert done.column("venue") == ["XNYS", "XNYS", "XNAS"]
    assert done.column("exec_venue") == ["D1"] * 3
    assert done.column("price") == dec("451.2345", None, "-0.0005")
    assert done.column("conditions") == [["@", "T", "I"], ["B"], []]
    assert done.column("status") == [None, "cancel", None]
    assert done.column("corrects") == [None, "id1", None]
    # 01:30 came twice that night in New York; `latest` is the second, in winter time.
    assert done.column("ts_event")[0] == utc(2024, 11, 3, 6, 30)
    assert done.column("ts_event_ns")[:2] == [1_730_615_400_000_000_001, 1_730_651_400_123_456_789]
    assert done.column("ts_event")[2] == utc(2024, 11, 4, 14, 30)
    assert str(done.column("session")[2]) == "2024-11-04"
    (quote,) = done.tables["quotes"]
    assert quote["ts_event"] == utc(2024, 11, 3, 16, 30)
    assert quote["ts_recv"] == utc(2024, 11, 3, 16, 30, 0, 500000)
    assert [quote[name] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")] == dec("123", None, "3", None)
    assert done.reasons == {2: "no route of the profile takes it"}


def test_an_option_goes_before_the_path(tmp_path: Path) -> None:
    done = decode(profile_of(tmp_path, DEPOT), depot(tmp_path), date="2024-07-01")
    assert done.column("ts_event")[0] == utc(2024, 7, 1, 5, 30)
    assert done.column("exec_venue") == [None] * 3


def test_parquet_values_come_as_exact_texts(tmp_path: Path) -> None:
    toml = """
    title = "Parquet"
    [file]
    format = "parquet"
    [[route]]
    table = "trades"
    keep = ["*"]
    [route.columns]
    symbol = "sym"
    venue = "mic"
    ts_event = { column = "when", layout = "iso8601", precision = "ns" }
    price = "px"
    size = "qty"
    conditions = { column = "tags", split = ";" }
    """
    instants = pa.array([1_709_546_400_123_456_789, 1_709_546_400_000_000_000], pa.timestamp("ns", "America/New_York"))
    table = pa.table(
        {
            "sym": pa.array(["007", "x"]).dictionary_encode(),
            "mic": ["XASX", "XASX"],
            "when": instants,
            "px": pa.array([Decimal("0.10000001"), None], pa.decimal128(20, 8)),
            "qty": [1.5, 1e-8],
            "tags": [["a", "b"], []],
            "live": [True, None],
            "day": pa.array([19_786, None], pa.date32()),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    done = decode(profile_of(tmp_path, toml), tmp_path / "x.parquet")
    assert done.column("symbol") == ["007", "x"]
    assert done.column("price") == dec("0.10000001", None)
    assert done.column("size") == dec("1.5", "0.00000001")
    assert done.column("ts_event_ns") == [1_709_546_400_123_456_789, 1_709_546_400_000_000_000]
    assert done.column("conditions") == [["a", "b"], []]
    assert json.loads(done.column("extra")[0]) == {"live": "true", "day": "2024-03-04"}
    assert done.column("source_offset") == [1, 2]
