"""As-of joins, best bids and offers, signs and spreads computed slowly, row by row, in plain Python over decimals.

Nothing here uses k2kernel. Rows are dicts; times are ns since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from typing import Any

Row = Mapping[str, Any]
EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(row: Row, on: str = "ts_event") -> int:
    """`<on>_ns` where the row has it, else `on`."""
    if row.get(f"{on}_ns") is not None:
        return int(row[f"{on}_ns"])
    since: timedelta = row[on] - _EPOCH
    return since // timedelta(microseconds=1) * 1_000


def place(row: Row, on: str = "ts_event") -> tuple[Any, ...]:
    """Where a row stands in the total order among rows of its kind."""
    return (ns(row, on), *(row[name] for name in ("venue", "symbol", "sequence", "source", "source_offset")))


def prevailing(row: Row, quotes: Sequence[Row], *, after: int = 0, inclusive: bool = True, **how: Any) -> Row | None:
    """The quote that prevails `after` ns after a row; `how`: on, by, tolerance (ns), same_session, sides."""
    on, by = how.get("on", "ts_event"), how.get("by", ("venue", "symbol"))
    at = ns(row, on) + after
    known = [quote for quote in quotes if all(quote[name] == row[name] for name in by)]
    before = [quote for quote in known if ns(quote, on) < at or (inclusive and ns(quote, on) == at)]
    if not before:
        return None
    last = max(before, key=lambda quote: place(quote, on))
    if how.get("tolerance") is not None and at - ns(last, on) > how["tolerance"]:
        return None
    if how.get("same_session") and last["session"] != row["session"]:
        return None
    return last if acceptable(last, how.get("sides", "any")) else None


def acceptable(quote: Row, sides: str) -> bool:
    bid, ask = quote["bid_px"], quote["ask_px"]
    if sides == "any":
        return True
    if bid is None or ask is None:
        return False
    return bool(sides == "two_sided" or bid <= ask)


def best(quotes: Sequence[Row], stale: int | None = None, exclude: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The best bid and offer after each quote of one instrument whose venue counts, in the total order."""
    state: dict[str, Row] = {}
    session, found = None, []
    for quote in sorted(quotes, key=place):
        venue = quote["exec_venue"] or ""
        if venue in exclude:
            continue
        if quote["session"] != session:
            state, session = {}, quote["session"]
        state[venue] = quote
        row = {"source_offset": quote["source_offset"]}
        for side, choose in (("bid", max), ("ask", min)):
            offers = {
                name: (held[f"{side}_px"], held[f"{side}_sz"])
                for name, held in state.items()
                if held[f"{side}_px"] is not None
                and held[f"{side}_sz"] != 0
                and not set(held["conditions"] or ()) & set(exclude)
                and (stale is None or ns(quote) - ns(held) <= stale)
            }
            price = choose((offer[0] for offer in offers.values()), default=None)
            there = sorted(name for name, offer in offers.items() if offer[0] == price)
            sizes = [offers[name][1] for name in there if offers[name][1] is not None]
            row |= {f"{side}_px": price, f"{side}_sz": sum(sizes) if sizes else None, f"{side}_venues": there}
        both = row["bid_px"] is not None and row["ask_px"] is not None
        row |= {"locked": both and row["bid_px"] == row["ask_px"], "crossed": both and row["bid_px"] > row["ask_px"]}
        found.append(row)
    return found


def quote_sign(trade: Row, quote: Row | None) -> int | None:
    mid = middle(quote)
    if mid is None or trade["price"] is None or trade["price"] == mid:
        return None
    return 1 if trade["price"] > mid else -1


def tick_sign(trade: Row, trades: Sequence[Row]) -> int | None:
    """By the last different price before it in the session."""
    key = [trade[name] for name in ("venue", "symbol", "session")]
    mine = [other for other in trades if [other[name] for name in ("venue", "symbol", "session")] == key]
    prices = [other["price"] for other in sorted(mine, key=place) if place(other) <= place(trade)]
    prices = [price for price in prices if price is not None]
    different = [price for price in prices if prices and price != prices[-1]]
    return None if not different else 1 if prices[-1] > different[-1] else -1


