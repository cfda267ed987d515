"""k2kernel: the workbench as its user has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

import k2kernel as k2
from benchmarks import data
from benchmarks.engines.engine import COLUMNS, Engine, Scope


class Ours(Engine):
    """A lake."""

    packages = ("k2kernel",)

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self._bench = k2.connect(store)

    def load(self, csv: Path) -> None:
        self._bench.ingest(csv, profile=data.PROFILE)

    append = load

    def minute(self, scope: Scope) -> Any:
        words = {"start": scope.start, "end": scope.end, "columns": COLUMNS}
        return self._bench.trades(scope.symbol, **words).to_arrow()

    def day(self, scope: Scope) -> Any:
        return self._bench.trades(scope.symbol, session=scope.session, columns=COLUMNS).to_arrow()

    def bars(self, scope: Scope) -> Any:
        return self._bench.bars(scope.symbol, "1m", session=scope.session, eligible="all").to_arrow()

    def daily(self) -> Any:
        return self._bench.bars(None, "1d", eligible="all").to_arrow()

    def replay(self) -> Iterator[Any]:
        return iter(self._bench.replay(kinds=("trades",)).batches())

    def join(self, trades: pa.Table, quotes: pa.Table) -> Callable[[], Any]:
        left, right = pl.DataFrame(trades), pl.DataFrame(quotes)
        bench = self._bench.init()
        return lambda: bench.asof(left, right).to_polars()
