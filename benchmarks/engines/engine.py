"""What a contender is: one way to keep trades in a store of its own and to ask for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from benchmarks import data

COLUMNS = (*data.TYPES, "session")
"""What a question for rows is answered with: the columns of the CSV, and the session."""

ORDER = ("ts_event", "venue", "symbol", "sequence")
BATCH = 65_536


@dataclass(frozen=True)
class Scope:
    """What is asked for: an instrument, one of its sessions, and a part of that, `[start, end)`."""

    symbol: str
    session: date
    start: datetime
    end: datetime


class Engine(ABC):
    """Every answer is an Arrow table or a Polars frame: trades that stand, in order of time and sequence.

    Bars have symbol, session, ts_open (of bars within a session), open, high, low, close, volume, notional, vwap and
    n_trades.
    """

    packages: ClassVar[tuple[str, ...]]
    """Whose versions are reported."""

    cannot: ClassVar[Mapping[str, str]] = {}
    """The stages that it has nothing for, and why."""

    def __init__(self, store: Path) -> None:
        """Open the store, a folder."""
        self.store = store
        store.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def load(self, csv: Path) -> None:
        """A large file into the empty store, laid out for the questions."""

    @abstractmethod
    def append(self, csv: Path) -> None:
        """A small file more, seen by whoever asks next."""

    @abstractmethod
    def minute(self, scope: Scope) -> Any:
        """The trades of the instrument from start to end, with `COLUMNS`."""

    @abstractmethod
    def day(self, scope: Scope) -> Any:
        """Those of its session."""

    @abstractmethod
    def bars(self, scope: Scope) -> Any:
        """1-minute bars of its session."""

    @abstractmethod
    def daily(self) -> Any:
        """A bar for each instrument and session."""

    @abstractmethod
    def replay(self) -> Iterator[Any]:
        """Every trade in `ORDER`, in batches."""

    def join(self, trades: pa.Table, quotes: pa.Table) -> Callable[[], Any]:
        """A call that gives each trade with the quote that prevails, both held in memory."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Put on disk what is not there yet."""
