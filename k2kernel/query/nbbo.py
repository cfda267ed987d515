"""The best bid and offer over the venues that quote an instrument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_EVENT = (
    *("symbol", "venue", "session", "ts_event", "clock", "ts_event_ns", "ts_recv", "ts_recv_ns", "sequence"),
    *("source", "source_offset"),
)
_BOOK = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_venues", "ask_venues", "locked", "crossed")
_SIDES = ("bid", "ask")
_BETWEEN = "\x1f"


def nbbo_columns(given: Sequence[str], by: Sequence[str] = ()) -> list[str]:
    """The columns of the best bid and offer over quotes with the columns `given`: of the event, and the book's."""
    return [*(name for name in dict.fromkeys((*_EVENT, *by)) if name in given), *_BOOK]


def nbbo(
    quotes: pl.DataFrame,
    times: pl.Series,
    by: Sequence[str] = ("venue", "symbol"),
    stale: int | None = None,
    exclude: Sequence[str] = (),
) -> pl.DataFrame:
    """The best bid and offer after each of `quotes`, which are in the total order, at `times` in ns; see `Joins.nbbo`.

    The latest row of each venue is carried forward in columns of its own: about 130 bytes a row and venue.
    """
    import polars as pl

    own = quotes.with_columns(times.alias("k2_ns"), pl.col("exec_venue").fill_null("").alias("k2_exec"))
    own = (
        own.filter(~pl.col("k2_exec").is_in(exclude))
        .with_columns(_live(quotes.columns, exclude))
        .with_row_index("k2_at")
    )
    venues = own["k2_exec"].unique().sort().to_list() or [""]
    group = [name for name in (*by, "session") if name in quotes.columns]
    wide = own.with_columns(_latest(number, venue, group) for number, venue in enumerate(venues))
    if stale is not None:
        wide = wide.with_columns(_fresh(number, stale) for number in range(len(venues)))
    wide = wide.with_columns(_carried(name, number) for name in _BOOK[:4] for number in range(len(venues)))
    wide = wide.with_columns(_best(side, len(venues)) for side in _SIDES)
    wide = wide.with_columns(expression for side in _SIDES for expression in _at_best(side, venues))
    return wide.with_columns(
        (pl.col("bid_px") == pl.col("ask_px")).fill_null(value=False).alias("locked"),
        (pl.col("bid_px") > pl.col("ask_px")).fill_null(value=False).alias("crossed"),
    ).select(nbbo_columns(quotes.columns, by))


def _live(given: Sequence[str], exclude: Sequence[str]) -> list[pl.Expr]:
    """Prices and sizes of the sides that a row offers: null where it has no price, a size of 0 or an excluded code."""
    import polars as pl

    found = []
    for side in _SIDES:
        price = pl.col(f"{side}_px")
        size = pl.col(f"{side}_sz") if f"{side}_sz" in given else pl.lit(None, pl.Decimal(18, 8))
        offered = (size != 0).fill_null(value=True)
        if exclude and "conditions" in given:
            coded = pl.col("conditions").list.eval(pl.element().is_in(exclude)).list.any()
            offered &= ~coded.fill_null(value=False)
        found += [pl.when(offered).then(price).alias(f"{side}_px"), pl.when(offered).then(size).alias(f"{side}_sz")]
    return found


def _latest(number: int, venue: str, group: Sequence[str]) -> pl.Expr:
    """The number of the latest row of a venue in the session."""
    import polars as pl

    own = pl.when(pl.col("k2_exec") == venue).then(pl.col("k2_at"))
    return own.forward_fill().over(group).alias(f"k2_at_{number}")


def _fresh(number: int, stale: int) -> pl.Expr:
    import polars as pl

    at = pl.col(f"k2_at_{number}")
    return pl.when(pl.col("k2_ns") - pl.col("k2_ns").gather(at) <= stale).then(at).alias(f"k2_at_{number}")


def _carried(name: str, number: int) -> pl.Expr:
    import polars as pl

    return pl.col(name).gather(pl.col(f"k2_at_{number}")).alias(f"k2_{name}_{number}")


def _best(side: str, venues: int) -> pl.Expr:
    import polars as pl

    prices = [f"k2_{side}_px_{number}" for number in range(venues)]
    return (pl.max_horizontal(prices) if side == "bid" else pl.min_horizontal(prices)).alias(f"{side}_px")


def _at_best(side: str, venues: Sequence[str]) -> list[pl.Expr]:
    """The venues at the best price, and the sum of their known sizes, null where none is known."""
    import polars as pl

    best = [pl.col(f"k2_{side}_px_{number}") == pl.col(f"{side}_px") for number in range(len(venues))]
    sizes = [pl.when(one).then(pl.col(f"k2_{side}_sz_{number}")) for number, one in enumerate(best)]
    names = [pl.when(one).then(pl.lit(venue)) for one, venue in zip(best, venues, strict=True)]
    known = pl.any_horizontal(size.is_not_null() for size in sizes)
    # A list of twelve columns takes fifteen times as long as one text that is split.
    there = pl.concat_str(names, separator=_BETWEEN, ignore_nulls=True).str.split(_BETWEEN)
    return [
        pl.when(known).then(pl.sum_horizontal(sizes)).cast(pl.Decimal(38, 8)).alias(f"{side}_sz"),
        pl.when(pl.col(f"{side}_px").is_null())
        .then(pl.lit([], pl.List(pl.String)))
        .otherwise(there)
        .alias(f"{side}_venues"),
    ]
