"""The report for a notebook: totals, and a bar for each session as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from k2kernel.html import Markup
from k2kernel.html import table as shown

_STEP, _WIDTH, _HEIGHT, _GAP = 14, 240, 16, 1
_COLOUR = "#64748b"


def html(table: pl.DataFrame, totals: Mapping[str, int], found: Mapping[str, str], notes: Iterable[str] = ()) -> str:
    """A line for each kind that was found, with its count; by session as bars where there are several."""
    by_session = table.group_by("session").agg(pl.col(pl.Int64).sum()).sort("session")
    days = [str(day) for day in by_session["session"]]
    bars = {name: _bars(days, by_session[name].to_list()) for name in by_session.columns[1:] if len(days) > 1}
    heads = ["what", "rows", *([_span(days)] if bars else []), "meaning"]
    lines: list[list[str]] = [
        [name, f"{totals[name]:,}", *([bars.get(name, "")] if bars else []), found.get(name, "rows received")]
        for name in ("trades", "quotes", *found)
    ]
    instruments = table.select("venue", "symbol").n_unique()
    of = f"{instruments:,} instrument{'s' * (instruments != 1)}, {len(days):,} session{'s' * (len(days) != 1)}"
    return shown(heads, lines, numbers=[False, True], below=[of, *notes])


def _span(days: list[str]) -> str:
    return f"{days[0]} to {days[-1]}"


def _bars(days: list[str], counts: list[int]) -> Markup:
    """One bar a session, the highest one as high as the picture; its title says session and count."""
    step, most = min(_STEP, _WIDTH / max(1, len(counts))), max(counts, default=0) or 1
    bars = "".join(
        f"<rect x='{place * step:.2f}' y='{_HEIGHT - high:.2f}' width='{max(0.5, step - _GAP):.2f}' "
        f"height='{high:.2f}' fill='{_COLOUR}'><title>{day}: {count:,}</title></rect>"
        for place, (day, count) in enumerate(zip(days, counts, strict=True))
        for high in [_HEIGHT * count / most]
    )
    width = round(step * len(counts))
    return Markup(f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{_HEIGHT}' role='img'>{bars}</svg>")
