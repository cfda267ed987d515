"""How pages look: styles, colours, and small pieces of HTML. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import panel as pn

_HERE = Path(__file__).parent
COLOURS = {
    "dark": {"card": "#121820", "line": "#243040", "ink": "#d7e0ea", "quiet": "#8291a3"},
    "light": {"card": "#ffffff", "line": "#d5dce5", "ink": "#17202c", "quiet": "#5d6b7c"},
}


@cache
def style(name: str) -> str:
    """A style sheet of this folder."""
    return (_HERE / f"{name}.css").read_text(encoding="utf-8")


def card(*parts: Any, title: str = "", **how: Any) -> pn.Column:
    """Parts under a title, in a box."""
    head = [html(f"<h2>{escape(title)}</h2>")] if title else []
    classes = ["k2-card", *how.pop("css_classes", [])]
    how = {"sizing_mode": "stretch_width", **how}
    return pn.Column(*head, *parts, css_classes=classes, stylesheets=[style("box")], margin=(0, 0, 8, 8), **how)


def columns(*parts: pn.Column) -> pn.Row:
    """The columns of a page side by side; under each other where the window is narrow."""
    for part in parts:
        part.param.update(css_classes=[*part.css_classes, "k2-column"], stylesheets=[style("box")])
    return pn.Row(
        *parts, css_classes=["k2-columns"], stylesheets=[style("box")], sizing_mode="stretch_width", margin=(8, 8, 0, 0)
    )


def tools(*parts: Any, **how: Any) -> pn.Row:
    """Widgets side by side; in several lines where the window is narrow."""
    return pn.Row(*parts, css_classes=["k2-tools"], stylesheets=[style("box")], **how)


def html(text: str = "", **how: Any) -> pn.pane.HTML:
    """A pane of HTML."""
    how = {"sizing_mode": "stretch_width", "margin": 0, **how}
    return pn.pane.HTML(text, stylesheets=[style("part")], **how)


def line(text: str = "", **how: Any) -> pn.pane.HTML:
    """HTML of a fixed size, which scrolls where the window is narrower."""
    return html(text, sizing_mode="fixed", css_classes=["k2-line"], **how)


def badge(name: str, value: object, *, warn: bool = False) -> str:
    """A fact that holds for the whole page."""
    return f'<span class="badge{" warn" if warn else ""}">{escape(name)} <b>{escape(str(value))}</b></span>'


def fact(name: str, value: str, kind: str = "") -> str:
    """A figure under its name."""
    return f'<span class="fact"><small>{escape(name)}</small><span class="{kind}">{escape(value)}</span></span>'


def number(value: Any, places: int | None = None) -> str:
    """A number with thousands separated; decimals in plain notation, without zeros at the end unless told."""
    if value is None:
        return "-"
    if isinstance(value, Decimal) and places is None:
        text = f"{value:,f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:,.{places or 0}f}"


def share(value: Decimal | None) -> str:
    """A share as signed per cent."""
    return "-" if value is None else f"{value * 100:+.2f} %"


def kind(value: Any) -> str:
    """The class of a signed number."""
    return "" if value is None or value == 0 else "up" if value > 0 else "down"


def clock(value: datetime | None, zone: str, *, day: bool = False) -> str:
    """A time in a zone, to the millisecond; with the date where `day`."""
    if value is None:
        return "-"
    local = value.astimezone(ZoneInfo(zone))
    return f"{local:{'%Y-%m-%d ' if day else ''}%H:%M:%S}.{local.microsecond // 1000:03d}"


def text(value: Any) -> str:
    """Any value as a cell."""
    match value:
        case None:
            found = ""
        case bool() | str():
            found = str(value)
        case int() | Decimal():
            found = number(value)
        case datetime():
            found = f"{value:%Y-%m-%d %H:%M:%S}"
        case Mapping():
            found = ", ".join(f"{name} {text(each)}" for name, each in value.items())
        case list() | tuple():
            found = ", ".join(map(text, value))
        case _:
            found = str(value)
    return found


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], classes: Sequence[str] = ()) -> str:
    """Rows as an HTML table; `classes` are of the columns (n: number, m: monospaced)."""
    given = [*classes, *([""] * len(heads))]
    head = "".join(f'<th class="{of}">{escape(name)}</th>' for name, of in zip(heads, given, strict=False))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{of}">{_cell(value)}</td>' for value, of in zip(row, given, strict=False))
        + "</tr>"
        for row in rows
    )
    return f'<table class="k2"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>' if body else none("nothing")


def _cell(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f'<span class="{value[1]}">{escape(text(value[0]))}</span>'
    return escape(text(value))


def none(what: str) -> str:
    """What is shown where there is nothing."""
    return f'<div class="none">{escape(what)}</div>'


def problem(sentence: str) -> str:
    """What is shown where a read failed."""
    return f'<div class="problem">{escape(sentence)}</div>'


def spark(values: Sequence[Any], width: int = 76, height: int = 18) -> str:
    """A small line of values as inline SVG."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    spread = high - low or 1
    step = width / (len(values) - 1)
    points = " ".join(
        f"{place * step:.1f},{height - 2 - float((value - low) / spread) * (height - 4):.1f}"
        for place, value in enumerate(values)
    )
    colour = "var(--up)" if values[-1] >= values[0] else "var(--down)"
    line = f'<polyline fill="none" stroke="{colour}" stroke-width="1.3" points="{points}"/>'
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="display:block">{line}</svg>'


def button(name: str, act: Callable[..., Any], **how: Any) -> pn.widgets.Button:
    """A button."""
    how = {"margin": (0, 6, 0, 0), **how}
    made = pn.widgets.Button(label=name, stylesheets=[style("widget")], **how)
    made.on_click(act)
    return made
