"""As-of joins of real files: independently computed figures and event by event in a replay."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import k2kernel as k2
from tests.oracles import ratio
from tests.test_asof import check_replay

FILES = {
    "asx-2014-03": {
        "reference-data/company_info.csv": "asx-companies",
        "trades/7078.csv": "asx-trades",
        "trades/7181.csv": "asx-trades",
        "quotes/7078.csv": "asx-quotes",
        "quotes/7181.csv": "asx-quotes",
    },
    "binance-ws-2024-08-08": {
        "spot_btcusdt_20240808.gz": "binance-spot-ws",
        "usdm_btcusdt_20240808.gz": "binance-usdm-ws",
    },
    "fx-eurusd-2014-05": {"fxcm/*.zip": "fxcm-quotes", "oanda/*.zip": "oanda-quotes"},
}
ON_MARKET = ~pl.col("conditions").list.contains("X")


class Real:
    """A data set in a lake of its own, with what its truths say of as-of joins."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.bench = k2.connect(home)
        for name, profile in FILES[folder.name].items():
            self.bench.ingest(str(folder / "raw" / name), profile)
        self.truths: dict[str, Any] = json.loads((folder / "truths.json").read_text())["asof_join"]


def real(name: str) -> Any:
    @pytest.fixture(scope="module")
    def loaded(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
        return Real(shared_data / name, tmp_path_factory.mktemp(name))

    return loaded


asx, binance, fx = (real(name) for name in FILES)


def figures(joined: pl.DataFrame) -> dict[str, Any]:
    """What the truths say of trades with the quote beside them; sums are exact, one division each."""
    found = joined.with_columns(
        ((pl.col("price") + pl.col("price")) - (pl.col("bid_px") + pl.col("ask_px"))).abs().alias("twice")
    )
    two = found.filter(pl.col("twice").is_not_null())
    uncrossed = two.filter(pl.col("bid_px") <= pl.col("ask_px"))
    sums = {name: sum(rows["twice"], Decimal(0)) for name, rows in (("two", two), ("uncrossed", uncrossed))}
    return {
        "trades": len(found),
        "with_prevailing_quote": found["source_right"].count(),
        "with_two_sided_quote": len(two),
        "with_two_sided_uncrossed_quote": len(uncrossed),
        "price_within_bid_ask_uncrossed": len(uncrossed.filter(pl.col("price").is_between("bid_px", "ask_px"))),
        "mean_effective_half_spread_two_sided": ratio(sums["two"], Decimal(2 * len(two))),
        "mean_effective_half_spread_two_sided_uncrossed": ratio(sums["uncrossed"], Decimal(2 * len(uncrossed))),
        "sum_abs_2p_minus_bid_minus_ask_two_sided": sums["two"],
    }


def check(joined: pl.DataFrame, truth: Mapping[str, Any]) -> None:
    assert figures(joined) == {
        name: Decimal(value) if isinstance(value, str) else value for name, value in truth.items()
    }


def test_asx_trades_and_the_quotes_beside_them(asx: Real) -> None:
    trades, quotes = asx.bench.trades(), asx.bench.quotes()
    for name, words in (
        ("inclusive", {}),
        ("strict", {"inclusive": False}),
        ("inclusive_same_local_day", {"same_session": True}),
    ):
        joined = asx.bench.asof(trades, quotes, **words).to_polars()
        check(joined, asx.truths["all_trades"][name])
        check(joined.filter(ON_MARKET), asx.truths["on_market_only"][name])
    per_symbol = asx.bench.asof(trades, quotes).to_polars().partition_by("symbol", as_dict=True)
    for (symbol,), joined in per_symbol.items():
        check(joined, asx.truths["all_trades"]["inclusive_per_symbol"][symbol])
        check(joined.filter(ON_MARKET), asx.truths["on_market_only"]["inclusive_per_symbol"][symbol])


def test_asx_sides_that_do_not_qualify_are_null(asx: Real) -> None:
    truth = asx.truths["all_trades"]["inclusive"]
    for sides, name in (("two_sided", "with_two_sided_quote"), ("uncrossed", "with_two_sided_uncrossed_quote")):
        joined = asx.bench.asof(asx.bench.trades(), asx.bench.quotes(), sides=sides).to_polars()
        assert (len(joined), joined["bid_px"].count()) == (truth["trades"], truth[name])


def test_asx_effective_spreads_are_twice_those_of_the_truths(asx: Real) -> None:
    truth = asx.truths["all_trades"]["inclusive"]
    twice = Decimal(truth["sum_abs_2p_minus_bid_minus_ask_two_sided"])
    costs = asx.bench.spreads().to_polars()
    assert sum(costs["effective_spread"].drop_nulls(), Decimal(0)) == twice
    in_sql = """
        SELECT sum(abs(2 * price - bid_px - ask_px)) FROM trades ASOF LEFT JOIN (
            SELECT venue, symbol, ts_event, bid_px, ask_px FROM quotes QUALIFY row_number() OVER (
                PARTITION BY venue, symbol, ts_event ORDER BY sequence DESC, source DESC, source_offset DESC) = 1
        ) USING (venue, symbol, ts_event)"""
    assert asx.bench.sql(in_sql).to_arrow()[0][0].as_py() == twice
    words = ["spreads", "DVN", "-o", "csv", "--home", str(asx.bench.settings.home)]
    door = Path(sys.executable).with_name("k2-query")
    lines = csv.DictReader(
        subprocess.run([door, *words], capture_output=True, text=True, check=True).stdout.splitlines()
    )
    truth = asx.truths["all_trades"]["inclusive_per_symbol"]["DVN"]
    wanted = Decimal(truth["sum_abs_2p_minus_bid_minus_ask_two_sided"])
    assert sum((Decimal(line["effective_spread"]) for line in lines), Decimal(0)) == wanted
    on_market = costs.filter(ON_MARKET)["effective_spread"].drop_nulls()
    wanted = asx.truths["on_market_only"]["inclusive"]["mean_effective_half_spread_two_sided"]
    assert ratio(sum(on_market, Decimal(0)), Decimal(2 * len(on_market))) == Decimal(wanted)


def test_asx_replay_and_join_agree(asx: Real) -> None:
    assert check_replay(asx.bench) == asx.truths["all_trades"]["inclusive"]["trades"]


def test_binance_by_the_time_of_capture_and_by_the_exchange(binance: Real) -> None:
    wb = binance.bench
    truth = binance.truths["by_local_receive_time"]
    for name, inclusive in (("inclusive", True), ("strict", False)):
        joined = wb.asof(wb.trades(), wb.quotes(), on="ts_recv", inclusive=inclusive).to_polars()
        check(joined, truth[name])
    assert check_replay(wb, on="ts_recv") == truth["inclusive"]["trades"]
    with pytest.raises(k2.K2Error, match=r"BINANCE, BTCUSDT are partly by the venue's clock.*on='ts_recv'"):
        wb.asof(wb.trades(), wb.quotes()).to_arrow()
    for venue, name in (("BINANCE", "spot:BTCUSDT"), ("BINANCE_USDM", "usdm:BTCUSDT")):
        words = {"venue": venue}
        joined = wb.asof(wb.trades("BTCUSDT", **words), wb.quotes("BTCUSDT", **words), on="ts_recv").to_polars()
        check(joined, truth["per_symbol_inclusive"][name])
    futures = wb.trades("BTCUSDT", venue="BINANCE_USDM"), wb.quotes("BTCUSDT", venue="BINANCE_USDM")
    truth = binance.truths["by_exchange_time_T (symbols whose bookTicker has T)"]
    for name, inclusive in (("inclusive", True), ("strict", False)):
        check(wb.asof(*futures, inclusive=inclusive).to_polars(), truth[name])


def test_oanda_beside_fxcm(fx: Real) -> None:
    truth = fx.truths
    oanda, fxcm = (fx.bench.quotes("EURUSD", venue=venue) for venue in ("OANDA", "FXCM"))
    joined = fx.bench.asof(oanda, fxcm, by="symbol", suffix="_fxcm").to_polars()
    assert len(joined) == truth["oanda_quotes"]
    found = joined.filter(pl.col("bid_px_fxcm").is_not_null())
    assert len(found) == truth["with_prevailing_fxcm_quote"]
    twice = ((pl.col("bid_px") + pl.col("ask_px")) - (pl.col("bid_px_fxcm") + pl.col("ask_px_fxcm"))).abs()
    total = sum(found.select(twice).to_series(), Decimal(0))
    assert ratio(total, Decimal(2 * len(found))) == Decimal(truth["mean_abs_mid_difference"])
