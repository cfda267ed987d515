"""`Store`: what pages show, read from one state of the lake and kept by its snapshot ids. It knows nothing of pages."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from k2kernel import Summary, Workbench
from k2kernel.cached import cached_property
from k2kernel.errors import NotFound
from panel_apps.api.keys import Key

T = TypeVar("T")
Row = dict[str, Any]

_KEPT = 256
"""Small results that are kept."""

_FRESH_S = 1.0
"""How long the newest state is taken for the newest without looking."""

_DAYS = 20
"""Sessions of the universe's small charts."""

TABLES = ("trades", "quotes", "instruments", "corporate_actions", "dead_letter", "ingest_log")


@dataclass(frozen=True)
class Moment:
    """One commit: when it was made (UTC), of which table, its snapshot id, what it did, and the names that it has."""

    at: datetime
    table: str
    snapshot_id: int
    operation: str
    rows_added: int
    rows_total: int
    source: str
    tags: tuple[str, ...]


class Store:
    """One workbench for every visitor, and the results that they share."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._newest: tuple[float, dict[str, int | None]] = (0.0, {})

    def kept(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` makes, from memory where it was made before; a key names the snapshots that it is of."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def newest(self) -> dict[str, int | None]:
        """The current snapshot of each table."""
        read_at, states = self._newest
        if time.monotonic() - read_at > _FRESH_S:
            states = dict(self.bench.at(None).states)
            self._newest = (time.monotonic(), states)
        return states

    def moments(self) -> list[Moment]:
        """Every commit of trades and quotes that the current states are built on, oldest first."""
        found = []
        for table in ("trades", "quotes"):
            for state in self.bench.snapshots(table):
                if state.is_current_ancestor:
                    told = state.operation, state.rows_added, state.rows_total, state.source, state.tags
                    found.append(Moment(state.committed_at, table, state.id, *told))
        return sorted(found, key=lambda moment: (moment.at, moment.table))

    def states(self, as_of: str) -> dict[str, int]:
        """The snapshot of each table at `as_of`; empty text is now. Tables that had none then are left out."""
        if not as_of:
            return {table: found for table, found in self.newest().items() if found is not None}
        moment = next((each for each in self.moments() if str(each.snapshot_id) == as_of), None)
        reference = as_of if moment is None else moment.at.isoformat()
        found = {table: pin for table, pin in self.bench.at(reference).states.items() if pin is not None}
        return found if moment is None else found | {moment.table: moment.snapshot_id}


@dataclass(frozen=True)
class Desk:
    """What one visitor looks at: an instrument and a session at one state of the lake, with the words of the reads."""

    store: Store
    key: Key
    states: Mapping[str, int]
    venue: str
    symbol: str
    session: str
    interval: str = "5m"
    hours: str = "all"
    eligible: str = "venue"
    adjustment: str = "raw"
    zone: str = "venue"

    def __post_init__(self) -> None:
        """What others have read is kept, so the key is looked at before anything is asked."""
        self.key.check(dict.fromkeys(("trades", "quotes")))

    @cached_property
    def view(self) -> Any:
        """The read verbs at the state."""
        return self.store.bench.at(dict(self.states))

    def kept(self, what: str, make: Callable[[], T], *words: Any) -> T:
        """Something of the state that is kept."""
        return self.store.kept((what, *sorted(self.states.items()), *words), make)

    @property
    def words(self) -> dict[str, Any]:
        """The words that choose the rows of trades and quotes."""
        return {"venue": self.venue, "session": self.session, "hours": self.hours}

    @property
    def _of(self) -> tuple[Any, ...]:
        return self.venue, self.symbol, self.session, self.hours, self.eligible, self.adjustment

    @cached_property
    def instruments(self) -> list[Row]:
        """Symbol, venue, rows and sessions of every instrument."""
        return self.kept("instruments", lambda: self.view.symbols().to_arrow().to_pylist())

    @cached_property
    def sessions(self) -> list[Row]:
        """Session, venue and rows of every session."""
        return self.kept("sessions", lambda: self.view.sessions().to_arrow().to_pylist())

    @cached_property
    def has_trades(self) -> bool:
        """Whether the instrument has trades at all."""
        mine = (row["trades"] for row in self.instruments if (row["venue"], row["symbol"]) == (self.venue, self.symbol))
        return any(mine)

    @property
    def table(self) -> str:
        """Trades, or quotes where the instrument has none."""
        return "trades" if self.has_trades else "quotes"

    @cached_property
    def venue_zone(self) -> str:
        """The zone of the venue."""
        found = getattr(self.view, self.table)(self.symbol, venue=self.venue, limit=1).zone
        return found or "UTC"

    def days(self, venue: str) -> list[str]:
        """The sessions of a venue, oldest first."""
        return sorted({str(row["session"]) for row in self.sessions if row["venue"] == venue})

    def symbols(self, venue: str) -> list[str]:
        """The symbols of a venue."""
        return sorted(row["symbol"] for row in self.instruments if row["venue"] == venue)

    @property
    def last_day(self) -> str:
        """The last session that is looked at."""
        return self.session.rpartition("..")[2]

    def summary(self) -> Summary | None:
        """The last session of the instrument in figures; None where it has no row."""
        words = {"venue": self.venue, "hours": self.hours, "eligible": self.eligible}

        def make() -> Summary | None:
            try:
                found: Summary = self.view.summary(self.symbol, self.last_day, **words)
            except NotFound:
                return None
            return found

        return self.kept("summary", make, *self._of)

    def universe(self) -> list[Row]:
        """Each instrument: its last session up to the one looked at, with close, change, volume and events.

        `days` are session, close and volume of that one and those before it. `change` is close / the close before - 1,
        None where there is none, or that was not above zero.
        """
        return self.kept(
            "universe",
            lambda: [row for venue in self._venues for row in self._traded(venue)],
            *(self.last_day, self.hours, self.eligible),
        )

    @property
    def _venues(self) -> list[str]:
        return sorted({row["venue"] for row in self.instruments})

    def _traded(self, venue: str) -> list[Row]:
        days = self.days(venue)
        upto = [day for day in days if day <= self.last_day] or days
        span = f"{upto[max(0, len(upto) - _DAYS)]}..{upto[-1]}"
        bars: list[Row] = []
        for of, table, count in (("trades", "trades", "n_trades"), ("mid", "quotes", "n_quotes")):
            if table in self.states:
                columns = ["symbol", "session", "close", "volume", count]
                words = {"of": of, "venue": venue, "session": span, "hours": self.hours, "eligible": self.eligible}
                found = self.view.bars(None, "session", **words, columns=columns)
                bars += [{**row, "of": of} for row in found.to_arrow().to_pylist()]
        symbols = sorted({row["symbol"] for row in bars})
        return [_instrument(venue, symbol, [row for row in bars if row["symbol"] == symbol]) for symbol in symbols]

    def book(self) -> Row | None:
        """The last quote of both sides in the sessions that are looked at; None where there is none."""

        def make() -> Row | None:
            found = self.view.quotes(self.symbol, **self.words, limit=200, descending=True).to_arrow().to_pylist()
            both = (row for row in found if row["bid_px"] is not None and row["ask_px"] is not None)
            return next(both, None)

        return None if "quotes" not in self.states else self.kept("book", make, *self._of)

    def events(self, kind: str, limit: int, after: Any = None, *, latest: bool = True, raw: bool = False) -> Any:
        """A page of trades or quotes, the latest first unless told; `after` is the key of the page before."""
        adjusted = {"adjustment": self.adjustment} if kind == "trades" else {}
        read = getattr(self.view, kind)
        return read(self.symbol, **self.words, raw=raw, descending=latest, **adjusted).page(limit, after)

    def history(self, row: Row) -> list[Row]:
        """Everything received about a fill, oldest first: itself, and the cancels and corrections that name it."""
        name = row.get("corrects") or row.get("trade_id")
        if name is None or "status" not in row:
            return []
        text = (
            "SELECT ts_event, ts_ingest, status, trade_id, corrects, price, size, source_offset FROM trades_raw "
            "WHERE symbol = $symbol AND venue = $venue AND session = $session "
            "AND (trade_id = $name OR corrects = $name) "
            "ORDER BY ts_ingest, sequence, source_offset"
        )
        words = {"symbol": row["symbol"], "venue": row["venue"], "session": row["session"], "name": name}
        found: list[Row] = self.view.sql(text, words).to_arrow().to_pylist()
        return found


def _instrument(venue: str, symbol: str, bars: Sequence[Row]) -> Row:
    """A line of the universe, of trades where there are some."""
    of = "trades" if any(row["of"] == "trades" for row in bars) else "mid"
    mine = sorted((row for row in bars if row["of"] == of and row["close"] is not None), key=lambda row: row["session"])
    last, before = (mine[-1] if mine else {}), (mine[-2]["close"] if len(mine) > 1 else None)
    close = last.get("close")
    return {
        "venue": venue,
        "symbol": symbol,
        "session": last.get("session"),
        "close": close,
        "change": move(before, close),
        "volume": last.get("volume"),
        "events": last.get("n_trades") if of == "trades" else last.get("n_quotes"),
        "of": of,
        "days": [(row["session"], row["close"], row.get("volume")) for row in mine],
    }


def move(before: Decimal | None, close: Decimal | None) -> Decimal | None:
    """Close / before - 1; None where one is missing, or where before is not above zero: it would have no meaning."""
    return close / before - 1 if close is not None and before is not None and before > 0 else None


def imbalance(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    """(bid size - ask size) / (bid size + ask size), None where a size is missing or nothing is there."""
    if bid is None or ask is None or bid + ask == 0:
        return None
    return (bid - ask) / (bid + ask)


def chosen(desk_days: Sequence[str], session: str) -> str:
    """The session that is asked for where there is such a one, or a range of them; else the last."""
    if session in desk_days:
        return session
    first, _, last = session.partition("..")
    if last and _is_day(first) and _is_day(last) and any(first <= day <= last for day in desk_days):
        return session
    return desk_days[-1] if desk_days else ""


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
