"""A state of a table in a folder and back: equal rows, known sources, offsets; and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

import k2kernel as k2
from k2kernel.errors import CommitConflict, FileFault, InvalidParameter, MovedLake
from k2kernel.lake import Claim, Lake
from tests.lake_frames import DAY, came_from, load, new_lake, rows_of, settings, trades


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with closing(new_lake(tmp_path / "first")) as made:
        yield made


@pytest.fixture
def exported(lake: Lake, tmp_path: Path) -> Path:
    """Three ingests, of which a replaced one and a stream's, then compacted."""
    load(lake, "one")
    load(lake, "two", minute=1)
    again = lake.write("trades", trades(7, "one", ts_ingest=rows_of(lake)["ts_ingest"].max()), DAY)
    lake.append("trades", [again.path], came_from("one", 7, 2), replace=["one"])
    streamed = lake.write("trades", trades(4, "topic/0", ts_ingest=rows_of(lake)["ts_ingest"].max()), DAY)
    claim = Claim("market.equity.trades.xasx/0", 0, 4, "writer", 1)
    lake.append("trades", [streamed.path], came_from("topic/0", 4, 3), claims=[claim])
    lake.maintenance.compact("trades")
    done = k2.connect(settings=lake.settings).export("trades", tmp_path / "copy")
    assert (done.files, done.rows) == (1, 21)
    return tmp_path / "copy"


def test_what_comes_back_is_equal_and_known(lake: Lake, exported: Path, tmp_path: Path) -> None:
    other = k2.connect(settings=settings(tmp_path / "second"))
    done = other.restore(exported)
    assert done.rows == 21
    assert done.ids == (lake.head("trades"), other.lake.head("trades"))
    kept = json.loads(Path(done.file).read_text())
    assert kept["snapshots"] == {str(done.ids[0]): str(done.ids[1])}
    order = ["source", "source_offset"]
    assert rows_of(other.lake).sort(order).equals(rows_of(lake).sort(order))
    assert other.lake.offsets("trades") == lake.offsets("trades")
    ours, theirs = other.lake.provenance("trades"), lake.provenance("trades")
    assert [(each.summary(), each.committed_at) for each in ours] == [
        (each.summary(), each.committed_at) for each in theirs
    ]
    with pytest.raises(CommitConflict):
        load(other.lake, "two", minute=9)
    load(other.lake, "new", minute=9)
    assert other.sql("SELECT count(*) AS n FROM trades").to_polars()["n"][0] == 31
    other.maintain("trades")
    with pytest.raises(CommitConflict):
        load(other.lake, "two", minute=10)
    other.lake.close()


def test_columns_beside_the_contract_come_back(lake: Lake, tmp_path: Path) -> None:
    load(lake, "one", rows=3)
    own = lake.widen("trades", {"note": "string", "lots": "int32"})
    frame = trades(3, "two", ts_ingest=rows_of(lake)["ts_ingest"].max())
    frame = frame.with_columns(note=pl.lit("a"), lots=pl.lit(7, pl.Int32))
    lake.append("trades", [lake.write("trades", frame, DAY).path], came_from("two", 3, 1))
    k2.connect(settings=lake.settings).export("trades", tmp_path / "copy")
    other = k2.connect(settings=settings(tmp_path / "second"))
    other.restore(tmp_path / "copy")
    statement = f"SELECT source, source_offset, {', '.join(own)} FROM trades ORDER BY ALL"
    found = other.sql(statement).to_arrow()
    assert found.equals(k2.connect(settings=lake.settings).sql(statement).to_arrow())
    assert found["note"].to_pylist() == [None] * 3 + ["a"] * 3
    other.lake.close()


def test_columns_that_are_there_already_are_taken_or_refused(lake: Lake, tmp_path: Path) -> None:
    lake.widen("trades", {"note": "string"})
    load(lake, "one", rows=3)
    k2.connect(settings=lake.settings).export("trades", tmp_path / "copy")
    same = k2.connect(settings=settings(tmp_path / "same"))
    with closing(Lake.open(same.settings, create=True)) as made:
        made.widen("trades", {"note": "string"})
    assert same.restore(tmp_path / "copy").rows == 3
    for place, there in (("type", {"note": "int64"}), ("id", {"other": "string"})):
        other = k2.connect(settings=settings(tmp_path / place))
        with closing(Lake.open(other.settings, create=True)) as made:
            made.widen("trades", there)
        before = other.lake.table("trades").schema()
        with pytest.raises(FileFault, match="has the column note as"):
            other.restore(tmp_path / "copy")
        assert other.lake.table("trades").schema() == before
        assert other.lake.table("ingest_log").current_snapshot() is None
        other.lake.close()
    same.lake.close()


def test_an_earlier_state_can_be_exported(lake: Lake, tmp_path: Path) -> None:
    first = load(lake, "one", rows=3)
    load(lake, "two", minute=1)
    bench = k2.connect(settings=lake.settings)
    assert bench.export("trades", tmp_path / "copy", as_of=first).rows == 3
    other = k2.connect(settings=settings(tmp_path / "second"))
    assert other.restore(tmp_path / "copy").rows == 3
    load(other.lake, "two", minute=1)
    other.lake.close()
    with pytest.raises(FileFault, match="is not empty"):
        bench.export("trades", tmp_path / "copy")


def test_a_damaged_export_and_a_table_with_rows_are_refused(exported: Path, tmp_path: Path) -> None:
    with closing(new_lake(tmp_path / "second")) as second:
        bench = k2.connect(settings=second.settings)
        load(second, "mine")
        with pytest.raises(InvalidParameter, match="has a snapshot already"):
            bench.restore(exported)
    with closing(new_lake(tmp_path / "third")) as third:
        (file,) = (exported / "data").iterdir()
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(FileFault, match="not as it was written"):
            k2.connect(settings=third.settings).restore(exported)
        assert third.head("trades") is None


def test_a_lake_that_was_copied_says_what_to_do(lake: Lake, tmp_path: Path) -> None:
    load(lake, "one")
    lake.close()
    shutil.copytree(lake.settings.home, tmp_path / "copy")
    copy = k2.Settings(home=tmp_path / "copy")
    with closing(Lake.open(copy)) as found, pytest.raises(MovedLake, match="k2 table export"):
        found.head("trades")


@pytest.mark.parametrize("moved", [".", "warehouse"])
def test_a_lake_that_was_moved_says_what_to_do_and_works_once_that_is_done(
    lake: Lake, tmp_path: Path, moved: str
) -> None:
    """The whole lake, or the warehouse alone, to a folder whose name a shell would take apart."""
    load(lake, "one")
    lake.close()
    to = tmp_path / "an other" / "place"
    to.parent.mkdir()
    shutil.move((lake.settings.home / moved).resolve(), to)
    here = k2.Settings(home=to) if moved == "." else k2.Settings(home=lake.settings.home, warehouse=str(to))
    with closing(Lake.open(here)) as found:
        with pytest.raises(MovedLake, match=r"mkdir -p .* && ln -s") as raised:
            found.head("trades")
        command = re.search(r"`(.*)`", str(raised.value))
        assert command is not None
        subprocess.run(command[1], shell=True, check=True)
        load(found, "two", minute=1)
        assert found.files("trades", found.head("trades")).rows == 20
        assert {step.action for step in found.maintenance.maintain("trades")} == {"compact", "expire", "orphans"}
        assert len(rows_of(found)) == 20
