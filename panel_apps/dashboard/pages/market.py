"""The market: the universe, candles, quotes and book of one instrument, and its last trades."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import panel as pn

from k2kernel import plots
from k2kernel.errors import K2Error
from panel_apps.dashboard import charts, looks
from panel_apps.dashboard.page import Grid, Origin, Shell, attempt, zone_of
from panel_apps.dashboard.store import Desk, Row, imbalance, move

_LAST = 40
"""Trades of the short tape."""


class Market:
    """What a trading desk keeps open."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        theme = shell.state.theme
        self._strip, self._badges, self._book = looks.html(), looks.html(), looks.html()
        self._candles, self._quotes, self._imbalance = charts.pane(theme), charts.pane(theme), charts.pane(theme)
        self._notes = {pane: looks.html() for pane in (self._candles, self._quotes, self._imbalance)}
        self._origin = Origin(shell)
        self._universe = Grid(
            self._pick,
            ("close", "change", "volume"),
            widths={"symbol": 74, "venue": 66, "close": 78, "change": 66},
            height=200,
        )
        self._days = Grid(self._pick_day, ("close", "change", "volume"), height=190)
        self._tape = Grid(self._ask, ("price", "size"), height=770, widths={"time": 102})
        cards = [
            looks.card(pane, self._notes[pane], title=title)
            for pane, title in (
                (self._candles, "Price and volume"),
                (self._quotes, "Quotes and spread"),
                (self._imbalance, "Book imbalance at depth one"),
            )
        ]
        left = pn.Column(
            looks.card(self._universe.pane, title="Universe"), looks.card(self._days.pane, title="Sessions"),
            self._origin.card, width=400,
        )  # fmt: skip
        middle = pn.Column(looks.card(self._strip, self._badges), *cards, sizing_mode="stretch_width")
        right = pn.Column(
            looks.card(self._book, title="Book"), looks.card(self._tape.pane, title="Last trades"), width=318
        )
        self.body = looks.columns(left, middle, right)

    def read(self, desk: Desk) -> dict[str, Any]:
        """Each part on its own: one that fails says so in its place."""
        kind = desk.table
        return {
            "universe": attempt(desk.universe),
            "summary": attempt(desk.summary),
            "facts": attempt(lambda: _facts(desk)),
            "book": attempt(desk.book),
            "tape": attempt(lambda: (kind, desk.events(kind, _LAST).rows.to_pylist())),
        }

    def show(self, desk: Desk, found: dict[str, Any]) -> None:
        """Fill every part."""
        self._show_universe(found["universe"])
        self._show_days(desk, found["universe"])
        self._strip.object = _strip(desk, found["summary"], found["universe"])
        facts = found["facts"]
        self._badges.object = looks.problem(str(facts)) if isinstance(facts, K2Error) else facts
        self._book.object = book(desk, found["book"])
        self._show_tape(desk, found["tape"])
        self._draw(desk)

    def _draw(self, desk: Desk) -> None:
        """The charts, one after another, once the figures are there."""
        words = {**desk.words, "eligible": desk.eligible, "adjustment": desk.adjustment}
        view, symbol = desk.view, desk.symbol
        self._chart(self._candles, lambda: plots.candles(view, symbol, desk.interval, **words), 310, 80)
        self._chart(self._quotes, lambda: plots.quotes(view, symbol, **desk.words), 140, 70, robust=True)
        self._chart(self._imbalance, lambda: plots.imbalance(view, symbol, **desk.words), 110)

    def _chart(self, pane: pn.pane.Bokeh, make: Callable[[], Any], *heights: int, robust: bool = False) -> None:
        theme = self._shell.state.theme
        read = partial(attempt, lambda: charts.drawn(make, heights, theme, robust=robust))
        self._shell.work(read, partial(self._show_chart, pane))

    def _show_chart(self, pane: pn.pane.Bokeh, chart: Any) -> None:
        failed = isinstance(chart, Exception)
        self._notes[pane].object = looks.none(str(chart)) if failed else ""
        pane.visible = not failed
        if not failed:
            pane.object = chart

    def _show_universe(self, found: Any) -> None:
        rows: list[Row] = [] if isinstance(found, K2Error) else found
        shown = {
            "symbol": [row["symbol"] for row in rows],
            "venue": [row["venue"] for row in rows],
            "close": [looks.number(row["close"]) for row in rows],
            "change": [
                f'<span class="{looks.kind(row["change"])}">{looks.share(row["change"])}</span>' for row in rows
            ],
            "trend": [looks.spark([close for _, close, _ in row["days"]]) for row in rows],
        }
        self._universe.fill(shown, rows)

    def _show_days(self, desk: Desk, found: Any) -> None:
        line = _line(desk, found)
        days = line.get("days", [])
        closes = [None, *(close for _, close, _ in days)]
        moves = [move(before, close) for before, (_, close, _) in zip(closes, days, strict=False)]
        shown = {
            "session": [str(day) for day, _, _ in days],
            "close": [looks.number(close) for _, close, _ in days],
            "change": [f'<span class="{looks.kind(move)}">{looks.share(move)}</span>' for move in moves],
            "volume": [looks.number(volume) for _, _, volume in days],
        }
        newest = {name: values[::-1] for name, values in shown.items()}
        self._days.fill(newest, [{"session": str(day)} for day, _, _ in reversed(days)])

    def _pick_day(self, row: Row) -> None:
        self._shell.state.session = row["session"]

    def _show_tape(self, desk: Desk, found: Any) -> None:
        kind, rows = ("trades", []) if isinstance(found, K2Error) else found
        zone = zone_of(desk)
        sides = ("price", "size") if kind == "trades" else ("bid_px", "ask_px")
        names = ("price", "size") if kind == "trades" else ("bid", "ask")
        shown = {"time": [looks.clock(row["ts_event"], zone) for row in rows]}
        shown |= {name: [looks.number(row[side]) for row in rows] for name, side in zip(names, sides, strict=True)}
        if kind == "trades":
            shown["flags"] = [" ".join(row["conditions"] or [row["side"] or ""]) for row in rows]
        self._tape.fill(shown, [{**row, "k2_table": kind} for row in rows])

    def _pick(self, row: Row) -> None:
        self._shell.state.param.update(venue=row["venue"], symbol=row["symbol"])

    def _ask(self, row: Row) -> None:
        self._origin.ask(row["k2_table"], row)


