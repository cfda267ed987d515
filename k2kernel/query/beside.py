"""Trades with the quotes that prevail at them and some time after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.errors import one_of
from k2kernel.query.asof import Prevailing, check_clocks, in_order, instants
from k2kernel.query.signs import SIGNS, signs
from k2kernel.query.spreads import QUOTE, TRADE

if TYPE_CHECKING:
    import polars as pl

_TIMES = ("ts_event", "ts_event_ns", "ts_recv", "ts_recv_ns", "clock")
_KEY = ("symbol", "venue", "exec_venue", "session", *_TIMES, "sequence", "source", "source_offset")
TRADE_SCAN = tuple(dict.fromkeys((*TRADE, "clock")))
QUOTE_SCAN = (*_KEY, *QUOTE)
"""The columns that are read of trades and of quotes."""


@dataclass(frozen=True)
class Beside:
    """Which quotes go beside a trade: the prevailing one, for its sign the one `lag` ns before, and those after each of
    `horizons` (ns).
    """

    how: Prevailing
    sign: str
    lag: int
    horizons: tuple[int, ...]

    def __post_init__(self) -> None:
        one_of("sign", self.sign, SIGNS)

    def rows(self, trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
        """The trades in the total order (k2_row) with `QUOTE`, `sign`, and bid and ask after the n-th horizon as
        k2_bid_n and k2_ask_n.
        """
        import polars as pl

        check_clocks(trades, quotes, self.how.by, self.how.on)
        ordered, book = in_order(trades, self.how.on, "trades"), self.how.ordered(quotes)
        at = instants(ordered, self.how.on, "trades")

        def beside(ns: int, **names: str) -> pl.DataFrame:
            found = self.how.match(ordered, at + ns, book)
            return book.select(pl.col(name).gather(found).alias(new) for new, name in names.items())

        prices = {"bid_px": "bid_px", "ask_px": "ask_px"}
        now = beside(0, **{name: name for name in QUOTE})
        later = [
            beside(ns, **{f"k2_bid_{number}": "bid_px", f"k2_ask_{number}": "ask_px"}).get_columns()
            for number, ns in enumerate(self.horizons)
        ]
        sign = signs(self.sign, ordered, beside(-self.lag, **prices) if self.lag else now)
        columns = [*now.get_columns(), sign, *(column for pair in later for column in pair)]
        return ordered.select(TRADE).hstack(columns).with_row_index("k2_row")

    def standing(self, quotes: pl.DataFrame) -> pl.DataFrame:
        """The quotes of the book with k2_ns, how long each stands: until the next of the session, the last one 0."""
        import polars as pl

        book = self.how.ordered(quotes)
        at = instants(book, self.how.on, "quotes").alias("k2_ns")
        stands = (pl.col("k2_ns").shift(-1) - pl.col("k2_ns")).fill_null(0).over("venue", "symbol", "session")
        return book.select("symbol", "venue", "session", "bid_px", "ask_px", at).with_columns(stands)
