"""Profiles made from the vendors' documents, on rows as the documents print them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from k2kernel import profiles
from tests.decoding import Decoding, dec, decode, utc


def read(folder: Path, profile: str, name: str, text: str, **options: str) -> Decoding:
    path = folder / name
    path.write_text(text)
    return decode(profiles.load(profile), path, lookup=None, **options)


@pytest.mark.parametrize("time", ["1720569600000", "1720569600000000"])
def test_binance_spot_trades(tmp_path: Path, time: str) -> None:
    text = f"51175358,17.80180000,5.69000000,101.29224200,{time},True,True\n51175359,17.8,1,17.8,{time},False,True\n"
    done = read(tmp_path, "binance-trades-csv", "BNBUSDT-trades-2024-07-10.csv", text)
    assert done.column("symbol") == ["BNBUSDT"] * 2
    assert done.column("ts_event") == [utc(2024, 7, 10)] * 2
    assert done.column("price") == dec("17.8018", "17.8")
    assert done.column("side") == ["sell", "buy"]
    assert done.column("trade_id") == ["51175358", "51175359"]
    assert json.loads(done.column("extra")[0]) == {"quote_qty": "101.29224200", "is_best_match": "True"}


def test_binance_spot_aggregate_trades_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "anything.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("BTCUSDT-aggTrades-2025-01.csv", "0,0.2,50.0,10,12,1735689600000001,False,True\n")
    done = decode(profiles.load("binance-aggtrades-csv"), path)
    assert (done.column("symbol"), done.column("venue")) == (["BTCUSDT"], ["BINANCE"])
    assert done.column("ts_event") == [utc(2025, 1, 1, 0, 0, 0, 1)]
    assert json.loads(done.column("extra")[0]) == {
        "first_trade_id": "10",
        "last_trade_id": "12",
        "is_best_match": "True",
    }


@pytest.mark.parametrize("header", ["", "id,price,qty,quote_qty,time,is_buyer_maker\n"])
def test_binance_futures_trades_with_and_without_a_header(tmp_path: Path, header: str) -> None:
    text = header + "5266583935,61800.30,0.006,370.8018,1723161256322,false\n"
    done = read(tmp_path, "binance-usdm-trades-csv", "BTCUSDT-trades-2024-08-08.csv", text)
    assert (done.column("side"), done.column("venue")) == (["buy"], ["BINANCE_USDM"])
    assert done.skipped == ({"comment": 1} if header else {})


@pytest.mark.parametrize(
    "header", ["", "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"]
)
def test_binance_futures_aggregate_trades(tmp_path: Path, header: str) -> None:
    text = header + "26129,0.01633102,4.70443515,27781,27781,1498793709153,true\n"
    done = read(tmp_path, "binance-usdm-aggtrades-csv", "x.csv", text, symbol="ABC")
    assert (done.column("symbol"), done.column("side")) == (["ABC"], ["sell"])
    assert done.column("ts_event") == [utc(2017, 6, 30, 3, 35, 9, 153000)]


DATABENTO = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"


def test_databento_trades_as_integers_and_as_texts(tmp_path: Path) -> None:
    text = (
        f"{DATABENTO},symbol\n"
        "1609160400006136329,1609160400006001487,0,1,5482,T,A,0,3720500000000,1,128,17214,1170362,ESH1\n"
        "2020-12-28T13:00:00.006136330Z,2020-12-28T13:00:00.006001488Z,0,2,5482,T,B,0,"
        "3720.500000000,1,128,17214,1170363,ESH1\n"
        "1609160400006136331,1609160400006001489,0,2,5482,T,N,0,9223372036854775807,1,128,17214,1170364,ESH1\n"
        "1609160400006136331,1609160400006001489,0,2,5482,C,N,0,1,1,128,17214,1170364,ESH1\n"
    )
    done = read(tmp_path, "databento-trades-csv", "x.csv", text)
    rows = sorted(done.tables["trades"], key=lambda row: row["source_offset"])
    assert [row["price"] for row in rows] == dec("3720.5", "3720.5", None)
    assert [row["side"] for row in rows] == ["sell", "buy", None]
    assert [row["venue"] for row in rows] == ["GLBX", "XNAS", "XNAS"]
    assert [row["ts_event_ns"] for row in rows] == [1_609_160_400_006_001_487 + n for n in range(3)]
    assert [row["ts_recv_ns"] for row in rows] == [1_609_160_400_006_136_329 + n for n in range(3)]
    assert json.loads(rows[0]["extra"])["flags"] == "128"
    assert done.skipped == {"C": 1}


def test_databento_tbbo_is_a_trade_and_a_quote(tmp_path: Path) -> None:
    levels = "bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00"
    text = (
        f"{DATABENTO},{levels}\n"
        "1609160400099150057,1609160400098821953,1,1,5482,T,A,0,3720250000000,5,129,19251,1170380,"
        "3720250000000,9223372036854775807,24,0,15,0\n"
    )
    done = read(tmp_path, "databento-tbbo-csv", "x.csv", text, symbol="ESH1", venue="XCME")
    (trade,), (quote,) = done.tables["trades"], done.tables["quotes"]
    assert trade["ts_event_ns"] == quote["ts_event_ns"] == 1_609_160_400_098_821_953
    assert (trade["symbol"], trade["venue"]) == (quote["symbol"], quote["venue"]) == ("ESH1", "XCME")
    assert [quote[name] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")] == dec("3720.25", None, "24", None)
    assert (done.lines, done.fanout, done.dropped) == (1, 1, [])


def test_databento_mbp1_has_the_quotes_between_trades_too(tmp_path: Path) -> None:
    text = f"{DATABENTO},bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol\n" + "".join(
        f"{at},{at},1,9,5482,{action},B,0,{price},5,128,0,{at % 10},{price},102.5,{size},7,1,1,X\n"
        for at, action, price, size in (
            (1609160400000000001, "A", "100.5", 10),
            (1609160400000000002, "T", "102.0", 10),
            (1609160400000000003, "M", "100.5", 20),
            (1609160400000000004, "R", "", 0),
            (1609160400000000005, "F", "102.0", 1),
        )
    )
    done = read(tmp_path, "databento-tbbo-csv", "x.csv", text)
    assert (done.column("price"), done.column("side")) == (dec("102"), ["buy"])
    assert done.column("bid_px", "quotes") == dec("100.5", "102", "100.5", None)
    assert done.column("bid_sz", "quotes") == dec("10", "10", "20", None)
    assert done.skipped == {"F": 1}


def test_an_unknown_databento_publisher_is_refused(tmp_path: Path) -> None:
    row = "1609160400006136329,1609160400006001487,0,999,5482,T,A,0,1,1,128,17214,1170362,X"
    done = read(tmp_path, "databento-trades-csv", "x.csv", f"{DATABENTO},symbol\n{row}\n")
    assert "venue: '999' is not in the profile's map" in done.reasons[2]


def test_tardis(tmp_path: Path) -> None:
    text = (
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "bitmex,XBTUSD,1585699202957000,1585699203089980,02e67b55,sell,6425.5,12\n"
        "deribit,BTC-PERPETUAL,1585699202957001,1585699203089980,,unknown,6425,1e3\n"
    )
    done = read(tmp_path, "tardis-trades-csv", "t.csv", text)
    assert done.column("venue") == ["BITMEX", "DERIBIT"]
    assert done.column("side") == ["sell", None]
    assert done.column("ts_event") == [utc(2020, 4, 1, 0, 0, 2, 957000), utc(2020, 4, 1, 0, 0, 2, 957001)]
    assert done.column("size") == dec("12", "1000")
    text = (
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
        "huobi,BTC-USD,1585699200076000,1585699200159590,,,6423.5,10\n"
    )
    (quote,) = read(tmp_path, "tardis-quotes-csv", "q.csv", text).tables["quotes"]
    assert [quote[name] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")] == dec("6423.5", None, "10", None)


def test_taq_trades(tmp_path: Path) -> None:
    text = (
        "Time|Exchange|Symbol|Sale Condition|Trade Volume|Trade Price|Trade Stop Stock Indicator"
        "|Trade Correction Indicator|Sequence Number|Trade Id|Source of Trade|Trade Reporting Facility"
        "|Participant Timestamp|Trade Reporting Facility TRF Timestamp|Trade Through Exempt Indicator\n"
        "093000063455553|P|A|@ TI|1|60.5|N|00|1401|52983|C| |093000063000000||1\n"
        "093000063455554|D|BRK B|@F|1|60.5|N|08|1402|52984|C|Q|093000063000000||0\n"
        "093000063455555|Q|MSFT||1|60.5|N|10|1403|52985|N| |093000063000000||0\n"
        "093000063455556|Q|MSFT||1|60.5|N|99|1404|52986|N| |093000063000000||0\n"
        "END|20180102|4||||||||||||\n"
    )
    done = read(tmp_path, "taq-trades", "EQY_US_ALL_TRADE_20180102", text)
    assert done.column("symbol") == ["A", "BRK B", "MSFT"]
    assert done.column("venue") == ["XNYS", "XNYS", "XNAS"]
    assert done.column("exec_venue") == ["ARCX", "FINN", "XNAS"]
    assert done.column("conditions") == [["@", "T", "I"], ["@", "F"], []]
    assert done.column("status") == [None, "cancelled", "cancel"]
    assert done.column("ts_event_ns")[0] == 1_514_903_400_063_455_553
    assert done.skipped == {"trailer": 1}
    assert set(done.reasons) == {5}


def test_taq_quotes(tmp_path: Path) -> None:
    names = profiles.load("taq-quotes").file.columns
    row = {"Time": "093000000000001", "Exchange": "Z", "Symbol": "A", "Bid_Price": "0", "Bid_Size": "0"}
    row |= {
        "Offer_Price": "60.10",
        "Offer_Size": "3",
        "Quote_Condition": "R",
        "Sequence_Number": "7",
        "Source_Of_Quote": "C",
    }
    text = "|".join(names) + "\n" + "|".join(row.get(name, "") for name in names) + "\nEND|20180102|1\n"
    done = read(tmp_path, "taq-quotes", "SPLITS_US_ALL_BBO_A_20180102", text)
    (quote,) = done.tables["quotes"]
    assert [quote[name] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")] == dec(None, "60.1", None, "3")
    assert (quote["exec_venue"], quote["conditions"], quote["sequence"]) == ("BATS", ["R"], 7)
    assert (done.skipped, done.dropped) == ({"trailer": 1}, [])


def test_plain_files_of_our_own(tmp_path: Path) -> None:
    text = (
        "symbol,ts_event,venue,price,size,side,conditions,note\n"
        "A,2024-03-04T10:00:00.5+11:00,XASX,1.5,,buy,a;b,hello\n"
        "A,2024-03-04T10:00:01.123456789+11:00,XASX,,2,,,\n"
    )
    done = read(tmp_path, "k2-trades", "t.csv", text)
    first, second = done.tables["trades"]
    assert (first["ts_event"], second["ts_event_ns"]) == (utc(2024, 3, 3, 23, 0, 0, 500000), 1_709_506_801_123_456_789)
    assert (first["sequence"], second["sequence"]) == (2, 3)
    assert (first["size"], second["price"], second["side"]) == (None, None, None)
    assert (first["conditions"], first["extra"], second["extra"]) == (["a", "b"], '{"note":"hello"}', None)
    text = "ts_event,bid_px,ask_px\n2024-03-04T10:00:00Z,1,\n"
    quotes = read(tmp_path, "k2-quotes", "q.csv", text, symbol="A", venue="XASX")
    assert (quotes.column("bid_px", "quotes"), quotes.column("ask_px", "quotes")) == (dec("1"), dec(None))
    text = "symbol,venue,inverse,tick_size,start_date\nA,XASX,true,0.01,2024-03-04\n"
    (instrument,) = read(tmp_path, "k2-instruments", "i.csv", text).tables["instruments"]
    assert (instrument["inverse"], str(instrument["start_date"]), instrument["name"]) == (True, "2024-03-04", None)


def test_lobster_messages(tmp_path: Path) -> None:
    rows = [
        "34200.004241176,1,16113575,18,5853300,1",
        "34200.025551909,4,16120456,18,5859100,-1",
        "34200.201743,5,0,100,5859200,1",
        "57600.1,6,0,2500,5776700,-1",
        "34201,3,16113575,18,5853300,1",
        "34202,7,0,0,-1,-1",
    ]
    name = "AAPL_2012-06-21_34200000_57600000_message_10.csv"
    done = read(tmp_path, "lobster-trades", name, "\n".join(rows) + "\n")
    assert (done.column("symbol"), done.column("venue")) == (["AAPL"] * 2, ["XNAS"] * 2)
    assert done.column("ts_event")[0] == utc(2012, 6, 21, 13, 30, 0, 25_551)
    assert done.column("ts_event_ns")[0] % 10**9 == 25_551_909
    assert done.column("price") == dec("585.91", "585.92")
    assert done.column("side") == ["buy", None]
    assert done.skipped == {"submission": 1, "deletion": 1, "cross": 1, "halt": 1}
    assert json.loads(done.column("extra")[0]) == {"Type": "4", "Order ID": "16120456", "Direction": "-1"}
