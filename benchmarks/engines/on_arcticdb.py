"""ArcticDB, an item for each instrument; without decimals and lists, so prices are floats and conditions text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, ClassVar

import arcticdb as adb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import data
from benchmarks.engines.engine import BATCH, COLUMNS, ORDER, Engine, Scope
from benchmarks.engines.on_polars import read

_FIGURES = {
    "open": ("price", "first"),
    "high": ("price", "max"),
    "low": ("price", "min"),
    "close": ("price", "last"),
    "volume": ("size", "sum"),
    "notional": ("notional", "sum"),
    "n_trades": ("price", "count"),
}
_DAY = timedelta(days=1)


class Arctic(Engine):
    """A library on LMDB. What it is given is pandas, the input of this version; its answers are Arrow."""

    packages = ("arcticdb",)
    cannot: ClassVar = {"join": "it reads and writes items; one joins them in pandas or Polars"}

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        place = adb.Arctic(f"lmdb://{store}?map_size=50GB", output_format=adb.OutputFormat.PYARROW)
        self._library = place.get_library("trades", create_if_missing=True)

    def load(self, csv: Path) -> None:
        """Converted item by item: as pandas, the whole takes several times the memory."""
        items = _frame(csv).partition_by("symbol", as_dict=True)
        self._library.write_batch([adb.WritePayload(name, _indexed(rows)) for (name,), rows in items.items()])

    def append(self, csv: Path) -> None:
        items = _indexed(_frame(csv)).groupby("symbol")
        self._library.append_batch([adb.WritePayload(name, rows) for name, rows in items])

    def minute(self, scope: Scope) -> Any:
        return self._rows(scope.symbol, scope.start, scope.end)

    def day(self, scope: Scope) -> Any:
        start = datetime.combine(scope.session, time(), UTC)
        return self._rows(scope.symbol, start, start + _DAY)

    def bars(self, scope: Scope) -> Any:
        start = datetime.combine(scope.session, time(), UTC)
        found = self._library.read(
            scope.symbol, date_range=_within(start, start + _DAY), query_builder=_resampled("1min")
        )
        return _bars(found.data, scope.symbol)

    def daily(self) -> Any:
        asked = self._library.list_symbols()
        found = self._library.read_batch(asked, query_builder=_resampled("1D"))
        return pa.concat_tables(_bars(one.data, one.symbol) for one in found)

    def replay(self) -> Iterator[Any]:
        """By sessions, which Polars sorts: the library reads items, and merges none."""
        asked = self._library.list_symbols()
        for session in data.SESSIONS:
            start = datetime.combine(session, time(), UTC)
            within = _within(start, start + _DAY)
            wanted = [adb.ReadRequest(name, date_range=within, query_builder=_standing()) for name in asked]
            found = self._library.read_batch(wanted, output_format=adb.OutputFormat.POLARS)
            yield from pl.concat([one.data for one in found]).sort(ORDER).iter_slices(BATCH)

    def _rows(self, symbol: str, start: datetime, end: datetime) -> pa.Table:
        found = self._library.read(symbol, date_range=_within(start, end), query_builder=_standing())
        return found.data.select(COLUMNS)


def _frame(csv: Path) -> pl.DataFrame:
    text = pl.col("conditions").list.join(";")
    return read(csv).with_columns(pl.col("price", "size").cast(pl.Float64), text).collect()


def _indexed(rows: pl.DataFrame) -> pd.DataFrame:
    return rows.to_pandas().set_index("ts_event")


def _within(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """A range of ArcticDB holds both its ends."""
    return start, end - timedelta(microseconds=1)


def _standing() -> adb.QueryBuilder:
    query = adb.QueryBuilder()
    return query[query["status"].isnull()]


def _resampled(rule: str) -> adb.QueryBuilder:
    query = _standing()
    return query.apply("notional", query["price"] * query["size"]).resample(rule).agg(_FIGURES)


def _bars(found: pa.Table, symbol: str) -> pa.Table:
    """Sessions of this data lie within a day of UTC."""
    opens = found["ts_event"]
    return (
        found.append_column("symbol", pa.array([symbol] * len(found)))
        .append_column("session", pc.cast(opens, pa.date32()))
        .append_column("ts_open", opens)
        .append_column("vwap", pc.divide(found["notional"], found["volume"]))
    )
