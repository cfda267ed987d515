"""The dashboard in a real browser: it shows what the workbench says, behind a login, with nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import k2kernel as k2
from panel_apps.dashboard import looks
from panel_apps.dashboard.state import PAGES
from tests.replays import sample_bench
from tests.servers import KEY, Server, serving
from tests.support import missing_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [  # calls of Panel and Bokeh
    pytest.mark.filterwarnings("ignore:.*HTTPServerRequest:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index"),
]

CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    """Two sessions, and a line that was no row."""
    folder = tmp_path_factory.mktemp("dashboard")
    found = sample_bench(folder, rows=1_500, sessions=2, symbols=2)
    bad = folder / "bad.csv"
    bad.write_text("symbol,venue,tick_size\nBHP,XASX,0.01\nRIO,XASX,no size\n")
    found.ingest(bad, "k2-instruments", max_rejects=1)
    return found


@pytest.fixture(scope="module")
def server(bench: k2.Workbench) -> Iterator[Server]:
    with serving(bench.settings.home) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which(CHROMIUM) is None:
        missing_service("chromium", "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that is logged in; at the end nothing has come from another server, and nothing has failed in it."""
    found = browser.new_context(viewport={"width": 1680, "height": 1050}).new_page()
    found.set_default_timeout(WAIT_MS)
    hosts, problems = set(), []
    found.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.goto(f"{server.url}/login")
    found.fill("#key", KEY)
    found.click("button")
    yield found
    assert hosts - {""} == {urlsplit(server.url).netloc}
    assert problems == []


def opened(page: Page, server: Server, words: str = "") -> None:
    """Open the dashboard at an address, and wait until it shows something."""
    page.goto(f"{server.url}/dashboard?hours=all&{words}")
    page.wait_for_selector(".strip, .cards, .tabulator-row, .none, .problem")


def shows(page: Page, summary: k2.Summary) -> None:
    """Wait until the strip has the figures of a summary."""
    page.wait_for_function(
        """([close, volume, day]) => [...deep(document)].some(text =>
            text.includes(close) && text.includes(volume) && text.includes(day));
        function* deep(root) {
            for (const each of root.querySelectorAll("*")) {
                if (each.matches(".strip")) yield each.innerText
                if (each.shadowRoot) yield* deep(each.shadowRoot)
            }
        }""",
        arg=[looks.number(summary.close), looks.number(summary.volume), str(summary.session)],
    )


def days(bench: k2.Workbench, venue: str) -> list[str]:
    return sorted({str(row["session"]) for row in bench.sessions().to_arrow().to_pylist() if row["venue"] == venue})


def traded(bench: k2.Workbench) -> tuple[str, list[str]]:
    """A venue and its symbols that have trades."""
    rows = [row for row in bench.symbols().to_arrow().to_pylist() if row["trades"]]
    venue = max({row["venue"] for row in rows}, key=lambda code: sum(row["venue"] == code for row in rows))
    return venue, sorted(row["symbol"] for row in rows if row["venue"] == venue)


def test_a_key_opens_it_and_nothing_else_does(browser: Browser, server: Server) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{server.url}/?symbol=BHP")
    assert urlsplit(page.url).path == "/login"
    page.fill("#key", "another key")
    page.click("button")
    assert "no key of this server" in page.inner_text(".problem")
    page.fill("#key", KEY)
    page.click("button")
    page.wait_for_selector(".strip")
    assert urlsplit(page.url).path == "/dashboard"
    assert "symbol=BHP" in page.url
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    with server.client(key=None) as client:
        assert client.get("/v1/symbols", headers={"Cookie": f"k2_login={cookie['value']}"}).status_code == 200
        changed = cookie["value"][:-2] + ("AA" if not cookie["value"].endswith("AA") else "BB")
        assert client.get("/v1/symbols", headers={"Cookie": f"k2_login={changed}"}).status_code == 401
    page.context.close()


