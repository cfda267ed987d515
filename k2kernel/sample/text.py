"""Arrays of whole numbers as the text of the plain CSV layout."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import IO

import numpy as np
import polars as pl

from k2kernel.sample.draws import LANE, Draws, Ints
from k2kernel.sample.market import NONE, Market, Rows
from k2kernel.sample.venues import UNIT

_DAY = 86_400

HEADERS = {
    "trades": "ts_event,ts_recv,symbol,venue,exec_venue,sequence,trade_id,price,size,side,conditions,status,corrects",
    "quotes": "ts_event,ts_recv,symbol,venue,sequence,bid_px,ask_px,bid_sz,ask_sz,conditions",
    "instruments": "symbol,venue,name,asset_class,price_currency,size_unit,tick_size,lot_size",
}


def write(out: IO[bytes], columns: dict[str, pl.Series | str], kind: str) -> None:
    """Append rows to `out`; a column given as one text has it in every row."""
    made = [
        pl.lit(column, pl.String).alias(name) if isinstance(column, str) else column.alias(name)
        for name, column in columns.items()
    ]
    frame = pl.select(made).select(HEADERS[kind].split(","))
    frame.write_csv(out, include_header=False, quote_style="never", line_terminator="\n")


@cache
def _fractions() -> pl.Series:
    """`.00001` and so on without trailing zeros, by the units after the point."""
    return pl.Series([f".{number:05d}".rstrip("0").rstrip(".") for number in range(UNIT)], dtype=pl.String)


@cache
def _clock() -> pl.Series:
    """`23:00:00` and so on by the second of the day."""
    seconds = range(_DAY)
    return pl.Series([f"{s // 3_600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in seconds], dtype=pl.String)


@cache
def _micros() -> pl.Series:
    """`.000001Z` and so on by the microsecond of the second."""
    digits = pl.select(pl.int_range(1_000_000).cast(pl.String).str.zfill(6)).to_series()
    return "." + digits + "Z"


def decimals(values: Ints) -> pl.Series:
    """Units of 0.00001 as plain decimals; negative is null."""
    known = np.maximum(values, 0)
    whole = pl.Series(known // UNIT).cast(pl.String)
    return _present(whole + _fractions().gather(pl.Series(known % UNIT)), values != NONE)


def instants(micros: Ints, midnight: int) -> pl.Series:
    """µs after local midnight, which is `midnight` in seconds since 1970, as ISO 8601 in UTC."""
    seconds = midnight + micros // 1_000_000
    first, last = int(seconds.min()), int(seconds.max())
    table = _seconds(np.arange(first, last + 1))
    return table.gather(pl.Series(seconds - first)) + _micros().gather(pl.Series(micros % 1_000_000))


def _seconds(instants: Ints) -> pl.Series:
    """`2024-03-04T23:00:00` and so on, by consecutive seconds since 1970."""
    days = instants // _DAY
    first, last = int(days[0]), int(days[-1])
    labels = [(date(1970, 1, 1) + timedelta(days=day)).isoformat() + "T" for day in range(first, last + 1)]
    return pl.Series(labels, dtype=pl.String).gather(pl.Series(days - first)) + _clock().gather(
        pl.Series(instants % _DAY)
    )


def numbers(values: Ints) -> pl.Series:
    """Whole numbers; negative is null."""
    return _present(pl.Series(values), values != NONE)


def words(table: tuple[str, ...], index: Ints) -> pl.Series:
    """Entries of `table`; a negative index is null."""
    return _present(pl.Series(table, dtype=pl.String).gather(pl.Series(np.maximum(index, 0))), index != NONE)


def _present(series: pl.Series, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> pl.Series:
    return series if known.all() else series.set(~pl.Series(known), None)


def event_columns(market: Market, rows: Rows, draws: Draws, first: int) -> dict[str, pl.Series | str]:
    """The columns that trades and quotes share; `first` is the sequence number of the first row."""
    venue, midnight = market.venue, market.venue.midnight(market.session)
    count = len(rows.ts)
    columns: dict[str, pl.Series | str] = {
        "ts_event": instants(rows.ts, midnight),
        "ts_recv": "",
        "symbol": words(tuple(listing.symbol for listing in market.listings), rows.symbol),
        "venue": venue.code,
        "sequence": "" if venue.numbering == "none" else pl.Series(np.arange(first, first + count)),
    }
    if venue.latency_us is not None:
        least, most = venue.latency_us
        received = rows.published + least + draws.below(most - least, count)
        columns["ts_recv"] = _present(instants(received, midnight), ~draws.chance(LANE // 1_000, count))
    return columns


def trade_columns(market: Market, rows: Rows, place: Ints, first_id: int) -> dict[str, pl.Series | str]:
    """The other columns of trades; `place` is where in the file each row went that a cancel may name."""
    venue, values = market.venue, rows.values
    ids = first_id + np.arange(len(rows.ts))
    cancel = values["corrects"] != NONE
    return {
        "exec_venue": words(venue.exec_venues, values["exec"]),
        "trade_id": numbers(np.where(values["nameless"] == 1, NONE, ids)),
        "price": decimals(values["price"]),
        "size": decimals(values["lots"] * market.column("lot")[rows.symbol]),
        "side": words(("buy", "sell"), values["side"]),
        "conditions": words(venue.conditions, values["means"]),
        "status": words(("cancel",), np.where(cancel, 0, NONE)),
        "corrects": numbers(np.where(cancel, first_id + place[values["corrects"]], NONE)),
    }


def quote_columns(market: Market, rows: Rows) -> dict[str, pl.Series | str]:
    """The other columns of quotes."""
    lot, values = market.column("lot")[rows.symbol], rows.values
    columns: dict[str, pl.Series | str] = {name: decimals(values[name]) for name in ("bid_px", "ask_px")}
    for name in ("bid", "ask"):
        lots = values[f"{name}_lots"]
        columns[f"{name}_sz"] = decimals(np.where(lots == NONE, NONE, lots * lot))
    return columns | {"conditions": words(("", market.venue.quote_condition), values["means"])}
