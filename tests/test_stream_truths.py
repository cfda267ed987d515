"""CSV to topic to table to query: the same truths as a load of the file, on a real broker and registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel.sample import generate
from tests.streams import Services, fresh_class
from tests.test_truths import Loaded, by_symbol, check_days, number

EVENTS = ("trades_raw", "quotes")
OWN = "ts_ingest, source, source_offset"


def bench_at(home: Path, services: Services) -> k2.Workbench:
    return k2.connect(settings=services.settings(home))


def by_stream(bench: k2.Workbench, files: Mapping[Path, str], rows: int = 60_000) -> k2.Workbench:
    """Publish files and stream their topics into the lake in several batches."""
    asset_class = fresh_class()
    sent = [bench.produce(path, profile, asset_class=asset_class) for path, profile in files.items()]
    topics = sorted({topic for each in sent for one in each for topic in one.published.delivered})
    assert not sum(one.published.failed for each in sent for one in each)
    done = bench.stream(topics, rows=rows).run(until_end=True)
    assert done.messages == sum(sum(one.published.delivered.values()) for each in sent for one in each)
    assert done.rejected == 0
    assert done.batches > 1
    verdict = bench.audit()
    assert verdict.ok, str(verdict)
    return bench


def rows_of(bench: k2.Workbench, table: str) -> object:
    return bench.sql(f"SELECT * EXCLUDE ({OWN}) FROM {table} ORDER BY ALL").to_arrow().to_pylist()


@pytest.fixture(scope="module")
def asx(shared_data: Path, services: Services, tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Loaded]:
    """The same files loaded, and streamed into another lake."""
    folder = shared_data / "asx-2014-03"
    reference = ("company_info", "dividends", "mergers", "stock_splits")
    profiles = ("asx-companies", "asx-dividends", "asx-mergers", "asx-splits")
    events = {
        folder / f"raw/{kind}/{number}.csv": f"asx-{kind}" for kind in ("trades", "quotes") for number in (7078, 7181)
    }
    benches = [bench_at(tmp_path_factory.mktemp(name), services) for name in ("loaded", "streamed")]
    for bench in benches:
        for name, profile in zip(reference, profiles, strict=True):
            bench.ingest(folder / f"raw/reference-data/{name}.csv", profile)
    for path, profile in events.items():
        benches[0].ingest(path, profile)
    by_stream(benches[1], events)
    loaded, streamed = (Loaded(folder, bench, {}) for bench in benches)
    return loaded, streamed


@pytest.mark.parametrize("table", EVENTS)
def test_every_row_is_as_a_load_makes_it(asx: tuple[Loaded, Loaded], table: str) -> None:
    loaded, streamed = (rows_of(each.bench, table) for each in asx)
    assert loaded == streamed


def test_the_truths_of_the_asx_days(asx: tuple[Loaded, Loaded]) -> None:
    _, streamed = asx
    for eligible, key in (("all", "all_trades"), ("venue", "on_market_only (venue != X)")):
        for symbol, truths in by_symbol(streamed.truths["daily_ohlcv"][key]).items():
            check_days(streamed, symbol, "XASX", eligible, truths)
    assert streamed.one("SELECT count(*) FROM trades") == streamed.truths["trades"]["row_count"]
    assert streamed.one("SELECT sum(size) FROM trades") == number(streamed.truths["trades"]["sum_volume"])


@pytest.fixture(scope="module")
def sample(services: Services, tmp_path_factory: pytest.TempPathFactory) -> tuple[k2.Workbench, k2.Workbench]:
    folder = tmp_path_factory.mktemp("sample")
    files = {path: f"k2-{path.name.partition('-')[0]}" for path in generate(folder, rows=30_000, sessions=2, symbols=9)}
    files = {path: profile for path, profile in files.items() if profile in {"k2-trades", "k2-quotes"}}
    loaded, streamed = (bench_at(tmp_path_factory.mktemp(name), services) for name in ("loaded", "streamed"))
    for path, profile in files.items():
        loaded.ingest(path, profile)
    return loaded, by_stream(streamed, files, rows=9_000)


@pytest.mark.parametrize("table", EVENTS)
def test_every_row_of_the_sample_is_as_a_load_makes_it(sample: tuple[k2.Workbench, k2.Workbench], table: str) -> None:
    loaded, streamed = (rows_of(each, table) for each in sample)
    assert loaded
    assert loaded == streamed
