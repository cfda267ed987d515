"""Fixtures: every test works in an empty folder, with no K2_ setting of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from k2kernel.config import Settings
from tests.stores import store
from tests.streams import services
from tests.support import ROOT

__all__ = ["services", "store"]

if TYPE_CHECKING:
    from k2kernel.lake import Lake
    from k2kernel.query import QueryEngine
    from k2kernel.workbench import Workbench
    from tests.feeds import Feed
    from tests.streams import Services


def pytest_configure() -> None:
    """Let interrupts reach what tests start: a background job of a shell ignores them, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process, and all that need the services another: each is started once."""
    for item in items:
        shared = "services" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("services" if shared else item.path.stem))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seeds of random runs and what they met, which a failure is repeated with."""
    for report in terminalreporter.getreports("passed"):
        for line in report.capstdout.splitlines():
            if line.startswith("seed "):
                terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: no `.k2`, no `.env` and no K2_ variable reaches a test."""
    for name in [name for name in os.environ if name.upper().startswith("K2_") and name != "K2_TEST_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an embedded lake that does not exist yet."""
    return Settings(home=tmp_path / ".k2")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A fresh embedded lake with every table and no row."""
    from k2kernel.lake import Lake

    return Lake.open(settings, create=True)


@pytest.fixture
def wb(lake: Lake) -> Workbench:
    """A workbench on the lake, with its connections."""
    from k2kernel.workbench import connect

    bench = connect(settings=lake.settings)
    bench.__dict__["lake"] = lake
    return bench


@pytest.fixture
def engine(lake: Lake) -> QueryEngine:
    """What asks the lake."""
    from k2kernel.query import QueryEngine

    return QueryEngine(lake)


@pytest.fixture
def bench(settings: Settings) -> Workbench:
    """A workbench on the lake of the doors."""
    from k2kernel.workbench import connect
    from tests.doors import lake_of_doors

    lake_of_doors(settings)
    return connect(settings.home)


@pytest.fixture
def feed(services: Services, tmp_path: Path) -> Feed:
    """A lake that is fed by the broker."""
    from tests.feeds import Feed

    return Feed(services, tmp_path / ".k2")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tick files: K2_TEST_DATA, else shared/data beside the clone; the test skips without it."""
    folder = Path(os.environ.get("K2_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real tick files at {folder}; K2_TEST_DATA may name the folder")
    return folder
