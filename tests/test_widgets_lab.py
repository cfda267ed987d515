"""The widgets and the candle chart in a real JupyterLab page. LAB_SHOTS names a folder that gets the pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import k2kernel as k2
from k2kernel.sample import generate
from tests import lab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CELLS = (
    "import k2kernel as k2\nfrom k2kernel import plots, widgets\nwb = k2.connect()\nview = wb.at()",
    'plots.candles(wb, "BHP", "5m", venue="XASX", session="2024-03-05")',
    "widgets.TimeTravel(view)",
    'widgets.ReplayPlayer(wb, "BHP", venue="XASX", session="2024-03-05", speed=600)',
    "widgets.Explorer(view)",
    'with widgets.IngestProgress() as bar:\n    wb.ingest("more.csv", "k2-trades", progress=bar)',
    'print("counted", view.trades().count())',
)
UP, DOWN, VWAP = "#16845c", "#c23b3b", "#b7791f"


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """Rows of trades by state of the lake."""
    return {}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> Iterator[Page]:
    """A notebook with the cells, run, over a lake of two days."""
    from playwright.sync_api import sync_playwright

    browser, folder = lab.browser(), tmp_path_factory.mktemp("lab")
    bench = k2.connect(folder / ".k2")
    for file in generate(folder / "files", rows=24_000, sessions=2, symbols=4):
        bench.ingest(file, bench.guess(file) or "")
        if file.name == "trades-XASX.csv":
            bench.tag("trades", "first-load")
            counts["first-load"] = bench.trades().count()
            header, *lines = file.read_text().splitlines()
            (folder / "more.csv").write_text("\n".join([header, *lines[-40:]]) + "\n")
    bench.pin("eod")
    counts["eod"] = bench.trades().count()
    lab.write(folder / "book.ipynb", *CELLS)
    with lab.server(folder) as address, sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=lab.OPTIONS)
        page = opened.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(address)
        lab.run_all(page)
        page.get_by_text("counted").nth(1).wait_for()
        yield page
        opened.close()


def shot(part: Locator, name: str, folder: Path) -> Path:
    """A picture of a part of the page, which a person may look at."""
    path = Path(os.environ.get("LAB_SHOTS") or folder) / f"{name}.png"
    part.scroll_into_view_if_needed()
    part.screenshot(path=str(path))
    assert path.stat().st_size < 300_000
    return path


def colours(path: Path) -> set[str]:
    from PIL import Image

    found = Image.open(path).convert("RGB").getcolors(1 << 24) or []
    return {"#" + bytes(colour).hex() for _, colour in found}  # type: ignore[arg-type]


def told(page: Page) -> int:
    """What the last cell prints when it is run again."""
    before = page.locator(".jp-Notebook .jp-Cell").last
    before.locator(".cm-content").click()
    before.locator(".jp-OutputArea-child").evaluate("node => node.remove()")
    page.keyboard.press("Control+Enter")
    return int(before.locator(".jp-OutputArea-output").inner_text().split()[-1])


def test_candles(page: Page, tmp_path: Path) -> None:
    chart = page.locator(".jp-Cell", has=page.locator(".bk-Canvas, .bk-Figure")).first
    assert {UP, DOWN, VWAP} <= colours(shot(chart, "candles", tmp_path))


def test_the_picker_moves_the_view_that_it_is_bound_to(page: Page, tmp_path: Path, counts: dict[str, int]) -> None:
    picker = page.locator(".k2-travel")
    assert told(page) == counts["eod"]
    picker.locator("select").select_option("first-load")
    picker.get_by_text("first-load").last.wait_for()
    picker.locator("b", has_text="UTC").wait_for()
    page.wait_for_function("document.querySelectorAll('.k2-travel tbody tr').length === 1")
    assert told(page) == counts["first-load"]
    for _ in range(2):
        picker.locator("button").nth(1).click()
    page.wait_for_function("document.querySelectorAll('.k2-travel tbody tr').length === 2")
    picture = shot(picker, "travel", tmp_path)
    assert {UP, DOWN, "#2b6cb0"} <= colours(picture)


def test_the_player_plays_steps_and_seeks(page: Page, tmp_path: Path) -> None:
    player = page.locator(".k2-player")
    play, one, many = (player.locator("button").nth(n) for n in range(3))
    rows = player.locator("table tr")
    one.click()
    page.wait_for_function("document.querySelectorAll('.k2-player table tr').length === 2")
    track = player.locator(".slider-container, .noUi-target").first.bounding_box()
    assert track is not None
    page.mouse.click(track["x"] + track["width"] * 0.55, track["y"] + track["height"] / 2)
    many.click()
    page.wait_for_function("document.querySelectorAll('.k2-player circle').length > 5")
    assert re.search(r"2024-03-05 1[2-5]:\d\d:\d\d", player.inner_text())
    player.locator("select").select_option("60 times")
    play.click()
    player.get_by_text("running").wait_for()
    page.wait_for_timeout(2_000)
    play.click()
    player.get_by_text("paused").wait_for()
    assert rows.count() == 13
    assert {UP, DOWN, "#2b6cb0"} <= colours(shot(player, "replay", tmp_path))


def test_the_explorer_shows_what_is_chosen(page: Page, tmp_path: Path) -> None:
    explorer = page.locator(".k2-explorer")
    chart = explorer.locator(".bk-Canvas, .bk-Figure")
    before = chart.first.element_handle()
    explorer.locator("select").select_option("2024-03-04")
    page.wait_for_function("node => !node.isConnected", arg=before)
    chart.first.wait_for()
    explorer.get_by_text("44.88").wait_for()
    assert {UP, DOWN} <= colours(shot(explorer, "explorer", tmp_path))


def test_a_load_shows_how_far_it_is(page: Page) -> None:
    assert page.locator(".k2-progress .progress-bar-success").count() >= 1
