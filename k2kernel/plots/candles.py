"""Candles: open, high, low and close by bar, with VWAP and volume, or of bid and ask where there are no trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter
from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import (
    ASK,
    BID,
    DOWN,
    LINE,
    LOW,
    QUIET,
    UP,
    WIDTH,
    Reader,
    clocks,
    heading,
    holoviews,
    hours,
    line,
    marked,
    pinned,
    placed,
    some,
    stacked,
    states,
    zoned,
)

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.query import Result
    from k2kernel.workbench import View

_PRICES = ("open", "high", "low", "close")
_MOST = WIDTH // 3
"""Candles that can be told apart."""


def candles(
    reader: Reader, symbol: str, interval: str = "1m", *, marks: Any = None, tz: str | None = None, **words: Any
) -> Any:
    """Candles of one instrument with its VWAP by bar and its volume; the words are those of `wb.bars`.

    Where the instrument has no trades they are of bid and ask, with the number of quotes under them. Hours without
    bars are left out of the axis, whose times are those of the venue (`tz`: of a zone). More bars than a screen can
    show are drawn together, several to a candle, and the chart says how many. `marks` is a frame of ts_event (UTC),
    price and side (buy or sell), such as orders of one's own.
    """
    view = pinned(reader, words)
    bars = zoned(view.bars(symbol, interval, **words), tz)
    of = words.pop("of", None) or ("trades" if "trades" in bars.snapshots else "bid and ask")
    if of != "bid and ask":
        frame = some(bars.to_polars(), "bars")
        facts = [f"policy {', '.join(frame['eligible'].unique().sort())}"] * (of == "trades")
        facts += _facts(view, "trades" if of == "trades" else "quotes", symbol, bars, words)
        return drawn(frame, bars.zone, _name(symbol, frame, interval, of), *facts, marks=marks)
    sides = {side: zoned(view.bars(symbol, interval, of=side, **words), tz) for side in ("bid", "ask")}
    frames = {side: some(found.to_polars(), "bars") for side, found in sides.items()}
    facts = _facts(view, "quotes", symbol, sides["bid"], words)
    return _bid_ask(frames, sides["bid"].zone, _name(symbol, frames["bid"], interval, of), *facts)


def _name(symbol: str, frame: pl.DataFrame, interval: str, of: str) -> str:
    return f"{symbol} on {', '.join(frame['venue'].unique().sort())}, {interval} bars of {of}"


def _facts(view: View, table: str, symbol: str, bars: Result, words: dict[str, Any]) -> list[str]:
    """Hours, clock and snapshot."""
    same = {name: value for name, value in words.items() if name not in ("eligible", "adjustment")}
    events = getattr(view, table)(symbol, columns=["clock"], **same)
    return [hours(bars), clocks(events), states(bars), *bars.notes]


def drawn(bars: pl.DataFrame, zone: str | None, name: str, *facts: str, marks: Any = None) -> Any:
    """Bars with ts_open (UTC), open, high, low, close, and volume and vwap where there are such columns, as a chart."""
    import polars as pl

    frame, said = _ready(bars)
    axis = _axis(frame, zone)
    frame = frame.with_columns(axis.at(frame["ts_open"]).alias("x"))
    title = heading(name, *facts, said)
    price = _sticks(frame, axis, UP, DOWN)
    if "vwap" in frame.columns and frame["vwap"].count():
        middle = frame.with_columns(pl.col("x") + pl.col("k2_width") / 2).drop_nulls("vwap")
        price *= line(middle, axis, "vwap", "VWAP of each bar").opts(color=LINE)
    price = price if marks is None else price * marked(marks, axis)
    return _over(price, frame, axis, title, "n_quotes" if "n_quotes" in frame.columns else "volume")


def _bid_ask(frames: dict[str, pl.DataFrame], zone: str | None, name: str, *facts: str) -> Any:
    bid, said = _ready(frames["bid"])
    ask, _ = _ready(frames["ask"])
    axis = _axis(bid, zone)
    parts = []
    for frame, colour in ((bid, BID), (ask, ASK)):
        frame = frame.with_columns(axis.at(frame["ts_open"]).alias("x"))  # noqa: PLW2901 - the same frame
        parts.append(_sticks(frame, axis, colour, colour))
    title = heading(f"{name} (bid blue, ask red)", *facts, said)
    return _over(parts[0] * parts[1], bid.with_columns(axis.at(bid["ts_open"]).alias("x")), axis, title, "n_quotes")


def _axis(frame: pl.DataFrame, zone: str | None) -> Axis:
    return Axis.of(frame["ts_open"], zone, float(frame["k2_width"][0]))


def _ready(bars: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Bars as floats with their width in ms, drawn together where there are too many."""
    import polars as pl

    missing = [name for name in ("ts_open", *_PRICES) if name not in bars.columns]
    if missing:
        raise InvalidParameter("plot", "candle", f"the rows have no {missing[0]}", "Draw the rows of wb.bars")
    numbers = [pl.col(name).cast(pl.Float64) for name in (*_PRICES, "volume", "vwap") if name in bars.columns]
    frame = (
        some(bars, "bars").sort("ts_open").with_columns(numbers).with_columns(pl.lit(_width_ms(bars)).alias("k2_width"))
    )
    together = -(-frame.height // _MOST)
    if together == 1:
        return frame, ""
    days = ["session"] if "session" in frame.columns else []
    group = pl.int_range(pl.len()) // together
    group = group.over(days) if days else group
    sums = [pl.col(name).sum() for name in ("volume", "n_trades", "n_quotes") if name in frame.columns]
    means = [_mean_price().alias("vwap")] if "vwap" in frame.columns else []
    merged = frame.group_by(*days, group.alias("k2_group"), maintain_order=True).agg(
        pl.col("ts_open").first(), pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
        pl.col("close").last(), pl.col("k2_width").sum(), *sums, *means,
    )  # fmt: skip
    return merged, f"{together} bars to a candle, {frame.height:,} in all"


def _mean_price() -> pl.Expr:
    """The VWAP of several bars; null where none of them has one."""
    import polars as pl

    priced = pl.when(pl.col("vwap").is_not_null()).then(pl.col("volume"))
    return (pl.col("vwap") * priced).sum() / pl.when(priced.sum() != 0).then(priced.sum())


def _width_ms(bars: pl.DataFrame) -> float:
    """The width of a bar: the shortest distance between two, or a minute where there is one."""
    steps = bars["ts_open"].unique().sort().diff().dt.total_microseconds().drop_nulls().to_list()
    return min(steps, default=60_000_000) / 1_000


def _sticks(frame: pl.DataFrame, axis: Axis, up: str, down: str) -> Any:
    """Wicks and bodies."""
    import polars as pl

    hv = holoviews()
    middle, half = pl.col("x") + pl.col("k2_width") / 2, pl.col("k2_width") * 0.38
    colour = pl.when(pl.col("close") >= pl.col("open")).then(pl.lit(up)).otherwise(pl.lit(down))
    frame = frame.drop_nulls(["open", "close"]).with_columns(
        middle.alias("x"), (middle - half).alias("left"), (middle + half).alias("right"), colour.alias("colour"),
        pl.col("ts_open").dt.convert_time_zone(axis.zone).dt.strftime("%Y-%m-%d %H:%M:%S").alias("time"),
    )  # fmt: skip
    told = ["colour", "time", *_PRICES, *(name for name in ("volume", "vwap") if name in frame.columns)]
    wicks = hv.Segments(
        _columns(frame, "x", "low", "x", "high", "colour"), ["x", "price", "x end", "price end"], ["colour"]
    )
    bodies = hv.Rectangles(
        _columns(frame, "left", "open", "right", "close", *told), ["x", "price", "x end", "price end"], told
    )
    tips = [(name, f"@{name}") for name in told[1:]]
    return wicks.opts(color="colour", line_width=1) * bodies.opts(
        color="colour", line_color="colour", line_width=1, tools=["hover"], hover_tooltips=tips
    )


def _columns(frame: pl.DataFrame, *names: str) -> tuple[Any, ...]:
    return tuple(frame[name].to_numpy() for name in names)


def _over(price: Any, frame: pl.DataFrame, axis: Axis, title: str, column: str) -> Any:
    """The prices over bars of a count."""
    hv = holoviews()
    price = placed(price, axis, title=title, ylabel="price")
    if column not in frame.columns:
        return price
    left, right = frame["x"] + frame["k2_width"] * 0.1, frame["x"] + frame["k2_width"] * 0.9
    heights = frame[column].cast(float).to_numpy()
    bars = hv.Rectangles((left.to_numpy(), heights * 0, right.to_numpy(), heights), ["x", column, "x end", "top"])
    under = placed(
        bars.opts(color=QUIET, line_color=None), axis, height=LOW, ylim=(0, None), ylabel=column.removeprefix("n_")
    )
    return stacked(price, under)
