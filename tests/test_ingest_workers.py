"""Files side by side: the same lake as one after another, and each file's fault is its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel.errors import AlreadyIngested, CommitConflict, FileFault, InvalidParameter
from k2kernel.sample import generate


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    parts = [generate(tmp_path / f"sample-{seed}", rows=8_000, sessions=2, symbols=4, seed=seed) for seed in (7, 8)]
    return sorted(path for found in parts for path in found if "trades" in path.name)


def contents(bench: k2.Workbench) -> list[tuple[object, ...]]:
    columns = "symbol, venue, session, ts_event, price, size, source, source_offset"
    return bench.sql(f"SELECT {columns} FROM trades_raw ORDER BY ALL").to_polars().rows()


def test_four_workers_load_what_one_loads(tmp_path: Path, files: list[Path]) -> None:
    one, four = k2.connect(tmp_path / "one"), k2.connect(tmp_path / "four")
    assert len(files) >= 4
    expected = one.ingest(files, "k2-trades")
    found = four.ingest(files, "k2-trades", workers=4)
    assert (found.rows, found.lines, found.files) == (expected.rows, expected.lines, expected.files)
    assert contents(four) == contents(one)
    again = four.ingest(files, "k2-trades", workers=4)
    assert (again.rows, again.duplicate) == (0, expected.rows)
    assert sum(snapshot.rows_added for snapshot in four.snapshots("trades")) == expected.rows


def test_a_fault_is_of_its_file_and_the_others_are_loaded(tmp_path: Path, files: list[Path]) -> None:
    bench, wrong = k2.connect(tmp_path / "lake"), tmp_path / "wrong.csv"
    wrong.write_text("nothing,of,that\n1,2,3\n")
    loaded = list(bench.ingest_each([files[0], wrong, *files[1:]], "k2-trades", workers=2))
    assert [each.path for each in loaded] == [files[0], wrong, *files[1:]]
    assert [each.receipt is None for each in loaded] == [False, True, *[False] * len(files[1:])]
    with pytest.raises(FileFault, match=r"wrong\.csv"):
        loaded[1].get()
    assert bench.sql("SELECT count(*) AS n FROM trades_raw").to_arrow()["n"][0].as_py() == sum(
        each.receipt.rows for each in loaded if each.receipt
    )


def test_there_is_at_least_one_worker(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(InvalidParameter, match="workers=0"):
        k2.connect(tmp_path / "lake").ingest(files, "k2-trades", workers=0)


@pytest.mark.parametrize(
    "error",
    [
        FileFault("a.csv", "has no rows"),
        AlreadyIngested("a.csv", "trades", "BHP", "RIO"),
        CommitConflict("trades", "was changed"),
        InvalidParameter("hours", "x", "is no such hours"),
    ],
)
def test_an_error_comes_whole_from_another_process(error: k2.K2Error) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
