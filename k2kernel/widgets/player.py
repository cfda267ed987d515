"""Playing history."""

from __future__ import annotations

import threading
from collections import deque
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

from k2kernel.errors import K2Error
from k2kernel.html import figure
from k2kernel.replay.events import Quote, Trade
from k2kernel.times import from_ns, to_ns
from k2kernel.widgets.drawing import (
    ASK,
    BID,
    DOWN,
    GRID,
    LEFT,
    QUIET,
    RIGHT,
    UP,
    WIDTH,
    Frame,
    clock,
    local,
    picture,
    words,
)
from k2kernel.widgets.page import STYLE, OnPage, button, ipywidgets
from k2kernel.workbench import View, Workbench

if TYPE_CHECKING:
    from k2kernel.replay import Replay
    from k2kernel.replay.events import Event

SPEEDS = (
    ("real time", 1),
    ("10 times", 10),
    ("60 times", 60),
    ("600 times", 600),
    ("3,600 times", 3_600),
    ("all at once", 0),
)
_FRAME_S = 0.2
_KEPT, _SHOWN, _HEIGHT = 400, 12, 260
_STEPS = 1_000
"""Places of the slider."""


class ReplayPlayer(OnPage):
    """One instrument's history with play, pause, step, seek and speed, a chart of the last events and a tape of them.

    `speed` is one of 0 (all at once), 1, 10, 60, 600 and 3600 times the pace of history; the other words are those of
    `wb.replay`. It begins paused. The events come in a thread of its own; `close` ends it. `replay` is the stream, for
    `position`, `snapshots` and the like. K2Error where there is nothing to play.
    """

    def __init__(self, reader: Workbench | View, symbol: str, *, speed: float = 60, **asked: Any) -> None:
        view = reader if isinstance(reader, View) else reader.at(asked.pop("as_of", None))
        self.symbol, self._kinds = symbol, tuple(asked.get("kinds", ("trades", "quotes")))
        self.replay: Replay = view.replay(symbol, speed=speed, **asked)
        self.first, self.last, self.zone = _span(view, symbol, self._kinds, asked)
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._now, self._at = self.first, 0
        self._painted: tuple[int, str, int] | None = None
        self._again, self._closed = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.replay.pause()
        self.box = self._made(speed)
        self._paint()

    @property
    def text(self) -> str:
        """What it plays, and how far it is."""
        days = f"{_stamp(self.first, self.zone)} to {_stamp(self.last, self.zone)} {self.zone or 'UTC'}"
        return f"{self.symbol}, {' and '.join(self._kinds)} from {days}; {self.replay.events:,} events played"

    def play(self) -> None:
        """Go on, from the beginning where the end was reached."""
        if self.replay.state == "completed":
            self.seek(self.first)
        self.replay.resume()
        self._run()

    def pause(self) -> None:
        """Hold before the next event."""
        self.replay.pause()

    def step(self, events: int = 1) -> None:
        """Let so many events pass, and be paused then."""
        self.replay.step(events)
        self._run()

    def seek(self, ns: int) -> None:
        """Go to the first event at or after an instant in ns; what was shown is cleared."""
        self._kept.clear()
        self._now = ns
        self.replay.seek(from_ns(ns))
        self._run()

    def close(self) -> None:
        """End the stream and its threads."""
        self._closed.set()
        self.replay.stop()
        self._again.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        if not self._threads and not self._closed.is_set():
            self._threads = [threading.Thread(target=work, daemon=True) for work in (self._pump, self._follow)]
            for thread in self._threads:
                thread.start()
        self._again.set()

    def _pump(self) -> None:
        """Take events as they come; at the end wait for a seek."""
        while self._again.wait() and not self._closed.is_set():
            self._again.clear()
            for event in self.replay:
                self._kept.append(event)
                self._now = event.ts_event_ns

    def _follow(self) -> None:
        while not self._closed.wait(_FRAME_S):
            self._paint()

    def _made(self, speed: float) -> Any:
        w = ipywidgets()
        self._play = button("play", "play or pause", self._turn)
        one = button("step-forward", "one event", self.step)
        many = button("fast-forward", "a hundred events", self.step, 100)
        self._speed = w.Dropdown(options=SPEEDS, value=speed, layout=w.Layout(width="120px"), tooltip="speed")
        self._speed.observe(lambda change: setattr(self.replay, "speed", change.new), "value")
        wide = w.Layout(width=f"{WIDTH - 470}px")
        self._slider = w.IntSlider(0, 0, _STEPS, readout=False, continuous_update=False, layout=wide)
        self._slider.observe(self._slid, "value")
        self._clock, self._ticker, self._chart, self._tape = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        bar = w.HBox([self._play, one, many, self._speed, self._slider, self._clock])
        return w.VBox([bar, self._ticker, self._chart, self._tape]).add_class("k2-player")

    def _turn(self) -> None:
        if self._playing:
            self.pause()
        else:
            self.play()

    @property
    def _playing(self) -> bool:
        return self.replay.state == "running"

    def _slid(self, change: Any) -> None:
        if change.new != self._at:  # else it follows the stream
            self._at = change.new
            self.seek(self.first + (self.last - self.first) * change.new // _STEPS)

    def _paint(self) -> None:
        """Show where the stream is, where that has changed."""
        seen = (self.replay.events, self.replay.state, self._now)
        if seen == self._painted:
            return
        self._painted = seen
        self._play.icon = "pause" if self._playing else "play"
        self._clock.value = f'<span style="{STYLE}">{_stamp(self._now, self.zone)} · {self.replay.state}</span>'
        events = list(self._kept.copy())
        self._ticker.value = ticker(self.symbol, events, self.zone)
        self._chart.value, self._tape.value = chart(events, self.zone), tape(events, self.zone)
        self._at = (self._now - self.first) * _STEPS // max(self.last - self.first, 1)
        self._slider.value = self._at


def _stamp(ns: int, zone: str | None) -> str:
    return clock(ns, zone, "%Y-%m-%d %H:%M:%S")


def _span(view: View, symbol: str, kinds: tuple[str, ...], asked: dict[str, Any]) -> tuple[int, int, str | None]:
    """The first and last instant in ns, and the venue's zone."""
    words = {name: asked[name] for name in ("venue", "session", "start", "end", "hours") if name in asked}
    ends, zone = [], None
    for kind in kinds:
        for descending in (False, True):
            read: dict[str, Any] = {"columns": ["ts_event"], "limit": 1, "descending": descending} | words
            found = getattr(view, kind)(symbol, **read)
            ends += [to_ns(time) for time in found.to_arrow()["ts_event"].to_pylist()]
            zone = found.zone
    if not ends:
        raise K2Error(f"There is nothing of {symbol} to play", "Ask for another session or range")
    return min(ends), max(ends), zone


def chart(events: list[Event], zone: str | None) -> str:
    """Trades, by aggressor, over the best bid and ask, as a picture."""
    bids, asks = (_prices(events, side) for side in ("bid_px", "ask_px"))
    prints = _prices(events, "price")
    prices = [price for _, price, _ in (*bids, *asks, *prints)]
    if not prices:
        return picture(_HEIGHT, words(WIDTH / 2, _HEIGHT / 2, "press play, or step", "middle"))
    frame = Frame.around([event.ts_event_ns for event in events], prices, _HEIGHT)
    dots = "".join(frame.dot((ns, price), 3.5, _colour(each)) for ns, price, each in prints)
    lines = "".join(
        frame.steps(((ns, price) for ns, price, _ in side), colour) for side, colour in ((bids, BID), (asks, ASK))
    )
    level = frame.y(prints[-1][1]) if prints else None
    last = "" if level is None else f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}" {_DASHED}/>'
    return picture(_HEIGHT, frame.grid(), frame.times(zone), lines, last, dots)


