"""The dashboard around its pages: pickers, the time bar, the address, and the reads that keep a page up to date."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

import panel as pn

from k2kernel.errors import K2Error
from panel_apps.api.keys import Key
from panel_apps.api.problems import Refused
from panel_apps.api.work import Workers
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Page, zone_of
from panel_apps.dashboard.pages.corrections import Corrections
from panel_apps.dashboard.pages.health import Health
from panel_apps.dashboard.pages.letters import DeadLetters
from panel_apps.dashboard.pages.market import Market
from panel_apps.dashboard.pages.replay import Replayed
from panel_apps.dashboard.pages.runs import Runs
from panel_apps.dashboard.pages.tape import Tape
from panel_apps.dashboard.pages.travel import Travel
from panel_apps.dashboard.state import INTERVALS, PAGES, State
from panel_apps.dashboard.store import Desk, Moment, Store, chosen

_LOG = logging.getLogger("k2.http")
_LIVE_MS = 2_000
_NOW = "now"
_MADE: dict[str, Callable[..., Page]] = {
    "market": Market,
    "tape": Tape,
    "travel": Travel,
    "corrections": Corrections,
    "health": Health,
    "letters": DeadLetters,
    "replay": Replayed,
    "runs": Runs,
}


class Dashboard:
    """One visitor's dashboard. Reads run in threads, and one that is not wanted any more is interrupted."""

    def __init__(self, store: Store, workers: Workers, key: Key, state: State) -> None:
        self.state, self._store, self._workers, self._key = state, store, workers, key
        self.desk: Desk | None = None
        self._doc: Any = pn.state.curdoc
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet = False
        self._said: dict[str, int | None] = {}
        self._page: Page = _MADE[state.page](self)
        self._build()
        state.param.watch(self._changed, [name for name in State.words() if name not in ("page", "theme")])

    def _build(self) -> None:
        picker = partial(_select, self)
        self._venue, self._symbol = picker("venue", 110), picker("symbol", 130)
        self._session = picker("session", 190)
        self._fixed = [
            picker("interval", 84, INTERVALS),
            picker("hours", 116, self.state.param.hours.objects),
            picker("eligible", 92, ["venue", "all"]),
            picker("adjustment", 100, self.state.param.adjustment.objects),
            picker("zone", 82, self.state.param.zone.objects),
        ]
        self._brand, self._status = (
            looks.line(_brand(self.state), width=560, height=34, styles={"margin-right": "auto"}),
            looks.line(width=600, height=30),
        )
        self._problem = looks.html()
        self._moment = pn.widgets.DiscreteSlider(
            label="", options=[_NOW], value=_NOW, sizing_mode="stretch_width", stylesheets=[looks.style("widget")],
            margin=(8, 16, 0, 4), show_value=False, bar_color="#4f9be0",
        )  # fmt: skip
        self._live = pn.widgets.Toggle(
            label="live", value=self.state.live, width=64, stylesheets=[looks.style("widget")], margin=(2, 6, 0, 0)
        )
        self._live.param.watch(lambda event: self.state.param.update(live=event.new), "value")
        self._moment.param.watch(self._travelled, "value")
        head = pn.FlexBox(
            self._brand, looks.tools(self._venue, self._symbol, self._session, *self._fixed, margin=0),
            css_classes=["k2-head"], stylesheets=[looks.style("box")], sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        bar = pn.Row(
            self._live, self._moment, self._status,
            css_classes=["k2-bar"], stylesheets=[looks.style("box")], sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self.root = pn.Column(
            head, bar, self._problem, self._page.body,
            css_classes=["k2-page"], stylesheets=[looks.style("box")], sizing_mode="stretch_width", margin=0,
        )  # fmt: skip

    def open(self) -> None:
        """Show the page, and follow new snapshots."""
        self._refresh()
        pn.state.add_periodic_callback(self._look, _LIVE_MS)

    def close(self) -> None:
        """Give up what is being read."""
        self._left.set()

    def work(self, read: Callable[[], Any], show: Callable[[Any], None]) -> None:
        """Read in a thread, then show what came; an answer that is not wanted any more is dropped."""
        task = asyncio.ensure_future(self._work(self._left, read, show))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, left: asyncio.Event, read: Callable[[], Any], show: Callable[[Any], None]) -> None:
        async def gone() -> MutableMapping[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        try:
            found = await self._workers.run(gone, read)
        except (K2Error, Refused) as exc:
            found = exc
        except Exception:  # noqa: BLE001 - a visitor's page stays up, and the log tells
            _LOG.exception("the dashboard could not read")
            found = K2Error("The dashboard could not read this", "The server's log has more")
        if not left.is_set():
            self._doc.add_next_tick_callback(partial(self._shown, show, found))

    def _shown(self, show: Callable[[Any], None], found: Any) -> None:
        try:
            show(found)
        except Exception:  # noqa: BLE001 - a visitor's page stays up, and the log tells
            _LOG.exception("the dashboard could not show")

    def _changed(self, *_: Any) -> None:
        if not self._quiet:
            self._refresh()

    def _refresh(self) -> None:
        """Read everything again for what is chosen now."""
        self._left.set()
        self._left = asyncio.Event()
        self._live.value = self.state.live
        self.work(self._read, self._show)

    def _read(self) -> tuple[Desk, list[Moment], Any]:
        desk = self._chosen()
        return desk, self._store.moments(), self._page.read(desk)

    def _chosen(self) -> Desk:
        """What is asked for where there is such a thing, else the nearest that there is."""
        state, as_of = self.state, self.state.as_of
        states = self._store.states(as_of)
        desk = Desk(
            self._store, self._key, states, state.venue, state.symbol, state.session, state.interval, state.hours,
            state.eligible, state.adjustment, state.zone,
        )  # fmt: skip
        busiest = max(desk.instruments, key=lambda row: (row["trades"], row["quotes"]), default=None)
        if busiest is None:
            raise K2Error("The lake has no trades and no quotes", "Load a file, as with `k2 demo`")
        venues = {row["venue"] for row in desk.instruments}
        venue = state.venue if state.venue in venues else str(busiest["venue"])
        known = desk.symbols(venue)
        usual = busiest["symbol"] if busiest["venue"] == venue else known[0]
        symbol = state.symbol if state.symbol in known else usual
        return replace(desk, venue=venue, symbol=symbol, session=chosen(desk.days(venue), state.session))

    def _show(self, found: Any) -> None:
        if isinstance(found, Exception):
            self._problem.object = looks.problem(str(getattr(found, "detail", found)))
            return
        self._problem.object = ""
        desk, moments, content = found
        self.desk, self._said = desk, dict(desk.states)
        self._pick(desk)
        self._mark(desk, moments)
        self._brand.object = _brand(self.state)
        self._page.show(desk, content)
        if pn.state.location is not None:
            address = f"?{self.state.address}"
            if pn.state.location.search != address:
                pn.state.location.search = address

    def _pick(self, desk: Desk) -> None:
        """The pickers as the desk is, without reading again."""
        days = desk.days(desk.venue)
        ranges = {f"all {len(days)} sessions": f"{days[0]}..{days[-1]}"} if len(days) > 1 else {}
        sessions = {day: day for day in reversed(days)} | ranges
        sessions |= {} if desk.session in sessions.values() else {desk.session: desk.session}
        self._quiet = True
        try:
            self.state.param.update(venue=desk.venue, symbol=desk.symbol, session=desk.session)
            self._venue.param.update(options=sorted({row["venue"] for row in desk.instruments}), value=desk.venue)
            self._symbol.param.update(options=desk.symbols(desk.venue), value=desk.symbol)
            self._session.param.update(options=sessions, value=desk.session)
        finally:
            self._quiet = False

    def _mark(self, desk: Desk, moments: list[Moment]) -> None:
        """The time bar: a stop for each commit, and now."""
        stops = {f"{moment.table} {moment.at:%Y-%m-%d %H:%M:%S}": str(moment.snapshot_id) for moment in moments}
        stops |= {_NOW: _NOW}
        as_of = self.state.as_of
        known = as_of in stops.values()
        stops |= {} if known or not as_of else {as_of: as_of}
        self._quiet = True
        try:
            self._moment.param.update(options=stops, value=as_of or _NOW)
        finally:
            self._quiet = False
        self._status.object = _status(desk, moments, as_of, live=self.state.live)

    def _travelled(self, event: Any) -> None:
        if not self._quiet:
            self.state.as_of = "" if event.new == _NOW else event.new

    def _look(self) -> None:
        """Follow new snapshots where nothing is pinned; what is being read now ends first, however fast they come."""
        if self.state.live and not self.state.as_of and not self._tasks:
            self.work(partial(self._store.states, ""), self._seen)

    def _seen(self, states: Any) -> None:
        if isinstance(states, dict) and states != self._said:
            self._refresh()


def _select(board: Dashboard, name: str, width: int, options: list[str] | None = None) -> pn.widgets.Select:
    value = getattr(board.state, name)
    known = options if options is not None else [value]
    made = pn.widgets.Select(
        label=name, options=known if value in known else [*known, value], value=value, width=width,
        stylesheets=[looks.style("widget")], margin=(0, 0, 0, 8),
    )  # fmt: skip

    def picked(event: Any) -> None:
        if not board._quiet:  # noqa: SLF001 - its own picker
            board.state.param.update(**{name: event.new})

    made.param.watch(picked, "value")
    return made


def _brand(state: State) -> str:
    """The name, the pages and the switch of the theme, as links that keep what is chosen."""
    links = []
    for page, name in PAGES.items():
        here = "here" if page == state.page else ""
        links.append(f'<a class="{here}" href="?{_address(state, page=page)}">{name}</a>')
    other = "light" if state.theme == "dark" else "dark"
    sign = "☀" if other == "light" else "☾"
    switch = f'<a class="theme" title="{other}" href="?{_address(state, theme=other)}">{sign}</a>'
    return f"<nav><b>k2</b>{''.join(links)}{switch}</nav>"


def _address(state: State, **changed: str) -> str:
    other = State()
    other.param.update(**{name: getattr(state, name) for name in State.words()} | changed)
    return other.address.replace("&", "&amp;")


def _status(desk: Desk, moments: list[Moment], as_of: str, *, live: bool) -> str:
    """Whether this is now or a state of the past, and how to take it away."""
    dot = '<span class="dot past"></span>as of' if as_of else f'<span class="dot{" on" if live else ""}"></span>now'
    moment = next((each for each in moments if str(each.snapshot_id) == as_of), None)
    when = as_of if moment is None else f"{moment.at:%Y-%m-%d %H:%M:%S} UTC, {moment.table}"
    return f'<div class="status">{dot}&nbsp;<span class="quiet">{escape(when)}</span>{_exports(desk)}</div>'


def _exports(desk: Desk) -> str:
    """Links to the same rows as files, by the routes of HTTP."""
    base = {"symbols": desk.symbol, "venue": desk.venue, "session": desk.session, "hours": desk.hours}
    table = desk.table
    words = base | {"as_of": str(desk.states[table])} if desk.states.get(table) else base
    links = [
        (f"{table} CSV", f"/v1/{table}?{urlencode(words | {'format': 'csv', 'tz': zone_of(desk)})}"),
        (f"{table} Parquet", f"/v1/{table}?{urlencode(words | {'format': 'parquet'})}"),
        ("bars CSV", f"/v1/bars?{urlencode(words | {'interval': desk.interval, 'format': 'csv'})}"),
    ]
    made = "".join(f'<a href="{href.replace("&", "&amp;")}" download>{name}</a>' for name, href in links)
    return f'<span class="links">{made}</span>'
