"""Tables, data files, statistics and pruning."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import ListType

from k2kernel.config import Settings
from k2kernel.errors import InvalidParameter, LakeNotFound, UnknownTable
from k2kernel.lake import FileSet, Lake, LakeFile, Provenance
from k2kernel.lake.files import Recent
from k2kernel.schemas import TABLES
from tests.lake_frames import DAY, OPEN, came_from, frame, load, new_lake, rows_of, settings, trades

VALUES: dict[str, list[object]] = {
    "string": ["", "BHP", "汉 'quoted' \"x\" \n", None],
    "date": [date(1969, 12, 31), date(2014, 3, 10), date(9999, 12, 31), None],
    "timestamptz": [OPEN, OPEN - timedelta(microseconds=1), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), None],
    "int64": [-(2**63), 2**63 - 1, 1_394_409_600_123_456_789, None],
    "int32": [-(2**31), 0, 2**31 - 1, None],
    "bool": [True, False, True, None],
    "binary": [b"", b"\x00\xff", b"raw line", None],
    "decimal": [Decimal("-9999999999.99999999"), Decimal("0.00000001"), Decimal("35.10000000"), None],
    "list<string>": [[], ["X"], ["a", "b", "a"], None],
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return new_lake(tmp_path)


def hard(name: str) -> pl.DataFrame:
    """Four rows with the hardest values of every column; a required one has its first value where others are null."""
    table = TABLES[name]
    columns: dict[str, object] = {
        column.name: [
            value if value is not None or not column.required else VALUES[column.type][0]
            for value in VALUES[column.type]
        ]
        for column in table.columns
    }
    return frame(name, columns | ({"session": DAY} if table.partition else {}), 4)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_made_as_declared(lake: Lake, name: str) -> None:
    declared, made = TABLES[name], lake.table(name)
    assert [field.name for field in made.schema().fields] == list(declared.names)
    assert [field.required for field in made.schema().fields] == [column.required for column in declared.columns]
    assert [field.name for field in made.spec().fields] == ([declared.partition] if declared.partition else [])
    sorted_by = [made.schema().find_column_name(field.source_id) for field in made.sort_order().fields]
    assert sorted_by == list(declared.sort)
    assert made.format_version == 2
    assert made.properties["commit.retry.num-retries"] == "0"
    assert made.properties["write.update.isolation-level"] == "snapshot"
    assert made.location() == f"{lake.settings.warehouse_path}/market_data/{name}"


@pytest.mark.parametrize("name", TABLES)
def test_every_column_type_comes_back_as_it_went_in(lake: Lake, name: str) -> None:
    rows = hard(name)
    written = lake.write(name, rows, DAY if TABLES[name].partition else None)
    lake.append(name, [written.path], Provenance((), "test", "", OPEN))
    keys = TABLES[name].sort
    expected = rows.sort(keys, maintain_order=True)
    assert rows_of(lake, name).equals(expected)
    with duckdb.connect() as connection:
        scan = connection.sql("FROM read_parquet($path, hive_partitioning = false)", params={"path": written.path})
        assert scan is not None
        found = pl.from_arrow(scan.to_arrow_table())
    assert isinstance(found, pl.DataFrame)
    assert found.cast(TABLES[name].polars).equals(expected)  # type: ignore[arg-type]
    assert written.rows == 4
    assert written.nbytes == Path(written.path).stat().st_size


def test_files_carry_the_field_ids_of_the_table(lake: Lake) -> None:
    written = lake.write("trades", hard("trades"), DAY)
    schema, declared = pq.read_schema(written.path), lake.table("trades").schema()
    ids = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in schema}
    assert ids == {field.name: field.field_id for field in declared.fields}
    assert len(set(ids.values())) == len(ids)
    element = schema.field("conditions").type.value_field
    conditions = declared.find_type("conditions")
    assert isinstance(conditions, ListType)
    assert int(element.metadata[b"PARQUET:field_id"]) == conditions.element_id


def test_statistics_reach_the_file_set(lake: Lake) -> None:
    long = "A" * 40
    rows = trades(3, "d" * 64, symbol=["BHP", long, "RIO"], status=[None, "cancelled", None])
    first = lake.write("trades", rows, DAY)
    second = lake.write("trades", trades(4, "e" * 64, DAY + timedelta(days=1)), DAY + timedelta(days=1))
    head = lake.append("trades", [first.path, second.path], came_from("d", 7))
    found = {file.path: file for file in lake.files("trades", head)}
    start = int(OPEN.timestamp()) * 1_000_000
    day = 86_400_000_000
    assert found[first.path] == LakeFile(
        first.path,
        3,
        first.nbytes,
        DAY,
        long,
        "RIO",
        "XASX",
        "XASX",
        start,
        start + 2_000_000,
        "d" * 64,
        "d" * 64,
        price_never_null=True,
        status_all_null=False,
    )
    assert found[second.path] == LakeFile(
        second.path,
        4,
        second.nbytes,
        DAY + timedelta(days=1),
        "BHP",
        "BHP",
        "XASX",
        "XASX",
        start + day,
        start + day + 3_000_000,
        "e" * 64,
        "e" * 64,
        price_never_null=True,
        status_all_null=True,
    )


def some_files(count: int) -> FileSet:
    return FileSet(
        1,
        tuple(
            LakeFile(
                f"{number}",
                1,
                1,
                DAY + timedelta(days=number),
                f"S{number:03}",
                f"S{number + 1:03}",
                "XASX",
                "XSHG",
                number * 10,
                number * 10 + 9,
            )
            for number in range(count)
        ),
    )


def test_prune_keeps_what_may_match() -> None:
    files = some_files(5)

    def kept(**wanted: object) -> list[str]:
        return [file.path for file in files.prune(**wanted)]  # type: ignore[arg-type]

    assert kept() == ["0", "1", "2", "3", "4"]
    assert kept(symbols=["S002"]) == ["1", "2"]
    assert kept(symbols=["A", "S000", "Z"]) == ["0"]
    assert kept(symbols=[]) == []
    assert kept(venues=["XNYS"]) == kept()
    assert kept(venues=["XTKS"]) == []
    assert kept(sessions=(DAY + timedelta(days=1), DAY + timedelta(days=2))) == ["1", "2"]
    assert kept(ts_range_us=(10, 20)) == ["1"]
    assert kept(ts_range_us=(19, 20)) == ["1"]
    assert kept(ts_range_us=(None, 10)) == ["0"]
    assert kept(ts_range_us=(49, None)) == ["4"]
    assert kept(symbols=["S001"], ts_range_us=(10, None)) == ["1"]


def test_a_file_without_statistics_is_kept() -> None:
    bare = FileSet(1, (LakeFile("x", 1, 1),))
    assert bare.prune(["A"], ["XASX"], (DAY, DAY), (0, 1)) == list(bare.files)


def test_prune_of_200_files_takes_less_than_a_millisecond() -> None:
    files = some_files(200)
    wanted = (["S100", "S150"], ["XASX"], (DAY, DAY + timedelta(days=300)), (0, 10_000))
    best = min(_seconds(lambda: files.prune(*wanted)) for _ in range(20))
    assert best < 0.001


def _seconds(call: object) -> float:
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - started


def test_a_table_without_a_snapshot_has_no_files(lake: Lake) -> None:
    assert lake.head("trades") is None
    files = lake.files("trades", lake.head("trades"))
    assert (len(files), files.rows, files.prune(["BHP"])) == (0, 0, [])


def test_file_sets_and_manifests_are_decoded_once(lake: Lake) -> None:
    first = load(lake, "a")
    load(lake, "b")
    second = lake.head("trades")
    assert lake.files("trades", second) is lake.files("trades", second)
    old, new = lake.files("trades", first), lake.files("trades", second)
    assert old.files[0] in new.files
    assert (old.rows, new.rows) == (10, 20)


def test_only_so_many_files_are_kept_in_mind() -> None:
    kept = Recent[str, str](10)
    for name in "abc":
        assert kept.put(name, name * 4) == name * 4
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (None, "bbbb", "cccc", 8)
    kept.put("b", "bbbb")
    kept.put("d", "dddd")
    assert (kept.get("c"), kept.get("b"), len(kept)) == (None, "bbbb", 8), "what was asked for last stays"
    assert kept.put("large", "x" * 99) == kept.get("large")
    assert len(kept) == 99, "the last one is kept whatever its size"


def test_a_reader_of_every_state_of_a_busy_table_keeps_few_of_them(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server does for months, beside a stream; each merge of manifests is a new list of all files."""
    monkeypatch.setattr("k2kernel.lake.lake.MOST_FILES", 50)
    monkeypatch.setattr("k2kernel.lake.files.MOST_FILES", 50)
    reader = Lake.open(lake.settings)
    for number in range(24):
        load(lake, f"s{number}", rows=1, minute=number)
        assert reader.files("trades", lake.head("trades")).rows == number + 1
    assert 24 <= len(reader._file_sets) <= 50
    assert 24 <= len(reader._manifests._decoded) <= 50


