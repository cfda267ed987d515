"""The report for a notebook: totals, and a bar for each session as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import polars as pl

_WIDTH, _HEIGHT, _GAP = 240, 28, 1


def html(table: pl.DataFrame, totals: Mapping[str, int], found: Mapping[str, str]) -> str:
    """A line for each kind that was found, with its count by session as bars."""
    by_session = table.group_by("session").agg(pl.col(pl.Int64).sum()).sort("session")
    days = [str(day) for day in by_session["session"]]
    names = ["trades", "quotes", *found]
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td style='text-align:right'>{totals[name]:,}</td>"
        f"<td>{_bars(days, by_session[name].to_list()) if name in by_session.columns else ''}</td>"
        f"<td>{escape(found.get(name, 'rows received'))}</td></tr>"
        for name in names
    )
    head = f"<tr><th>what</th><th>rows</th><th>{_span(days)}</th><th>meaning</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{lines}</tbody></table><p>{len(table):,} instrument-sessions</p>"


def _span(days: list[str]) -> str:
    return "by session" if not days else f"{days[0]} to {days[-1]}"


def _bars(days: list[str], counts: list[int]) -> str:
    """One bar a session, the highest one as high as the picture; its title says session and count."""
    step, most = _WIDTH / max(1, len(counts)), max(counts, default=0) or 1
    bars = "".join(
        f"<rect x='{place * step:.2f}' y='{_HEIGHT - high:.2f}' width='{max(0.5, step - _GAP):.2f}' "
        f"height='{high:.2f}' fill='currentColor'><title>{day}: {count:,}</title></rect>"
        for place, (day, count) in enumerate(zip(days, counts, strict=True))
        for high in [_HEIGHT * count / most]
    )
    return f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' role='img'>{bars}</svg>"
