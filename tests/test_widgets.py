"""The widgets without a page: what they do, and what they say where nobody sees them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel import widgets
from k2kernel.times import to_ns
from k2kernel.widgets.drawing import Frame, number, rounded
from tests.query_lake import DAY, at


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def player(bench: k2.Workbench) -> Iterator[widgets.ReplayPlayer]:
    made = widgets.ReplayPlayer(bench, "BHP", speed=0)
    yield made
    made.close()


def test_the_picker_moves_a_view_through_the_commits(bench: k2.Workbench) -> None:
    view = bench.at()
    picker = widgets.TimeTravel(view)
    assert [(stop.table, stop.names) for stop in picker.stops] == [
        ("trades", ()), ("quotes", ("eod",)), ("trades", ()), ("trades", ()),
    ]  # fmt: skip
    assert picker.chosen is picker.stops[-1]
    assert view.trades().count() == 34
    assert picker.go("eod") is view
    assert view.trades().count() == 4
    picker.go(0)
    assert (view.trades().count(), view.states.get("quotes")) == (4, None)
    assert len(picker.text.splitlines()) == 2
    with pytest.raises(k2.K2Error, match="There is no stop 'eve'"):
        picker.go("eve")


def test_the_picker_says_what_it_cannot_read(bench: k2.Workbench) -> None:
    assert widgets.TimeTravel(bench).view.trades().count() == 34
    with pytest.raises(k2.K2Error, match="has no state yet"):
        widgets.TimeTravel(k2.connect(bench.settings.home / "other").init())


def test_the_player_plays_every_event_and_again_after_a_seek(bench: k2.Workbench, player: widgets.ReplayPlayer) -> None:
    events = bench.replay("BHP").run().events
    assert player.replay.state == "paused"
    player.step()
    until(lambda: player.replay.events == 1)
    player.step(2)
    until(lambda: player.replay.events == 3)
    player.play()
    until(lambda: player.replay.state == "completed")
    assert player.replay.events == events
    player.play()
    until(lambda: player.replay.events == 2 * events)
    until(lambda: "<circle" in player._chart.value)
    assert player._tape.value.count("<tr") == 1 + events


def test_axes_have_round_numbers_and_round_times() -> None:
    assert rounded(45.732, 45.848, 7) == pytest.approx([45.74, 45.76, 45.78, 45.80, 45.82, 45.84])
    assert [number(value, [45.74, 45.76]) for value in (45.74, 45.76)] == ["45.74", "45.76"]
    assert [number(value, [0, 10_000, 20_000]) for value in (0, 20_000)] == ["0", "20k"]
    assert (rounded(3, 3, 7), number(3, [3])) == ([3], "3")
    opens, minute = to_ns(at(7)), 60 * 10**9
    shown = Frame(opens, opens + 10 * minute, 0, 1, 100).times("Australia/Sydney")
    assert re.findall(r">(\d\d:\d\d:\d\d)<", shown) == [f"10:{n:02}:00" for n in (2, 4, 6, 8, 10)]


def test_the_player_says_the_last_trade_and_the_book(player: widgets.ReplayPlayer) -> None:
    player.play()
    until(lambda: player.replay.state == "completed")
    until(lambda: "bid" in player._ticker.value)
    assert "● trade 100 at <b>35.105</b>" in player._ticker.value or "0.5 at <b>35.11</b>" in player._ticker.value
    assert "— bid <b>35.1</b> (5)" in player._ticker.value
    assert "times of Australia/Sydney" in player._ticker.value


def test_the_player_says_what_it_plays(bench: k2.Workbench, player: widgets.ReplayPlayer) -> None:
    assert player.text.startswith("BHP, trades and quotes from 2014-03-10 ")
    assert player.text.endswith("Australia/Sydney; 0 events played")
    with pytest.raises(k2.K2Error, match="nothing of BHP to play"):
        widgets.ReplayPlayer(bench, "BHP", session="2014-03-11")


def test_the_explorer_knows_what_is_chosen(bench: k2.Workbench) -> None:
    explorer = widgets.Explorer(bench)
    assert explorer.text.splitlines()[0] == "BHP on XASX: 4 trades, 3 quotes, 2014-03-10 to 2014-03-10"
    assert (explorer.symbol, explorer.words) == ("BHP", {"venue": "XASX", "session": DAY.isoformat()})
    explorer._symbol.value = "RIO on XASX"
    assert explorer.words["session"] == "2014-03-10"
    assert explorer._session.options == ("2014-03-10", "2014-03-11")
    assert ">-0.01<" in explorer._facts.value


def test_a_load_fills_its_bars(bench: k2.Workbench, tmp_path: Path) -> None:
    from k2kernel.sample import generate

    file = generate(tmp_path, rows=1_000, symbols=1, sessions=1)[0]
    with widgets.IngestProgress() as bar:
        bench.ingest(file, bench.guess(file) or "", progress=bar)
    assert bar.box.children
    assert all(shown.value == 1 and shown.bar_style == "success" for shown, _ in bar._bars.values())
    assert file.name in bar.text


def test_what_is_shown_has_a_text_for_where_there_is_no_page(bench: k2.Workbench) -> None:
    bundle = widgets.TimeTravel(bench)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"].startswith("4 states (UTC)")
