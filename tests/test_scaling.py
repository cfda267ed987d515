"""Many writers of one table, and the paper model of how a table grows held to what it does."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from benchmarks.sizing import grown, kept
from k2kernel.config import Settings
from k2kernel.lake import Lake
from tests.lake_frames import load

WRITERS, COMMITS, ROWS = 8, 5, 10


def write(home: Path, writer: int, begin: float) -> None:
    """A process that commits files of its own, from an instant on that all writers share."""
    lake = Lake.open(Settings(home=home, _env_file=None))
    time.sleep(max(0.0, begin - time.time()))
    for number in range(COMMITS):
        load(lake, f"{writer:032d}{number:032d}", ROWS)


@pytest.mark.long
def test_eight_writers_get_on_alike_and_every_row_is_there_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ".k2", _env_file=None)
    lake = Lake.open(settings, create=True)
    spawn = multiprocessing.get_context("spawn")
    words = [(settings.home, writer, time.time() + 20) for writer in range(WRITERS)]
    workers = [spawn.Process(target=write, args=each) for each in words]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    done = [source.digest for ingest in lake.provenance("trades") for source in ingest.sources]
    assert len(set(done)) == len(done) == WRITERS * COMMITS
    assert lake.files("trades", lake.head("trades")).rows == WRITERS * COMMITS * ROWS
    assert len(lake.ancestors("trades")) == WRITERS * COMMITS
    ingests = lake.provenance("trades")
    order = sorted((str(each.committed_at), source.digest[:32]) for each in ingests for source in each.sources)
    assert len({writer for _, writer in order[: len(order) // 2]}) == WRITERS


def test_the_paper_reproduces_the_measured_growth(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ".k2", _env_file=None)
    lake = Lake.open(settings, create=True)
    for number in range(1, 31):
        load(lake, f"{number:064d}", ROWS)
        if number in {5, 15, 22, 30}:
            _holds(lake, number)


def _holds(lake: Lake, commits: int) -> None:
    """Manifests and files exactly, the size of metadata.json to 5 %."""
    table = lake.table("trades")
    paper = grown(commits, location=len(table.location()))
    head = table.current_snapshot()
    assert head is not None
    assert len(head.manifests(table.io)) == paper.manifests_to_plan
    folder = Path(lake.settings.warehouse_path) / "market_data" / "trades"
    assert len([path for path in folder.rglob("*.*") if path.is_file()]) == paper.files
    assert Path(table.metadata_location).stat().st_size == pytest.approx(paper.metadata_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("commits_a_day", "days", "states"), [(39, 90, 140), (390, 90, 154), (2_340, 90, 236), (24, 1, 26)]
)
def test_expiry_keeps_what_the_paper_says(commits_a_day: int, days: int, states: int) -> None:
    assert kept(commits_a_day, days) == states


def test_the_page_shows_what_the_model_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import sizing

    monkeypatch.setattr("sys.argv", ["sizing"])
    sizing.main()
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    assert capsys.readouterr().out in page
