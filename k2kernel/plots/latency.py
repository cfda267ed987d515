"""How long rows took from the venue to the receiver, by their two clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.errors import K2Error, one_of
from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import (
    BID,
    DOWN,
    LINE,
    WIDTH,
    Reader,
    dressed,
    figures,
    heading,
    holoviews,
    hours,
    line,
    pinned,
    placed,
    some,
    stacked,
    states,
    zoned,
)

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = ["ts_event", "ts_event_ns", "ts_recv", "ts_recv_ns", "clock", "venue"]


def latency(reader: Reader, symbol: str, of: str = "trades", *, tz: str | None = None, **words: Any) -> Any:
    """Time of receipt less time at the venue, in ms: median and 99th percentile over time, and their distribution.

    The clocks are different ones. A row that was received before it happened shows that they disagree; how many there
    are, and by how much at least, is said. Rows whose event time is the receiver's own are left out. `of` is trades or
    quotes; the words are those of `wb.trades`.
    """
    one_of("of", of, ("trades", "quotes"))
    found = zoned(getattr(pinned(reader, words), of)(symbol, columns=_COLUMNS, **words), tz)
    frame = _delays(found.to_polars())
    if frame.is_empty():
        raise K2Error(f"No {of} of {symbol} have both a venue's time and a time of receipt", "Nothing can be drawn")
    facts = f"{symbol}, receipt after event of {of}", hours(found), _skew(frame), states(found)
    return stacked(_over_time(frame, found.zone, facts), _spread(frame), shared=False)


def _delays(rows: pl.DataFrame) -> pl.DataFrame:
    """ts_event and `ms` between the two times, to the nanosecond where both have them."""
    import polars as pl

    exact = (pl.col("ts_recv_ns") - pl.col("ts_event_ns")) / 1e6
    coarse = (pl.col("ts_recv") - pl.col("ts_event")).dt.total_microseconds() / 1e3
    both = rows.filter((pl.col("clock") == "venue") & pl.col("ts_recv").is_not_null())
    return both.select("ts_event", pl.coalesce(exact, coarse).alias("ms"))


def _skew(frame: pl.DataFrame) -> str:
    """What negative delays say about the clocks."""
    early = frame.filter(frame["ms"] < 0)["ms"]
    if early.is_empty():
        return "venue's and receiver's clock, no row received before it happened"
    share = f"{len(early):,} of {frame.height:,} rows received before they happened"
    return f"{share}: the two clocks differ by at least {-float(early.min()):.3f} ms"  # type: ignore[arg-type]


def _over_time(frame: pl.DataFrame, zone: str | None, facts: tuple[str, ...]) -> Any:
    import polars as pl

    axis = Axis.of(frame["ts_event"], zone)
    x = axis.at(frame["ts_event"])
    step = max((x.max() or 0) / (WIDTH / 4), 1.0)  # type: ignore[operator]
    ms = pl.col("ms")
    by = frame.select(((x / step).floor() * step).alias("x"), "ms").group_by("x").agg(
        ms.min().alias("lowest"), ms.median().alias("median"), ms.quantile(0.99).alias("99 %")
    ).sort("x")  # fmt: skip
    colours = {"lowest": DOWN, "median": BID, "99 %": LINE}
    parts = [line(by, axis, name, name, "delay").opts(color=colour) for name, colour in colours.items()]
    top = 1.5 * float(frame["ms"].quantile(0.995) or 0) + 1e-6
    cut = f"axis up to {top:.3g} ms, longest {frame['ms'].to_numpy().max():,.1f} ms"
    limits = (min(0.0, float(by["lowest"].min())) - top / 20, top)  # type: ignore[arg-type]
    title = heading(*facts, cut)
    return placed(holoviews().Overlay(parts), axis, title=title, ylabel="ms", yformatter="%.3g", ylim=limits)


def _spread(frame: pl.DataFrame) -> Any:
    """The distribution up to the 99.5th percentile."""
    hv = holoviews()
    low, high = frame["ms"].min(), frame["ms"].quantile(0.995)
    inside = some(frame.filter(frame["ms"].is_between(low, high)), "delays")["ms"]
    found = inside.hist(bin_count=80)
    edges = [low, *found["breakpoint"].to_list()]
    shape = hv.Histogram((edges, found["count"].to_numpy()), kdims="delay in ms", vdims="rows")
    shape = shape.opts(color=BID, line_color="white", line_width=0.5)
    return dressed(shape, height=200, xlabel="ms, up to the 99.5th percentile", yformatter=figures(counts=True))
