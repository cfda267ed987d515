"""Time travel: the commits of the lake over time, and what is different now from the state that is looked at."""

from __future__ import annotations

from functools import partial
from typing import Any

import panel as pn

from k2kernel import plots
from k2kernel.errors import K2Error
from panel_apps.dashboard import charts, looks
from panel_apps.dashboard.page import Grid, Shell, attempt
from panel_apps.dashboard.store import Desk, Moment, Row

_MOST = 200
_TABLES = ("trades", "quotes")


class Travel:
    """A click on a commit pins everything to it, like the slider above."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._charts = {table: charts.pane(shell.state.theme) for table in _TABLES}
        widths = {"": 24, "committed (UTC)": 140, "table": 64, "operation": 78}
        self._commits = Grid(self._pick, ("added", "total"), height=430, widths=widths)
        self._names, self._symbols, self._bars = looks.html(), looks.html(), looks.html()
        cards = [looks.card(pane, title=f"States of {table}") for table, pane in self._charts.items()]
        left = pn.Column(*cards, looks.card(self._commits.pane, title="Commits, the newest first"))
        right = pn.Column(
            looks.card(self._names, title="What has changed since"),
            looks.card(self._symbols, title="Instruments that differ"),
            looks.card(self._bars, title="Bars that differ"),
            width=640,
        )
        left.sizing_mode = "stretch_width"
        self.body = looks.columns(left, right)

    def read(self, desk: Desk) -> dict[str, Any]:
        """The commits, and the differences between the state and now, or where that is now, the commit before."""
        moments = desk.store.moments()
        found: dict[str, Any] = {"moments": moments}
        for table in _TABLES:
            found[table] = attempt(partial(self._states, desk, table))
            found[f"diff {table}"] = attempt(partial(_diff, desk, moments, table))
        return found

    def _states(self, desk: Desk, table: str) -> Any:
        return charts.drawn(lambda: plots.snapshots(desk.store.bench, table), [170], self._shell.state.theme)

    def show(self, desk: Desk, found: dict[str, Any]) -> None:
        """Fill every part."""
        for table, pane in self._charts.items():
            pane.visible = not isinstance(found[table], K2Error)
            if pane.visible:
                pane.object = found[table]
        self._show_commits(desk, found["moments"])
        diffs = {table: found[f"diff {table}"] for table in _TABLES}
        self._names.object = "".join(_summary(table, diff) for table, diff in diffs.items())
        self._symbols.object = _instruments(diffs)
        self._bars.object = "".join(
            diff["bars"] for diff in diffs.values() if isinstance(diff, dict) and diff["bars"]
        ) or looks.none("no bars differ")

    def _show_commits(self, desk: Desk, moments: list[Moment]) -> None:
        newest = list(reversed(moments))
        here = set(desk.states.values())
        shown = {
            "": ['<span class="up">●</span>' if each.snapshot_id in here else "" for each in newest],
            "committed (UTC)": [f"{each.at:%Y-%m-%d %H:%M:%S}" for each in newest],
            "table": [each.table for each in newest],
            "operation": [each.operation for each in newest],
            "added": [f"{each.rows_added:,}" for each in newest],
            "total": [f"{each.rows_total:,}" for each in newest],
            "names": [", ".join(each.tags) for each in newest],
            "source": [each.source.rpartition("/")[2] for each in newest],
        }
        self._commits.fill(shown, [{"id": str(each.snapshot_id)} for each in newest])

    def _pick(self, row: Row) -> None:
        self._shell.state.as_of = row["id"]


def _diff(desk: Desk, moments: list[Moment], table: str) -> dict[str, Any] | None:
    """From the state of the desk to now, or where that is now, from the commit before."""
    mine = [moment.snapshot_id for moment in moments if moment.table == table]
    here = desk.states.get(table)
    if len(mine) < 2 and here is not None:
        return None
    a, b = (here, mine[-1]) if here != mine[-1] else (mine[-2], mine[-1])
    return desk.store.kept(("diff", table, a, b, desk.interval), lambda: _differences(desk, table, a, b))


def _differences(desk: Desk, table: str, a: int | None, b: int) -> dict[str, Any]:
    bench = desk.store.bench
    if a is None:  # the table had no state then: everything has come since
        return {"summary": f"all of {table} has come since", "symbols": [], "bars": ""}
    diff = bench.diff(table, a, b)
    words = {"interval": desk.interval} if desk.interval not in ("1d", "session") else {}
    bars = diff.bars(**words).head(_MOST).to_pylist() if diff.summary.symbols else []
    heads = ["symbol", "venue", "start (UTC)", "change", "close then", "close now", "volume now"]
    names = ("symbol", "venue", "ts_open", "change", "close_a", "close_b", "volume_b")
    lines = [[row[name] for name in names] for row in bars[:25]]
    return {
        "summary": str(diff.summary),
        "symbols": diff.symbols().head(_MOST).to_pylist(),
        "bars": looks.table(heads, lines, ["", "", "", "", "n", "n", "n"]) if lines else "",
    }


def _summary(table: str, diff: Any) -> str:
    if diff is None:
        return looks.none(f"{table}: one state only")
    if isinstance(diff, K2Error):
        return looks.problem(str(diff))
    return f'<div style="padding:3px 2px">{diff["summary"]}</div>'


def _instruments(diffs: dict[str, Any]) -> str:
    lines = [
        (table, row["symbol"], row["venue"], row["added"], row["removed"], row["changed"])
        for table, diff in diffs.items()
        if isinstance(diff, dict)
        for row in diff["symbols"]
    ]
    heads = ["table", "symbol", "venue", "added", "removed", "changed"]
    return looks.table(heads, lines, ["", "", "", "n", "n", "n"]) if lines else looks.none("none")
