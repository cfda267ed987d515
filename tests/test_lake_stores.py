"""The lake's contract, the same on every catalog and store: embedded, PostgreSQL, and a REST catalog over S3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel import Workbench
from k2kernel.config import Settings
from k2kernel.errors import CatalogMoved, CommitConflict, InvalidParameter, K2Error, UnknownReference
from k2kernel.lake import Claim, Lake
from k2kernel.lake.moving import move
from k2kernel.lake.reachable import Reachable, on_disk, place
from k2kernel.query.connection import Query
from k2kernel.schemas import NAMESPACE, TABLES
from k2kernel.times import parse_as_of
from tests.lake_frames import DAY, OPEN, came_from, load, rows_of, trades
from tests.stores import OTHER

on_s3 = pytest.mark.parametrize("store", ["rest and s3"], indirect=True)
AS_OF = (None, "eod", "close")
HEADER = "ts_event,symbol,venue,sequence,price,size,side,conditions\n"


@pytest.fixture
def settings(store: Mapping[str, str], tmp_path: Path) -> Settings:
    """A lake of its own in a store that the tests share."""
    return Settings(home=tmp_path / ".k2", _env_file=None, threads=1, memory_limit="500MB", **own(store, tmp_path))


def own(store: Mapping[str, str], tmp_path: Path) -> dict[str, Any]:
    given: dict[str, Any] = dict(store)
    if "warehouse" in given:
        given["warehouse"] += f"/{tmp_path.name}"
    return given


@pytest.fixture
def lake(settings: Settings) -> Iterator[Lake]:
    with closing(Lake.open(settings, create=True)) as made:
        for name in ("trades", "ingest_log", "dead_letter"):  # an earlier test's
            made.catalog.drop_table((NAMESPACE, name))
        with closing(Lake.open(settings, create=True)) as lake:
            yield lake


def test_what_is_loaded_is_there_once_and_what_it_came_from(lake: Lake) -> None:
    first, second = load(lake, "one"), load(lake, "two", rows=5, minute=1)
    with pytest.raises(CommitConflict):
        load(lake, "one", minute=2)
    assert len(rows_of(lake)) == 15
    assert lake.files("trades", second).rows == 15
    assert lake.files("trades", first).rows == 10
    assert [each.sources[0].digest for each in lake.provenance("trades")] == ["one", "two"]


def test_writers_at_once_lose_and_double_nothing(settings: Settings, lake: Lake) -> None:
    def write(number: int) -> None:
        with closing(Lake.open(settings)) as other:
            load(other, f"file {number}", rows=3)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(4)))
    assert sorted(rows_of(lake)["source"].unique()) == [f"file {number}" for number in range(4)]
    assert len(rows_of(lake)) == 12


def test_names_time_travel_and_rollback(lake: Lake) -> None:
    first, second = load(lake, "one"), load(lake, "two", minute=1)
    lake.tag("trades", "eod", first)
    assert lake.resolve("trades", parse_as_of("eod")) == first
    lake.rollback("trades", first)
    assert lake.head("trades") == first
    assert len(rows_of(lake)) == 10
    lake.rollback("trades", second)
    assert len(rows_of(lake)) == 20
    with pytest.raises(UnknownReference):
        lake.files("trades", 17)


def test_replaced_compacted_and_expired(lake: Lake) -> None:
    first = load(lake, "one")
    load(lake, "two", minute=1)
    stamped = trades(7, "one", ts_ingest=rows_of(lake)["ts_ingest"].max())
    written = lake.write("trades", stamped, stamped["session"][0])
    lake.append("trades", [written.path], came_from("one", 7, 2), replace=["one"])
    assert len(rows_of(lake)) == 17
    done = lake.maintenance.compact("trades")
    assert (done.files, done.files_after) == (2, 1)
    gone = lake.maintenance.expire("trades", {"last": 1, "every": "0s", "hourly": "0s", "daily": "0s"}, dry_run=False)
    assert gone.snapshots_after == 1
    assert gone.deleted > 0
    with pytest.raises(UnknownReference):
        lake.files("trades", first)
    assert len(rows_of(lake)) == 17
    # What has expired is still known not to be loaded again.
    with pytest.raises(CommitConflict):
        load(lake, "two", minute=3)


def test_what_nothing_refers_to_goes_once_it_is_old(lake: Lake) -> None:
    """Where a store has tables of several tests, those of this one alone."""
    load(lake, "one")
    load(lake, "two", minute=1)
    lost = lake.write("trades", trades(3, "never committed"), DAY)
    lake.maintenance.compact("trades")
    young = lake.maintenance.orphans("trades")
    assert (young.deleted, lake.table("trades").io.new_input(lost.path).exists()) == (0, True)
    would, done = (lake.maintenance.orphans("trades", "0s", dry_run=dry_run) for dry_run in (True, False))
    assert lost.path.rpartition("/")[2] in would.note
    assert (done.deleted, done.deleted_nbytes) == (would.deleted, would.deleted_nbytes)
    assert done.deleted_nbytes >= lost.nbytes
    assert not lake.table("trades").io.new_input(lost.path).exists()
    table = lake.table("trades")
    assert {file.place for file in on_disk("trades", table)} == set(map(place, Reachable().files(table)))
    assert len(rows_of(lake)) == 20
    assert {step.action for step in lake.maintenance.maintain("trades")} == {"compact", "expire", "orphans"}


def emptied(lake: Lake) -> None:
    """No table is in the catalog that the tests share."""
    for name in lake.catalog.list_tables(NAMESPACE):
        lake.catalog.drop_table(name)


def streamed(lake: Lake, claim: Claim, minute: int) -> None:
    """Offsets of a partition, a row each."""
    rows = claim.end - claim.start
    frame = trades(rows, claim.source, ts_ingest=OPEN + timedelta(minutes=minute))
    given = came_from(f"{claim.source} from {claim.start}", rows, minute)
    lake.append("trades", [lake.write("trades", frame, DAY).path], given, claims=[claim])


def test_an_embedded_catalog_moves_here(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    """Tables stay where they are; snapshots, tags, pins, what was loaded and offsets are there, and appends go on."""
    emptied(lake)
    here = {**settings.model_dump(), "home": tmp_path / "moved", "catalog_uri": None, "threads": 1}
    before = Lake.open(Settings(**here), create=True)
    uri = settings.catalog_url if settings.catalog_uri else f"sqlite:///{tmp_path / 'other.db'}"
    first = load(before, "one")
    streamed(before, Claim("market.equity.trades.xasx/0", 0, 4, "writer", 1), 1)
    before.tag("trades", "eod", first)
    before.pin("close")
    kept = {name: before.table(name).metadata for name in TABLES}

    moved = move(before.settings, uri)
    assert set(moved.tables) == {f"{NAMESPACE}.{name}" for name in TABLES}
    here |= {"catalog_uri": uri, "warehouse": moved.settings["K2_WAREHOUSE"]}
    with closing(Lake.open(Settings(**here))) as after:
        assert {name: after.table(name).metadata for name in TABLES} == kept
        with pytest.raises(CommitConflict, match="already"):
            load(after, "one", minute=2)
        with pytest.raises(CommitConflict):
            streamed(after, Claim("market.equity.trades.xasx/0", 3, 9, "writer", 1), 3)
        streamed(after, Claim("market.equity.trades.xasx/0", 4, 9, "writer", 1), 3)
        assert len(rows_of(after)) == 19
        wb = k2.connect(settings=after.settings)
        wb.__dict__["lake"] = after
        asked = {as_of: wb.sql("SELECT count(*) AS n FROM trades", as_of=as_of).to_polars()["n"][0] for as_of in AS_OF}
        assert asked == {None: 19, "eod": 10, "close": 14}
    with pytest.raises(CatalogMoved):
        load(before, "two", minute=5)
    before.close()


@on_s3
def test_a_catalog_that_cannot_reach_the_files_takes_no_table(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    emptied(lake)
    here = Lake.open(Settings(home=tmp_path / "disk", _env_file=None), create=True)
    load(here, "one")
    with pytest.raises(InvalidParameter, match=r"cannot take market_data\..* where it is: .* must reach the warehouse"):
        move(here.settings, settings.catalog_url)
    assert load(here, "two", minute=1) == here.head("trades")
    here.close()


@pytest.fixture
def bench(settings: Settings, lake: Lake) -> Workbench:
    made = k2.connect(settings=settings)
    made.__dict__["lake"] = lake
    return made


def test_files_in_and_questions_out(bench: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    lines = [f"2024-03-04T00:00:0{number}Z,BHP,XASX,{number},44.{number},10,buy,\n" for number in range(5)]
    file.write_text(HEADER + "".join(lines))
    state = bench.ingest(file, "k2-trades").tables["trades"].snapshot_id
    assert bench.ingest(file, "k2-trades").rows == 0
    assert len(bench.trades("BHP").to_polars()) == 5
    assert bench.sql("SELECT sum(size) AS s FROM trades").to_polars()["s"][0] == 50
    assert bench.bars("BHP", "1m").to_polars()["volume"].to_list() == [50]
    assert sum(1 for _ in bench.replay("BHP")) == 5
    assert len(bench.trades("BHP", as_of=state).to_polars()) == 5
    assert bench.snapshots("trades")[0].id == state


def test_a_backup_goes_there_and_back(bench: Workbench, tmp_path: Path) -> None:
    """From an embedded lake to here, and from here to another one."""
    here = k2.connect(settings=Settings(home=tmp_path / "here", _env_file=None))
    here.init()
    old = load(here.lake, "one")
    here.export("trades", tmp_path / "there")
    there = bench.restore(tmp_path / "there")
    assert there.ids[0] == old
    with pytest.raises(CommitConflict, match="already"):
        load(bench.lake, "one", minute=2)
    load(bench.lake, "two", minute=1)
    bench.export("trades", tmp_path / "back")
    back = k2.connect(settings=Settings(home=tmp_path / "back home", _env_file=None))
    assert back.restore(tmp_path / "back").rows == 20
    order = ["source", "source_offset"]
    assert rows_of(back.lake).sort(order).equals(rows_of(bench.lake).sort(order))
    assert [each.digests for each in back.lake.provenance("trades")] == [{"one"}, {"two"}]
    for each in (here, back):
        each.lake.close()


@on_s3
def test_nothing_but_the_warehouse_can_be_read(bench: Workbench, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(f"{HEADER}2024-03-04T00:00:00Z,BHP,XASX,1,44,10,buy,\n")
    bench.ingest(file, "k2-trades")
    (inside,) = (each.path for each in bench.lake.files("trades", bench.lake.head("trades")))
    elsewhere = Settings(**{**settings.model_dump(), "warehouse": f"s3://{OTHER}/warehouse"})
    database = bench.engine._database
    assert database.rows(Query("SELECT count(*) FROM read_parquet($p)", {"p": inside})) == [(1,)]
    rest = inside.removeprefix(settings.warehouse_path)
    for outside in (
        f"{elsewhere.warehouse_path}{rest}",
        f"{settings.warehouse_path}/../{tmp_path.name}{rest}",
        f"{settings.warehouse_path}-other{rest}",
        f"s3://{OTHER}/../{inside.removeprefix('s3://')}",
        "/etc/passwd",
    ):
        with pytest.raises(K2Error):
            database.rows(Query("SELECT count(*) FROM read_parquet($p)", {"p": outside}))
