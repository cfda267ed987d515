"""The tape: every trade or quote of the instrument, a page at a time, as the lake has them."""

from __future__ import annotations

from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Grid, Origin, Shell, attempt, zone_of
from panel_apps.dashboard.store import Desk, Row

_PAGE = 200
_COLUMNS = {
    "trades": ("price", "size", "side", "conditions", "status", "trade_id", "exec_venue", "sequence"),
    "quotes": ("bid_px", "ask_px", "bid_sz", "ask_sz", "exec_venue", "conditions", "sequence"),
}
_NUMBERS = ("price", "size", "bid_px", "ask_px", "bid_sz", "ask_sz", "sequence")


class Tape:
    """Pages are cut by key in the server, so that the millionth row costs what the first does."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._keys: list[Any] = [None]
        self._next: Any = None
        style = {"stylesheets": [looks.style("widget")], "margin": (0, 12, 0, 0)}
        self._kind = pn.widgets.RadioButtonGroup(options=["trades", "quotes"], **style)
        self._raw = pn.widgets.Toggle(label="every row received", **style)
        self._kind.param.watch(self._again, "value")
        self._raw.param.watch(self._again, "value")
        self._newer = looks.button("< newer", lambda _: self._turn(back=True))
        self._older = looks.button("older >", lambda _: self._turn(back=False))
        self._told = looks.html()
        self._grid = Grid(self._ask, _NUMBERS, widths={"time": 176, "trade_id": 130}, height=860)
        self._origin = Origin(shell)
        tools = looks.tools(self._kind, self._raw, self._newer, self._older, self._told, margin=(4, 0, 8, 0))
        left = looks.card(tools, self._grid.pane, title="Tape")
        self.body = looks.columns(left, pn.Column(self._origin.card, width=440))

    def read(self, desk: Desk) -> Any:
        """The first page."""
        if not desk.has_trades and self._kind.value == "trades":
            self._kind.value = "quotes"
        self._keys = [None]
        return self._page(desk)

    def _page(self, desk: Desk) -> Any:
        kind, raw = self._kind.value, self._raw.value
        return attempt(lambda: (kind, desk.events(kind, _PAGE, self._keys[-1], raw=raw)))

    def show(self, desk: Desk, found: Any) -> None:
        """The rows of a page."""
        if isinstance(found, K2Error):
            self._told.object = looks.problem(str(found))
            self._grid.fill({"time": []}, [])
            return
        kind, page = found
        self._next = page.after
        self._newer.disabled, self._older.disabled = len(self._keys) == 1, not page.more
        rows: list[Row] = page.rows.to_pylist()
        zone = zone_of(desk)
        shown = {"time": [looks.clock(row["ts_event"], zone, day=True) for row in rows]}
        given = [name for name in _COLUMNS[kind] if any(row[name] not in (None, []) for row in rows)]
        shown |= {name: [looks.text(row[name]) for row in rows] for name in given}
        self._grid.fill(shown, [{**row, "k2_table": kind} for row in rows])
        first = (len(self._keys) - 1) * _PAGE
        told = f"rows {first + 1:,} to {first + len(rows):,}, the latest first" if rows else "no rows"
        self._told.object = f'<div class="quiet" style="padding:5px">{told}, times of {zone}</div>'

    def _turn(self, *, back: bool) -> None:
        if back:
            self._keys.pop()
        elif self._next is not None:
            self._keys.append(self._next)
        self._reread()

    def _again(self, _: Any) -> None:
        self._keys = [None]
        self._reread()

    def _reread(self) -> None:
        desk = self._shell.desk
        if desk is not None:
            self._shell.work(lambda: self._page(desk), lambda found: self.show(desk, found))

    def _ask(self, row: Row) -> None:
        self._origin.ask(row["k2_table"], row)
