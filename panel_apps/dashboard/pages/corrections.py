"""Corrections: what a session looked like then, and what is known of it now."""

from __future__ import annotations

from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Grid, Origin, Shell, attempt, zone_of
from panel_apps.dashboard.store import Desk, Row

_FIGURES = ("open", "high", "low", "close", "volume", "vwap", "n_trades")
_MOST = 500
_UNDOING = "('cancel', 'correction', 'cancelled', 'superseded', 'order_cancel')"
_TEXT = (
    f"SELECT * FROM trades_raw WHERE symbol = $symbol AND venue = $venue AND session BETWEEN $first AND $last "
    f"AND status IN {_UNDOING} ORDER BY ts_event, sequence, source_offset LIMIT {_MOST}"
)


class Corrections:
    """Then is the state of the slider, or what was known at a time; now is the newest state."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        style = {"stylesheets": [looks.style("widget")], "margin": (0, 12, 0, 0)}
        self._at = pn.widgets.TextInput(
            label="known at (a time with zone)", placeholder="2014-03-11T12:00:00+11:00", width=260, **style
        )
        self._clock = pn.widgets.Select(label="by", options=["ingest", "recv", "event"], width=100, **style)
        for widget in (self._at, self._clock):
            widget.param.watch(lambda _: self._again(), "value")
        self._then, self._bars, self._none = looks.html(), looks.html(), looks.html()
        self._grid = Grid(self._ask, ("price", "size"), height=420)
        self._origin = Origin(shell)
        left = pn.Column(
            looks.card(
                looks.tools(self._at, self._clock, margin=(2, 0, 8, 0)), self._then, title="Known then, known now"
            ),
            looks.card(self._bars, title="Bars that differ"),
            looks.card(self._grid.pane, self._none, title="Cancels, corrections, and what they undid"),
            sizing_mode="stretch_width",
        )
        self.body = looks.columns(left, pn.Column(self._origin.card, width=440))

    def read(self, desk: Desk) -> dict[str, Any]:
        """Both sides, and the rows that undo others."""
        first, _, last = desk.session.partition("..")
        words = {"symbol": desk.symbol, "venue": desk.venue, "first": first, "last": last or first}
        now = desk.store.bench.at(desk.store.states(""))
        known = {"known_at": self._at.value, "clock": self._clock.value} if self._at.value else {}
        bars = {"eligible": desk.eligible, **desk.words}

        def sides(interval: str) -> tuple[list[Row], list[Row]]:
            then = desk.view.bars(desk.symbol, interval, **bars, **known).to_arrow().to_pylist()
            return then, now.bars(desk.symbol, interval, **bars).to_arrow().to_pylist()

        return {
            "sessions": attempt(lambda: sides("session")),
            "bars": attempt(lambda: sides(desk.interval)),
            "rows": attempt(lambda: now.sql(_TEXT, words).to_arrow().to_pylist()),
        }

    def show(self, desk: Desk, found: dict[str, Any]) -> None:
        """Fill every part."""
        self._then.object = _told(found["sessions"], _sessions)
        self._bars.object = _told(found["bars"], _different)
        rows: list[Row] = [] if isinstance(found["rows"], K2Error) else found["rows"]
        zone = zone_of(desk)
        shown = {"time": [looks.clock(row["ts_event"], zone, day=True) for row in rows]}
        names = ("status", "price", "size", "trade_id", "corrects", "ts_ingest")
        shown |= {name: [looks.text(row[name]) for row in rows] for name in names}
        self._grid.fill(shown, rows)
        self._none.object = "" if rows else looks.none("No row of these sessions undoes another.")

    def _again(self) -> None:
        desk = self._shell.desk
        if desk is not None:
            self._shell.work(lambda: self.read(desk), lambda found: self.show(desk, found))

    def _ask(self, row: Row) -> None:
        self._origin.ask("trades", row)


def _told(found: Any, how: Any) -> str:
    if isinstance(found, K2Error):
        return looks.problem(str(found))
    told: str = how(*found)
    return told


def _sessions(then: list[Row], now: list[Row]) -> str:
    """Each figure of each session: then, now and by how much it moved."""
    before = {row["session"]: row for row in then}
    lines = []
    for row in now:
        old = before.get(row["session"], {})
        for name in _FIGURES:
            a, b = old.get(name), row[name]
            moved = b - a if a is not None and b is not None else None
            tone = "warn" if a != b else "quiet"
            lines.append((row["session"], name, a, b, (looks.number(moved), tone)))
    return looks.table(["session", "figure", "then", "now", "moved"], lines, ["", "", "n", "n", "n"])


def _different(then: list[Row], now: list[Row]) -> str:
    """The bars that are not the same on both sides."""
    before = {row["ts_open"]: row for row in then}
    moved = [
        (row["ts_open"], row["session"], name, before.get(row["ts_open"], {}).get(name), row[name])
        for row in now
        for name in ("high", "low", "close", "volume")
        if before.get(row["ts_open"], {}).get(name) != row[name]
    ]
    if not moved:
        return looks.none("Every bar is the same then and now.")
    return looks.table(["start (UTC)", "session", "figure", "then", "now"], moved[:40], ["", "", "", "n", "n"])
