"""What trades cost against the quotes beside them, in SQL over decimals: nothing passes through a float."""

from __future__ import annotations

from collections.abc import Sequence

from k2kernel.query.counting import Counting
from k2kernel.query.exact import with_ratio

TRADE = (
    *("symbol", "venue", "exec_venue", "session", "ts_event", "ts_event_ns", "ts_recv", "ts_recv_ns", "sequence"),
    *("trade_id", "price", "size", "side", "conditions", "source", "source_offset"),
)
"""The columns of a trade beside its spreads."""

QUOTE = ("bid_px", "ask_px", "bid_sz", "ask_sz")

MEASURES = (
    *("sign", "mid", "quoted_spread", "effective_spread", "signed_effective_spread", "realised_spread"),
    *("micro_price", "imbalance", "locked", "crossed"),
)

SUMMARY = (
    *("symbol", "venue", "session", "quotes", "time_weighted_spread", "locked_share", "crossed_share"),
    *("trades", "volume", "effective_spread", "realised_spread", "eligible"),
)

_BID, _ASK = "bid_px::DECIMAL(20, 8)", "ask_px::DECIMAL(20, 8)"
_MID = f"(({_BID} + {_ASK}) * 0.5::DECIMAL(2, 1))::DECIMAL(38, 9)"
_TWICE = "2 * price::DECIMAL(20, 8)"
_PAID = f"{_TWICE} - {_BID} - {_ASK}"


def spreads(rows: str) -> str:
    """`TRADE`, `QUOTE` and `MEASURES` of `rows`, as `Beside.rows` gives them with one horizon."""
    exact = "DECIMAL(38, 8)"
    known = (
        f"SELECT *, {_MID} AS mid, ({_ASK} - {_BID})::{exact} AS quoted_spread, "
        f"abs({_PAID})::{exact} AS effective_spread, (sign * ({_PAID}))::{exact} AS signed_effective_spread, "
        f"(sign * ({_TWICE} - k2_bid_0::DECIMAL(20, 8) - k2_ask_0::DECIMAL(20, 8)))::{exact} AS realised_spread, "
        "coalesce(bid_px = ask_px, false) AS locked, coalesce(bid_px > ask_px, false) AS crossed, "
        "(ask_px::DECIMAL(18, 8) * bid_sz::DECIMAL(20, 8))::DECIMAL(38, 16) "
        "+ bid_px::DECIMAL(18, 8) * ask_sz::DECIMAL(20, 8) AS k2_weighted, "
        "CASE WHEN bid_px IS NOT NULL AND ask_px IS NOT NULL THEN bid_sz - ask_sz END::DECIMAL(38, 16) AS k2_more, "
        f"(bid_sz + ask_sz)::{exact} AS k2_depth FROM {rows}"
    )
    micro = with_ratio(known, "k2_weighted", "k2_depth", "micro_price")
    whole = with_ratio(micro, "k2_more", "k2_depth", "imbalance")
    return f"SELECT {', '.join((*TRADE, *QUOTE, *MEASURES))} FROM ({whole}) ORDER BY k2_row"


def markouts(rows: str, horizons: Sequence[str]) -> str:
    """`TRADE`, bid and ask, `sign`, `mid` and for each horizon sign x (the mid then - the mid at the trade)."""
    moves = (
        f"(sign * ((k2_bid_{number}::DECIMAL(20, 8) + k2_ask_{number}::DECIMAL(20, 8) - {_BID} - {_ASK}) "
        f"* 0.5::DECIMAL(2, 1)))::DECIMAL(38, 9) AS markout_{horizon}"
        for number, horizon in enumerate(horizons)
    )
    names = ", ".join((*TRADE, "bid_px", "ask_px", "sign"))
    return f"SELECT {names}, {_MID} AS mid, {', '.join(moves)} FROM {rows} ORDER BY k2_row"


def summary(quotes: str, trades: str, counting: Counting, sides: str) -> str:
    """`SUMMARY` of `quotes`, as `Beside.standing` gives them, and of those `trades`, as `Beside.rows` does, that count.

    Durations count 1e-8: a ratio of sums is the same in any unit, and eight digits are what `with_ratio` divides by.
    """
    both = (
        "SELECT symbol, venue, session, coalesce(quotes, 0) AS quotes, k2_time, k2_two_sided, k2_spreads, k2_locks, "
        "k2_crosses, coalesce(trades, 0) AS trades, coalesce(volume, 0)::DECIMAL(38, 8) AS volume, "
        f"k2_effective, k2_of_effective, k2_realised, k2_of_realised, {counting.label} AS eligible "
        f"FROM ({_over_time(quotes, sides)}) FULL JOIN ({_over_volume(trades, counting)}) "
        "USING (symbol, venue, session)"
    )
    for name, numerator, denominator in (
        ("time_weighted_spread", "k2_spreads", "k2_time"),
        ("locked_share", "k2_locks", "k2_two_sided"),
        ("crossed_share", "k2_crosses", "k2_two_sided"),
        ("effective_spread", "k2_effective", "k2_of_effective"),
        ("realised_spread", "k2_realised", "k2_of_realised"),
    ):
        both = with_ratio(both, numerator, denominator, name)
    return f"SELECT {', '.join(SUMMARY)} FROM ({both}) ORDER BY session, venue, symbol"


def _over_time(quotes: str, sides: str) -> str:
    stood = "(k2_ns * 0.00000001::DECIMAL(8, 8))::DECIMAL(20, 8)"
    rows = f"SELECT *, {stood} AS k2_stood, ({_ASK} - {_BID})::DECIMAL(18, 8) AS k2_spread FROM {quotes}"
    counts = "k2_spread >= 0" if sides == "uncrossed" else "k2_spread IS NOT NULL"
    return (
        "SELECT symbol, venue, session, count(*) AS quotes, "
        "sum(k2_stood) FILTER (k2_spread IS NOT NULL)::DECIMAL(38, 8) AS k2_two_sided, "
        f"sum(k2_stood) FILTER ({counts})::DECIMAL(38, 8) AS k2_time, "
        f"sum(k2_spread * k2_stood) FILTER ({counts})::DECIMAL(38, 16) AS k2_spreads, "
        "coalesce(sum(k2_stood) FILTER (k2_spread = 0), 0)::DECIMAL(38, 16) AS k2_locks, "
        "coalesce(sum(k2_stood) FILTER (k2_spread < 0), 0)::DECIMAL(38, 16) AS k2_crosses "
        f"FROM ({rows}) GROUP BY ALL"
    )


def _over_volume(trades: str, counting: Counting) -> str:
    sums = ", ".join(
        f"sum({name}_spread::DECIMAL(20, 8) * size)::DECIMAL(38, 16) AS k2_{name}, "
        f"sum(size) FILTER ({name}_spread IS NOT NULL)::DECIMAL(38, 8) AS k2_of_{name}"
        for name in ("effective", "realised")
    )
    where = counting.any or "true"
    return (
        f"SELECT symbol, venue, session, count(*) AS trades, sum(size)::DECIMAL(38, 8) AS volume, {sums} "
        f"FROM ({spreads(trades)}) WHERE {where} GROUP BY ALL"
    )