def test_symbol_session_and_snapshot_change_what_it_shows(page: Page, server: Server, bench: k2.Workbench) -> None:
    venue, symbols = traded(bench)
    first, last = days(bench, venue)[0], days(bench, venue)[-1]
    opened(page, server, f"venue={venue}&symbol={symbols[0]}")
    shows(page, bench.summary(symbols[0], last, venue=venue))
    page.get_by_label("symbol").select_option(symbols[-1])
    shows(page, bench.summary(symbols[-1], last, venue=venue))
    page.get_by_label("session").select_option(first)
    shows(page, bench.summary(symbols[-1], first, venue=venue))
    page.wait_for_url(re.compile(f"session={first}"))

    shared = page.url
    other = page.context.new_page()
    other.goto(shared)
    shows(other, bench.summary(symbols[-1], first, venue=venue))
    other.close()


def test_the_time_bar_pins_everything_to_a_state(
    page: Page, server: Server, bench: k2.Workbench, tmp_path: Path
) -> None:
    venue, symbols = traded(bench)
    day = days(bench, venue)[-1]
    then = bench.summary(symbols[0], day, venue=venue)
    lines = ["symbol,venue,ts_event,price,size", f"{symbols[0]},{venue},{then.last.isoformat()},123.45,77"]  # type: ignore[union-attr]
    (tmp_path / "late.csv").write_text("\n".join(lines) + "\n")
    opened(page, server, f"venue={venue}&symbol={symbols[0]}&session={day}")
    shows(page, then)
    bench.ingest(tmp_path / "late.csv", "k2-trades")
    now = bench.summary(symbols[0], day, venue=venue)
    assert now.volume != then.volume
    shows(page, now)  # it follows new snapshots

    stop = str(bench.snapshots("trades")[1].id)
    opened(page, server, f"venue={venue}&symbol={symbols[0]}&session={day}&as_of={stop}")
    shows(page, then)
    page.get_by_text("Time travel", exact=True).click()
    page.get_by_text("1 row added, 0 removed, 0 changed").wait_for()


def test_a_click_on_a_trade_shows_its_line_and_file(page: Page, server: Server, bench: k2.Workbench) -> None:
    venue, symbols = traded(bench)
    day = days(bench, venue)[0]
    opened(page, server, f"page=tape&venue={venue}&symbol={symbols[0]}&session={day}")
    page.locator(".tabulator-row").first.click()
    newest = bench.trades(symbols[0], venue=venue, session=day, limit=1, descending=True).to_arrow().to_pylist()[0]
    trace = bench.trace("trades", newest["source"], newest["source_offset"])
    page.get_by_text(Path(trace.file).name).wait_for()
    assert trace.raw is None or page.get_by_text(trace.raw).count()


def test_every_page_opens_dark_and_light(page: Page, server: Server) -> None:
    grounds = set()
    for name, theme in zip(PAGES, ["dark", "light"] * len(PAGES), strict=False):
        opened(page, server, f"page={name}&theme={theme}")
        if name == "letters":
            page.locator(".tabulator-row", has_text="no size").wait_for()
        page.locator("nav a.here", has_text=PAGES[name]).wait_for()
        assert page.locator(".problem").count() == 0, page.locator(".problem").first.inner_text()
        grounds.add((theme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert len(grounds) == 2
    page.goto("about:blank")
    server.wait_for("k2_queries_running", 0, seconds=60)


def test_every_page_fits_a_telephone(page: Page, server: Server) -> None:
    wide = page.viewport_size
    assert wide is not None
    page.set_viewport_size({"width": 390, "height": 844})
    for name in PAGES:
        opened(page, server, f"page={name}")
        page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth", timeout=10_000)
    page.set_viewport_size(wide)
    page.goto("about:blank")
    server.wait_for("k2_queries_running", 0, seconds=60)


def test_a_page_without_a_lake_says_so_and_shows_what_is_loaded_later(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "lake") as server:
        page = browser.new_context().new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{server.url}/login")
        page.fill("#key", KEY)
        page.click("button")
        page.locator(".problem", has_text="There is no lake").wait_for()
        assert page.locator("nav a").count() > len(PAGES)
        file = tmp_path / "one.csv"
        file.write_text("symbol,venue,ts_event,price,size\nONE,XNYS,2024-03-05T15:00:00Z,1,1\n")
        k2.connect(tmp_path / "lake").ingest(file, "k2-trades")
        page.locator(".strip .name", has_text="ONE").wait_for()
        assert page.locator(".problem").count() == 0


def test_the_docs_load_nothing_from_elsewhere(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() > 15
