"""`Summary`: one instrument's session in one record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from k2kernel.html import facts, record


@dataclass(frozen=True)
class Summary:
    """A session of one instrument, of the trades that count by the policy `eligible` within `hours` of trading; `notes`
    say what is unsure about the hours, a sentence each. `unknown_conditions` are codes of its trades that the policy
    does not list, so that they keep no trade from counting.

    Prices and sums are exact decimals, `vwap` is rounded half to even at twelve. `first` and `last` are the UTC times
    of the first and last trade. Without trades `trade_count` is 0 and prices, sums and times are None; `quote_count`
    then says how many quotes there are (None: they were not counted, because there are trades). Of an instrument that
    has no trades at all, `of` is `mid`: prices and times are then those of its quotes. With an `adjustment` prices are
    rounded at twelve decimals, too.
    """

    symbol: str
    venue: str
    session: date
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    volume: Decimal | None = None
    notional: Decimal | None = None
    vwap: Decimal | None = None
    trade_count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    eligible: str = "all"
    snapshot_id: int | None = None
    quote_count: int | None = None
    hours: str = "all"
    notes: tuple[str, ...] = ()
    unknown_conditions: tuple[str, ...] = ()
    of: str = "trades"
    adjustment: str = "raw"

    def _repr_html_(self) -> str:
        return record(facts(self), f"{self.symbol} on {self.venue}, {self.session}")

    @classmethod
    def of_bar(cls, bar: dict[str, Any], of: str, snapshot_id: int | None, **said: Any) -> Summary:
        """The summary from a session's bar with `first` and `last`."""
        names = ("symbol", "venue", "session", "open", "high", "low", "close", "volume", "notional", "vwap")
        taken = {name: bar[name] for name in (*names, "first", "last", "eligible")}
        trades, quotes = bar["n_trades"] or 0, bar.get("n_quotes")
        return cls(**taken, trade_count=trades, snapshot_id=snapshot_id, quote_count=quotes, of=of, **said)
