"""`View`: the read verbs at one state of the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter
from k2kernel.html import Listing
from k2kernel.times import AsOf, AsOfLike, parse_as_of

if TYPE_CHECKING:
    from k2kernel.lake import Lake, Snapshot
    from k2kernel.quality import Quality
    from k2kernel.query import Joins, QueryEngine, Result, Summary
    from k2kernel.query.computed import Rows
    from k2kernel.replay import Replay, ReplayEngine


class View:
    """The lake as it was at `as_of`, settled when the view is made.

    What is written, tagged or rolled back later changes none of its answers, as long as those snapshots are kept.

    `states` says which snapshot of each table it reads (None: the table had none); reading a table that is not there is
    the error that `as_of` gives for it.
    """

    def __init__(self, lake: Lake, engine: QueryEngine, replays: ReplayEngine, as_of: AsOfLike = None) -> None:
        self._lake, self._engine, self._replays = lake, engine, replays
        self._as_of: AsOf = lake.states(parse_as_of(as_of))
        self.states: dict[str, int | None] = dict(self._as_of.states)

    def __repr__(self) -> str:
        states = ", ".join(f"{table} at {found}" for table, found in self.states.items() if found is not None)
        return f"View({states or 'no snapshot'})"

    def at(self, as_of: AsOfLike) -> View:
        """A view of another state of the same lake."""
        return View(self._lake, self._engine, self._replays, as_of)

    def trades(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """Trades in total order; see `QueryEngine.trades` for the words."""
        return self._engine.trades(symbol, **self._pinned(words))

    def quotes(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """Quotes in total order; see `QueryEngine.quotes` for the words."""
        return self._engine.quotes(symbol, **self._pinned(words))

    def bars(self, symbol: str | Sequence[str] | None = None, interval: str = "1m", **words: Any) -> Result:
        """Bars; see `QueryEngine.bars` for the words."""
        return self._engine.bars(symbol, interval, **self._pinned(words))

    def summary(self, symbol: str, session: object, **words: Any) -> Summary:
        """One session of one instrument; see `QueryEngine.summary` for the words."""
        return self._engine.summary(symbol, session, **self._pinned(words))

    def asof(self, left: Rows, right: Rows, **words: Any) -> Result:
        """Each row of `left` with the row of `right` that prevails at its time; see `Joins.asof` for the words."""
        return self._joins.asof(left, right, **words)

    def nbbo(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """The best bid and offer over the venues that quote; see `Joins.nbbo` for the words."""
        return self._joins.nbbo(symbol, **self._pinned(words))

    def spreads(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """Trades with the quote that prevails and what they cost; see `Joins.spreads` for the words."""
        return self._joins.spreads(symbol, **self._pinned(words))

    def spread_summary(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """Spreads by instrument and session; see `Joins.spread_summary` for the words."""
        return self._joins.spread_summary(symbol, **self._pinned(words))

    def markouts(
        self,
        symbol: str | Sequence[str] | None = None,
        horizons: Sequence[str] = ("1s", "10s", "1m", "5m"),
        **words: Any,
    ) -> Result:
        """Trades with the move of the mid after them; see `Joins.markouts` for the words."""
        return self._joins.markouts(symbol, horizons, **self._pinned(words))

    def turnover(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Result:
        """The money of trades by instrument and session, per currency; see `k2kernel.query.money.turnover`."""
        from k2kernel.query.money import turnover

        return turnover(self._engine, symbol, **self._pinned(words))

    def quality(self, symbol: str | Sequence[str] | None = None, **words: Any) -> Quality:
        """What is missing, out of order or out of line; see `k2kernel.quality.quality`."""
        from k2kernel.quality import quality

        return quality(self._engine, symbol, **self._pinned(words))

    def sql(self, text: str, params: Mapping[str, object] | Sequence[object] | None = None, **words: Any) -> Result:
        """One read-only statement; a table with its own FOR VERSION AS OF is read at that."""
        return self._engine.sql(text, params, **self._pinned(words))

    def replay(self, symbols: str | Sequence[str] | None = None, **words: Any) -> Replay:
        """History as a stream; see `ReplayEngine.replay` for the words."""
        return self._replays.replay(symbols, **self._pinned(words))

    def symbols(self, **words: Any) -> Result:
        """The instruments, with rows and days of each."""
        return self._engine.symbols(**self._pinned(words))

    def sessions(self, **words: Any) -> Result:
        """The sessions of each venue, with rows of each."""
        return self._engine.sessions(**self._pinned(words))

    def stats(self) -> Result:
        """One row a table: rows, bytes, files, range, snapshot."""
        return self._engine.stats(self._as_of)

    def snapshots(self, table: str = "trades") -> list[Snapshot]:
        """The kept states of a table that this one is built on, newest first, itself included."""
        state = self._lake.resolve(table, self._as_of)
        line = [] if state is None else self._lake.ancestors(table, state)
        kept = {snapshot.snapshot_id for snapshot in line}
        return Listing(snapshot for snapshot in self._lake.snapshots(table) if snapshot.id in kept)

    @property
    def _joins(self) -> Joins:
        from k2kernel.query import Joins

        return Joins(self._engine)

    def _pinned(self, words: dict[str, Any]) -> dict[str, Any]:
        if "as_of" in words:
            raise InvalidParameter("as_of", words["as_of"], "is given to a view that is pinned", "Use at(as_of)")
        return {**words, "as_of": self._as_of}
