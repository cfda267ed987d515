"""`Quality`: the report as frames, and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from k2kernel.errors import InvalidParameter, one_of
from k2kernel.quality import checks
from k2kernel.quality.checks import Limits
from k2kernel.quality.display import html
from k2kernel.query.hours import ALL, AUCTIONS, Hours
from k2kernel.query.intervals import parse_interval
from k2kernel.query.scan import Values
from k2kernel.query.when import Moment, parse_when
from k2kernel.times import AsOfLike, Range, parse_range

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query import QueryEngine
    from k2kernel.query.chosen import Chosen

KEY = ["venue", "symbol", "session"]
COLUMNS = {
    "trades": "trades received",
    "quotes": "quotes received",
    "first": "first event (UTC)",
    "last": "last event (UTC)",
    "longest_pause_us": "longest time between two events, trades and quotes together, in microseconds",
    "sequence_gaps": "places where sequence numbers of one source are left out",
    "sequence_missing": "how many numbers are left out there",
    "time_gaps": "pauses longer than `quiet` (10m unless told otherwise)",
    "out_of_order": "rows earlier than the one with the number before, of their source and instrument",
    "recv_before_event": "rows captured before they happened, by the two clocks",
    "recv_clock": "rows whose event time is that of the capture",
    "off_session": "trades outside the hours of trading (auctions are within), quotes outside the session",
    "one_sided": "quotes without a bid or an ask (missing, or zero with no size)",
    "locked": "quotes whose bid is the ask",
    "crossed": "quotes whose bid is above the ask",
    "stale_quotes": "fills at which the last quote was older than `stale` (10m unless told otherwise)",
    "outside_book": "fills beyond the last quote by more than the share `outside`",
    "outliers": "fills more than `outlier` robust standard deviations from the session's median price",
    "null_prices": "fills without a price",
    "null_sizes": "fills without a size",
    "zero_sizes": "fills of size zero",
    "repeats": "trades that equal an earlier one in all that the source says, its number apart",
    "repeated_ids": "fills with the venue's id of an earlier one",
    "undoing": "cancels and corrections",
    "unmatched": "those that name no row of their session",
}
"""The columns after venue, symbol and session, and what they count."""

FACTS = ("trades", "quotes", "first", "last", "longest_pause_us", "undoing")
"""Columns that say nothing against the data."""

_NUMBERS = ("sequence_gaps", "sequence_missing")


@dataclass(frozen=True)
class Quality:
    """The report: `table` has venue, symbol, session and `COLUMNS`, a row for each instrument and session, sorted.

    `rejected` (target, error, rows, reason) counts the rows in dead_letter of the sources that the rows came from,
    whatever instrument they were of. `snapshots` says which state of each table it is about, and `notes` what is unsure
    about the hours of trading, a sentence each.
    """

    table: pl.DataFrame
    rejected: pl.DataFrame
    snapshots: Mapping[str, int | None]
    notes: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, int]:
        """The sum of each column that counts, with `rejected`."""
        counts = self.table.select(pl.col(pl.Int64).sum()).row(0, named=True)
        counts.pop("longest_pause_us")
        return {**counts, "rejected": int(self.rejected["rows"].sum())}

    @property
    def found(self) -> dict[str, int]:
        """The totals of what speaks against the data and was found."""
        return {name: count for name, count in self.totals.items() if count and name not in FACTS}

    def to_polars(self) -> pl.DataFrame:
        """The table."""
        return self.table

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table.to_arrow()

    def __repr__(self) -> str:
        totals, found = self.totals, self.found
        lines = [f"{name:<18}{count:>12,}  {_meaning(name)}" for name, count in found.items()]
        what = f"{totals['trades']:,} trades and {totals['quotes']:,} quotes in {len(self.table):,} instrument-sessions"
        return "\n".join([f"Quality of {what}", *(lines or ["nothing found"]), *self.notes])

    def _repr_html_(self) -> str:
        return html(self.table, self.totals, {name: _meaning(name) for name in self.found}, self.notes)


def _meaning(name: str) -> str:
    return COLUMNS.get(name, "rows in dead_letter of the same sources")


def quality(
    engine: QueryEngine,
    symbol: str | Sequence[str] | None = None,
    *,
    venue: str | None = None,
    session: object = None,
    start: object = None,
    end: object = None,
    as_of: AsOfLike = None,
    known_at: Moment = None,
    quiet: str = "10m",
    stale: str = "10m",
    outside: Decimal | str | float = Decimal("0.01"),
    outlier: float = 10.0,
    gaps: str = "auto",
) -> Quality:
    """Look for what is wrong with the trades and quotes that are asked for; see `COLUMNS` for what is counted.

    `quiet` and `stale` are lengths such as 10m, `outside` a share of the price (0.01: one per cent), `outlier` robust
    standard deviations. `gaps` says what sequence numbers count: the rows of one `instrument` in a source and table,
    all rows of a `source` (the row after the gap has it), or with `auto` those of an instrument where nine in ten of
    its numbers follow each other; elsewhere the two columns are null. Rows are those received; prices are held against
    the fills that stand, whatever their conditions.
    """
    counted = one_of("gaps", gaps, ("auto", "instrument", "source"))
    limits = Limits(_length("quiet", quiet), _length("stale", stale), _share(outside), _positive(outlier), counted)
    when, wanted = parse_when(as_of, known_at), parse_range(session, start, end)
    trades, quotes = (engine.chosen(table, symbol, venue, wanted, when) for table in ("trades", "quotes"))
    letters = engine.chosen("dead_letter", None, None, Range(), when)
    within = {"trades": trades.hours(AUCTIONS), "quotes": quotes.hours(ALL)}
    frames = [
        pl.DataFrame(trades.run(text, values, quotes)) for text, values in _statements(trades, quotes, within, limits)
    ]
    table = frames[0]
    for frame in frames[1:]:
        table = table.join(frame, on="k2_key", how="left")
    values = Values()
    bad = pl.DataFrame(trades.run(checks.rejected(trades, quotes, letters, values), values, quotes, letters))
    snapshots = {each.pinned.name: each.pinned.snapshot_id for each in (trades, quotes, letters)}
    counts = [name for name in COLUMNS if name not in (*FACTS[2:4], *_NUMBERS)]
    ordered = table.select(*KEY, *COLUMNS).with_columns(pl.col(counts).fill_null(0))
    return Quality(ordered.sort(KEY), bad, snapshots, within["trades"].notes)


def _statements(
    trades: Chosen, quotes: Chosen, within: Mapping[str, Hours], limits: Limits
) -> Iterator[tuple[str, Values]]:
    """Each check with the values that are bound to it."""
    made: list[Callable[[Values], str]] = [
        partial(checks.rows, trades, quotes, within),
        partial(checks.numbers, trades, quotes, limits),
        partial(checks.pauses, trades, quotes, limits),
        partial(checks.fills, trades),
        partial(checks.unmatched, trades),
        partial(checks.repeats, trades),
        partial(checks.book, quotes),
        partial(checks.against_book, trades, quotes, limits),
        partial(checks.outliers, trades, limits),
    ]
    for check in made:
        values = Values()
        yield check(values), values


def _length(name: str, value: str) -> int:
    interval = parse_interval(value)
    if interval.us is None:
        raise InvalidParameter(name, value, "is no length of time", "Write it like 10m")
    return interval.us


def _share(value: Decimal | str | float) -> Decimal:
    share = Decimal(str(value))
    if not 0 <= share <= 1:
        raise InvalidParameter("outside", value, "is not a share from 0 to 1")
    return share


def _positive(value: float) -> float:
    if not value > 0:
        raise InvalidParameter("outlier", value, "is not above 0")
    return float(value)
