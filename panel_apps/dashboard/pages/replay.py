"""Replay: the session as it happened, trades and quotes in one order, at a pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import panel as pn

from k2kernel import Quote, Trade
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Shell, attempt, zone_of
from panel_apps.dashboard.store import Desk

_TICK_MS = 500
_SHOWN, _MOST_A_TICK = 28, 20_000
_SPEEDS = {"1x": 1, "10x": 10, "60x": 60, "600x": 600, "3600x": 3_600}


class Replayed:
    """The replay of the workbench, advanced by what the clock of the page has moved, times the speed."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        style = {"stylesheets": [looks.style("widget")], "margin": (0, 12, 0, 0)}
        self._speed = pn.widgets.RadioButtonGroup(options=_SPEEDS, value=60, **style)
        self._play = looks.button("▶ play", lambda _: self._toggle(), width=90)
        self._restart = looks.button("restart", lambda _: self._begin())
        self._clock, self._book, self._events = looks.html(), looks.html(), looks.html()
        tools = looks.tools(self._play, self._speed, self._restart, margin=(4, 0, 8, 0))
        left = pn.Column(
            looks.card(tools, self._clock, title="Replay"), looks.card(self._book, title="Book"), width=470
        )
        right = looks.card(self._events, title="Events, the newest first")
        self.body = looks.columns(left, right)
        self._running: Running | None = None
        self._ticking: Any = None

    def read(self, desk: Desk) -> Any:
        """A replay at its beginning."""
        return attempt(lambda: Running(desk))

    def show(self, desk: Desk, found: Any) -> None:  # noqa: ARG002 - a page is given it
        """Stand at the beginning."""
        self._stop()
        if isinstance(found, Exception):
            self._events.object = looks.problem(str(found))
            return
        self._running = found
        self._tell(None)

    def _begin(self) -> None:
        desk = self._shell.desk
        if desk is not None:
            self._shell.work(lambda: self.read(desk), lambda found: self.show(desk, found))

    def _toggle(self) -> None:
        if self._ticking is not None or self._running is None:
            self._stop()
            return
        self._play.label = "❚❚ pause"
        self._running.resume()
        self._ticking = pn.state.add_periodic_callback(self._tick, _TICK_MS)

    def _stop(self) -> None:
        if self._ticking is not None:
            self._ticking.stop()
        self._ticking = None
        self._play.label = "▶ play"

    def _tick(self) -> None:
        running = self._running
        if running is not None and not running.busy:
            running.busy = True
            speed = self._speed.value
            self._shell.work(lambda: attempt(lambda: running.advance(speed)), self._tell)

    def _tell(self, failed: Any) -> None:
        running = self._running
        if running is None:
            return
        running.busy = False
        if isinstance(failed, Exception) or running.over:
            self._stop()
        zone = zone_of(running.desk)
        facts = [("time", looks.clock(running.at, zone, day=True)), ("events", f"{running.count:,}")]
        facts += [
            ("traded", looks.number(running.volume)),
            ("state", "over" if running.over else "running" if self._ticking else "paused"),
        ]
        self._clock.object = f'<div class="strip">{"".join(looks.fact(*each) for each in facts)}</div>'
        self._book.object = running.book()
        self._events.object = running.table(zone)


class Running:
    """A replay that stands somewhere: what it showed last, and the event that comes next."""

    def __init__(self, desk: Desk) -> None:
        kinds = [kind for kind in ("trades", "quotes") if kind in desk.states]
        self.desk, self.busy, self.over = desk, False, False
        self._events: Iterator[Any] = iter(desk.view.replay(desk.symbol, kinds, **desk.words))
        self.last: deque[Any] = deque(maxlen=_SHOWN)
        self.count, self.volume, self.at = 0, 0, None
        self._quote: Any = None
        self._next: Any = next(self._events, None)
        self._since = time.monotonic()
        if self._next is not None:
            self.at = self._next.ts_event

    at: datetime | None
    volume: Any

    def resume(self) -> None:
        """Time runs from here on."""
        self._since = time.monotonic()

    def advance(self, speed: float) -> None:
        """Show what happened in the time that has passed, times `speed`."""
        now = time.monotonic()
        passed, self._since = now - self._since, now
        if self.at is None:
            self.over = True
            return
        until = self.at + timedelta(seconds=passed * speed)
        for _ in range(_MOST_A_TICK):
            if self._next is None or self._next.ts_event > until:
                break
            self._take(self._next)
            self._next = next(self._events, None)
        self.over = self._next is None
        self.at = until if self._next is None or self._next.ts_event > until else self._next.ts_event

    def _take(self, event: Any) -> None:
        self.count += 1
        self.last.appendleft(event)
        if isinstance(event, Trade) and event.size is not None:
            self.volume += event.size
        if isinstance(event, Quote):
            self._quote = event

    def book(self) -> str:
        """The quote that stands."""
        if self._quote is None:
            return looks.none("no quote yet")
        quote = self._quote
        lines = [("bid", quote.bid_px, quote.bid_sz), ("ask", quote.ask_px, quote.ask_sz)]
        return looks.table(["", "price", "size"], lines, ["", "n", "n"])

    def table(self, zone: str) -> str:
        """The last events."""
        lines = []
        for event in self.last:
            if isinstance(event, Trade):
                lines.append(
                    (looks.clock(event.ts_event, zone), ("trade", "warn"), event.price, event.size, None, None)
                )
            else:
                told = (event.bid_px, event.bid_sz, event.ask_px, event.ask_sz)
                lines.append((looks.clock(event.ts_event, zone), ("quote", "quiet"), *told))
        heads = ["time", "event", "price or bid", "size", "ask", "size"]
        return looks.table(heads, lines, ["", "", "n", "n", "n", "n"]) if lines else looks.none("press play")
