"""Independently computed figures of real files, reproduced exactly through Python, the command line and SQL."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import k2kernel as k2

TOTAL_ORDER = "coalesce(ts_event_ns, epoch_ns(ts_event)), sequence, source, source_offset"
OFF_MARKET = "list_contains(conditions, 'X')"
ELIGIBLE = {"all": "", "venue": f"AND NOT {OFF_MARKET}"}
VENUES = {"spot": "BINANCE", "usdm": "BINANCE_USDM", "fxcm": "FXCM", "oanda": "OANDA"}


class Loaded:
    """A data set in a lake of its own, with its truths."""

    def __init__(self, folder: Path, bench: k2.Workbench, receipts: dict[str, k2.Receipt]) -> None:
        self.folder, self.bench, self.receipts = folder, bench, receipts
        self.truths: dict[str, Any] = json.loads((folder / "truths.json").read_text())

    def sql(self, text: str, **params: object) -> list[tuple[Any, ...]]:
        table = self.bench.sql(text, params).to_arrow()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def one(self, text: str, **params: object) -> Any:
        ((value,),) = self.sql(text, **params)
        return value

    def cli(self, *words: str) -> Any:
        done = subprocess.run(
            [Path(sys.executable).with_name("k2-query"), *words, "-o", "json", "--home", self.bench.settings.home],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def bars_file(self) -> Iterator[dict[str, str]]:
        (path,) = self.folder.glob("truths_ohlcv_1m*.csv")
        with path.open(newline="") as lines:
            yield from csv.DictReader(lines)


def load(folder: Path, home: Path, files: Mapping[str, str]) -> Loaded:
    bench = k2.connect(home)
    receipts = {name: bench.ingest(folder / "raw" / name, profile) for name, profile in files.items()}
    return Loaded(folder, bench, receipts)


@pytest.fixture(scope="module")
def asx(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    files = {
        "reference-data/company_info.csv": "asx-companies",
        "reference-data/dividends.csv": "asx-dividends",
        "reference-data/mergers.csv": "asx-mergers",
        "reference-data/stock_splits.csv": "asx-splits",
        "trades/7078.csv": "asx-trades",
        "trades/7181.csv": "asx-trades",
        "quotes/7078.csv": "asx-quotes",
        "quotes/7181.csv": "asx-quotes",
    }
    return load(shared_data / "asx-2014-03", tmp_path_factory.mktemp("asx"), files)


@pytest.fixture(scope="module")
def binance(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    files = {"spot_btcusdt_20240808.gz": "binance-spot-ws", "usdm_btcusdt_20240808.gz": "binance-usdm-ws"}
    return load(shared_data / "binance-ws-2024-08-08", tmp_path_factory.mktemp("binance"), files)


@pytest.fixture(scope="module")
def sse(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(shared_data / "cn-sse-2023-07-11", tmp_path_factory.mktemp("sse"), {"SHtrans.zip": "sse-trades"})


@pytest.fixture(scope="module")
def fx(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = shared_data / "fx-eurusd-2014-05"
    files = {
        f"{broker}/{path.name}": f"{broker}-quotes"
        for broker in ("fxcm", "oanda")
        for path in sorted((folder / "raw" / broker).glob("*.zip"))
    }
    return load(folder, tmp_path_factory.mktemp("fx"), files)


def number(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def instant(text: str) -> datetime:
    """A time of the truths, cut to microseconds."""
    whole, _, rest = text.partition(".")
    fraction, zone = rest[:-6], rest[-6:]
    return datetime.fromisoformat(f"{whole}.{fraction[:6]}{zone}")


def check_days(loaded: Loaded, symbol: str, venue: str, eligible: str, truths: Sequence[Mapping[str, Any]]) -> None:
    """The days of an instrument through `summary` and `bars` in Python, on the command line, and in SQL."""
    names = ("open", "high", "low", "close", "volume", "vwap")
    wanted = [{name: number(truth[name]) for name in names} for truth in truths]
    days = [next(truth[name] for name in ("day", "day_T") if name in truth) for truth in truths]
    for day, truth, want in zip(days, truths, wanted, strict=True):
        summary = loaded.bench.summary(symbol, day, venue=venue, eligible=eligible)
        assert {name: getattr(summary, name) for name in names} == want
        assert (summary.trade_count, summary.notional) == (truth["n_trades"], number(truth["turnover"]))
    bars = loaded.bench.bars(symbol, "session", venue=venue, eligible=eligible).to_arrow().to_pylist()
    assert [{name: bar[name] for name in names} for bar in bars] == wanted
    shown = loaded.cli("bars", symbol, "session", "--venue", venue, "--eligible", eligible)
    assert [bar["session"] for bar in shown] == days
    assert [{name: Decimal(bar[name]) for name in names} for bar in shown] == wanted
    day_in_sql = f"""
        SELECT session::VARCHAR, first(price ORDER BY {TOTAL_ORDER}), max(price), min(price),
               last(price ORDER BY {TOTAL_ORDER}), sum(size), sum(price::DECIMAL(38,8) * size), count(*)
        FROM trades WHERE symbol = $s AND venue = $v {ELIGIBLE[eligible]} GROUP BY session ORDER BY session"""
    assert loaded.sql(day_in_sql, s=symbol, v=venue) == [
        (day, *(want[name] for name in names[:5]), number(truth["turnover"]), truth["n_trades"])
        for day, want, truth in zip(days, wanted, truths, strict=True)
    ]


def by_symbol(truths: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for truth in truths:
        found.setdefault(truth["symbol"], []).append(truth)
    return found


def check_minutes(loaded: Loaded, key: Mapping[str, tuple[str, str]], expected: int) -> None:
    """Every 1-minute bar of the truths, and no other."""
    found = {}
    for name, (symbol, venue) in key.items():
        for bar in loaded.bench.bars(symbol, "1m", venue=venue, eligible="all").to_arrow().to_pylist():
            found[name, bar["ts_open"]] = tuple(
                bar[each] for each in ("open", "high", "low", "close", "volume", "n_trades", "vwap")
            )
    truths = {
        (row["symbol"], datetime.fromisoformat(row["bar_start_utc"])): (
            *(Decimal(row[each]) for each in ("open", "high", "low", "close", "volume")),
            int(row["n_trades"]),
            Decimal(row["vwap"]),
        )
        for row in loaded.bars_file()
    }
    assert len(truths) == expected
    assert found == truths


def test_asx_rows_symbols_and_times(asx: Loaded) -> None:
    for table in ("trades", "quotes"):
        truth = asx.truths[table]
        assert asx.one(f"SELECT count(*) FROM {table}") == truth["row_count"]
        assert dict(asx.sql(f"SELECT symbol, count(*) FROM {table} GROUP BY ALL")) == truth["rows_per_symbol"]
        first, last = asx.sql(f"SELECT min(ts_event), max(ts_event) FROM {table}")[0]
        assert (first, last) == (instant(truth["min_time_utc"]), instant(truth["max_time_utc"]))
    symbols = asx.bench.symbols().to_arrow().to_pylist()
    assert [row["symbol"] for row in symbols] == asx.truths["trades"]["symbols"]
    assert [(row["symbol"], row["trades"], row["quotes"]) for row in asx.cli("symbols")] == [
        (name, asx.truths["trades"]["rows_per_symbol"][name], asx.truths["quotes"]["rows_per_symbol"][name])
        for name in ("BHP", "DVN")
    ]
    for name, truth in asx.truths["files"].items():
        receipt = asx.receipts[name.removeprefix("raw/")]
        assert (receipt.lines, receipt.rows, receipt.rejected) == (truth["rows"], truth["rows"], 0)


def test_asx_volumes_conditions_and_repeats(asx: Loaded) -> None:
    truth = asx.truths["trades"]
    assert asx.one("SELECT sum(size) FROM trades") == number(truth["sum_volume"])
    assert asx.one(f"SELECT sum(size) FROM trades WHERE NOT {OFF_MARKET}") == number(truth["sum_volume_on_market"])
    assert asx.one(f"SELECT count(*) FROM trades WHERE {OFF_MARKET}") == truth["rows_off_market_venue_X"]
    assert asx.one(f"SELECT count(*) FROM trades WHERE NOT {OFF_MARKET}") == truth["rows_on_market"]
    by_code = dict(asx.sql("SELECT conditions[1], count(*) FROM trades GROUP BY ALL"))
    assert by_code == truth["rows_per_qualifier"]
    assert asx.one("SELECT count(*) FROM trades WHERE extra IS NOT NULL") == truth["rows_with_non_empty_7th_column"]
    per_symbol = dict(asx.sql("SELECT symbol, sum(size) FROM trades GROUP BY ALL"))
    assert per_symbol == {name: number(volume) for name, volume in truth["sum_volume_per_symbol"].items()}
    distinct = "SELECT DISTINCT symbol, ts_event, price, size, conditions, extra FROM trades"
    rows, volume = asx.sql(f"SELECT count(*), sum(size) FROM ({distinct})")[0]
    assert truth["row_count"] - rows == truth["exact_duplicate_rows"]
    assert volume == number(truth["sum_volume_if_exact_duplicates_were_dropped"])


def test_asx_empty_crossed_and_locked_quotes(asx: Loaded) -> None:
    truth = asx.truths["quotes"]
    assert asx.one("SELECT count(*) FROM quotes WHERE ask_px IS NULL") == truth["rows_with_zero_ask"]
    assert asx.one("SELECT count(*) FROM quotes WHERE bid_px IS NULL") == truth["rows_with_zero_bid"]
    assert asx.one("SELECT count(*) FROM quotes WHERE bid_px > ask_px") == truth["rows_crossed_bid_gt_ask_both_nonzero"]
    assert asx.one("SELECT count(*) FROM quotes WHERE bid_px = ask_px") == truth["rows_locked_bid_eq_ask"]


@pytest.mark.parametrize(("eligible", "key"), [("all", "all_trades"), ("venue", "on_market_only (venue != X)")])
def test_asx_daily_bars_with_and_without_the_venues_policy(asx: Loaded, eligible: str, key: str) -> None:
    for symbol, truths in by_symbol(asx.truths["daily_ohlcv"][key]).items():
        check_days(asx, symbol, "XASX", eligible, truths)
    (shown,) = asx.cli("summary", "BHP", "2014-03-11", "--eligible", eligible)
    assert shown["high"] == {"all": "42", "venue": "36.45"}[eligible]


def test_asx_minutes(asx: Loaded) -> None:
    check_minutes(asx, {name: (name, "XASX") for name in ("BHP", "DVN")}, asx.truths["ohlcv_1m"]["bars"])


def test_asx_reference_data(asx: Loaded) -> None:
    listed = asx.sql("SELECT symbol, vendor_id, isin, name, start_date, end_date FROM instruments ORDER BY symbol")
    assert listed[0] == ("BHP", "7078", "AU000000BHP4", "BHP BILLITON LTD", date(2008, 5, 7), date(2014, 3, 31))
    assert [row[0] for row in listed] == ["BHP", "DVN", "MWR", "RIO"]
    actions = (
        "SELECT symbol, kind, ex_date, pay_date, net_amount, gross_amount, currency FROM corporate_actions ORDER BY ALL"
    )
    assert asx.sql(actions) == [
        ("BHP", "dividend", date(2014, 3, 3), date(2014, 3, 26), Decimal("0.59"), Decimal("0.842857"), "USD"),
        ("RIO", "dividend", date(2014, 3, 5), date(2014, 4, 10), Decimal("1.2014"), Decimal("1.716286"), "AUD"),
    ]
    for name in ("mergers", "stock_splits"):
        receipt = asx.receipts[f"reference-data/{name}.csv"]
        assert (receipt.rows, receipt.skipped) == (0, {"no_records": 1})


def test_asx_again_adds_nothing(asx: Loaded) -> None:
    before = asx.bench.lake.head("trades")
    again = asx.bench.ingest(asx.folder / "raw/trades/7078.csv", "asx-trades")
    assert (again.rows, again.duplicate) == (0, 91_631)
    assert asx.bench.lake.head("trades") == before


def test_binance_rows_and_times(binance: Loaded) -> None:
    for table, key in (("trades", "trades"), ("quotes", "quotes_bookTicker")):
        truth = binance.truths[key]
        rows = dict(binance.sql(f"SELECT venue, count(*) FROM {table} GROUP BY ALL"))
        assert rows == {VENUES[name.partition(":")[0]]: count for name, count in truth["rows_per_symbol"].items()}
    truth = binance.truths["trades"]
    first, last = binance.sql("SELECT min(ts_event), max(ts_event) FROM trades")[0]
    assert (first, last) == (instant(truth["min_time_T_utc"]), instant(truth["max_time_T_utc"]))
    recv = binance.sql(
        "SELECT make_timestamp_ns(min(ts_recv_ns))::VARCHAR, make_timestamp_ns(max(ts_recv_ns))::VARCHAR FROM trades"
    )
    assert [text.replace(" ", "T") + "+00:00" for text in recv[0]] == [
        truth["min_time_local_utc"],
        truth["max_time_local_utc"],
    ]
    for name, truth in binance.truths["files"].items():
        receipt = binance.receipts[name.removeprefix("raw/")]
        kinds = truth["messages"]
        assert receipt.lines == truth["lines"]
        assert {table: part.rows for table, part in receipt.tables.items()} == {
            "trades": kinds["trade"],
            "quotes": kinds["bookTicker"],
        }
        assert sorted(receipt.skipped.values()) == sorted([kinds["depth"], 1])


def test_binance_volumes_sides_days_and_repeats(binance: Loaded) -> None:
    truth = binance.truths["trades"]
    assert binance.one("SELECT sum(size) FROM trades") == number(truth["sum_volume"])
    per_venue = dict(binance.sql("SELECT venue, sum(size) FROM trades GROUP BY ALL"))
    assert per_venue == {VENUES[n.partition(":")[0]]: number(v) for n, v in truth["sum_volume_per_symbol"].items()}
    assert binance.one("SELECT count(*) FROM trades WHERE side = 'sell'") == truth["rows_buyer_is_maker"]
    by_day = dict(binance.sql("SELECT venue || ' ' || session, count(*) FROM trades GROUP BY ALL"))
    assert by_day == {VENUES[n.partition(":")[0]] + n[n.index(" ") :]: c for n, c in truth["rows_per_day_by_T"].items()}
    distinct = "SELECT DISTINCT venue, ts_event, price, size, side FROM trades"
    assert (
        truth["row_count"] - binance.one(f"SELECT count(*) FROM ({distinct})")
        == truth["rows_equal_in_T_price_qty_side_to_an_earlier_row"]
    )
    ids = binance.sql(
        "SELECT venue, min(trade_id::BIGINT), max(trade_id::BIGINT), count(DISTINCT trade_id) FROM trades GROUP BY ALL"
    )
    files = {
        VENUES[n.removeprefix("raw/").partition("_")[0]]: f["trade_id"] for n, f in binance.truths["files"].items()
    }
    assert {venue: (low, high) for venue, low, high, _ in ids} == {v: (t["min"], t["max"]) for v, t in files.items()}
    assert all(high - low + 1 == count for _, low, high, count in ids)


def test_binance_quotes(binance: Loaded) -> None:
    truth = binance.truths["quotes_bookTicker"]
    assert binance.one("SELECT count(*) FROM quotes WHERE clock = 'recv'") == truth["rows_without_exchange_time"]
    assert binance.one("SELECT count(*) FROM quotes WHERE bid_px > ask_px") == truth["rows_crossed"]
    assert binance.one("SELECT count(*) FROM quotes WHERE bid_px = ask_px") == truth["rows_locked"]
    spot = binance.one("SELECT count(*) FROM quotes WHERE venue = 'BINANCE' AND ts_event_ns = ts_recv_ns")
    assert spot == truth["rows_per_symbol"]["spot:BTCUSDT"]


def test_binance_daily_bars_and_minutes(binance: Loaded) -> None:
    for name, truths in by_symbol(binance.truths["daily_ohlcv"]["day_by_exchange_time_T_utc"]).items():
        check_days(binance, "BTCUSDT", VENUES[name.partition(":")[0]], "all", truths)
    keys = {f"{name}:BTCUSDT": ("BTCUSDT", VENUES[name]) for name in ("spot", "usdm")}
    check_minutes(binance, keys, binance.truths["ohlcv_1m"]["bars"])


def test_shanghai_rows_times_and_volumes(sse: Loaded) -> None:
    truth = sse.truths["trades"]
    assert dict(sse.sql("SELECT symbol, count(*) FROM trades GROUP BY ALL")) == truth["rows_per_symbol"]
    first, last = sse.sql("SELECT min(ts_event), max(ts_event) FROM trades")[0]
    assert (first, last) == (instant(truth["min_time_utc"]), instant(truth["max_time_utc"]))
    assert sse.one("SELECT sum(size) FROM trades") == number(truth["sum_volume"])
    per_symbol = dict(sse.sql("SELECT symbol, sum(size) FROM trades GROUP BY ALL"))
    assert per_symbol == {name: number(volume) for name, volume in truth["sum_volume_per_symbol"].items()}
    late = sse.sql(
        "SELECT min(ms), median(ms), max(ms) FROM (SELECT epoch_ms(ts_recv) - epoch_ms(ts_event) AS ms FROM trades)"
    )
    assert late[0] == tuple(truth["receive_minus_MDTime_ms"][name] for name in ("min", "median", "max"))


def test_shanghai_prices_are_on_the_tick_and_repeats_survive(sse: Loaded) -> None:
    truth = sse.truths["trades"]
    assert sse.one("SELECT count(*) FROM trades WHERE price % 0.01 <> 0") == 0
    distinct = "SELECT DISTINCT symbol, ts_event, price, size, extra->>'TradeBSFlag' FROM trades"
    equal = truth["rows_equal_in_MDTime_price_qty_flag_to_an_earlier_row_of_the_symbol"]
    assert truth["row_count"] - sse.one(f"SELECT count(*) FROM ({distinct})") == equal
    sides = dict(sse.sql("SELECT coalesce(side, 'none'), count(*) FROM trades GROUP BY ALL"))
    flags = truth["rows_per_TradeBSFlag"]
    assert sides == {"buy": flags["1"], "sell": flags["2"], "none": flags["0"]}


def test_shanghai_daily_bars_and_minutes(sse: Loaded) -> None:
    for symbol, truths in by_symbol(sse.truths["daily_ohlcv"]["all_trades"]).items():
        check_days(sse, symbol, "XSHG", "all", truths)
    check_minutes(
        sse, {name: (name, "XSHG") for name in sse.truths["trades"]["symbols"]}, sse.truths["ohlcv_1m"]["bars"]
    )


def test_fx_rows_and_times(fx: Loaded) -> None:
    truth = fx.truths["quotes"]
    for name, rows in truth["rows_per_symbol"].items():
        venue = VENUES[name.partition(":")[0]]
        count, first, last, crossed, locked = fx.sql(
            "SELECT count(*), min(ts_event), max(ts_event), count(*) FILTER (bid_px > ask_px), "
            "count(*) FILTER (bid_px = ask_px) FROM quotes WHERE venue = $v",
            v=venue,
        )[0]
        assert count == rows
        assert (first, last) == (instant(truth["min_time_utc"][name]), instant(truth["max_time_utc"][name]))
        assert (crossed, locked) == (truth["rows_crossed"][name], truth["rows_locked"][name])
    for name, file in fx.truths["files"].items():
        assert fx.receipts[name.removeprefix("raw/")].rows == file["rows"]
    assert fx.one("SELECT count(*) FROM trades") == 0


def test_fx_days_by_utc(fx: Loaded) -> None:
    """Bid and ask of each UTC day, through bars between two instants."""
    for truth in fx.truths["daily_bid_ask_per_utc_day"]:
        venue, day = VENUES[truth["symbol"].partition(":")[0]], date.fromisoformat(truth["utc_day"])
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        within = {"venue": venue, "start": start, "end": start + timedelta(days=1)}
        quotes = fx.bench.quotes("EURUSD", **within, columns=["bid_px", "ask_px"]).to_arrow()
        assert quotes.num_rows == truth["n"]
        for side in ("bid", "ask"):
            prices = quotes[f"{side}_px"].to_pylist()
            found = (prices[0], max(prices), min(prices), prices[-1])
            assert found == tuple(number(truth[f"{side}_{name}"]) for name in ("open", "high", "low", "close"))
        spread = sum(quotes["ask_px"].to_pylist()) - sum(quotes["bid_px"].to_pylist())
        # The truths give the absolute mean of the day's spreads where quotes are crossed, too: their sum is signed.
        assert spread == number(truth["sum_spread"])


def test_fx_sessions_roll_at_five_in_new_york(fx: Loaded) -> None:
    new_york = ZoneInfo("America/New_York")
    rows = fx.sql(
        "SELECT session, min(ts_event), max(ts_event) FROM quotes WHERE venue = 'FXCM' GROUP BY ALL ORDER BY 1"
    )
    for session, first, last in rows:
        for moment in (first, last):
            assert (moment.astimezone(new_york) + timedelta(hours=7)).date() == session