@pytest.mark.parametrize(
    ("rows", "session", "message"),
    [
        (trades(0, "a"), DAY, "has no rows"),
        (trades(2, "a").drop("venue"), DAY, "columns of trades are missing"),
        (trades(2, "a", sequence=[1, None]), DAY, r"\['sequence'\].*has nulls"),
        (trades(2, "a"), None, "partitioned by session"),
    ],
)
def test_what_cannot_be_written_is_refused(lake: Lake, rows: pl.DataFrame, session: date | None, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        lake.write("trades", rows, session)


def test_discarded_files_are_gone(lake: Lake) -> None:
    written = lake.write("trades", trades(2, "a"), DAY)
    lake.discard([written.path, written.path])
    assert not Path(written.path).exists()


def test_no_lake_and_no_such_table(tmp_path: Path) -> None:
    with pytest.raises(LakeNotFound, match="There is no lake at"):
        Lake.open(settings(tmp_path))
    assert not (tmp_path / ".k2").exists()
    with pytest.raises(UnknownTable, match="Tables: corporate_actions, dead_letter"):
        new_lake(tmp_path).table("trade")


def test_a_catalog_of_something_else_is_no_lake(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as other:
        other.execute("CREATE TABLE films (title)")
    with closing(Lake.open(Settings(home=tmp_path))) as found, pytest.raises(LakeNotFound, match="k2 init"):
        found.head("trades")


@pytest.mark.parametrize(
    ("name", "value"), [("HTTP_RATE", "abc"), ("MEMORY_LIMIT", "banana"), ("ENGINE", "flink"), ("KEEP_LAST", "0")]
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"K2_{name}", value)
    with pytest.raises(InvalidParameter, match=f"^K2_{name}='{value}': "):
        Settings()


def test_odd_folder_names(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "it's 100% a #1 lake, ü")
    head = load(lake, "a")
    assert rows_of(Lake.open(lake.settings)).height == lake.files("trades", head).rows == 10


def test_opening_again_changes_nothing(lake: Lake) -> None:
    before = {name: lake.table(name).metadata_location for name in TABLES}
    again = Lake.open(lake.settings, create=True)
    assert {name: again.table(name).metadata_location for name in TABLES} == before


def test_a_cold_read_imports_no_more_than_it_needs(lake: Lake) -> None:
    load(lake, "a")
    code = f"""
import sys
from pathlib import Path
from k2kernel.config import Settings
from k2kernel.lake import Lake
lake = Lake.open(Settings(home=Path({str(lake.settings.home)!r}), _env_file=None))
files = lake.files("trades", lake.head("trades")).prune(["BHP"])
print(len(files), sorted({{"polars", "pyarrow", "pandas", "numpy", "fsspec", "duckdb"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"
