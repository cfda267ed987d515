"""The tilt of the best bid and offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import (
    DOWN,
    UP,
    WIDTH,
    Reader,
    clocks,
    heading,
    holoviews,
    hours,
    pinned,
    placed,
    some,
    states,
    zoned,
)

if TYPE_CHECKING:
    import polars as pl

_BARS = WIDTH // 4
"""Bars that can be told apart."""

_HEIGHT = 220


def imbalance(reader: Reader, symbol: str, *, tz: str | None = None, **words: Any) -> Any:
    """Size bid less size asked at the best prices, over both, from -1 to 1; the words are those of `wb.quotes`.

    Quotes without a size of both sides are left out.
    """
    import polars as pl

    columns = ["ts_event", "venue", "clock", "bid_sz", "ask_sz"]
    found = zoned(pinned(reader, words).quotes(symbol, columns=columns, **words), tz)
    sizes = found.to_polars().with_columns(pl.selectors.decimal().cast(pl.Float64))
    both = pl.col("bid_sz") + pl.col("ask_sz")
    tilt = ((pl.col("bid_sz") - pl.col("ask_sz")) / pl.when(both > 0).then(both)).alias("imbalance")
    frame = some(sizes.with_columns(tilt).drop_nulls("imbalance"), "sizes of quotes")
    axis = Axis.of(frame["ts_event"], found.zone)
    places = frame.with_columns((axis.at(frame["ts_event"]) / step(axis)).floor().alias("place"))
    means = places.group_by("place").agg(pl.col("imbalance").mean()).sort("place")
    facts = [hours(found), clocks(found), states(found), "mean of the quotes under each bar", *found.notes]
    title = heading(f"{symbol} on {', '.join(frame['venue'].unique().sort())}, book imbalance", *facts)
    bars = _bars(means, step(axis))
    return placed(bars, axis, title=title, height=_HEIGHT, ylim=(-1.05, 1.05), yformatter="%g", ylabel="imbalance")


def step(axis: Axis) -> float:
    """The width of a bar, so that a screen can tell the bars apart."""
    return (axis.parts[-1][1] or 1.0) / _BARS


def _bars(means: pl.DataFrame, width: float) -> Any:
    import polars as pl

    left, top = means["place"] * width, means["imbalance"]
    colour = means.select(pl.when(pl.col("imbalance") >= 0).then(pl.lit(UP)).otherwise(pl.lit(DOWN))).to_series()
    values = (
        left.to_numpy(),
        (top * 0).to_numpy(),
        (left + width * 0.85).to_numpy(),
        top.to_numpy(),
        colour.to_numpy(),
    )
    shape = holoviews().Rectangles(values, ["x", "imbalance", "x end", "top"], ["colour"])
    return shape.opts(color="colour", line_color=None)
