"""The states of a table over time."""

from __future__ import annotations

from typing import Any

from k2kernel.errors import K2Error
from k2kernel.plots.drawing import BID, FONTS, LINE, WIDTH, Reader, heading, holoviews


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
    names = [(*at, text) for *at, _, _, _, text in told if text]
    steps = hv.Curve(kept, "committed", "rows").opts(interpolation="steps-post", color=BID)
    labels = hv.Labels(names, ["committed", "rows"], "name").opts(text_color=LINE, text_font_size="10px", yoffset=0)
    title = heading(f"States of {table}", f"{len(found)} kept", f"newest {found[-1].id}", "times of commit in UTC")
    options = {"width": WIDTH, "height": 260, "title": title, "fontsize": FONTS, "show_grid": True}
    return (steps * points * labels).opts(padding=0.1, xlabel="UTC", **options)
