"""The checks in SQL: each is a SELECT of venue, symbol, session and counts, over rows that a caller chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from k2kernel.calendars import Venue
from k2kernel.query.chosen import Chosen
from k2kernel.query.connection import literal
from k2kernel.query.order import EVENT_NS
from k2kernel.query.scan import Values
from k2kernel.schemas import TRADES

KEY = "venue, symbol, session"
_OWN = ("sequence", "ts_recv", "ts_recv_ns", "ts_ingest", "source", "source_offset")
"""Columns in which a row that repeats another may differ from it."""

_KEYED = f"hash({KEY}) AS k2_key"
"""A number in the place of texts: windows over it take a third of the time. Two of a million instrument-sessions, or of
a million trades of one, have the same hash with a chance of 1 in 10^7."""

_EVENT = ("clock", "ts_recv", "ts_recv_ns")
_FILL = "(status IS NULL OR status IN ('cancelled', 'superseded'))"
_UNDO = "status IN ('cancel', 'correction')"
_NO_BID, _NO_ASK = (f"({side}_px IS NULL OR ({side}_px = 0 AND coalesce({side}_sz, 0) = 0))" for side in ("bid", "ask"))


@dataclass(frozen=True)
class Limits:
    """What is out of line: pauses of more than `quiet_us`, quotes older than `stale_us` at a trade, trades more than
    the share `outside` beyond the book, prices more than `outlier` robust standard deviations from the median; whose
    rows sequence numbers count (`gaps`: auto, instrument or source).
    """

    quiet_us: int
    stale_us: int
    outside: Decimal
    outlier: float
    gaps: str


def rows(trades: Chosen, quotes: Chosen, venues: Mapping[str, Venue], values: Values) -> str:
    """Rows and times of trades and quotes."""
    columns = f"{KEY}, undoing, ts_event, clock, {EVENT_NS} AS ns, coalesce(ts_recv_ns, epoch_ns(ts_recv)) AS recv_ns"
    return (
        f"SELECT {KEY}, count(*) FILTER (kind = 'trades') AS trades, count(*) FILTER (kind = 'quotes') AS quotes, "
        "min(ts_event) AS first, max(ts_event) AS last, count(*) FILTER (clock = 'recv') AS recv_clock, "
        "count(*) FILTER (recv_ns < ns) AS recv_before_event, "
        f"count(*) FILTER (NOT undoing AND {_off_session(venues)}) AS off_session "
        f"FROM ({_events(trades, quotes, columns, values)}) GROUP BY ALL"
    )


def numbers(trades: Chosen, quotes: Chosen, limits: Limits, values: Values) -> str:
    """Sequence numbers that are left out, and rows earlier than the row with the number before."""
    of = "source, session" if limits.gaps == "source" else f"kind, {KEY}, source"
    columns = f"{_KEYED}, hash({of}) AS k2_of, hash(kind, {KEY}, source) AS k2_file, "
    columns += f"sequence, source_offset, {EVENT_NS} AS ns"
    steps = (
        "SELECT k2_key, lag(ns) OVER (PARTITION BY k2_file ORDER BY sequence, source_offset) > ns AS late, "
        "sequence - lag(sequence) OVER (PARTITION BY k2_of ORDER BY sequence, source_offset) - 1 AS missing "
        f"FROM ({_events(trades, quotes, columns, values)})"
    )
    counted = (
        "CASE WHEN count(*) FILTER (missing = 0) >= 0.9 * count(missing) THEN {} END" if limits.gaps == "auto" else "{}"
    )
    missing = "coalesce(sum(missing) FILTER (missing > 0), 0)::BIGINT"
    counts = (
        f"SELECT k2_key, {counted.format('count(*) FILTER (missing > 0)')} AS sequence_gaps, "
        f"{counted.format(missing)} AS sequence_missing, "
        f"count(*) FILTER (late) AS out_of_order FROM ({steps}) GROUP BY ALL"
    )
    return _named(counts, trades, quotes, values)


def pauses(trades: Chosen, quotes: Chosen, limits: Limits, values: Values) -> str:
    """Times without an event, trades and quotes together."""
    events = _events(trades, quotes, f"{_KEYED}, {EVENT_NS} AS ns", values)
    steps = f"SELECT k2_key, ns - lag(ns) OVER (PARTITION BY k2_key ORDER BY ns) AS pause FROM ({events})"
    counts = (
        f"SELECT k2_key, count(*) FILTER (pause > {limits.quiet_us * 1_000}) AS time_gaps, "
        f"coalesce(max(pause), 0) // 1000 AS longest_pause_us FROM ({steps}) GROUP BY ALL"
    )
    return _named(counts, trades, quotes, values)


def _events(trades: Chosen, quotes: Chosen, columns: str, values: Values) -> str:
    return " UNION ALL ".join(f"SELECT kind, {columns} FROM ({_of_kind(each, values)})" for each in (trades, quotes))


def _of_kind(of: Chosen, values: Values) -> str:
    """The rows with the columns `kind` and `undoing`: a cancel has the session of the fill, whenever it comes."""
    if of.pinned.name == "quotes":
        return f"SELECT 'quotes' AS kind, false AS undoing, * FROM {of.rows(values, True, _EVENT)}"
    rows = of.rows(values, True, (*_EVENT, "status"))
    return f"SELECT 'trades' AS kind, coalesce({_UNDO}, false) AS undoing, * EXCLUDE (status) FROM {rows}"


def _named(counts: str, trades: Chosen, quotes: Chosen, values: Values) -> str:
    """Counts by `k2_key` with the names that it stands for."""
    names = _events(trades, quotes, f"{KEY}, {_KEYED}", values)
    distinct = f"SELECT DISTINCT {KEY}, k2_key FROM ({names})"
    return f"SELECT {KEY}, * EXCLUDE (k2_key, {KEY}) FROM ({counts}) JOIN ({distinct}) USING (k2_key)"


def _off_session(venues: Mapping[str, Venue]) -> str:
    """True for an event that is not in the session it is stored under, by its venue's rule."""
    cases = (
        f"WHEN {literal(code)} THEN (timezone({literal(venue.zone)}, ts_event) + "
        f"to_microseconds({round(venue.roll_hours * 3_600_000_000)}))::DATE <> session"
        for code, venue in venues.items()
    )
    return f"CASE venue {' '.join(cases)} ELSE false END" if venues else "false"


