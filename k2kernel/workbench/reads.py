"""`Reads`: the read verbs, which a `Workbench` answers at the newest state and a `View` at its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from k2kernel.cached import cached_property
from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.times import AsOfLike
from k2kernel.workbench.asked import asked

if TYPE_CHECKING:
    from k2kernel.quality import Quality
    from k2kernel.query import Joins, QueryEngine, Result, Summary
    from k2kernel.query.computed import Rows
    from k2kernel.replay import Follow, Replay, ReplayEngine
    from k2kernel.workbench.trace import Trace

Symbols = str | Sequence[str] | None


class Reads:
    """What can be asked of a lake. The words of each verb are those of the engine's verb that its text names."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def lake(self) -> Lake:
        """The lake; `LakeNotFound` where there is none."""
        return Lake.open(self.settings)

    @cached_property
    def engine(self) -> QueryEngine:
        """The query engine over the lake."""
        from k2kernel.query import QueryEngine

        return QueryEngine(self.lake)

    @cached_property
    def replays(self) -> ReplayEngine:
        """The replay engine over the lake."""
        from k2kernel.replay import ReplayEngine

        return ReplayEngine(self.lake)

    def _state(self, as_of: AsOfLike) -> AsOfLike:
        """The state that a verb reads when it is given `as_of`."""
        return as_of

    def _words(self, words: dict[str, Any]) -> dict[str, Any]:
        return {**words, "as_of": self._state(words.get("as_of"))}

    @asked
    def trades(self, symbol: Symbols = None, **words: Any) -> Result:
        """Trades in total order; see `QueryEngine.trades` for the words.

        With `tail=True` also those that are in Kafka and not in the table yet; see `k2kernel.streaming.read_tail`.
        """
        return self._events("trades", symbol, **self._words(words))

    @asked
    def quotes(self, symbol: Symbols = None, **words: Any) -> Result:
        """Quotes in total order; see `QueryEngine.quotes` for the words.

        With `tail=True` also those that are in Kafka and not in the table yet; see `k2kernel.streaming.read_tail`.
        """
        return self._events("quotes", symbol, **self._words(words))

    def _events(self, table: str, symbol: Symbols, *, tail: bool | Sequence[str] = False, **words: Any) -> Result:
        if tail:
            from k2kernel.streaming import read_tail

            return read_tail(self.lake, table, symbol, tail, words)
        read = self.engine.trades if table == "trades" else self.engine.quotes
        return read(symbol, **words)

    @asked
    def bars(self, symbol: Symbols = None, interval: str = "1m", **words: Any) -> Result:
        """Bars; see `QueryEngine.bars` for the words."""
        return self.engine.bars(symbol, interval, **self._words(words))

    def summary(self, symbol: str, session: object, **words: Any) -> Summary:
        """One session of one instrument; see `QueryEngine.summary` for the words."""
        return self.engine.summary(symbol, session, **self._words(words))

    @cached_property
    def joins(self) -> Joins:
        """The verbs that put trades beside quotes."""
        from k2kernel.query import Joins

        return Joins(self.engine)

    def asof(self, left: Rows, right: Rows, **words: Any) -> Result:
        """Each row of `left` with the row of `right` that prevails at its time; see `Joins.asof` for the words."""
        return self.joins.asof(left, right, **words)

    @asked
    def nbbo(self, symbol: Symbols = None, **words: Any) -> Result:
        """The best bid and offer over the venues that quote; see `Joins.nbbo` for the words."""
        return self.joins.nbbo(symbol, **self._words(words))

    @asked
    def spreads(self, symbol: Symbols = None, **words: Any) -> Result:
        """Trades with the quote that prevails and what they cost; see `Joins.spreads` for the words."""
        return self.joins.spreads(symbol, **self._words(words))

    @asked
    def spread_summary(self, symbol: Symbols = None, session: object = None, **words: Any) -> Result:
        """Spreads by instrument and session; see `Joins.spread_summary` for the words."""
        return self.joins.spread_summary(symbol, session, **self._words(words))

    @asked
    def markouts(
        self, symbol: Symbols = None, horizons: Sequence[str] = ("1s", "10s", "1m", "5m"), **words: Any
    ) -> Result:
        """Trades with the move of the mid after them; see `Joins.markouts` for the words."""
        return self.joins.markouts(symbol, horizons, **self._words(words))

    @asked
    def turnover(self, symbol: Symbols = None, **words: Any) -> Result:
        """The money of trades by instrument and session, per currency; see `k2kernel.query.money.turnover`."""
        from k2kernel.query.money import turnover

        return turnover(self.engine, symbol, **self._words(words))

    def quality(self, symbol: Symbols = None, **words: Any) -> Quality:
        """What is missing, out of order or out of line, by instrument and session; see `k2kernel.quality.quality`."""
        from k2kernel.quality import quality

        return quality(self.engine, symbol, **self._words(words))

    @asked
    def sql(
        self,
        text: str,
        params: Mapping[str, object] | Sequence[object] | None = None,
        as_of: AsOfLike = None,
        **words: Any,
    ) -> Result:
        """One read-only statement over the lake's tables; `$name` is bound from `params`, and a table with its own
        FOR VERSION AS OF is read at that; see `QueryEngine.sql`.
        """
        return self.engine.sql(text, params, self._state(as_of), **words)

    @overload
    def replay(
        self, symbols: Symbols = ..., kinds: Sequence[str] = ..., *, follow: Literal[True] | list[str], **words: Any
    ) -> Follow: ...

    @overload
    def replay(self, symbols: Symbols = ..., kinds: Sequence[str] = ..., **words: Any) -> Replay: ...

    def replay(
        self,
        symbols: Symbols = None,
        kinds: Sequence[str] = ("trades", "quotes"),
        *,
        follow: bool | Sequence[str] = False,
        **words: Any,
    ) -> Replay | Follow:
        """History as one ordered, pinned, resumable stream; see `ReplayEngine.replay` for the words.

        With `follow` it goes on with what arrives in the topics, from the offsets where the tables end; see `Follow`.
        Symbols that have no row yet are then waited for, where `venue` says whose they are.
        """
        history = self.replays.replay(symbols, kinds, **self._words(words), expected=bool(follow))
        if not follow:
            return history
        from k2kernel.replay import Follow
        from k2kernel.streaming import services

        topics = None if follow is True else list(follow)
        return Follow(history, self.lake, services(self.settings), topics, self._words(words))

    @asked
    def symbols(self, as_of: AsOfLike = None, **words: Any) -> Result:
        """The instruments, with rows and days of each."""
        return self.engine.symbols(self._state(as_of), **words)

    @asked
    def sessions(self, as_of: AsOfLike = None, **words: Any) -> Result:
        """The sessions of each venue, with rows of each."""
        return self.engine.sessions(self._state(as_of), **words)

    @asked
    def stats(self, as_of: AsOfLike = None) -> Result:
        """One row a table: rows, bytes, files, range, snapshot."""
        return self.engine.stats(self._state(as_of))

    def trace(self, table: str, source: str, source_offset: int) -> Trace:
        """The line, the file and the load that a row of trades, quotes or dead_letter came from; see `Trace`."""
        from k2kernel.times import parse_as_of
        from k2kernel.workbench.trace import trace

        state = self.lake.resolve(table, parse_as_of(self._state(None)))
        return trace(self.lake, table, source, source_offset, state)