def _facts(desk: Desk) -> str:
    """The badges: what holds for every figure of the page."""
    bars = desk.view.bars(desk.symbol, "session", **desk.words, eligible=desk.eligible, columns=["close", "eligible"])
    policies = sorted({row["eligible"] for row in bars.to_arrow().to_pylist() if row["eligible"]})
    row: Row = next(iter(desk.events(desk.table, 1).rows.to_pylist()), {})
    clocks = {"venue": "venue", "recv": "receiver"}
    state = desk.states.get(desk.table)
    found = [
        looks.badge("policy", ", ".join(policies) or "-"),
        looks.badge("hours", desk.hours),
        looks.badge("adjustment", desk.adjustment, warn=desk.adjustment != "raw"),
        looks.badge("clock", clocks.get(row.get("clock", ""), "-"), warn=row.get("clock") == "recv"),
        looks.badge("zone", zone_of(desk)),
        looks.badge(f"{desk.table} at", state),
        *(looks.badge("note", note, warn=True) for note in bars.notes),
    ]
    return f'<div class="badges">{"".join(found)}</div>'


def _line(desk: Desk, universe: Any) -> Row:
    """The line of the universe that the page is of."""
    lines: list[Row] = [] if isinstance(universe, K2Error) else universe
    return next((row for row in lines if (row["venue"], row["symbol"]) == (desk.venue, desk.symbol)), {})


def _strip(desk: Desk, summary: Any, universe: Any) -> str:
    name = f'<span class="name">{escape(desk.symbol)}<span>{escape(desk.venue)} · {escape(desk.last_day)}</span></span>'
    if summary is None or isinstance(summary, K2Error):
        return f'<div class="strip">{name}<span class="quiet">{escape(str(summary or "no rows"))}</span></div>'
    line = _line(desk, universe)
    change = line.get("change") if line.get("session") == summary.session else None
    moved = f'<small class="{looks.kind(change)}">{looks.share(change)}</small>'
    price = f'<span class="price">{looks.number(summary.close)}{moved}</span>'
    count = summary.trade_count if summary.of == "trades" else summary.quote_count
    figures = [
        ("open", looks.number(summary.open)),
        ("high", looks.number(summary.high)),
        ("low", looks.number(summary.low)),
        ("vwap", looks.number(summary.vwap, 4)),
        ("volume", looks.number(summary.volume)),
        (summary.of, looks.number(count)),
    ]
    return f'<div class="strip">{name}{price}{"".join(looks.fact(*each) for each in figures)}</div>'


def book(desk: Desk, quote: Any) -> str:
    """The best bid and ask, or why there is none."""
    if quote is None or isinstance(quote, K2Error):
        return looks.none(str(quote or "No quotes of both sides"))
    spread = quote["ask_px"] - quote["bid_px"]
    middle = (quote["ask_px"] + quote["bid_px"]) / 2
    tilt = imbalance(quote["bid_sz"], quote["ask_sz"])
    points = f"{spread / middle * 10_000:.1f} bp" if middle > 0 else "-"
    bar = "" if tilt is None else f'<div class="bar"><i style="width:{(tilt + 1) * 50:.1f}%"></i></div>'
    sides = "".join(
        f'<div class="side {side}"><small>{side}</small>'
        f'<div class="px {tone}">{looks.number(quote[f"{side}_px"])}</div>'
        f'<div class="sz">{looks.number(quote[f"{side}_sz"])}</div></div>'
        for side, tone in (("bid", "up"), ("ask", "down"))
    )
    tilted = "-" if tilt is None else f"{tilt * 100:+.1f} %"
    lines = [("spread", f"{looks.number(spread)} · {points}"), ("imbalance", tilted)]
    lines += [("quoted", looks.clock(quote["ts_event"], zone_of(desk), day=True))]
    told = "".join(f'<div class="wide">{name}<b>{escape(value)}</b></div>' for name, value in lines)
    return f'<div class="book">{sides}{bar}{told}</div>'
