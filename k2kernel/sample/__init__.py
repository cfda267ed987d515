"""Invented market data for demonstrations, tests and benchmarks: `generate` writes it as plain CSV files.

What it is: a model, no market. Tickers and condition codes are borrowed from real ones; prices, sizes and times are
drawn at random. Three venues: XASX (Sydney, 07:00 to 18:50, so that a session straddles two UTC dates), XNYS (New
York, a consolidated tape) and BINANCE (every UTC day). In each second of a session an instrument has one best bid and
ask: the bid is a random walk on ticks within about 8 % of where it began, the spread one to four ticks. Trades and
quotes of that second both use the pair, so they agree with each other; but quotes do not react to trades, instruments
and sizes are independent of each other, and there are no holidays, halts, news or days unlike the others.

- Rows per instrument follow Zipf's law (the n-th has a share of 1/n), rows per minute a U over the day. One minute at
  the open and one at the close of XASX and XNYS are auctions: one instant and one price for each instrument.
- An aggressive order has 1 to 32 fills at one instant, deeper by a tick every third fill. On XASX one order in twenty
  has equal fills: rows equal in every field. For that, XASX has no `sequence` (the row number orders the rows), and
  those rows have no `trade_id`. BHP is on two venues.
- One trade row in a thousand on XASX and XNYS (at least one a session) is a cancel: `status` is cancel and `corrects`
  the `trade_id` of an earlier row of the session, whose symbol, price, size, side and conditions it repeats.
- On XNYS about two rows in a thousand stand up to ten seconds too late in the file (trades carry `Z`); sequence numbers
  follow the file. The other files are in order of time. On XNYS ts_recv may be up to 40 µs before ts_event.
- Conditions, XASX: OA and CA auctions, CX crossing at the mid (half a tick where the spread is odd), X off market, X;EX
  off market out of hours (both up to 15 % away). XNYS: O and 6 auctions, B crossing at the mid, 4 off market, T out of
  hours, Z late, I odd lot, F sweep. BINANCE has none.
- Quotes: some lack one side (price and size are empty), some are locked (bid = ask) or crossed (bid > ask), most of
  them out of hours; on BINANCE none is locked or crossed.

Times are ISO 8601 UTC with six digits and Z; XASX and BINANCE tick in milliseconds. Prices and sizes are plain decimals
without trailing zeros; empty is null; conditions are joined by `;`. The same arguments give the same bytes on any
machine: whole numbers throughout, and no use of the local time zone or locale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import IO

import numpy as np

from k2kernel.errors import InvalidParameter, one_of
from k2kernel.sample import text
from k2kernel.sample.draws import Draws, Ints, apportion, lookup
from k2kernel.sample.market import Market, Slots, markets, quotes, slots, trades
from k2kernel.sample.venues import VENUES, Listing, Venue, plain
from k2kernel.schemas import KINDS

__all__ = ["Progress", "generate"]

Progress = Callable[[int, int], None]
"""Called with the rows written so far and the rows there will be, all files together."""

_STREAMS = {"trades": 1, "quotes": 2}


def generate(
    folder: Path,
    *,
    rows: int = 200_000,
    sessions: int = 3,
    symbols: int = 12,
    seed: int = 7,
    start: date = date(2024, 3, 4),
    kinds: Sequence[str] = ("trades", "quotes"),
    on_progress: Progress | None = None,
) -> list[Path]:
    """Write `<kind>-<venue>.csv` for each kind and venue, and `instruments.csv`; return their paths, that one last.

    `rows` is the number of rows of each kind, all venues and sessions together, and is met exactly. `symbols` are
    shared out among the venues (with fewer than three, only the first venues are written). `sessions` counts from
    `start` on: Monday to Friday on XASX and XNYS, every day on BINANCE. A kind is the same whether or not the other is
    written. A file takes its name when it is whole, replacing one of that name. Raises `InvalidParameter`.
    """
    _check(rows=rows, sessions=sessions, symbols=symbols, seed=seed, kinds=kinds)
    folder.mkdir(parents=True, exist_ok=True)
    listings = _share_out(symbols)
    shares = np.repeat(np.array([venue.share for venue in listings], np.int64), sessions)
    parts = apportion(rows, shares).reshape(len(listings), sessions)
    report = _Report(rows * len(kinds), on_progress)
    paths: list[Path] = []
    for key, (venue, instruments) in enumerate(listings.items()):
        with ExitStack() as stack:
            files = [_File(folder / f"{kind}-{venue.code}.csv", kind, (seed, key), report) for kind in kinds]
            for file in files:
                stack.callback(file.close)
            days = markets(venue, instruments, venue.calendar(start, sessions), seed, key)
            for number, market in enumerate(days):
                for file in files:
                    file.session(market, int(parts[key, number]), number)
        paths += [file.finish() for file in files]
    return [*paths, _write_instruments(folder, listings)]


def _check(rows: int, sessions: int, symbols: int, seed: int, kinds: Sequence[str]) -> None:
    for name, value, least, most in (
        ("rows", rows, 1_000, 10**9),
        ("sessions", sessions, 1, 1_000),
        ("symbols", symbols, 1, 300),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if not least <= value <= most:
            raise InvalidParameter(name, value, f"is not between {least} and {most}")
    for kind in kinds:
        one_of("kinds", kind, KINDS)


def _share_out(symbols: int) -> dict[Venue, tuple[Listing, ...]]:
    """The instruments of each venue, in proportion to the venue's share of rows and at least one each."""
    venues = VENUES[:symbols]
    spare = apportion(symbols - len(venues), np.array([venue.share for venue in venues], np.int64))
    return {venue: venue.listed(1 + int(more)) for venue, more in zip(venues, spare, strict=True)}


