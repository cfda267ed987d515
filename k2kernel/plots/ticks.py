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
    pinned,
    placed,
    some,
    stacked,
    states,
    thin,
)

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.query import Result

_QUOTES = ["ts_event", "venue", "clock", "bid_px", "ask_px"]
_TRADES = ["ts_event", "venue", "clock", "price", "size", "side"]
_SIDES = {"buy": UP, "sell": DOWN, "": QUIET}


def quotes(reader: Reader, symbol: str, **words: Any) -> Any:
    """Best bid and ask of one instrument with the spread under them; the words are those of `wb.quotes`."""
    found = pinned(reader, words).quotes(symbol, columns=_QUOTES, **words)
    frame = some(_floats(found), "quotes")
    axis = Axis.of(frame["ts_event"], found.zone)
    book, said = _book(frame, axis)
    title = heading(_name(symbol, frame, "quotes"), *_facts(words, found), said)
    spread = line(book, axis, "spread", "spread", "spread", steps=True).opts(color=QUIET)
    under = placed(spread, axis, height=LOW, ylabel="spread", yformatter="%g", show_legend=False)
    return stacked(placed(_sides(book, axis), axis, title=title, ylabel="price"), under)


def tape(reader: Reader, symbol: str, **words: Any) -> Any:
    """The trades of one instrument, by aggressor, over its best bid and ask; the words are those of `wb.trades`."""
    view = pinned(reader, words)
    sold, shown = view.trades(symbol, columns=_TRADES, **words), view.quotes(symbol, columns=_QUOTES, **words)
    trades, book = some(_floats(sold), "trades"), _floats(shown)
    axis = Axis.of(trades["ts_event"].append(book["ts_event"]), sold.zone)
    points, left_out = thin(trades.with_columns(axis.at(trades["ts_event"]).alias("x")), "x", ["price"])
    lines, said = _book(book, axis)
    title = heading(
        _name(symbol, trades, "trades over the book"), *_facts(words, sold, shown),
        left_out and f"of trades {left_out}", said and f"of quotes {said}",
    )  # fmt: skip
    return placed(_sides(lines, axis) * _dots(points), axis, title=title, ylabel="price")


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


def _dots(points: pl.DataFrame) -> Any:
    """Trades as dots whose area grows with their size, coloured by aggressor."""
    import polars as pl

    hv = holoviews()
    largest = points["size"].abs().max() or 1
    area = (pl.col("size").abs().fill_null(0) / largest).sqrt() * 14 + 3
    frame = points.with_columns(area.alias("dot"), pl.col("side").fill_null("").alias("side"))
    layers = []
    for side, colour in _SIDES.items():
        part = frame.filter(pl.col("side") == side)
        values = tuple(part[name].to_numpy() for name in ("x", "price", "size", "dot"))
        dots = hv.Points(values, ["x", "price"], ["size", "dot"], label=side or "no side")
        dots = dots.opts(size="dot", color=colour, alpha=0.6, tools=["hover"])
        layers += [dots] if part.height else []
    return hv.Overlay(layers)


def _name(symbol: str, frame: pl.DataFrame, of: str) -> str:
    return f"{symbol} on {', '.join(frame['venue'].unique().sort())}, {of}"


def _facts(words: dict[str, Any], *results: Result) -> list[str]:
    every = "every row received" if words.get("raw") else "what stands"
    return [every, hours(results[0]), clocks(results[0]), states(*results), *results[0].notes]
