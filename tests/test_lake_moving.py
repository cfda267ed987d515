"""The embedded catalog moves to another one: tables in place, history kept, nobody left behind."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from k2kernel.config import Settings
from k2kernel.errors import CatalogMoved, CommitConflict, InvalidParameter
from k2kernel.lake import Lake, moving
from k2kernel.schemas import TABLES
from k2kernel.workbench import Workbench
from tests.doors import lake_of_doors
from tests.query_lake import add, event


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / ".k2", _env_file=None)


def elsewhere(settings: Settings) -> tuple[str, Settings]:
    uri = f"sqlite:///{settings.home.parent / 'other.db'}"
    return uri, Settings(home=settings.home, catalog_uri=uri, warehouse=settings.warehouse_path, _env_file=None)


def rows_of(lake: Lake) -> int:
    return lake.files("trades", lake.head("trades")).rows


def test_tables_history_and_names_are_there_afterwards(home: Settings) -> None:
    lake = lake_of_doors(home)
    before = {name: lake.table(name).metadata for name in TABLES}
    uri, there = elsewhere(home)
    moved = moving.move(home, uri)
    assert set(moved.tables) == {f"market_data.{name}" for name in TABLES}
    assert moved.settings == {"K2_CATALOG_URI": uri, "K2_WAREHOUSE": home.warehouse_path}
    after = Lake.open(there)
    assert {name: after.table(name).metadata for name in TABLES} == before
    wb = Workbench(there)
    assert wb.sql("SELECT count(*) AS n FROM trades", as_of="eod").to_polars()["n"].item() == 4
    assert add(after, "e" * 64, [event()]) == after.head("trades")
    assert rows_of(after) == 37


def test_who_comes_late_is_told(home: Settings) -> None:
    late = lake_of_doors(home)
    uri, _ = elsewhere(home)
    moving.move(home, uri)
    for again in (
        lambda: add(late, "e" * 64, [event()]),
        lambda: late.head("trades"),
        lambda: Lake.open(home),
        lambda: Lake.open(home, create=True),
        lambda: moving.move(home, uri),
    ):
        with pytest.raises(CatalogMoved, match=r"has moved to sqlite:.*other\.db\. Set K2_CATALOG_URI"):
            again()
    late.make("bars_1m")
    with pytest.raises(CatalogMoved):
        late.table("bars_1m")


def test_what_fails_leaves_everything_as_it_was(home: Settings) -> None:
    lake = lake_of_doors(home)
    uri, there = elsewhere(home)
    (home.home.parent / "x").mkdir()
    other = Settings(home=home.home.parent / "x", catalog_uri=uri, _env_file=None)
    Lake.open(other, create=True)
    with pytest.raises(InvalidParameter, match=r"has a table market_data\.corporate_actions already"):
        moving.move(home, uri)
    assert rows_of(lake) == rows_of(Lake.open(home)) == 36
    assert add(lake, "e" * 64, [event()]) == lake.head("trades")
    with pytest.raises(InvalidParameter, match="has a catalog of its own"):
        moving.move(there, uri)


def test_a_move_that_was_cut_off_is_finished_by_the_next(home: Settings) -> None:
    lake = lake_of_doors(home)
    uri, there = elsewhere(home)
    first = Lake.open(there, create=False).catalog
    first.create_namespace("market_data")
    first.register_table("market_data.trades", lake.table("trades").metadata_location)
    add(lake, "e" * 64, [event()])
    moving.move(home, uri)
    assert rows_of(Lake.open(there)) == 37


def test_a_writer_at_work_loses_nothing_and_forks_nothing(home: Settings) -> None:
    lake = lake_of_doors(home)
    uri, there = elsewhere(home)
    written, stopped = [], threading.Event()

    def write() -> None:
        with suppress(CatalogMoved):
            for number in range(1000):
                add(lake, f"{number:064d}", [event()])
                written.append(number)
        stopped.set()

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 3:
        stopped.wait(0.01)
    moving.move(home, uri)
    writer.join(60)
    assert stopped.is_set()
    after = Lake.open(there)
    assert 3 <= len(written) < 1000
    with suppress(CommitConflict):  # where the move came between the commit and its answer
        add(after, f"{len(written):064d}", [event()])
    assert rows_of(after) == 36 + len(written) + 1
