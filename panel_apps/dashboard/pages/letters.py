"""Dead letters: lines and messages that were no rows, why, and their bytes."""

from __future__ import annotations

from html import escape
from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Grid, Shell, attempt
from panel_apps.dashboard.store import Desk, Row

_MOST = 500
_COUNTS = (
    "SELECT target, error, count(*) AS n, max(ts_ingest) AS last FROM dead_letter "
    "GROUP BY ALL ORDER BY n DESC, target, error"
)
_ROWS = f"SELECT * FROM dead_letter ORDER BY ts_ingest DESC, source, source_offset LIMIT {_MOST}"


class DeadLetters:
    """What no table took; the newest first."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._counts, self._raw = looks.html(), looks.html(looks.none("Click a line to see its bytes and its file."))
        self._grid = Grid(self._ask, ("place",), height=640, widths={"received (UTC)": 150, "target": 80, "place": 90})
        left = pn.Column(
            looks.card(self._counts, title="By reason"), looks.card(self._grid.pane, title=f"The newest {_MOST}"),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.body = looks.columns(left, pn.Column(looks.card(self._raw, title="Content"), width=440))

    def read(self, desk: Desk) -> Any:
        """Counts and rows."""
        desk.key.check({"dead_letter": None})
        if "dead_letter" not in desk.states:
            return [], []
        return attempt(lambda: tuple(desk.view.sql(text).to_arrow().to_pylist() for text in (_COUNTS, _ROWS)))

    def show(self, desk: Desk, found: Any) -> None:  # noqa: ARG002 - a page is given it
        """Fill every part."""
        if isinstance(found, K2Error):
            self._counts.object = looks.problem(str(found))
            return
        counts, rows = found
        lines = [(row["target"], row["error"], row["n"], row["last"]) for row in counts]
        heads = ["target", "error", "rows", "last received (UTC)"]
        told = looks.table(heads, lines, ["", "", "n", ""])
        self._counts.object = (
            told if lines else looks.none("Every line and message became a row, or was skipped by rule.")
        )
        shown = {
            "received (UTC)": [looks.text(row["ts_ingest"]) for row in rows],
            "target": [row["target"] or "" for row in rows],
            "place": [looks.text(row["source_offset"]) for row in rows],
            "error": [row["error"] for row in rows],
            "reason": [row["reason"] for row in rows],
        }
        self._grid.fill(shown, rows)

    def _ask(self, row: Row) -> None:
        raw = (row["raw"] or b"").decode("utf-8", "backslashreplace")
        facts = [(name, looks.text(row[name])) for name in ("error", "reason", "source", "source_offset", "attempt")]
        self._raw.object = f"<pre>{escape(raw)}</pre>{looks.table(['', ''], facts, ['quiet', 'm'])}"
