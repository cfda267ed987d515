"""Bars of real tick files: every kind beside the slow implementation, and days and minutes beside given figures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from k2kernel.workbench import Workbench, connect
from tests.bar_checks import check_every_door
from tests.slow_bars import OFF_MARKET, Asked, by_policy

SETS = {
    "asx-2014-03": ({"reference-data/company_info.csv": "asx-companies", "trades/7181.csv": "asx-trades"}, "trades"),
    "binance-ws-2024-08-08": (
        {"spot_btcusdt_20240808.gz": "binance-spot-ws", "usdm_btcusdt_20240808.gz": "binance-usdm-ws"},
        "trades",
    ),
    "cn-sse-2023-07-11": ({"SHtrans.zip": "sse-trades"}, "trades"),
    "fx-eurusd-2014-05": (
        {"fxcm/20140507_quote.zip": "fxcm-quotes", "oanda/20140507_quote.zip": "oanda-quotes"},
        "mid",
    ),
}
"""Files of each data set with their profiles, and what its bars are of."""

KINDS = ("1m", "session", "tick:100", "volume:5000", "dollar:1e6")


CASES = [(name, kind) for name, (_, of) in SETS.items() for kind in KINDS if of == "trades" or kind[0] not in "vd"]
"""Each data set with the bars that it has; quotes have no volume."""


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workbench on a data set, its rows, and what its bars are of."""
    files, of = SETS[request.param]
    bench = connect(tmp_path_factory.mktemp("truths"))
    for name, profile in files.items():
        bench.ingest(shared_data / request.param / "raw" / name, profile)
    read = bench.trades if of == "trades" else bench.quotes
    names = ["bid_px", "ask_px"] if of == "mid" else ["price", "size", "conditions"]
    keys = ["symbol", "venue", "session", "ts_event", "ts_event_ns", "sequence", "source", "source_offset"]
    return bench, read(columns=[*keys, *names]).to_arrow().to_pylist(), of


@pytest.mark.long
@pytest.mark.parametrize(("loaded", "interval"), CASES, indirect=["loaded"])
def test_every_kind_through_every_door(loaded: tuple[Workbench, list[Any], str], interval: str) -> None:
    bench, rows, of = loaded
    asked = Asked(interval, of, codes=by_policy(OFF_MARKET), label={"XASX": "asx"})
    check_every_door(bench, rows, asked)


@pytest.mark.long
def test_fx_days_by_utc_are_the_given_ones(shared_data: Path, tmp_path: Path) -> None:
    """Bid and ask of a UTC day as bars of a minute, put together again."""
    folder, bench = shared_data / "fx-eurusd-2014-05", connect(tmp_path)
    for broker in ("fxcm", "oanda"):
        for path in sorted((folder / "raw" / broker).glob("*.zip")):
            bench.ingest(path, f"{broker}-quotes")
    for truth in json.loads((folder / "truths.json").read_text())["daily_bid_ask_per_utc_day"]:
        start = datetime.fromisoformat(truth["utc_day"]).replace(tzinfo=UTC)
        within = {"venue": truth["symbol"].partition(":")[0].upper(), "start": start, "end": start + timedelta(days=1)}
        for side in ("bid", "ask"):
            found = bench.bars("EURUSD", "1m", of=side, **within).to_arrow().to_pylist()
            figures = found[0]["open"], max(bar["high"] for bar in found), min(bar["low"] for bar in found)
            given = tuple(Decimal(str(truth[f"{side}_{name}"])) for name in ("open", "high", "low", "close"))
            assert (*figures, found[-1]["close"]) == given
            assert sum(bar["n_quotes"] for bar in found) == truth["n"]
            spreads = [bar["mean_spread"] * bar["n_quotes"] for bar in found]
            assert abs(sum(spreads) - Decimal(str(truth["sum_spread"]))) < Decimal("1e-6")
