"""The checks in SQL: each is a SELECT of `k2_key` and counts over rows that a caller chose; `rows` says which venue,
symbol and session a key stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from k2kernel.query.chosen import Chosen
from k2kernel.query.hours import Hours
from k2kernel.query.order import EVENT_NS
from k2kernel.query.scan import Values
from k2kernel.schemas import TRADES

KEY = "venue, symbol, session"
_OWN = ("sequence", "ts_recv", "ts_recv_ns", "ts_ingest", "source", "source_offset")
"""Columns in which a row that repeats another may differ from it."""

_KEYED = f"hash({KEY}) AS k2_key"
"""A number in the place of texts: windows and groups over it take a third of the time. Two of a million
instrument-sessions, or of a million trades of one, have the same hash with a chance of 1 in 10^7."""

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


def rows(trades: Chosen, quotes: Chosen, within: Mapping[str, Hours], values: Values) -> str:
    """Rows and times of trades and quotes; `within` has, by kind, the hours in which their events are."""
    columns = "ts_event, clock, coalesce(ts_recv_ns, epoch_ns(ts_recv)) AS recv_ns"
    each = " UNION ALL ".join(
        f"SELECT '{of.pinned.name}' AS kind, {KEY}, {columns}, {EVENT_NS} AS ns, {off} AS k2_off FROM {rows}"
        for of in (trades, quotes)
        for rows, off in [_placed(of, within[of.pinned.name], values)]
    )
    counts = (
        f"SELECT {KEY}, count(*) FILTER (kind = 'trades') AS trades, count(*) FILTER (kind = 'quotes') AS quotes, "
        "min(ts_event) AS first, max(ts_event) AS last, count(*) FILTER (clock = 'recv') AS recv_clock, "
        "count(*) FILTER (recv_ns < ns) AS recv_before_event, count(*) FILTER (k2_off) AS off_session "
        f"FROM ({each}) GROUP BY ALL"
    )
    return f"SELECT {_KEYED}, * FROM ({counts})"


def _placed(of: Chosen, within: Hours, values: Values) -> tuple[str, str]:
    """The rows received, and the condition of those outside the hours: a cancel has the session of the fill, whenever
    it comes.
    """
    names = [*_EVENT, *(["status"] if of.pinned.name == "trades" else [])]
    names += ["conditions"] if any(within.codes.values()) else []
    off = f"NOT ({' AND '.join(within.conditions(values))})" if within.trading else "false"
    return of.rows(values, True, names), f"NOT coalesce({_UNDO}, false) AND {off}" if "status" in names else off


def numbers(trades: Chosen, quotes: Chosen, limits: Limits, values: Values) -> str:
    """Sequence numbers that are left out, and rows earlier than the row with the number before."""
    file = f"hash(kind, {KEY}, source)"
    of = "hash(source, session)" if limits.gaps == "source" else file
    columns = f"{_KEYED}, {of} AS k2_of, {file} AS k2_file, sequence, source_offset, {EVENT_NS} AS ns"
    inside = "k2_file" if limits.gaps == "source" else "k2_of"  # the same window is sorted once
    steps = (
        f"SELECT k2_key, lag(ns) OVER (PARTITION BY {inside} ORDER BY sequence, source_offset) > ns AS late, "
        "sequence - lag(sequence) OVER (PARTITION BY k2_of ORDER BY sequence, source_offset) - 1 AS missing "
        f"FROM ({_events(trades, quotes, columns, values)})"
    )
    counted = (
        "CASE WHEN count(*) FILTER (missing = 0) >= 0.9 * count(missing) THEN {} END" if limits.gaps == "auto" else "{}"
    )
    missing = "coalesce(sum(missing) FILTER (missing > 0), 0)::BIGINT"
    return (
        f"SELECT k2_key, {counted.format('count(*) FILTER (missing > 0)')} AS sequence_gaps, "
        f"{counted.format(missing)} AS sequence_missing, "
        f"count(*) FILTER (late) AS out_of_order FROM ({steps}) GROUP BY ALL"
    )


def pauses(trades: Chosen, quotes: Chosen, limits: Limits, values: Values) -> str:
    """Times without an event, trades and quotes together."""
    events = _events(trades, quotes, f"{_KEYED}, {EVENT_NS} AS ns", values)
    steps = f"SELECT k2_key, ns - lag(ns) OVER (PARTITION BY k2_key ORDER BY ns) AS pause FROM ({events})"
    return (
        f"SELECT k2_key, count(*) FILTER (pause > {limits.quiet_us * 1_000}) AS time_gaps, "
        f"coalesce(max(pause), 0) // 1000 AS longest_pause_us FROM ({steps}) GROUP BY ALL"
    )


def _events(trades: Chosen, quotes: Chosen, columns: str, values: Values) -> str:
    return " UNION ALL ".join(
        f"SELECT {columns} FROM (SELECT '{of.pinned.name}' AS kind, * FROM {of.rows(values, True, ())})"
        for of in (trades, quotes)
    )


def fills(trades: Chosen, values: Values) -> str:
    """Fills without a price, without a size or with a size of zero, and with the venue's id of another one."""
    return (
        f"SELECT {_KEYED}, count(*) FILTER ({_FILL} AND price IS NULL) AS null_prices, "
        f"count(*) FILTER ({_FILL} AND size IS NULL) AS null_sizes, "
        f"count(*) FILTER ({_FILL} AND size = 0) AS zero_sizes, count(*) FILTER ({_UNDO}) AS undoing, "
        f"count(trade_id) FILTER ({_FILL}) - count(DISTINCT hash(trade_id)) FILTER ({_FILL} AND trade_id IS NOT NULL) "
        f"AS repeated_ids FROM {trades.rows(values, True, ('price', 'size', 'status', 'trade_id'))} GROUP BY ALL"
    )


