"""The states of a table over time."""

from __future__ import annotations

from typing import Any

from k2kernel.errors import K2Error
from k2kernel.plots.drawing import BID, LINE, Reader, dressed, heading, holoviews

_LETTERS = 24
"""Letters of a name that are shown."""


def snapshots(reader: Reader, table: str = "trades") -> Any:
    """The kept states of a table: rows by time of commit (UTC), with their operations and the names they have."""
    found = sorted(reader.snapshots(table), key=lambda state: state.committed_at)
    if not found:
        raise K2Error(f"{table} has no snapshot yet", "Load something first")
    hv = holoviews()
    kept = [(state.committed_at.replace(tzinfo=None), state.rows_total) for state in found]
    told = [
        (*at, state.operation, str(state.id), state.source, ", ".join(state.tags))
        for at, state in zip(kept, found, strict=True)
    ]
    facts = ["operation", "snapshot", "source", "names"]
    points = hv.Points(told, ["committed", "rows"], facts).opts(size=9, color=BID, tools=["hover"])
    steps = hv.Curve(kept, "committed", "rows").opts(interpolation="steps-post", color=BID)
    middle = kept[0][0] + (kept[-1][0] - kept[0][0]) / 2
    names = [(*at, _short(state.tags)) for at, state in zip(kept, found, strict=True) if state.tags]
    title = heading(f"States of {table}", f"{len(found)} kept", f"newest {found[-1].id}", "times of commit in UTC")
    chart = steps * points * _labels(names, middle, left=True) * _labels(names, middle, left=False)
    return dressed(chart, height=260, title=title, padding=(0.06, 0.18), xlabel="UTC", ylabel="rows")


def _labels(names: list[tuple[Any, ...]], middle: Any, *, left: bool) -> Any:
    """Names over their points, to the side that has room."""
    own = [name for name in names if (name[0] > middle) == left]
    shape = holoviews().Labels(own, ["committed", "rows"], "name")
    side = {"text_align": "right" if left else "left", "text_baseline": "bottom"}
    return shape.opts(text_color=LINE, text_font_size="11px", **side)


def _short(names: tuple[str, ...]) -> str:
    cut = [name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…" for name in names]
    return f"  {', '.join(cut)}  "
