"""Who began a trade: the venue's own word for it, or what prices tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

SIGNS = ("side", "quote", "tick", "lee_ready")


def signs(rule: str, trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.Series:
    """1 for a trade that a buyer began, -1 for a seller's, null where the rule cannot tell (Int8, named `sign`).

    `trades` are in the total order; `quotes` has bid_px and ask_px beside each of them.

    - `side`: the venue's own word, the column `side`.
    - `quote`: 1 above the mid of the quote, -1 below it.
    - `tick`: 1 above the last different price of the instrument in its session, -1 below it.
    - `lee_ready`: by `quote`, and by `tick` at the mid or without a two-sided quote (Lee and Ready, Inferring Trade
      Direction from Intraday Data, Journal of Finance 46, 1991; they let quotes count from 5 s on).
    """
    import polars as pl

    rules = {"side": [_side], "quote": [_quote], "tick": [_tick], "lee_ready": [_quote, _tick]}
    columns = trades.select("venue", "symbol", "session", "price", "side").hstack(quotes.select("bid_px", "ask_px"))
    return columns.select(pl.coalesce(one() for one in rules[rule]).cast(pl.Int8).alias("sign")).to_series()


def _side() -> pl.Expr:
    import polars as pl

    return pl.col("side").replace_strict({"buy": 1, "sell": -1}, default=None, return_dtype=pl.Int8)


def _compared(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """1 where one is more, -1 where it is less, else null."""
    import polars as pl

    return pl.when(one > other).then(1).when(one < other).then(-1)


def _quote() -> pl.Expr:
    import polars as pl

    return _compared(pl.col("price") + pl.col("price"), pl.col("bid_px") + pl.col("ask_px"))


def _tick() -> pl.Expr:
    import polars as pl

    price = pl.col("price")
    return _compared(price, price.forward_fill().shift(1)).forward_fill().over("venue", "symbol", "session")