def unmatched(trades: Chosen, values: Values) -> str:
    """Cancels and corrections that name no row of their session."""
    rows = trades.rows(values, True, ("status", "trade_id", "corrects"))
    named = f"SELECT DISTINCT {KEY}, trade_id AS corrects, true AS k2_named FROM {rows} "
    named += f"WHERE trade_id IN (SELECT corrects FROM {rows} WHERE {_UNDO})"
    undoing = f"(SELECT * FROM {rows} WHERE {_UNDO})"
    return (
        f"SELECT {_KEYED}, count(*) FILTER (k2_named IS NULL) AS unmatched "
        f"FROM {undoing} LEFT JOIN ({named}) USING ({KEY}, corrects) GROUP BY ALL"
    )


def repeats(trades: Chosen, values: Values) -> str:
    """Trades that equal an earlier one in every column that the source gives, its own number apart."""
    names = ", ".join(name for name in TRADES.names if name not in (*_OWN, *KEY.split(", ")))
    rows = f"SELECT {_KEYED}, count(*) - 1 AS more FROM {trades.rows(values, True)} GROUP BY k2_key, hash({names})"
    return f"SELECT k2_key, sum(more)::BIGINT AS repeats FROM ({rows}) GROUP BY ALL"


def book(quotes: Chosen, values: Values) -> str:
    """Quotes with one side, with no width and with a negative one."""
    both = f"NOT {_NO_BID} AND NOT {_NO_ASK}"
    return (
        f"SELECT {_KEYED}, count(*) FILTER ({_NO_BID} OR {_NO_ASK}) AS one_sided, "
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
    return (
        f"SELECT k2_key, count(*) FILTER (NOT q[3] AND ({beyond})) AS outside_book, "
        f"count(*) FILTER (ns - q[4] > {limits.stale_us * 1_000}) AS stale_quotes FROM ({last}) WHERE fill GROUP BY ALL"
    )


def outliers(trades: Chosen, limits: Limits, values: Values) -> str:
    """Fills far from the session's median by the median absolute deviation (times 1.4826: Iglewicz and Hoaglin)."""
    rows = f"(SELECT {_KEYED}, price::DOUBLE AS price FROM {trades.rows(values, False, ('price',))})"
    middle = f"SELECT k2_key, median(price) AS middle, mad(price) AS spread FROM {rows} GROUP BY ALL"
    far = f"spread > 0 AND abs(price - middle) > {limits.outlier!r} * 1.4826 * spread"
    return f"SELECT k2_key, count(*) FILTER ({far}) AS outliers FROM {rows} JOIN ({middle}) USING (k2_key) GROUP BY ALL"


def rejected(trades: Chosen, quotes: Chosen, letters: Chosen, values: Values) -> str:
    """Rejected rows of the files and topics that the rows came from: target, error and how many, with one reason."""
    sources = " UNION ".join(f"SELECT source FROM {each.rows(values, True, ())}" for each in (trades, quotes))
    return (
        f"SELECT target, error, count(*) AS rows, min(reason) AS reason FROM {letters.rows(values, True)} "
        f"WHERE source IN ({sources}) GROUP BY ALL ORDER BY ALL"
    )