def signed(rule: str, trade: Row, trades: Sequence[Row], quote: Row | None) -> int | None:
    side = {"buy": 1, "sell": -1, None: None}[trade["side"]]
    by_quote, by_tick = quote_sign(trade, quote), tick_sign(trade, trades)
    return {
        "side": side,
        "quote": by_quote,
        "tick": by_tick,
        "lee_ready": by_tick if by_quote is None else by_quote,
    }[rule]


def middle(quote: Row | None) -> Decimal | None:
    if quote is None or quote["bid_px"] is None or quote["ask_px"] is None:
        return None
    return EXACT.divide(EXACT.add(quote["bid_px"], quote["ask_px"]), Decimal(2))


def ratio(numerator: Decimal | None, denominator: Decimal | None) -> Decimal | None:
    """Twelve digits after the point, half to even."""
    if numerator is None or not denominator:
        return None
    # Eighty digits are exact enough: a tie at the thirteenth digit needs a denominator of far fewer.
    return EXACT.divide(numerator, denominator).quantize(Decimal("1e-12"), context=EXACT)


def _times(*factors: Decimal | int | None) -> Decimal | None:
    product = Decimal(1)
    for factor in factors:
        if factor is None:
            return None
        product = EXACT.multiply(product, Decimal(factor))
    return product


def _minus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else EXACT.subtract(one, other)


QUOTE = ("bid_px", "ask_px", "bid_sz", "ask_sz")


def measures(trade: Row, quote: Row | None, later: Row | None, sign: int | None) -> dict[str, Any]:
    """What `spreads` says about a trade."""
    beside: Row = dict.fromkeys(QUOTE) if quote is None else quote
    bid, ask, bid_sz, ask_sz = (beside[name] for name in QUOTE)
    mid, two_sided = middle(quote), bid is not None and ask is not None
    paid = _minus(trade["price"], mid)
    depth = None if bid_sz is None or ask_sz is None or not two_sided else bid_sz + ask_sz
    weighted = None if depth is None else EXACT.add(EXACT.multiply(ask, bid_sz), EXACT.multiply(bid, ask_sz))
    return {
        "bid_px": bid,
        "ask_px": ask,
        "bid_sz": bid_sz,
        "ask_sz": ask_sz,
        "sign": sign,
        "mid": mid,
        "quoted_spread": _minus(ask, bid),
        "effective_spread": None if paid is None else abs(2 * paid),
        "signed_effective_spread": _times(2, sign, paid),
        "realised_spread": _times(2, sign, _minus(trade["price"], middle(later))),
        "micro_price": ratio(weighted, depth),
        "imbalance": None if depth is None else ratio(bid_sz - ask_sz, depth),
        "locked": two_sided and bid == ask,
        "crossed": two_sided and bid > ask,
    }


def move(quote: Row | None, later: Row | None, sign: int | None) -> Decimal | None:
    """The move of the mid in the direction of the trade."""
    return _times(sign, _minus(middle(later), middle(quote)))


def time_weighted(quotes: Sequence[Row], *, crossed: bool) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Of one instrument and session: mean spread (of crossed quotes as well, where `crossed`), share of time locked and
    share crossed.
    """
    ordered = sorted(quotes, key=place)
    stands = [ns(after) - ns(one) for one, after in pairwise(ordered)]
    spans = [
        (Decimal(span), one["ask_px"] - one["bid_px"])
        for one, span in zip(ordered, stands, strict=False)
        if one["bid_px"] is not None and one["ask_px"] is not None
    ]
    counting = [(span, spread) for span, spread in spans if crossed or spread >= 0]
    total = sum((span for span, _ in spans), Decimal(0))
    return (
        ratio(
            sum((span * spread for span, spread in counting), Decimal(0)), sum((one for one, _ in counting), Decimal(0))
        ),
        ratio(sum((span for span, spread in spans if spread == 0), Decimal(0)), total),
        ratio(sum((span for span, spread in spans if spread < 0), Decimal(0)), total),
    )


def weighted(pairs: Sequence[tuple[Decimal | None, Decimal | None]]) -> Decimal | None:
    """The mean of values by weights, over those that have both."""
    known = [(value, weight) for value, weight in pairs if value is not None and weight is not None]
    total = sum((EXACT.multiply(value, weight) for value, weight in known), Decimal(0))
    return ratio(total, sum((weight for _, weight in known), Decimal(0)))