def _prices(events: list[Event], name: str) -> list[tuple[int, float, Event]]:
    """The instants, prices and events of those that have a price of that name."""
    found = ((event.ts_event_ns, getattr(event, name, None), event) for event in events)
    return [(ns, float(price), event) for ns, price, event in found if price is not None]


def _colour(event: Event) -> str:
    return {"buy": UP, "sell": DOWN}.get(getattr(event, "side", None) or "", QUIET)


def ticker(symbol: str, events: list[Event], zone: str | None) -> str:
    """The last trade and the book of now in a line, which is also the key to the colours."""
    trade = next((each for each in reversed(events) if isinstance(each, Trade)), None)
    quote = next((each for each in reversed(events) if isinstance(each, Quote)), None)
    said = [f"<b>{escape(symbol)}</b>"]
    if trade is not None:
        what = f"● {trade.side or 'trade'} {figure('', trade.size)} at <b>{_side(trade.price)}</b>"
        said.append(_in(_colour(trade), what))
    for side, colour in (("bid", BID), ("ask", ASK)) if quote is not None else ():
        price, size = (getattr(quote, f"{side}_{what}") for what in ("px", "sz"))
        said.append(_in(colour, f"— {side} <b>{_side(price)}</b> ({figure('', size) or '-'})"))
    said.append(_in(QUIET, f"times of {zone or 'UTC'}"))
    return f'<span style="{STYLE};font-size:13px">{" · ".join(said)}</span>'


def _in(colour: str, words: str) -> str:
    return f'<span style="color:{colour}">{words}</span>'


_DASHED = f'stroke="{QUIET}" stroke-dasharray="2 3"'


def tape(events: list[Event], zone: str | None) -> str:
    """The last events, newest first, as a table."""
    rows = "".join(_line(event, zone) for event in reversed(events[-_SHOWN:]))
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("time", "event", "price", "size", "conditions"))
    return f'<table style="{STYLE};border-collapse:collapse;width:{WIDTH}px"><tr>{head}</tr>{rows}</table>'


_CELL = f"padding:0 14px 0 0;text-align:left;border-bottom:1px solid {GRID}"


def _line(event: Any, zone: str | None) -> str:
    cells: tuple[str, ...]
    if event.kind == "trades":
        cells = (event.side or "trade", _side(event.price), figure("", event.size), " ".join(event.conditions or ()))
        colour = _colour(event)
    else:
        book = (_side(event.bid_px), _side(event.ask_px)), (_side(event.bid_sz), _side(event.ask_sz))
        cells, colour = ("quote", *(" / ".join(pair) for pair in book), ""), "inherit"
    time = f"{local(event.ts_event_ns, zone):%H:%M:%S.%f}"
    shown = "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in (time, *cells))
    return f'<tr style="color:{colour}">{shown}</tr>'


def _side(value: Decimal | None) -> str:
    return "-" if value is None else figure("", value)
