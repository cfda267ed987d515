"""Real files against independently computed figures, straight from the decoder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from k2kernel import profiles
from k2kernel.decode import Decoder
from k2kernel.sources import members

COMPANIES = {"3153": "MWR", "7078": "BHP", "7181": "DVN", "7458": "RIO"}


@dataclass
class Whole:
    """The frames of a file, and what was left out."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    lines: int = 0


def whole(path: Path, name: str, **options: str) -> Whole:
    profile, done = profiles.load(name), Whole()
    for member in members(path, profile.file.members):
        for batch in Decoder(profile, member, options, None, dict.fromkeys(profile.lookups, COMPANIES)).batches():
            for table, frame in batch.tables.items():
                parts = [done.tables[table], frame] if table in done.tables else [frame]
                done.tables[table] = pl.concat(parts)
            done.skipped.update(batch.skipped)
            done.rejected += len(batch.rejected)
            done.lines += batch.lines
    return done


def truths(folder: Path) -> Any:
    return json.loads((folder / "truths.json").read_text())


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture(scope="module")
def asx(shared_data: Path) -> dict[str, pl.DataFrame]:
    raw = shared_data / "asx-2014-03" / "raw"
    return {
        kind: pl.concat(
            [whole(raw / kind / f"{company}.csv", f"asx-{kind}").tables[kind] for company in ("7078", "7181")]
        )
        for kind in ("trades", "quotes")
    }


def test_asx_trades(shared_data: Path, asx: Mapping[str, pl.DataFrame]) -> None:
    facts, trades = truths(shared_data / "asx-2014-03")["trades"], asx["trades"]
    assert len(trades) == facts["row_count"]
    assert dict(trades["symbol"].value_counts().iter_rows()) == facts["rows_per_symbol"]
    assert trades["ts_event"].min() == instant(facts["min_time_utc"])
    assert trades["ts_event"].max() == instant(facts["max_time_utc"])
    off_market = trades["conditions"].list.contains("X")
    assert trades["size"].sum() == Decimal(facts["sum_volume"])
    assert trades.filter(~off_market)["size"].sum() == Decimal(facts["sum_volume_on_market"])
    assert int(off_market.sum()) == 133
    identity = trades.drop("source_offset", "sequence")
    assert len(trades) - identity.unique().height == facts["exact_duplicate_rows"]


def test_asx_trades_per_qualifier(shared_data: Path, asx: Mapping[str, pl.DataFrame]) -> None:
    facts = truths(shared_data / "asx-2014-03")["trades"]
    codes = asx["trades"]["conditions"].list.first()
    assert dict(codes.value_counts().iter_rows()) == facts["rows_per_qualifier"]
    assert int(asx["trades"]["extra"].is_not_null().sum()) == facts["rows_with_non_empty_7th_column"]


def test_asx_quotes(shared_data: Path, asx: Mapping[str, pl.DataFrame]) -> None:
    facts, quotes = truths(shared_data / "asx-2014-03")["quotes"], asx["quotes"]
    assert len(quotes) == facts["row_count"]
    assert dict(quotes["symbol"].value_counts().iter_rows()) == facts["rows_per_symbol"]
    assert quotes["ts_event"].min() == instant(facts["min_time_utc"])
    assert quotes["ts_event"].max() == instant(facts["max_time_utc"])
    assert quotes["ask_px"].null_count() == facts["rows_with_zero_ask"]
    assert quotes["bid_px"].null_count() == facts["rows_with_zero_bid"]


def test_asx_reference_files(shared_data: Path) -> None:
    raw = shared_data / "asx-2014-03" / "raw" / "reference-data"
    companies = whole(raw / "company_info.csv", "asx-companies").tables["instruments"]
    assert dict(companies.select("vendor_id", "symbol").iter_rows()) == COMPANIES
    dividends = whole(raw / "dividends.csv", "asx-dividends").tables["corporate_actions"]
    assert dividends["symbol"].to_list() == ["BHP", "RIO"]
    assert [str(amount) for amount in dividends["gross_amount"]] == ["0.84285700", "1.71628600"]
    for file, name in (("mergers", "asx-mergers"), ("stock_splits", "asx-splits")):
        done = whole(raw / f"{file}.csv", name)
        assert (len(done.tables["corporate_actions"]), done.skipped) == (0, {"no_records": 1})


