"""What a replay delivers: trades, quotes, bars and control records, as light immutable rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from k2kernel.times import from_ns


class Trade(NamedTuple):
    """One row of `trades`. Times are ns since 1970 UTC; prices and sizes are exact; None where the source has none.

    `ts_event_ns` is the event's instant in ns, from `ts_event` where the source has no ns.
    """

    symbol: str
    venue: str
    session: date
    ts_event_ns: int
    ts_recv_ns: int | None
    sequence: int
    price: Decimal | None
    size: Decimal | None
    side: str | None
    conditions: tuple[str, ...] | None
    trade_id: str | None
    status: str | None
    corrects: str | None
    exec_venue: str | None
    clock: str
    extra: str | None
    ts_ingest_ns: int
    source: str
    source_offset: int

    @property
    def kind(self) -> str:
        """`trades`."""
        return "trades"

    @property
    def ts_event(self) -> datetime:
        """When it happened at the venue, UTC, floored to a microsecond."""
        return from_ns(self.ts_event_ns)

    @property
    def ts_recv(self) -> datetime | None:
        """When it was captured, by the recorder's clock, UTC."""
        return None if self.ts_recv_ns is None else from_ns(self.ts_recv_ns)


class Quote(NamedTuple):
    """One row of `quotes`, as `Trade`; a missing side or size is None."""

    symbol: str
    venue: str
    session: date
    ts_event_ns: int
    ts_recv_ns: int | None
    sequence: int
    bid_px: Decimal | None
    ask_px: Decimal | None
    bid_sz: Decimal | None
    ask_sz: Decimal | None
    conditions: tuple[str, ...] | None
    exec_venue: str | None
    clock: str
    extra: str | None
    ts_ingest_ns: int
    source: str
    source_offset: int

    @property
    def kind(self) -> str:
        """`quotes`."""
        return "quotes"

    @property
    def ts_event(self) -> datetime:
        """When it happened at the venue, UTC, floored to a microsecond."""
        return from_ns(self.ts_event_ns)

    @property
    def ts_recv(self) -> datetime | None:
        """When it was captured, by the recorder's clock, UTC."""
        return None if self.ts_recv_ns is None else from_ns(self.ts_recv_ns)


class Bar(NamedTuple):
    """A bar that is over: every column of `bars`, and `ts_close_ns`, the first instant (ns) by which it is over: the
    end of its bucket, or of a bar by amount the next bar's first trade (the session's end where there is none).
    """

    symbol: str
    venue: str
    session: date
    ts_open: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    notional: Decimal | None
    vwap: Decimal | None
    twap: Decimal | None
    n_trades: int | None
    is_partial: bool
    is_incomplete: bool
    first_sequence: int
    last_sequence: int
    eligible: str
    ts_close_ns: int
    n_quotes: int | None = None
    mean_spread: Decimal | None = None
    time_weighted_spread: Decimal | None = None


@dataclass(frozen=True)
class Control:
    """Something that a consumer must know and that is no event.

    - `session_open`: the next event is the first of `session` at `venue` (details: resumed, true where the replay
      began inside it); `session_close`: the event before was the last one.
    - `gap`: sequence numbers jump (details: kind, source, symbol, expected, found).
    - `dropped`: events that a slow consumer did not get (details: count, first_ns, last_ns).
    - `caught_up`: history is over, what follows arrives now (details: events, snapshots, offsets by topic/partition).
    - `replay_completed`: there are no more events (details: events, digest, snapshots).

    `ts_ns` is the instant, in ns on the replay's clock, of the event that the record is about.
    """

    name: str
    ts_ns: int | None = None
    venue: str | None = None
    session: date | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        plain = asdict(self) | {"session": None if self.session is None else self.session.isoformat()}
        return {"control": plain.pop("name"), **plain}


Event = Trade | Quote
Record = Trade | Quote | Bar | Control
