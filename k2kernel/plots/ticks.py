"""Single events: quotes with their spread, and trades over the book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import (
    ASK,
    BID,
    DOWN,
    LOW,
    QUIET,
    UP,
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
    thin,
    zoned,
)

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.query import Result

_QUOTES = ["ts_event", "venue", "clock", "bid_px", "ask_px"]
_TRADES = ["ts_event", "venue", "clock", "price", "size", "side"]
_SIDES = {"buy": UP, "sell": DOWN, "": QUIET}
_MANY = 1_000
"""More dots than this are small ones."""


def quotes(reader: Reader, symbol: str, *, tz: str | None = None, **words: Any) -> Any:
    """Best bid and ask of one instrument with the spread under them; the words are those of `wb.quotes`."""
    found = zoned(pinned(reader, words).quotes(symbol, columns=_QUOTES, **words), tz)
    frame = some(_floats(found), "quotes")
    axis = Axis.of(frame["ts_event"], found.zone)
    book, said = _book(frame, axis)
    title = heading(_name(symbol, frame, "quotes"), *_facts(words, found), said)
    spread = line(book, axis, "spread", "spread", "spread", steps=True).opts(color=QUIET, line_width=1)
    under = placed(spread, axis, height=LOW, ylabel="spread", yformatter="%g", show_legend=False)
    return stacked(placed(_sides(book, axis), axis, title=title, ylabel="price"), under)


def tape(
    reader: Reader, symbol: str, *, outliers: bool = False, marks: Any = None, tz: str | None = None, **words: Any
) -> Any:
    """The trades of one instrument, by aggressor, over its best bid and ask; the words are those of `wb.trades`.

    Trades far from the book are off the axis, and counted, unless `outliers`. `marks` are as in `candles`.
    """
    view = pinned(reader, words)
    sold = zoned(view.trades(symbol, columns=_TRADES, **words), tz)
    shown = zoned(view.quotes(symbol, columns=_QUOTES, **words), tz)
    trades, book = some(_floats(sold), "trades"), _floats(shown)
    axis = Axis.of(trades["ts_event"].append(book["ts_event"]), sold.zone)
    points, left_out = thin(trades.with_columns(axis.at(trades["ts_event"]).alias("x")), "x", ["price"])
    lines, said = _book(book, axis)
    limits = None if outliers else _around(book)
    title = heading(
        _name(symbol, trades, "trades over the book"), *_facts(words, sold, shown), _beyond(trades, limits),
        left_out and f"of trades {left_out}", said and f"of quotes {said}",
    )  # fmt: skip
    drawn = _sides(lines, axis) * _dots(points, sold.zone)
    drawn = drawn if marks is None else drawn * marked(marks, axis)
    return placed(drawn, axis, title=title, ylabel="price", ylim=limits, padding=(0.02, 0.1))


def _floats(result: Result) -> pl.DataFrame:
    import polars as pl

    return result.to_polars().with_columns(pl.selectors.decimal().cast(pl.Float64))


def _book(frame: pl.DataFrame, axis: Axis) -> tuple[pl.DataFrame, str]:
    """Quotes with their positions and spread, thinned."""
    import polars as pl

    placed_at = frame.with_columns(
        axis.at(frame["ts_event"]).alias("x"), (pl.col("ask_px") - pl.col("bid_px")).alias("spread")
    )
    return thin(placed_at, "x", ["bid_px", "ask_px", "spread"])


def _sides(book: pl.DataFrame, axis: Axis) -> Any:
    bid, ask = (line(book, axis, f"{side}_px", side, steps=True) for side in ("bid", "ask"))
    return bid.opts(color=BID) * ask.opts(color=ASK)


def _dots(points: pl.DataFrame, zone: str | None) -> Any:
    """Trades as dots whose area grows with their size, coloured by aggressor."""
    import polars as pl

    hv = holoviews()
    largest, most = points["size"].abs().max() or 1, 14 if points.height < _MANY else 8
    area = (pl.col("size").abs().fill_null(0) / largest).sqrt() * most + 3
    local = pl.col("ts_event").dt.convert_time_zone(zone or "UTC").dt.strftime("%H:%M:%S%.3f")
    frame = points.with_columns(area.alias("dot"), pl.col("side").fill_null("").alias("side"), local.alias("time"))
    layers = []
    for side, colour in _SIDES.items():
        part = frame.filter(pl.col("side") == side)
        values = tuple(part[name].to_numpy() for name in ("x", "price", "time", "size", "dot"))
        dots = hv.Points(values, ["x", "price"], ["time", "size", "dot"], label=side or "no side")
        tips = [(name, f"@{name}") for name in ("time", "price", "size")]
        dots = dots.opts(size="dot", color=colour, alpha=0.6, line_color=None, tools=["hover"], hover_tooltips=tips)
        layers += [dots] if part.height else []
    return hv.Overlay(layers)


def _around(book: pl.DataFrame) -> tuple[float, float] | None:
    """Prices from the lowest bid to the highest ask and half as much on each side; None without a book."""
    low, high = book["bid_px"].min(), book["ask_px"].max()
    if low is None or high is None:
        return None
    room = (float(high) - float(low)) / 2 or abs(float(high)) / 1000  # type: ignore[arg-type]
    return float(low) - room, float(high) + room  # type: ignore[arg-type]


def _beyond(trades: pl.DataFrame, limits: tuple[float, float] | None) -> str:
    """How many trades are off the axis."""
    if limits is None:
        return ""
    outside = trades.filter(~trades["price"].is_between(*limits))["price"]
    return f"{len(outside):,} trades off the axis" if len(outside) else ""


def _name(symbol: str, frame: pl.DataFrame, of: str) -> str:
    return f"{symbol} on {', '.join(frame['venue'].unique().sort())}, {of}"


def _facts(words: dict[str, Any], *results: Result) -> list[str]:
    every = "every row received" if words.get("raw") else "what stands"
    return [every, hours(results[0]), clocks(results[0]), states(*results), *results[0].notes]
