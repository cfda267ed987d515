"""`Joins`: as-of joins, spreads, the best bid and offer, and markouts over a lake or over frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter
from k2kernel.query.asof import Prevailing, in_order, instants
from k2kernel.query.beside import QUOTE_SCAN, TRADE_SCAN, Beside
from k2kernel.query.computed import Computed, arrow, frame_of, pinned, scanned
from k2kernel.query.connection import Query
from k2kernel.query.counting import counting
from k2kernel.query.nbbo import nbbo, nbbo_columns
from k2kernel.query.result import Result
from k2kernel.query.scan import Values
from k2kernel.query.spreads import MEASURES, QUOTE, SUMMARY, TRADE, markouts, spreads, summary
from k2kernel.times import Duration, from_ns, parse_bound, parse_duration

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from k2kernel.query.computed import Rows
    from k2kernel.query.engine import QueryEngine


class Joins:
    """The verbs that put trades beside quotes. Their rows are computed in memory: ask for a session at a time where
    the whole does not fit.
    """

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine

    def asof(
        self,
        left: Rows,
        right: Rows,
        by: Sequence[str] = ("venue", "symbol"),
        on: str = "ts_event",
        *,
        inclusive: bool = True,
        tolerance: Duration | None = None,
        same_session: bool = False,
        sides: str = "any",
        book: str | None = None,
        suffix: str = "_right",
    ) -> Result:
        """Each row of `left`, in its order, with the columns of the row of `right` that prevails at its time.

        Either is a `Result` such as `wb.trades("BHP")`, or a Polars, pandas or Arrow frame with the columns `by` and
        `on`. The prevailing row is the last one, of equal `by`, in the total order (ns, venue, symbol, sequence,
        source, source_offset; as far as the frame has those) at or before the time, or before it where not
        `inclusive`. Times are `<on>_ns` where a row has it, else `on`, a time with a zone. At one instant a replay has
        quotes before trades: trades joined to quotes inclusively are what it has seen, and with
        `ties="trades_first"` those that are not inclusive.

        The row that prevails is judged, and never replaced by an older one: the columns of `right` are null where it
        is older than `tolerance` (a timedelta or `"5s"`; exactly so old will do), where it is of another `session` and
        `same_session` is asked for, and by `sides`: with `two_sided` where bid_px or ask_px is null, with `uncrossed`
        where the bid is above the ask as well (a locked quote is not crossed).

        Quotes of one instrument by several exec_venue need a `book`: `nbbo`, the best of all (`right` then has the
        columns of `nbbo`), `same_exec_venue`, the quotes of the venue that `left` names, or `last_row`, whoever's.

        Columns: those of `left`, then those of `right` but for `by`, with `suffix` where `left` has the name.
        InvalidParameter where a row has no such time, or event times are partly of the venue's clock and partly of the
        recorder's (the column `clock`). Both tables are in memory while they are joined.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        within = None if tolerance is None else parse_duration(tolerance, "tolerance")
        how = Prevailing(names, on, inclusive, within, same_session, sides, book, suffix)
        one, other = frame_of(left, "left"), frame_of(right, "right")

        def make(timeout: float | None) -> pl.DataFrame:
            return how.join(scanned(one, timeout), scanned(other, timeout))

        columns = how.columns(one.columns, other.columns)
        like = one if isinstance(one, Result) else None
        return Computed(self._engine.database, make, pinned(one, other), columns, like)

    def nbbo(
        self,
        symbol: str | Sequence[str] | None = None,
        *,
        stale: Duration | None = None,
        exclude: str | Sequence[str] = (),
        on: str = "ts_event",
        **words: Any,
    ) -> Result:
        """The best bid and offer over the venues (`exec_venue`) that quote an instrument, after each quote.

        `words` are those of `quotes`. Of each venue its latest row of the session counts; a side without a price, or
        with a size of 0, withdraws that side. A row that is older than `stale` at the time of the event does not
        count. `exclude` are codes: rows of such a venue are left out, and a row with such a condition withdraws both
        sides of its venue. Each session starts empty.

        Columns: those of the event, in the total order by `on`; bid_px, ask_px: the highest bid and lowest ask;
        bid_sz, ask_sz: the sum of the known sizes at that price, decimal(38,8); bid_venues, ask_venues: who is there
        (an empty text for quotes that name no venue); locked (bid = ask), crossed (bid > ask), false where a side is
        missing. `spread_summary(book="nbbo")` says for how much of the time it was locked and crossed.
        """
        old = None if stale is None else parse_duration(stale, "stale")
        codes = [exclude] if isinstance(exclude, str) else list(exclude)
        quotes = self._engine.quotes(symbol, columns=(*QUOTE_SCAN, "conditions"), **words)

        def make(timeout: float | None) -> pl.DataFrame:
            found = in_order(scanned(quotes, timeout), on, "quotes")
            return nbbo(found, instants(found, on, "quotes"), stale=old, exclude=codes)

        columns = nbbo_columns(quotes.columns)
        return Computed(self._engine.database, make, quotes.snapshots, columns, quotes)

    def spreads(self, symbol: str | Sequence[str] | None = None, *, horizon: Duration = "5m", **words: Any) -> Result:
        """Trades that stand, in total order, with the quote that prevails at each and what the trade cost against it.

        p is the price, b and a the bid and ask, m = (b + a) / 2 the mid, d the `sign` (1: a buyer began the trade, -1:
        a seller, null: not known). Columns: those of the trade (without clock, status, corrects, extra, ts_ingest),
        bid_px, ask_px, bid_sz, ask_sz, and

        - `sign` by the word `sign`: `side` (the venue's own, default), `quote`, `tick` or `lee_ready`, see `signs`; the
          tick test looks back over the trades that are asked for, so a `start` within a session leaves it less
        - `mid` m, decimal(38,9); `quoted_spread` a - b, decimal(38,8)
        - `effective_spread` 2 |p - m| and `signed_effective_spread` 2 d (p - m), decimal(38,8) (SEC Rule 605; Lee 1993)
        - `realised_spread` 2 d (p - m'), m' the mid `horizon` after the trade (Huang and Stoll 1996)
        - `micro_price` (a B + b A) / (B + A), B and A the sizes at bid and ask (Gatheral and Oomen 2010), and
          `imbalance` (B - A) / (B + A), decimal(38,12), rounded half to even
        - `locked` (b = a), `crossed` (b > a): false where a side is missing

        A column is null where a part of its formula is missing: all of them with a one-sided quote, the last two ratios
        where the sizes are unknown or 0 together. A locked spread is 0, a crossed one negative.

        Other words: `venue, session, start, end, hours, as_of, known_at, clock, limit` choose the trades, as in
        `trades`; `on, inclusive, tolerance, sides, book` say which quote prevails, as in `asof`, always of the session
        of the trade and of any hours; `lag` (default `0s`) is how old a quote must be to give a sign. The last quote of
        a session stands at every horizon beyond it.
        """
        return self._beside(symbol, [horizon], "horizon", words, select=spreads, columns=[*TRADE, *QUOTE, *MEASURES])

    def markouts(
        self,
        symbol: str | Sequence[str] | None = None,
        horizons: Sequence[str] = ("1s", "10s", "1m", "5m"),
        **words: Any,
    ) -> Result:
        """Trades that stand with the move of the mid after them, in the direction of the trade: d (m' - m).

        Columns: as `spreads` up to ask_px without the sizes, then `sign`, `mid` and for each of `horizons`
        `markout_<horizon>`, decimal(38,9): m' is the mid of the quote that prevails so long after the trade, in its
        session. Null where the sign is not known or a quote is one-sided. The words are those of `spreads`.
        """
        texts = [horizons] if isinstance(horizons, str) else horizons
        if not texts or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise InvalidParameter("horizons", horizons, "are no lengths of time", 'Write them like ("1s", "1m")')
        texts = list(dict.fromkeys(texts))
        columns = [*TRADE, "bid_px", "ask_px", "sign", "mid", *(f"markout_{text}" for text in texts)]
        return self._beside(symbol, texts, "horizons", words, select=partial(markouts, horizons=texts), columns=columns)

    def spread_summary(
        self,
        symbol: str | Sequence[str] | None = None,
        session: object = None,
        *,
        sides: str = "uncrossed",
        eligible: str = "venue",
        horizon: Duration = "5m",
        **words: Any,
    ) -> Result:
        """Spreads by instrument and session, ordered by (session, venue, symbol).

        Columns: symbol, venue, session; quotes (how many); `time_weighted_spread`: the mean of a - b over the time in
        which it was quoted, each quote standing until the next of the session (the last one has no weight);
        `locked_share`, `crossed_share` of the time with two sides; trades and volume, of those that count;
        `effective_spread`, `realised_spread`: means weighted by size over the trades that have one; eligible (the
        policy that said which trades count, by its rule for volume). Means and shares are decimal(38,12), rounded half
        to even, and null without a weight.

        The means leave crossed quotes out, which auctions are full of, or have them with `sides="two_sided"`. The other
        words are those of `spreads`, without start and end.
        """
        given = [name for name in ("start", "end") if words.get(name) is not None]
        if given:
            raise InvalidParameter(given[0], words[given[0]], "cuts a session", "Use session=, or spreads")
        words = {"session": session, "sides": sides, **words}
        how, trades, quotes = self._words(symbol, [horizon], "horizon", words)
        within = quotes if trades.hours == "all" else self._engine.quotes(symbol, columns=QUOTE_SCAN, **_which(words))

        def make(timeout: float | None) -> pa.Table:
            rows, found = scanned(trades, timeout), scanned(quotes, timeout)
            venues = sorted({*rows["venue"].unique(), *found["venue"].unique()})
            values = Values()
            counts = counting(self._engine.policies(venues, eligible), values, ("volume",))
            standing = how.standing(found if within is quotes else scanned(within, timeout))
            frames = {"k2_trades": how.rows(rows, found), "k2_quotes": standing}
            return self._sql(summary("k2_quotes", "k2_trades", counts, sides), values, timeout, **frames)

        return Computed(self._engine.database, make, pinned(trades, quotes), list(SUMMARY), trades)

    def _beside(
        self,
        symbol: str | Sequence[str] | None,
        horizons: Sequence[Duration],
        named: str,
        words: Mapping[str, Any],
        *,
        select: Callable[[str], str],
        columns: list[str],
    ) -> Result:
        """The rows of `Beside`, and a SELECT over them."""
        how, trades, quotes = self._words(symbol, horizons, named, words)

        def make(timeout: float | None) -> pa.Table:
            rows = how.rows(scanned(trades, timeout), scanned(quotes, timeout))
            return self._sql(select("k2_rows"), Values(), timeout, k2_rows=rows)

        return Computed(self._engine.database, make, pinned(trades, quotes), columns, trades)

    def _words(
        self, symbol: str | Sequence[str] | None, horizons: Sequence[Duration], named: str, words: Mapping[str, Any]
    ) -> tuple[Beside, Result, Result]:
        """How quotes go beside trades, the trades, and the quotes that may prevail at them or `horizons` later."""
        how: dict[str, Any] = {name: words[name] for name in ("on", "inclusive", "book", "sides") if name in words}
        within = words.get("tolerance")
        how["tolerance"] = None if within is None else parse_duration(within, "tolerance")
        after = tuple(parse_duration(length, named) for length in horizons)
        lag = parse_duration(words.get("lag", "0s"), "lag")
        beside = Beside(Prevailing(same_session=True, **how), words.get("sign", "side"), lag, after)
        which = _which(words)
        trades = self._engine.trades(symbol, columns=TRADE_SCAN, **which)
        around = {name: value for name, value in which.items() if name not in {"raw", "limit", "hours"}}
        around |= _around(which.get("start"), which.get("end"), max(after))
        return beside, trades, self._engine.quotes(symbol, columns=QUOTE_SCAN, **around)

    def _sql(self, text: str, values: Values, timeout: float | None, **frames: pl.DataFrame) -> pa.Table:
        tables = {name: partial(arrow, frame) for name, frame in frames.items()}
        return self._engine.database.arrow(Query(text, values.named_in(text), frames=tables), timeout)


_HOW = ("on", "inclusive", "tolerance", "book", "sides", "sign", "lag")
"""The words that say which quote goes beside a trade; the others choose the trades."""


def _which(words: Mapping[str, Any]) -> dict[str, Any]:
    """The words that choose the trades."""
    return {name: value for name, value in words.items() if name not in _HOW}


def _around(start: object, end: object, after: int) -> dict[str, object]:
    """The range of the quotes for trades from `start` to `end`: from a session before it until so many ns after.

    A session's date is at most a day from the date in UTC.
    """
    found: dict[str, object] = {}
    if start is not None:
        first = parse_bound(start, "start")
        found["start"] = from_ns(first).date() - timedelta(days=1) if isinstance(first, int) else first
    if end is not None:
        last = parse_bound(end, "end")
        found["end"] = from_ns(last + after + 1_999) if isinstance(last, int) else last
    return found
