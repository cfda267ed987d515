"""The market of a session, and the trades and quotes seen in it, as arrays of whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from k2kernel.sample.draws import LANE, Draws, Flags, Ints, apportion, fold, lookup
from k2kernel.sample.venues import (
    CLOSING,
    CROSSING,
    EXTENDED,
    LATE,
    ODD_LOT,
    ODD_SWEEP,
    OFF_MARKET,
    OPENING,
    PLAIN,
    SWEEP,
    Listing,
    Phase,
    Venue,
)

MINUTE = 60_000_000
CHUNK = 500_000
"""Rows made at a time, at most, but for a busier minute."""

NONE = -1
"""Stands for null in an array of whole numbers that are never negative."""

_FILLS = lookup([52, 15, 10, 7, 5, 3, 3, 2, 2, 1], [1, 2, 3, 4, 5, 6, 8, 12, 16, 32])
_BURST = lookup([60, 30, 10], [1, 2, 3])
_SPREAD = lookup([78, 15, 5, 2], [1, 2, 3, 4])
_REPEAT = 100
_ORDERS = lookup([885, 50, 55, 10], [PLAIN, _REPEAT, CROSSING, OFF_MARKET])
_EXEC = lookup([70, 20, 10])


def _heavy_tail(steps: int) -> Ints:
    """Sizes that grow by a twelfth from step to step, the middle ones being the most frequent."""
    sizes = [1]
    for _ in range(steps):
        sizes.append(sizes[-1] * 13 // 12 + 1)
    return lookup([1 + min(number, steps - number) for number in range(steps + 1)], sizes)


_SIZES = _heavy_tail(90)
_ROUND_LOTS = lookup(
    [4, 4, 6, 8, 6, 5, 5, 40, 10, 5, 3, 2, 1, 1], [1, 5, 10, 20, 35, 50, 75, 100, 200, 300, 400, 500, 1_000, 5_000]
)


@dataclass(frozen=True)
class Market:
    """Best bid and ask, in ticks, of each instrument (row) in each second of the session (column)."""

    venue: Venue
    listings: tuple[Listing, ...]
    session: date
    bid: Ints
    ask: Ints

    def at(self, ts: Ints, symbol: Ints) -> tuple[Ints, Ints]:
        """Bid and ask in ticks at times in µs after local midnight."""
        second = np.clip(ts // 1_000_000 - self.venue.opens, 0, self.venue.seconds - 1)
        cell = symbol * self.venue.seconds + second
        return self.bid.ravel()[cell], self.ask.ravel()[cell]

    def column(self, name: str) -> Ints:
        """A number of each instrument: price, tick or lot, in units of 0.00001."""
        return np.array([getattr(listing, name) for listing in self.listings], np.int64)


def markets(venue: Venue, listings: tuple[Listing, ...], dates: list[date], seed: int, key: int) -> Iterator[Market]:
    """The market of each session in turn; a session starts where the one before ended, but for an overnight gap.

    Each second the bid stays or takes a step of at most some ticks, so that a day moves an instrument by the venue's
    `daily_move` thousandths (standard deviation); it turns back 8 % away from where the sample began.
    """
    start = np.array([listing.price // listing.tick for listing in listings], np.int64)
    low, high = start - start // 12 - 1, start + start // 12 + 1
    reach, chance = _steps(start, venue.daily_move, venue.seconds)
    shape, bid = (len(listings), venue.seconds), start
    for number, session in enumerate(dates):
        draws = Draws(seed, key, number, 0)
        moves = draws.below(LANE, shape[0] * shape[1]).reshape(shape) < chance[:, None]
        steps = draws.below(1 << 40, shape[0] * shape[1]).reshape(shape) % (2 * reach + 1)[:, None] - reach[:, None]
        gap = draws.below(1 << 40, len(listings)) % (start // 100 + 1) - start // 200
        walk = np.cumsum(np.where(moves, steps, 0), axis=1) + (bid + gap)[:, None]
        bids = fold(walk, low[:, None], high[:, None])
        spreads = draws.pick(_SPREAD, shape[0] * shape[1]).reshape(shape)
        yield Market(venue, listings, session, bids, bids + spreads)
        bid = bids[:, -1]


def _steps(price: Ints, daily_move: int, seconds: int) -> tuple[Ints, Ints]:
    """The longest step in ticks, and the chance in 65,536 of one in a second, that give the daily move."""
    reach, chance = [], []
    for ticks in price.tolist():
        wanted, longest = 3 * (ticks * daily_move) ** 2, 1
        while longest * (longest + 1) * seconds * 1_000_000 < wanted:
            longest += 1
        reach.append(longest)
        chance.append(max(1, wanted * LANE // (longest * (longest + 1) * seconds * 1_000_000)))
    return np.array(reach, np.int64), np.array(chance, np.int64)


@dataclass(frozen=True)
class Slots:
    """Consecutive minutes of a session: `start` in µs after local midnight, `rows` in each, what its trades are."""

    start: Ints
    rows: Ints
    means: Ints
    auction: Flags

    @property
    def end(self) -> int:
        """The end of the last minute, exclusive, in µs after local midnight."""
        return int(self.start[-1]) + MINUTE

    def cut(self) -> Iterator[Slots]:
        """The same minutes in pieces of about `CHUNK` rows, those without a row left out."""
        ends = np.cumsum(self.rows)
        bounds = np.flatnonzero(np.diff(ends // CHUNK)) + 1
        for piece in np.split(np.arange(len(ends)), bounds):
            if self.rows[piece].sum():
                yield Slots(self.start[piece], self.rows[piece], self.means[piece], self.auction[piece])


def slots(venue: Venue, kind: str, rows: int, draws: Draws) -> Slots:
    """`rows` spread over the minutes of a session: each phase by its share and shape, each minute with some noise."""
    minutes = np.concatenate([np.arange(phase.first, phase.last, dtype=np.int64) for phase in venue.phases])
    lengths = [phase.last - phase.first for phase in venue.phases]
    weights = np.concatenate(
        [_weights(phase, phase.trades if kind == "trades" else phase.quotes) for phase in venue.phases]
    )
    noisy = weights * (512 + draws.below(1_024, len(weights))) // 1_024
    means = np.repeat(np.array([phase.means for phase in venue.phases], np.int64), lengths)
    auction = np.repeat(np.array([phase.shape == "auction" for phase in venue.phases]), lengths)
    return Slots(minutes * MINUTE, apportion(rows, noisy), means, auction)


def _weights(phase: Phase, share: int) -> Ints:
    length = phase.last - phase.first
    minute = np.arange(length, dtype=np.int64)
    shape = 100 + (400 * (2 * minute - length) ** 2 // length**2 if phase.shape == "u" else 0 * minute)
    return shape * share * 1_000_000 // int(shape.sum())


def _times(chunk: Slots, step_us: int, draws: Draws) -> tuple[Ints, Ints, Flags]:
    """Sorted times in µs after local midnight, and of each what a trade then is and whether it is in an auction."""
    slot = np.repeat(np.arange(len(chunk.rows)), chunk.rows)
    within = draws.below(MINUTE, len(slot))
    times = np.sort(chunk.start[slot] + np.where(chunk.auction[slot], 0, within // step_us * step_us))
    return times, chunk.means[slot], chunk.auction[slot]


def _runs(lengths: Ints, total: int) -> tuple[Ints, Ints]:
    """For each of `total` rows cut in runs of these `lengths`: the number of its run and its own number in the run."""
    used = int(np.searchsorted(np.cumsum(lengths), total)) + 1
    run = np.repeat(np.arange(used), lengths[:used])[:total]
    first = np.cumsum(lengths[:used]) - lengths[:used]
    return run, np.arange(total) - first[run]


@dataclass
class Rows:
    """Rows of one kind in a chunk. `ts` and `published` (when it enters the file) are µs after local midnight."""

    ts: Ints
    published: Ints
    symbol: Ints
    values: dict[str, Ints]

    def filed(self) -> tuple[Rows, Ints]:
        """The rows in the order of the file, and the place in it of each of the rows as they were."""
        order = np.argsort(self.published, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        values = {name: array[order] for name, array in self.values.items()}
        return Rows(self.ts[order], self.published[order], self.symbol[order], values), place


def trades(market: Market, chunk: Slots, symbols: Ints, draws: Draws) -> Rows:
    """Fills of aggressive orders, auctions and reported prints, a few of them cancelled or late."""
    venue = market.venue
    ts, means, auction = _times(chunk, venue.clock_us, draws)
    count = len(ts)
    order_means = draws.pick(_ORDERS, count)
    single = (order_means == CROSSING) | (order_means == OFF_MARKET)
    order, depth = _runs(np.where(single, 1, draws.pick(_FILLS, count)), count)
    head = np.arange(count) - depth
    symbol = draws.pick(symbols, count)[order]
    ts, means = ts[head] + np.where(auction[head], _auction_delay(venue, symbol), 0), means[head]
    means = np.where(means == PLAIN, order_means[order], means)
    repeat, means = _repeats(venue, means)
    rows = Rows(ts, ts.copy(), symbol, {"means": means, "nameless": repeat.astype(np.int64)})
    _price(rows, market, draws, order, np.where(repeat, 0, depth))
    _label(rows, venue, draws, order, repeat)
    _cancel(rows, venue, draws, chunk.end)
    _delay(rows, venue, draws, chunk.end)
    return rows


def _auction_delay(venue: Venue, symbol: Ints) -> Ints:
    """Instruments are uncrossed one after the other, all within the minute of the auction."""
    return symbol * 1_370_000 % (MINUTE - 1_000_000) // venue.clock_us * venue.clock_us


def _repeats(venue: Venue, means: Ints) -> tuple[Flags, Ints]:
    """Which rows belong to an order with equal fills, and the meanings that are left; crypto has plain fills only."""
    repeat = (means == _REPEAT) & venue.repeats
    plain = (means == _REPEAT) | (venue.asset_class == "crypto")
    return repeat, np.where(plain, PLAIN, means)


def _price(rows: Rows, market: Market, draws: Draws, order: Ints, depth: Ints) -> None:
    """Buys at the ask, sells at the bid, deeper by a tick every third fill; auctions at the bid, crossings at the mid.

    Off-market prints are within 15 % of the bid, in steps of 0.0001, which need not be ticks.
    """
    bid, ask = market.at(rows.ts, rows.symbol)
    tick, means = market.column("tick")[rows.symbol], rows.values["means"]
    sell = draws.below(2, len(order))[order]
    level = np.minimum(depth // 3, 4)
    price = np.where(sell == 1, bid - level, ask + level) * tick
    bid_price = bid * tick
    far = bid_price * (1_000 + draws.below(301, len(order))[order] - 150) // 1_000 // 10 * 10
    price = np.where((means == OPENING) | (means == CLOSING), bid_price, price)
    price = np.where(means == CROSSING, (bid + ask) * tick // 2, price)
    sideless = (means != PLAIN) | (not market.venue.sided)
    rows.values["price"] = np.where(np.isin(means, market.venue.far), np.maximum(far, 10), price)
    rows.values["side"] = np.where(sideless, NONE, sell)


def _label(rows: Rows, venue: Venue, draws: Draws, order: Ints, repeat: Flags) -> None:
    """Size in lots, the place of execution, and the final meaning of each row."""
    table = _ROUND_LOTS if venue.round_lots else _SIZES
    means, count = rows.values["means"], len(order)
    lots, alike = draws.pick(table, count), draws.pick(table, count)[order]
    size = np.where(repeat, alike, lots)
    place = draws.pick(_EXEC, count)
    place = np.where((means == OPENING) | (means == CLOSING) | repeat, 0, place)
    rows.values["exec"] = np.where(np.isin(means, venue.reported), 3, place)
    rows.values["lots"] = size
    if venue.round_lots:
        sweep, odd = draws.chance(LANE // 5, count)[order], size < 100
        kind = np.where(sweep, np.where(odd, ODD_SWEEP, SWEEP), np.where(odd, ODD_LOT, PLAIN))
        rows.values["means"] = np.where(means == PLAIN, kind, means)


def _cancel(rows: Rows, venue: Venue, draws: Draws, end: int) -> None:
    """In each thousand rows one becomes the cancel of an earlier one, at a later time; the earlier one gets a name."""
    count = len(rows.ts)
    rows.values["corrects"] = np.full(count, NONE, np.int64)
    blocks = max(1, count // 1_000)
    half = count // blocks // 2
    if not venue.cancels or half < 8:
        return
    original = np.arange(blocks) * (count // blocks) + draws.below(half, blocks)
    cancel = np.arange(blocks) * (count // blocks) + half + draws.below(half, blocks)
    later = np.maximum(rows.ts[cancel], rows.ts[original]) + MINUTE // 60
    rows.ts[cancel] = rows.published[cancel] = np.minimum(later, end - venue.clock_us)
    rows.symbol[cancel] = rows.symbol[original]
    for values in rows.values.values():
        values[cancel] = values[original]
    rows.values["corrects"][cancel] = original
    for ends in (original, cancel):
        rows.values["nameless"][ends] = 0


def _delay(rows: Rows, venue: Venue, draws: Draws, end: int) -> None:
    """In each thousand rows about two come one to ten seconds late: the file has them after later ones."""
    if not venue.late:
        return
    count = len(rows.ts)
    late = draws.chance(LANE // 500, count)
    delay = 1_000_000 + draws.below(9_000_000, count)
    if "corrects" in rows.values:
        corrects, means = rows.values["corrects"], rows.values["means"]
        late &= (corrects == NONE) & ~np.isin(means, [OPENING, CLOSING, CROSSING, OFF_MARKET, EXTENDED])
        late[corrects[corrects != NONE]] = False
        rows.values["means"] = np.where(late, LATE, means)
    rows.published = np.where(late, np.maximum(rows.ts, np.minimum(rows.ts + delay, end - 1)), rows.ts)


def quotes(market: Market, chunk: Slots, symbols: Ints, draws: Draws) -> Rows:
    """The best bid and ask when a row is drawn; some sides missing, some pairs locked or crossed."""
    venue = market.venue
    ts, means, _ = _times(chunk, venue.clock_us, draws)
    count = len(ts)
    burst, number = _runs(draws.pick(_BURST, count), count)
    head = np.arange(count) - number
    symbol, ts, means = draws.pick(symbols, count)[burst], ts[head], means[head]
    bid, ask = market.at(ts, symbol)
    ask = _locked_or_crossed(bid, ask, means, venue, draws)
    tick = market.column("tick")[symbol]
    values = {"bid_px": bid * tick, "ask_px": ask * tick}
    values |= {"bid_lots": draws.pick(_SIZES, count), "ask_lots": draws.pick(_SIZES, count)}
    _one_sided(values, means, draws)
    values["means"] = np.where(means == PLAIN, 1, 0)
    rows = Rows(ts, ts.copy(), symbol, values)
    _delay(rows, venue, draws, chunk.end)
    return rows


def _locked_or_crossed(bid: Ints, ask: Ints, means: Ints, venue: Venue, draws: Draws) -> Ints:
    """Rare while trading is continuous, frequent out of hours, when orders rest and wait for an auction."""
    count, quiet = len(bid), means != PLAIN
    chance = draws.below(1_000, count)
    crossed = chance < np.where(quiet, 60, 1)
    locked = ~crossed & (chance < np.where(quiet, 120, 6))
    across = bid - 1 - draws.below(3, count)
    if venue.asset_class == "crypto":
        return ask
    return np.where(crossed, across, np.where(locked, bid, ask))


def _one_sided(values: dict[str, Ints], means: Ints, draws: Draws) -> None:
    """Take a side away from some rows, most of them out of hours: its price and its size are then null."""
    count = len(means)
    missing = draws.below(1_000, count) < np.where(means == PLAIN, 2, 30)
    side = draws.below(2, count)
    for number, name in enumerate(("bid", "ask")):
        gone = missing & (side == number)
        for column in (f"{name}_px", f"{name}_lots"):
            values[column] = np.where(gone, NONE, values[column])
