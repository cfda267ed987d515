"""What the charts share: size, colours, what they say, and thinning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from k2kernel import html
from k2kernel.errors import K2Error, extra
from k2kernel.query.hours import SPOKEN
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

UP, DOWN, LINE, QUIET = "#16845c", "#c23b3b", "#b7791f", "#64748b"
BID, ASK = "#2b6cb0", "#b7532b"
SERIES = (BID, ASK, UP, LINE, "#7c3aed", "#0e7490", DOWN, QUIET)
"""Colours of series, in order."""

_TEXT, _LINES, _GRID = "#52525b", "#c9ced6", "#eceff3"
_FIGURES = """
const most = Math.max(...ticks.map(Math.abs))
const large = most >= 1e9 ? ["G", 1e9] : most >= 1e6 ? ["M", 1e6] : ["", 1]
const [unit, size] = counts && most >= 1e4 && most < 1e6 ? ["k", 1e3] : large
const places = t => (String(+(t / size).toFixed(8)).split(".")[1] ?? "").length
const digits = Math.max(...ticks.map(places))
const shown = {minimumFractionDigits: digits, maximumFractionDigits: digits}
return (tick / size).toLocaleString("en", shown) + (tick ? unit : "")
"""
"""Ticks with as many decimals as the one that needs most; large ones in millions, those of counts in thousands too."""


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


def zoned(result: Result, tz: str | None) -> Result:
    """The result with its times in a zone (None: as it is, the venue's)."""
    return result if tz is None else result.tz(tz)


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
    return html.states({name: number for result in results for name, number in result.snapshots.items()})


def hours(result: Result) -> str:
    """Of which hours of trading a result is."""
    return SPOKEN[result.hours]


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


def marked(marks: Any, axis: Axis) -> Any:
    """Marks of a frame at ts_event (UTC) and price: buys point up, sells down."""
    import polars as pl

    hv, marks = holoviews(), pl.DataFrame(marks)
    layers = []
    for side, (shape, colour) in {"buy": ("triangle", BID), "sell": ("inverted_triangle", "#a21caf")}.items():
        part = marks.filter(marks["side"] == side)
        values = axis.at(part["ts_event"]).to_numpy(), part["price"].cast(float).to_numpy()
        dots = hv.Points(values, ["x", "price"], label=f"marked {side}")
        layers += [dots.opts(marker=shape, size=11, color=colour, line_color="white")] if part.height else []
    return hv.Overlay(layers)


def placed(chart: Any, axis: Axis, *, dates: bool = True, **options: Any) -> Any:
    """A chart on a time axis, with a line where hours are left out; the options are those of HoloViews."""
    lines = holoviews().VLines(axis.breaks).opts(color=QUIET, line_dash="dotted", line_width=1)
    return dressed(chart * lines, **axis.options(WIDTH, dates=dates) | options)


def dressed(chart: Any, **options: Any) -> Any:
    """A chart as all of them look; the first line of its title stands out, the others say what it is of."""
    said = {
        "width": WIDTH,
        "height": HEIGHT,
        "show_grid": True,
        "gridstyle": {"xgrid_line_color": None, "ygrid_line_color": _GRID},
        "legend_position": "top",
        "yformatter": figures(counts=options.get("height") == LOW),
        "hooks": [_dress],
    }
    known = said if isinstance(chart, holoviews().Overlay) else {**said, "legend_position": None}
    return chart.opts(**{name: value for name, value in {**known, **options}.items() if value is not None})


def figures(*, counts: bool = False) -> Any:
    """The format of an axis of numbers, or of `counts`: 10k, 2.5M."""
    from bokeh.models import CustomJSTickFormatter

    return CustomJSTickFormatter(code=_FIGURES, args={"counts": counts})


def _dress(plot: Any, _: Any) -> None:
    """Make a figure of Bokeh look like the others."""
    figure = plot.handles["plot"]
    figure.update(outline_line_color=None, min_border_left=64)
    figure.toolbar.update(logo=None, autohide=True)
    for axis in figure.axis:
        axis.update(axis_line_color=_LINES, major_tick_line_color=_LINES, minor_tick_line_color=None)
        axis.update(major_label_text_color=_TEXT, major_label_text_font_size="11px", axis_label_text_font_size="11px")
        axis.update(axis_label_text_color=_TEXT, axis_label_text_font_style="normal")
    figure.xaxis.visible = plot.xaxis != "bare"
    if figure.height == LOW:
        figure.yaxis[0].ticker.desired_num_ticks = 3
    for legend in figure.legend:
        legend.update(title=None, border_line_color=None, background_fill_alpha=0.0, padding=0, margin=0, spacing=12)
        legend.update(label_text_font_size="11px", label_text_color=_TEXT, glyph_height=12, label_height=12)
    _titled(figure)


def _titled(figure: Any) -> None:
    """The lines of a title under its first one, smaller."""
    from bokeh.models.annotations import Title

    name, _, facts = figure.title.text.partition("\n")
    figure.title.update(text=name, text_font_size="13px", text_color="#18181b", standoff=4)
    if facts:
        under = Title(text=facts, text_font_size="11px", text_font_style="normal", text_color=_TEXT, standoff=4)
        figure.add_layout(under, "above")


def stacked(*charts: Any, shared: bool = True) -> Any:
    """Charts under each other, on one axis where `shared`."""
    for chart in charts[:-1] if shared else ():
        chart.opts(xaxis="bare")
    layout = holoviews().Layout(list(charts)).cols(1)
    return layout.opts(shared_axes=shared, toolbar="right", autohide_toolbar=True)
