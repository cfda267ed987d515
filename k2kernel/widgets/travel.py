"""Going through the states of a lake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from k2kernel.errors import K2Error, counted
from k2kernel.html import table
from k2kernel.schemas import TABLES
from k2kernel.times import to_ns
from k2kernel.widgets.drawing import BOTTOM, DOWN, LEFT, QUIET, RIGHT, UP, WIDTH, Frame, clock, picture, words
from k2kernel.widgets.page import OnPage, button, ipywidgets
from k2kernel.workbench import View, Workbench

if TYPE_CHECKING:
    from k2kernel.lake import Snapshot

_HEIGHT = 150
_TABLES = tuple(name for name in TABLES if name not in ("dead_letter", "ingest_log"))


@dataclass(frozen=True)
class Stop:
    """A moment at which a commit made a state of the lake: `rows` are those of each table by then.

    `names` are the tags and pins that stand for it; a pin over several tables stands at the last of its commits.
    """

    at: datetime
    table: str
    snapshot: Snapshot
    rows: dict[str, int]
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        """The time and the names."""
        return f"{self.at:%Y-%m-%d %H:%M:%S.%f}"[:23] + (f"  {', '.join(self.names)}" if self.names else "")


def stops(reader: View, tables: Iterable[str] = _TABLES) -> list[Stop]:
    """Every commit of some tables that is kept and that current states are built on, in order of time."""
    commits = [(state, name) for name in tables for state in reader.lake.snapshots(name) if state.is_current_ancestor]
    commits.sort(key=lambda commit: (commit[0].committed_at, commit[1]))
    last = {tag: state.id for state, _ in commits for tag in state.tags}
    rows: dict[str, int] = {}
    found = []
    for state, name in commits:
        rows = rows | {name: state.rows_total}
        names = tuple(tag for tag in state.tags if last[tag] == state.id)
        found.append(Stop(state.committed_at, name, state, rows, names))
    return found


class TimeTravel(OnPage):
    """A slider over the commits of a lake, with their times (UTC), tags and pins; it moves `view` to the chosen state.

    Given a view it moves that one, so that whatever reads it reads the chosen state; given a workbench it makes one. It
    begins where the view is.
    K2Error where nothing was committed yet.
    """

    def __init__(self, reader: Workbench | View) -> None:
        self.view = reader if isinstance(reader, View) else reader.at()
        self.stops = stops(self.view)
        if not self.stops:
            raise K2Error("The lake has no state yet", "Load something first")
        read = [n for n, stop in enumerate(self.stops) if self.view.states.get(stop.table) == stop.snapshot.id]
        self.box = self._made(max(read, default=len(self.stops) - 1))
        self._show(self._slider.value, move=False)

    @property
    def chosen(self) -> Stop:
        """The stop that the view reads."""
        return self.stops[int(self._slider.value)]

    @property
    def text(self) -> str:
        """The stops up to the chosen one."""
        upto = self.stops[: self._slider.value + 1]
        lines = (
            f"{stop.label}: {stop.table} {stop.snapshot.operation}, {counted(stop.snapshot.rows_added, 'row')}"
            for stop in upto
        )
        return "\n".join([f"{len(upto)} states (UTC)", *lines])

    def go(self, name: str | int) -> View:
        """Choose a stop by one of its names, or by its number from 0; K2Error where there is none."""
        named = {each: n for n, stop in enumerate(self.stops) for each in stop.names}
        number = name if isinstance(name, int) else named.get(name)
        if number is None or not 0 <= number < len(self.stops):
            raise K2Error(f"There is no stop {name!r}", f"Names: {', '.join(named) or 'none'}")
        self._slider.value = number
        return self.view

    def _made(self, chosen: int) -> Any:
        w = ipywidgets()
        wide = w.Layout(width=f"{WIDTH - RIGHT - LEFT + 20}px", margin=f"0 0 0 {LEFT - 10}px")
        options = [(stop.label, n) for n, stop in enumerate(self.stops)]
        self._slider = w.SelectionSlider(options=options, value=chosen, readout=False, layout=wide)
        back, ahead = button("chevron-left", "earlier", self._by, -1), button("chevron-right", "later", self._by, 1)
        named = [(name, n) for n, stop in enumerate(self.stops) for name in stop.names]
        self._names = w.Dropdown(options=[("go to …", -1), *named], value=-1, layout=w.Layout(width="160px"))
        self._names.observe(lambda change: self._slide(change.new), "value")
        self._slider.observe(lambda change: self._show(change.new), "value")
        self._picture, self._facts = w.HTML(), w.HTML()
        bar = w.HBox([back, ahead, self._names])
        return w.VBox([bar, self._slider, self._picture, self._facts]).add_class("k2-travel")

    def _slide(self, number: int) -> None:
        if number >= 0:
            self._slider.value = number

    def _by(self, step: int) -> None:
        self._slider.value = min(max(self._slider.value + step, 0), len(self.stops) - 1)

    def _show(self, number: int, *, move: bool = True) -> None:
        stop = self.stops[number]
        self._picture.value = timeline(self.stops, number)
        if self._names.value != number:
            self._names.value = -1
        try:
            if move:
                self.view.move(stop.at)
        except K2Error as error:
            self._facts.value = f"<p>{escape(str(error))}</p>"
            return
        self._facts.value = _facts(stop, self.view)


def _facts(stop: Stop, view: View) -> str:
    """What was committed, and what the view reads."""
    state = stop.snapshot
    rows = [
        (name, found, stop.rows.get(name), state.source if name == stop.table else "")
        for name, found in view.states.items()
        if found is not None
    ]
    what = f"{stop.table}: {state.operation}, {counted(state.rows_added, 'row')}"
    named = f" · {', '.join(stop.names)}" if stop.names else ""
    shown = [(name, str(found), f"{total or 0:,}", source.rpartition("/")[2]) for name, found, total, source in rows]
    heads = ["table", "snapshot that is read", "rows", "brought by this commit from"]
    head = f"<b>{stop.at:%Y-%m-%d %H:%M:%S.%f}"[:26] + f" UTC</b> · {escape(what)}{escape(named)}"
    return head + table(heads, shown, numbers=(False, False, True, False))


def timeline(found: Sequence[Stop], number: int) -> str:
    """Rows of each table over the commits, one place each, with the chosen one marked."""
    places = range(len(found))
    most = max(count for stop in found for count in stop.rows.values())
    frame = Frame.around([0, max(len(found) - 1, 1)], [0, most], _HEIGHT)
    lines = ""
    for name, colour in zip(_TABLES, (UP, "#2b6cb0", QUIET, "#b7791f"), strict=False):
        points = [
            (float(n), float(stop.rows[name])) for n, stop in zip(places, found, strict=True) if name in stop.rows
        ]
        lines += frame.steps(points, colour)
        own = [n for n in places if found[n].table == name]
        lines += "".join(frame.dot((n, found[n].rows[name]), 4, colour, f"{name} {found[n].label}") for n in own)
        if points:
            lines += _beside(frame, points[0][0], frame.y(points[0][1]) - 6, name, colour)
    x = frame.x(number)
    mark = f'<line x1="{x}" x2="{x}" y1="4" y2="{_HEIGHT - BOTTOM}" stroke="{DOWN}" stroke-width="2"/>'
    tags = "".join(_beside(frame, n, 14, ", ".join(stop.names), DOWN) for n, stop in enumerate(found) if stop.names)
    ends = words(LEFT, _HEIGHT - 6, f"{clock(to_ns(found[0].at), None, '%Y-%m-%d %H:%M:%S')} UTC")
    ends += words(frame.x(len(found) - 1), _HEIGHT - 6, clock(to_ns(found[-1].at), None), "end")
    return picture(_HEIGHT, frame.grid(3), lines, mark, tags, ends)


def _beside(frame: Frame, place: float, y: float, text: str, colour: str) -> str:
    """A text at the side of a place that has room for it."""
    left = place > frame.x_high / 2
    return words(frame.x(place) + (-5 if left else 5), y, text, "end" if left else "start", colour)
