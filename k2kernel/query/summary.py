"""`Summary`: one instrument's session in one record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from k2kernel.calendars import venues
from k2kernel.html import figure, table
from k2kernel.query.hours import SPOKEN

_FIGURES = ("open", "high", "low", "close", "volume", "notional", "vwap", "trade_count", "quote_count")


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
        figures = {name: getattr(self, name) for name in _FIGURES if getattr(self, name) is not None}
        cells = [figure(name, value) for name, value in figures.items()]
        title = f"{self.symbol} on {self.venue}, {self.session}"
        return table(list(figures), [cells], title=title, numbers=[True] * len(cells), below=self._said())

    def _said(self) -> list[str]:
        """What the figures are of, and in venue time when it traded first and last."""
        known = venues().get(self.venue)
        zone = "UTC" if known is None else known.zone
        ends = [f"{each.astimezone(ZoneInfo(zone)):%H:%M:%S}" for each in (self.first, self.last) if each is not None]
        said = [f"of {self.of}", f"policy {self.eligible}", SPOKEN[self.hours], f"{self.adjustment} prices"]
        said += [f"{' to '.join(ends)} {zone}"] if ends else []
        said += [f"{'quotes' if self.of == 'mid' else self.of} at {self.snapshot_id}"]
        unknown = [f"conditions that the policy does not list: {', '.join(self.unknown_conditions)}"]
        return [" · ".join(said), *self.notes, *(unknown if self.unknown_conditions else [])]

    @classmethod
    def of_bar(cls, bar: dict[str, Any], of: str, snapshot_id: int | None, **said: Any) -> Summary:
        """The summary from a session's bar with `first` and `last`."""
        names = ("symbol", "venue", "session", "open", "high", "low", "close", "volume", "notional", "vwap")
        taken = {name: bar[name] for name in (*names, "first", "last", "eligible")}
        trades, quotes = bar["n_trades"] or 0, bar.get("n_quotes")
        return cls(**taken, trade_count=trades, snapshot_id=snapshot_id, quote_count=quotes, of=of, **said)