def fills(trades: Chosen, values: Values) -> str:
    """Fills without a price, without a size or with a size of zero, and with the venue's id of another one."""
    return (
        f"SELECT {KEY}, count(*) FILTER ({_FILL} AND price IS NULL) AS null_prices, "
        f"count(*) FILTER ({_FILL} AND size IS NULL) AS null_sizes, "
        f"count(*) FILTER ({_FILL} AND size = 0) AS zero_sizes, count(*) FILTER ({_UNDO}) AS undoing, "
        f"count(trade_id) FILTER ({_FILL}) - count(DISTINCT trade_id) FILTER ({_FILL}) AS repeated_ids "
        f"FROM {trades.rows(values, True, ('price', 'size', 'status', 'trade_id'))} GROUP BY ALL"
    )


def unmatched(trades: Chosen, values: Values) -> str:
    """Cancels and corrections that name no row of their session."""
    rows = trades.rows(values, True, ("status", "trade_id", "corrects"))
    named = f"SELECT DISTINCT {KEY}, trade_id AS corrects, true AS k2_named FROM {rows} "
    named += f"WHERE trade_id IN (SELECT corrects FROM {rows} WHERE {_UNDO})"
    undoing = f"(SELECT * FROM {rows} WHERE {_UNDO})"
    return (
        f"SELECT {KEY}, count(*) FILTER (k2_named IS NULL) AS unmatched "
        f"FROM {undoing} LEFT JOIN ({named}) USING ({KEY}, corrects) GROUP BY ALL"
    )


