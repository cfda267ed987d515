"""`chart`: any rows as a line, candles, bars, dots or a histogram, chosen by their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, extra, listed
from k2kernel.plots.candles import drawn
from k2kernel.plots.drawing import FONTS, HEIGHT, WIDTH, heading, holoviews, some, states, thin

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.query import Result

KINDS = ("line", "candle", "bar", "scatter", "hist")


def chart(result: Result, kind: str) -> Any:
    """The rows of a result as a chart of a `kind`: line, candle, bar, scatter or hist.

    A candle needs ts_open, open, high, low and close. Of the others the first column is x (a histogram has none), the
    columns of numbers are drawn, and a column of text tells series apart. Times are those of the venue where the rows
    are of one, else UTC.
    """
    if kind not in KINDS:
        raise InvalidParameter("plot", kind, "is no chart", f"Charts: {listed(KINDS)}")
    frame = some(result.to_polars(), "rows")
    if kind == "candle":
        return drawn(frame, result.zone, "Candles", states(result))
    return _plain(frame, result, kind)


def _plain(frame: pl.DataFrame, result: Result, kind: str) -> Any:
    import polars as pl

    holoviews()
    with extra("notebook", "hvPlot"):
        from hvplot.plotting.core import hvPlotTabularPolars
    zone = result.zone or "UTC"
    frame = frame.with_columns(
        pl.selectors.decimal().cast(pl.Float64),
        pl.selectors.datetime(time_zone="*").dt.convert_time_zone(zone).dt.replace_time_zone(None),
    )
    x, others = frame.columns[0], frame.columns[1:]
    numbers = [name for name in (frame.columns if kind == "hist" else others) if frame.schema[name].is_numeric()]
    if not numbers:
        raise InvalidParameter("plot", kind, "the rows have no column of numbers", "Select one after the first column")
    series = [name for name in others if frame.schema[name] == pl.String]
    said = ""
    if kind in ("line", "scatter") and not series and frame.schema[x].is_temporal():
        places = frame.with_columns(pl.col(x).cast(pl.Datetime("us")).cast(pl.Float64).alias("k2_x")).sort("k2_x")
        frame, said = thin(places, "k2_x", numbers)
    options = {
        "width": WIDTH,
        "height": HEIGHT,
        "grid": True,
        "fontsize": FONTS,
        "title": heading(kind, f"times of {zone}", states(result), said),
    }
    y = numbers if len(numbers) > 1 else numbers[0]
    if kind == "hist":
        return hvPlotTabularPolars(frame).hist(y=y, bins=60, **options)
    by = {"by": series[0]} if series and len(numbers) == 1 else {}
    return getattr(hvPlotTabularPolars(frame), kind)(x=x, y=y, **by, **options)