class _Report:
    """Adds up the rows of all files for the caller's `on_progress`."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._total, self._done, self._tell = total, 0, on_progress

    def add(self, rows: int) -> None:
        self._done += rows
        if self._tell is not None:
            self._tell(self._done, self._total)


class _File:
    """One CSV file being written, under another name until `finish`; session by session, in chunks."""

    def __init__(self, path: Path, kind: str, streams: tuple[int, int], report: _Report) -> None:
        self._path, self._part = path, path.with_suffix(".part")
        self._kind, self._streams, self._report = kind, streams, report
        self._rows = self._session_rows = 0
        self._out: IO[bytes] = self._part.open("wb")
        self._out.write(f"{text.HEADERS[kind]}\n".encode())

    def close(self) -> None:
        """Close the file; what is unfinished stays under its other name."""
        self._out.close()

    def session(self, market: Market, rows: int, number: int) -> None:
        """Append the `rows` of a session, the `number`-th from 0."""
        draws = Draws(*self._streams, number, _STREAMS[self._kind])
        symbols = lookup([27_720 // (rank + 1) for rank in range(len(market.listings))])
        self._session_rows = 0
        for chunk in slots(market.venue, self._kind, rows, draws).cut():
            written = self._chunk(market, chunk, symbols, draws)
            self._rows += written
            self._session_rows += written
            self._report.add(written)

    def _chunk(self, market: Market, chunk: Slots, symbols: Ints, draws: Draws) -> int:
        make = trades if self._kind == "trades" else quotes
        rows, place = make(market, chunk, symbols, draws).filed()
        whole_file = market.venue.numbering == "file"
        first = 1 + (self._rows if whole_file else self._session_rows)
        columns = text.event_columns(market, rows, draws, first)
        if self._kind == "trades":
            first_id = first + (0 if whole_file else int(market.session.strftime("%y%m%d")) * 10**8)
            columns |= text.trade_columns(market, rows, place, first_id)
        else:
            columns |= text.quote_columns(market, rows)
        text.write(self._out, columns, self._kind)
        return len(rows.ts)

    def finish(self) -> Path:
        """Give the file its name."""
        return self._part.replace(self._path)


def _write_instruments(folder: Path, listings: dict[Venue, tuple[Listing, ...]]) -> Path:
    lines = [text.HEADERS["instruments"]]
    for venue, instruments in listings.items():
        size_unit = "base" if venue.asset_class == "crypto" else "share"
        for one in instruments:
            steps = f"{plain(one.tick)},{plain(one.lot)}"
            lines.append(f"{one.symbol},{venue.code},{one.name},{venue.asset_class},{one.currency},{size_unit},{steps}")
    path = folder / "instruments.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path
