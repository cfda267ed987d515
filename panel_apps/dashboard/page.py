"""What the pages share: how one is built, tables that are clicked on, and the origin of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import panel as pn
import pyarrow as pa

from k2kernel.errors import K2Error, counted
from panel_apps.dashboard import looks
from panel_apps.dashboard.state import State
from panel_apps.dashboard.store import Desk, Row


class Shell(Protocol):
    """What a page may ask of the dashboard around it."""

    state: State

    @property
    def desk(self) -> Desk | None:
        """What is looked at."""

    def work(self, read: Callable[[], Any], show: Callable[[Any], None]) -> None:
        """Read in a thread, then show what came."""


class Page(Protocol):
    """A page: its body is built once; whenever something else is chosen, `read` runs in a thread, `show` afterwards."""

    @property
    def body(self) -> pn.viewable.Viewable:
        """What is on the page."""

    def read(self, desk: Desk) -> Any:
        """Everything that the page shows."""

    def show(self, desk: Desk, found: Any) -> None:
        """Show it."""


def attempt(read: Callable[[], Any]) -> Any:
    """What is read, or the error of the workbench: a part of a page may fail alone."""
    try:
        return read()
    except K2Error as exc:
        return exc


class Grid:
    """A table whose rows can be clicked; `rows` are the values behind what it shows."""

    def __init__(self, click: Callable[[Row], None], numbers: Sequence[str] = (), **how: Any) -> None:
        self.rows: list[Row] = []
        self._click = click
        widths = how.pop("widths", {})
        self.pane = pn.widgets.Tabulator(
            None,
            show_index=False,
            disabled=True,
            selectable=1,
            layout="fit_columns",
            theme="simple",
            configuration={"columnDefaults": {"headerSort": False, "tooltip": True}},
            text_align=dict.fromkeys(numbers, "right"),
            header_align=dict.fromkeys(numbers, "right"),
            formatters={"": {"type": "html"}, "trend": {"type": "html"}, "change": {"type": "html"}},
            widths=widths,
            stylesheets=[looks.style("table")],
            sizing_mode="stretch_width",
            margin=0,
            **how,
        )
        self.pane.on_click(self._clicked)

    def fill(self, shown: Mapping[str, Sequence[str]], rows: Sequence[Row]) -> None:
        """Show columns of text over these rows."""
        self.rows = list(rows)
        self.pane.selection = []
        self.pane.visible = bool(rows)
        self.pane.value = pa.table({name: pa.array(values, pa.string()) for name, values in shown.items()}).to_pandas()

    def _clicked(self, event: Any) -> None:
        if event.row is not None and event.row < len(self.rows):
            self._click(self.rows[event.row])


class Origin:
    """The card that tells where a row came from: its line, its file, its load, and what became of it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._pane = looks.html(looks.none("Click a row: its line in the file, its load, and what became of it."))
        self.card = looks.card(self._pane, title="Row")

    def ask(self, table: str, row: Row) -> None:
        """Tell of a row."""
        desk = self._shell.desk
        if desk is not None:
            self._shell.work(lambda: attempt(lambda: self._found(desk, table, row)), self._show)

    @staticmethod
    def _found(desk: Desk, table: str, row: Row) -> str:
        trace = desk.view.trace(table, row["source"], row["source_offset"])
        zone = zone_of(desk)
        raw = f"<pre>{escape(trace.raw)}</pre>" if trace.raw is not None else looks.none(trace.why)
        facts = [
            ("file", trace.file),
            ("place", f"line or offset {trace.source_offset:,}"),
            ("load", f"{counted(trace.rows, 'row')}, {trace.rejected:,} rejected, by {trace.profile or 'a stream'}"),
            ("committed", f"{looks.clock(trace.committed_at, 'UTC', day=True)} UTC as {trace.snapshot_id}"),
            *(
                (name, looks.text(row[name]))
                for name in ("ts_recv", "sequence", "conditions", "extra")
                if row.get(name)
            ),
        ]
        past = desk.history(row)
        lines = [
            (
                looks.clock(each["ts_event"], zone),
                each["status"] or "fill",
                each["price"],
                each["size"],
                each["ts_ingest"],
            )
            for each in past
        ]
        told = looks.table(["time", "status", "price", "size", "received"], lines, ["", "", "n", "n", ""])
        status = told if len(past) > 1 else looks.none(f"status: {row.get('status') or 'a fill that stands'}")
        return raw + looks.table(["", ""], facts, ["quiet", "m"]) + (status if table == "trades" else "")

    def _show(self, found: Any) -> None:
        self._pane.object = looks.problem(str(found)) if isinstance(found, K2Error) else found


def zone_of(desk: Desk) -> str:
    """The zone in which times are shown."""
    return "UTC" if desk.zone == "UTC" else desk.venue_zone
