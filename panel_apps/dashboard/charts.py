"""Charts of `k2kernel.plots` as Bokeh models that fill their place; the page says what their titles say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import holoviews as hv
import panel as pn
from bokeh.layouts import column
from bokeh.models import BasicTickFormatter, ColumnDataSource, LayoutDOM, Plot
from bokeh.themes import Theme

from panel_apps.dashboard.looks import COLOURS

_DRAWING = threading.Lock()
"""HoloViews keeps options in one place for all threads."""


_DRAWN = ("price", "spread")
"""Columns of lines."""


@cache
def theme(name: str) -> Theme:
    """The theme of charts, dark or light."""
    of = COLOURS[name]
    axis = {"axis_line_color": of["line"], "major_tick_line_color": of["line"], "minor_tick_line_color": None}
    axis |= {"major_label_text_color": of["quiet"], "axis_label_text_color": of["quiet"]}
    figure = {"background_fill_color": of["card"], "border_fill_color": of["card"], "outline_line_color": of["line"]}
    attributes = {
        "Plot": figure,
        "figure": figure,
        "Axis": axis,
        "Grid": {"grid_line_color": of["line"], "grid_line_alpha": 0.55},
        "Legend": {"background_fill_alpha": 0.0, "border_line_alpha": 0.0, "label_text_color": of["quiet"]},
    }
    return Theme(json={"attrs": attributes})


def pane(name: str) -> pn.pane.Bokeh:
    """An empty place for a chart, in a theme."""
    return pn.pane.Bokeh(None, theme=theme(name), sizing_mode="stretch_width", margin=0)


def drawn(make: Callable[[], Any], heights: Sequence[int], colours: str, *, robust: bool = False) -> LayoutDOM:
    """What `make` draws, in a thread: as wide as its place, each part as high as told. With `robust` the scale of lines
    begins with all but the outermost hundredth of their points on either side; the rest is a drag away.
    """
    with _DRAWING:
        model = hv.render(make(), backend="bokeh")
    parts: list[Any] = [model] if isinstance(model, Plot) else [child[0] for child in model.children]
    for part, height in zip(parts, heights, strict=True):
        _fit(part, height, COLOURS[colours])
        if robust:
            _calm(part)
        for axis in part.xaxis:
            axis.visible = part is parts[-1]
        part.toolbar_location = "right" if part is parts[0] else None
    return column(*parts, sizing_mode="stretch_width", spacing=0)


def _calm(part: Any) -> None:
    sources: Any = part.select({"type": ColumnDataSource})
    found = [value for source in sources for value in _heights(source)]
    values = sorted(value for value in found if value == value)  # noqa: PLR0124 - NaN is not equal to itself
    if len(values) > 200:
        low, high = values[len(values) // 100], values[-1 - len(values) // 100]
        pad = (high - low) * 0.15 or abs(high) * 0.01 or 1.0
        part.y_range.update(start=max(values[0], low) - pad, end=min(values[-1], high) + pad)
        part.y_range.update(reset_start=part.y_range.start, reset_end=part.y_range.end)


def _heights(source: ColumnDataSource) -> list[float]:
    return [float(value) for name in _DRAWN for value in source.data.get(name, ()) if value is not None]


def _fit(part: Any, height: int, of: dict[str, str]) -> None:
    part.update(width=None, height=height, sizing_mode="stretch_width", title=None)
    part.update(min_border_left=52, min_border_right=8, min_border_top=4, min_border_bottom=4)
    part.update(background_fill_color=of["card"], border_fill_color=of["card"], outline_line_color=of["line"])
    part.toolbar.update(autohide=True, logo=None)
    legends, part.above = list(part.legend), []  # where the titles are, too
    for legend in legends:
        legend.update(orientation="horizontal", location="top_left", background_fill_alpha=0.0, border_line_alpha=0.0)
        legend.update(label_text_color=of["quiet"], margin=2, padding=0, label_text_font_size="10px", glyph_height=12)
        if legend not in part.center:
            part.center = [*part.center, legend]
    for axis in part.axis:
        axis.update(axis_line_color=of["line"], major_tick_line_color=of["line"], minor_tick_line_color=None)
        axis.update(major_label_text_color=of["quiet"])
        axis.update(axis_label=None, major_label_text_font_size="10px")
    for axis in part.yaxis:
        axis.ticker.desired_num_ticks = 6 if height > 200 else 3
        if isinstance(axis.formatter, BasicTickFormatter):
            axis.formatter.use_scientific = False
    for grid in part.xgrid + part.ygrid:
        grid.update(grid_line_color=of["line"] if grid.grid_line_color is not None else None, grid_line_alpha=0.6)