@pytest.mark.parametrize(("kind", "name"), [("spot", "binance-spot-ws"), ("usdm", "binance-usdm-ws")])
def test_binance(shared_data: Path, kind: str, name: str) -> None:
    folder = shared_data / "binance-ws-2024-08-08"
    facts = truths(folder)
    file = f"raw/{kind}_btcusdt_20240808.gz"
    done = whole(folder / file, name)
    about, symbol = facts["files"][file], f"{kind}:BTCUSDT"
    trades, quotes = done.tables["trades"], done.tables["quotes"]
    assert (done.lines, done.rejected) == (about["lines"], 0)
    assert (len(trades), len(quotes)) == (about["messages"]["trade"], about["messages"]["bookTicker"])
    assert done.skipped == {"depth": about["messages"]["depth"], "depth snapshot": 1}
    assert trades["size"].sum() == Decimal(facts["trades"]["sum_volume_per_symbol"][symbol])
    ids = trades["trade_id"].cast(pl.Int64)
    assert (ids.min(), ids.max()) == (about["trade_id"]["min"], about["trade_id"]["max"])
    days = {str(day): count for day, count in trades["session"].value_counts().iter_rows()}
    wanted = {key.split()[1]: count for key, count in facts["trades"]["rows_per_day_by_T"].items() if symbol in key}
    assert days == wanted
    assert set(quotes["clock"]) == {"recv" if kind == "spot" else "venue"}
    received = pl.concat([trades["ts_recv_ns"], quotes["ts_recv_ns"]])
    assert received.null_count() == 0
    assert set(trades["extra"].str.json_decode(pl.Struct({"E": pl.String}))[:1].struct.field("E").str.len_bytes()) == {
        13
    }


def test_binance_both(shared_data: Path) -> None:
    folder = shared_data / "binance-ws-2024-08-08"
    facts = truths(folder)["trades"]
    trades = pl.concat(
        [
            whole(folder / f"raw/{kind}_btcusdt_20240808.gz", f"binance-{kind}-ws").tables["trades"]
            for kind in ("spot", "usdm")
        ]
    )
    assert int((trades["side"] == "sell").sum()) == facts["rows_buyer_is_maker"]
    assert trades["size"].sum() == Decimal(facts["sum_volume"])
    assert trades["ts_event"].min() == instant(facts["min_time_T_utc"])
    assert trades["ts_event"].max() == instant(facts["max_time_T_utc"])


def test_shanghai(shared_data: Path) -> None:
    folder = shared_data / "cn-sse-2023-07-11"
    facts = truths(folder)["trades"]
    done = whole(folder / "raw" / "SHtrans.zip", "sse-trades")
    trades = done.tables["trades"]
    assert (len(trades), done.rejected) == (facts["row_count"], 0)
    assert dict(trades["symbol"].value_counts().iter_rows()) == facts["rows_per_symbol"]
    volumes = trades.group_by("symbol").agg(pl.sum("size"))
    assert {symbol: str(int(volume)) for symbol, volume in volumes.iter_rows()} == facts["sum_volume_per_symbol"]
    assert trades["ts_event"].min() == instant(facts["min_time_utc"])
    assert trades["ts_event"].max() == instant(facts["max_time_utc"])
    flags = {"buy": "1", "sell": "2", None: "0"}
    assert {flags[side]: count for side, count in trades["side"].value_counts().iter_rows()} == facts[
        "rows_per_TradeBSFlag"
    ]
    late = (trades["ts_recv"] - trades["ts_event"]).dt.total_milliseconds()
    wanted = facts["receive_minus_MDTime_ms"]
    assert (late.min(), late.median(), late.max()) == (wanted["min"], wanted["median"], wanted["max"])


def test_two_brokers(shared_data: Path) -> None:
    folder = shared_data / "fx-eurusd-2014-05"
    facts = truths(folder)
    for file, about in facts["files"].items():
        broker = file.split("/")[1]
        done = whole(folder / file, f"{broker}-quotes")
        quotes = done.tables["quotes"]
        assert (len(quotes), done.rejected) == (about["rows"], 0)
        assert quotes["ts_event"].min() == instant(about["min_time_utc"])
        assert quotes["ts_event"].max() == instant(about["max_time_utc"])
        assert set(quotes["symbol"]) == {"EURUSD"}
        assert set(quotes["venue"]) == {broker.upper()}
