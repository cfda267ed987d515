"""What the charts share: size, colours, what they say, and thinning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from k2kernel.errors import K2Error, extra
from k2kernel.workbench import View, Workbench

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.plots.axis import Axis
    from k2kernel.query import Result

Reader = Workbench | View
WIDTH, HEIGHT, LOW = 960, 360, 140
"""Pixels: the width, and the heights of a chart and of a smaller one under it."""

_LINE = 130
"""Letters of a heading that fit."""

FONTS = {"title": "11px", "labels": "11px", "ticks": "10px", "legend": "10px"}

UP, DOWN, LINE, QUIET = "#16845c", "#c23b3b", "#b7791f", "#64748b"
BID, ASK = "#2b6cb0", "#b7532b"


def holoviews() -> Any:
    """HoloViews with its Bokeh backend, ready to show in a notebook."""
    with extra("notebook", "HoloViews"):
        import holoviews as hv
    if hv.Store.current_backend != "bokeh" or not hv.extension._loaded:  # noqa: SLF001 - it does not tell otherwise
        hv.extension("bokeh", logo=False, inline=True)  # a notebook needs no network to show it
    return hv


def pinned(reader: Reader, words: dict[str, Any]) -> View:
    """The one state that all of a chart is read from; takes `as_of` out of the words."""
    as_of = words.pop("as_of", None)
    return reader if isinstance(reader, View) and as_of is None else reader.at(as_of)


def some(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """The frame; K2Error where there is nothing to draw."""
    if frame.is_empty():
        raise K2Error(f"There are no {what} to draw", "Ask for another symbol, session or hours")
    return frame


def heading(name: str, *facts: str) -> str:
    """The title of a chart, with what it is of under it."""
    lines = [name, ""]
    for fact in filter(None, facts):
        lines += [] if len(lines[-1]) + len(fact) < _LINE else [""]
        lines[-1] += f" · {fact}" if lines[-1] else fact
    return "\n".join(lines)


def states(*results: Result) -> str:
    """The snapshots that answered."""
    found = {name: number for result in results for name, number in result.snapshots.items()}
    return ", ".join(f"{name} at {number}" for name, number in found.items())


def hours(result: Result) -> str:
    """Of which hours of trading a result is."""
    return {"all": "all hours", "rth": "regular hours", "rth+auctions": "regular hours and auctions"}[result.hours]


def clocks(result: Result) -> str:
    """Whose clock the times of a result with a column `clock` are."""
    found = sorted(row[0] for row in result.to_duckdb().project("clock").distinct().fetchall())
    names = {"venue": "the venue's clock", "recv": "the receiver's clock"}
    return " and ".join(names[each] for each in found)


def thin(frame: pl.DataFrame, x: str, ys: Sequence[str], pixels: int = WIDTH) -> tuple[pl.DataFrame, str]:
    """The rows that a screen can tell apart: of each pixel the first, the last, and the lowest and highest of each y.

    Rows stay as they are, in order of `x`. The text says what was left out; it is empty where nothing was.
    """
    import polars as pl

    if frame.height <= 2 * pixels * (1 + len(ys)):
        return frame, ""
    low, high = pl.col(x).min(), pl.col(x).max()
    pixel = ((pl.col(x) - low) / (high - low) * pixels).floor()
    row = pl.col("k2_row")
    picks = [row.first().alias("first"), row.last().alias("last")]
    for y in ys:
        picks += [row.get(pl.col(y).arg_min()).alias(f"{y} low"), row.get(pl.col(y).arg_max()).alias(f"{y} high")]
    found = frame.with_row_index("k2_row").group_by(pixel.alias("k2_pixel")).agg(picks).drop("k2_pixel")
    kept = pl.concat([found[name] for name in found.columns]).drop_nulls().unique().sort()
    said = f"{len(kept):,} of {frame.height:,} points drawn: first, last, lowest and highest of each pixel"
    return frame[kept], said


def line(
    frame: pl.DataFrame, axis: Axis, column: str, label: str, dimension: str = "price", *, steps: bool = False
) -> Any:
    """A column over the positions `x`, broken where hours are left out; with `steps` a value holds until the next."""
    import polars as pl

    gaps = pl.DataFrame({"x": [begin - 1 for begin in axis.breaks], column: [None] * len(axis.breaks)})
    gaps = gaps.cast({"x": pl.Float64, column: pl.Float64})
    drawn = pl.concat([frame.select("x", pl.col(column).cast(pl.Float64)), gaps]).sort("x", maintain_order=True)
    shape = holoviews().Curve((drawn["x"].to_numpy(), drawn[column].to_numpy()), "x", dimension, label=label)
    return shape.opts(line_width=1.5, interpolation="steps-post" if steps else "linear")


def placed(chart: Any, axis: Axis, **options: Any) -> Any:
    """A chart on a time axis, with a line where hours are left out; the options are those of HoloViews."""
    from bokeh.models import NumeralTickFormatter

    lines = holoviews().VLines(axis.breaks).opts(color=QUIET, line_dash="dotted", line_width=1)
    large = options.get("height", HEIGHT) == LOW
    said = {
        "width": WIDTH,
        "height": HEIGHT,
        "show_grid": True,
        "gridstyle": {"xgrid_line_color": None},
        "legend_position": "top",
        "fontsize": FONTS,
    }
    said |= {"yformatter": NumeralTickFormatter(format="0.[0]a")} if large else {}
    return (chart * lines).opts(**said | axis.options(WIDTH) | options)


def stacked(*charts: Any) -> Any:
    """Charts under each other, on one axis."""
    layout = holoviews().Layout(list(charts)).cols(1)
    for chart in charts[:-1]:
        chart.opts(xaxis="bare")
    return layout.opts(shared_axes=True, merge_tools=True, toolbar="right")
