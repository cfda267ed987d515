"""The contest of `make bench` on few rows, with the engines that are installed here: their answers are ours."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import answers, data
from benchmarks.contender import APPENDS, Contender
from benchmarks.engines import opened
from benchmarks.report import DUCKDB, DUCKDB_FILE, OURS, POLARS, PYICEBERG, Measure, Report

ROWS = 5_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the answers of the workbench."""
    folder = tmp_path_factory.mktemp("contest")
    contend(OURS, folder)
    return folder


def contend(name: str, folder: Path) -> Path:
    """Every stage in this process; the folder of the answers."""
    csv, kept = data.csv(folder, ROWS), folder / "answers" / name
    data.pieces(csv, folder / "pieces", ROWS // 5)
    Contender(opened(name, folder / "loaded" / name), kept).load(csv)
    contender = Contender(opened(name, folder / "loaded" / name), kept)
    contender.read(csv)
    contender.replay(csv)
    if "join" not in contender.engine.cannot:
        contender.join(csv)
    appended = Contender(opened(name, folder / "appended" / name), kept).append(folder / "pieces")
    assert appended.keys() >= set(APPENDS)
    return kept


@pytest.mark.parametrize("name", [DUCKDB, DUCKDB_FILE, POLARS, PYICEBERG])
def test_an_engine_answers_as_we_do(name: str, folder: Path) -> None:
    kept = contend(name, folder)
    assert len(list(kept.iterdir())) >= 16
    assert answers.faults(folder / "answers" / OURS, kept) == []


def test_an_answer_that_differs_is_found(tmp_path: Path) -> None:
    bars = pl.DataFrame({"symbol": ["A"], "vwap": [2.5]})
    for name, answer in {"ours": bars, "same": bars, "other": bars.with_columns(vwap=2.5000001)}.items():
        (tmp_path / name).mkdir()
        answers.keep(tmp_path / name, "bars", answer, ("symbol", "vwap"))
    assert answers.faults(tmp_path / "ours", tmp_path / "same") == []
    (fault,) = answers.faults(tmp_path / "ours", tmp_path / "other")
    assert fault.startswith("bars:")


def test_the_report_as_the_readme_shows_it() -> None:
    report = Report(1_000, rounds=3, commits=200, notes=["ArcticDB: no join"])
    report.add(Measure("symbol-day", "ms", {OURS: 12.34, DUCKDB: 10.0, POLARS: 1_500.0}, times=1.3))
    report.add(Measure("callbacks", "events/s", {OURS: 596_000.0}))
    text = report.markdown()
    assert "| symbol-day, ms | 12.3 | **10.0** | - | 1,500 | - | - | - | 1.23 |" in text
    assert "| callbacks, events/s | 596,000 |  |" in text
    assert "\n- ArcticDB: no join\n" in text
    assert report.measures[0].met