def repeats(trades: Chosen, values: Values) -> str:
    """Trades that equal an earlier one in every column that the source gives, its own number apart."""
    names = ", ".join(name for name in TRADES.names if name not in (*_OWN, *KEY.split(", ")))
    rows = f"SELECT {KEY}, count(*) - 1 AS more FROM {trades.rows(values, True)} GROUP BY {KEY}, hash({names})"
    return f"SELECT {KEY}, sum(more)::BIGINT AS repeats FROM ({rows}) GROUP BY ALL"


def book(quotes: Chosen, values: Values) -> str:
    """Quotes with one side, with no width and with a negative one."""
    both = f"NOT {_NO_BID} AND NOT {_NO_ASK}"
    return (
        f"SELECT {KEY}, count(*) FILTER ({_NO_BID} OR {_NO_ASK}) AS one_sided, "
        f"count(*) FILTER ({both} AND bid_px = ask_px) AS locked, "
        f"count(*) FILTER ({both} AND bid_px > ask_px) AS crossed "
        f"FROM {quotes.rows(values, True, ('bid_px', 'ask_px', 'bid_sz', 'ask_sz'))} GROUP BY ALL"
    )


def against_book(trades: Chosen, quotes: Chosen, limits: Limits, values: Values) -> str:
    """Fills that stand against the last quote of the session at or before them: out of the book, or the book is old."""
    keyed = f"SELECT {_KEYED}, {EVENT_NS} AS ns, sequence, hash(source) AS source, source_offset"
    sided = f"{_NO_BID} OR {_NO_ASK} OR bid_px > ask_px"
    sizes = quotes.rows(values, True, ("bid_px", "ask_px", "bid_sz", "ask_sz"))
    events = (
        f"{keyed}, NULL AS price, row(bid_px, ask_px, {sided}, {EVENT_NS}) AS quote FROM {sizes} UNION ALL "
        f"{keyed}, price, NULL FROM {trades.rows(values, False, ('price',))}"
    )
    last = (
        "SELECT k2_key, ns, price, quote IS NULL AS fill, last_value(quote IGNORE NULLS) OVER (PARTITION BY k2_key "
        f"ORDER BY ns, quote IS NULL, sequence, source, source_offset ROWS UNBOUNDED PRECEDING) AS q FROM ({events})"
    )
    share = f"{values.bind(limits.outside)}::DECIMAL(9, 8)"
    beyond = (
        f"price > (q[2]::DECIMAL(27, 8) + abs(q[2]::DECIMAL(27, 8)) * {share}) "
        f"OR price < (q[1]::DECIMAL(27, 8) - abs(q[1]::DECIMAL(27, 8)) * {share})"
    )
    counts = (
        f"SELECT k2_key, count(*) FILTER (NOT q[3] AND ({beyond})) AS outside_book, "
        f"count(*) FILTER (ns - q[4] > {limits.stale_us * 1_000}) AS stale_quotes FROM ({last}) WHERE fill GROUP BY ALL"
    )
    return _named(counts, trades, quotes, values)


def outliers(trades: Chosen, limits: Limits, values: Values) -> str:
    """Fills far from the session's median by the median absolute deviation (times 1.4826: Iglewicz and Hoaglin)."""
    rows = trades.rows(values, False, ("price",))
    middle = f"SELECT {KEY}, median(price::DOUBLE) AS middle, mad(price::DOUBLE) AS spread FROM {rows} GROUP BY ALL"
    far = f"spread > 0 AND abs(price::DOUBLE - middle) > {limits.outlier!r} * 1.4826 * spread"
    return f"SELECT {KEY}, count(*) FILTER ({far}) AS outliers FROM {rows} JOIN ({middle}) USING ({KEY}) GROUP BY ALL"


def rejected(trades: Chosen, quotes: Chosen, letters: Chosen, values: Values) -> str:
    """Rejected rows of the files and topics that the rows came from: target, error and how many, with one reason."""
    sources = " UNION ".join(f"SELECT source FROM {each.rows(values, True, ())}" for each in (trades, quotes))
    return (
        f"SELECT target, error, count(*) AS rows, min(reason) AS reason FROM {letters.rows(values, True)} "
        f"WHERE source IN ({sources}) GROUP BY ALL ORDER BY ALL"
    )
