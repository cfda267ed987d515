"""Health: how good the data is, and what came in, from files and streams."""

from __future__ import annotations

from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from k2kernel.quality import COLUMNS
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Shell, attempt
from panel_apps.dashboard.store import Desk, Row

_BAD = {
    "crossed",
    "outside_book",
    "off_session",
    "unmatched",
    "null_prices",
    "rejected",
    "sequence_gaps",
    "repeated_ids",
}


class Health:
    """The quality of the sessions that are looked at, the loads, the tables and the audit of streams."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._cards, self._checks, self._sessions = looks.html(), looks.html(), looks.html()
        self._loads, self._tables, self._streams = looks.html(), looks.html(), looks.html()
        left = pn.Column(
            looks.card(self._cards, title="Quality"),
            looks.card(self._checks, title="What was found"),
            looks.card(self._sessions, title="By session"),
            sizing_mode="stretch_width",
        )
        right = pn.Column(
            looks.card(self._tables, title="Tables"),
            looks.card(self._streams, title="Streams"),
            looks.card(self._loads, title="Loads, the newest first"),
            sizing_mode="stretch_width",
        )
        self.body = looks.columns(left, right)

    def read(self, desk: Desk) -> dict[str, Any]:
        """Everything on the page."""
        return {
            "quality": attempt(lambda: desk.kept("quality", lambda: _quality(desk), *desk.words.values(), desk.symbol)),
            "loads": attempt(lambda: _loads(desk)),
            "tables": attempt(lambda: desk.view.stats().to_arrow().to_pylist()),
            "streams": attempt(lambda: desk.kept("audit", desk.store.bench.audit)),
        }

    def show(self, desk: Desk, found: dict[str, Any]) -> None:
        """Fill every part."""
        quality = found["quality"]
        if isinstance(quality, K2Error):
            self._cards.object, self._checks.object, self._sessions.object = looks.problem(str(quality)), "", ""
        else:
            self._show_quality(desk, *quality)
        self._tables.object = _told(found["tables"], _tables)
        self._loads.object = _told(found["loads"], _load_table)
        self._streams.object = _told(found["streams"], _audit)

    def _show_quality(self, desk: Desk, totals: dict[str, int], meanings: dict[str, str], rows: list[Row]) -> None:
        cards = [("trades", totals["trades"], ""), ("quotes", totals["quotes"], "")]
        cards += [(name, totals[name], "bad" if name in _BAD else "warn") for name in meanings]
        self._cards.object = _card_row(cards)
        lines = [(name, totals[name], meaning.replace("`", "")) for name, meaning in meanings.items()]
        self._checks.object = (
            looks.table(["check", "rows", "meaning"], lines, ["", "n", ""])
            if lines
            else looks.none(f"Nothing out of line in {desk.symbol}, {desk.session}.")
        )
        names = ["session", "symbol", "trades", "quotes", *meanings]
        shown = [[row.get(name) for name in names] for row in rows]
        self._sessions.object = looks.table(names, shown, ["", "", *(["n"] * len(names))])


def _quality(desk: Desk) -> tuple[dict[str, int], dict[str, str], list[Row]]:
    words = {"venue": desk.venue, "session": desk.session}
    found = desk.view.quality(desk.symbol, **words)
    meanings = {name: COLUMNS.get(name, "rows in dead_letter of the same sources") for name in found.found}
    return dict(found.totals), meanings, found.table.to_dicts()


def _loads(desk: Desk) -> list[tuple[Any, ...]]:
    """Each source of each load that the states are built on."""
    lake = desk.store.bench.lake
    lines = [
        (ingest.committed_at, table, source.name.rpartition("/")[2], source.rows, source.rejected, ingest.profile)
        for table in ("trades", "quotes")
        if table in desk.states
        for ingest in lake.provenance(table, desk.states[table])
        for source in ingest.sources
    ]
    return sorted(lines, reverse=True)[:100]


def _load_table(lines: list[tuple[Any, ...]]) -> str:
    told = [(*line[:4], (line[4], "warn" if line[4] else "quiet"), line[5]) for line in lines]
    heads = ["committed (UTC)", "table", "source", "rows", "rejected", "profile"]
    return looks.table(heads, told, ["", "", "", "n", "n", ""])


def _tables(rows: list[Row]) -> str:
    lines = [(row["table"], row["rows"], row["files"], row["bytes"], row["snapshots"], row["last"]) for row in rows]
    return looks.table(
        ["table", "rows", "files", "bytes", "states", "last event (UTC)"], lines, ["", "n", "n", "n", "n", ""]
    )


def _audit(audit: Any) -> str:
    state = ("every row once", "up") if audit.ok else ("rows lost or doubled", "down")
    told = [str(each) for each in (*audit.findings, *audit.faults)][:40]
    lines = [("state", state), *(("finding", each) for each in told)]
    return looks.table(["", ""], lines)


def _told(found: Any, how: Any) -> str:
    if isinstance(found, K2Error):
        return looks.problem(str(found))
    told: str = how(found)
    return told


def _card_row(cards: list[tuple[str, int, str]]) -> str:
    made = "".join(
        f'<div class="card {tone}"><b>{count:,}</b><small>{name}</small></div>' for name, count, tone in cards
    )
    return f'<div class="cards">{made}</div>'
