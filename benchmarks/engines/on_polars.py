"""Polars by hand, over Parquet files, a folder a session."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from benchmarks import data
from benchmarks.engines.engine import BATCH, COLUMNS, ORDER, Engine, Scope

TYPES = {"BIGINT": pl.Int64(), "DECIMAL(18,8)": pl.Decimal(18, 8)}
LAYOUT = ("session", "symbol", "ts_event", "sequence")


def read(csv: Path) -> pl.LazyFrame:
    """The trades of a CSV with their session, sorted as they are to be kept."""
    instant = pl.col("ts_event", "ts_recv").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
    local = pl.col("ts_event").dt.convert_time_zone("America/New_York")
    return (
        pl.scan_csv(csv, schema={name: TYPES.get(kind, pl.String()) for name, kind in data.TYPES.items()})
        .with_columns(instant, pl.col("conditions").str.split(";"))
        .with_columns(session=local.dt.date())
        .sort(LAYOUT)
    )


class Polars(Engine):
    """Files without a catalog: an append is one more of them."""

    packages = ("polars",)

    def load(self, csv: Path) -> None:
        read(csv).sink_parquet(pl.PartitionBy(self.store, key="session", include_key=False), mkdir=True)

    def append(self, csv: Path) -> None:
        for (session,), rows in read(csv).collect().partition_by("session", as_dict=True, include_key=False).items():
            rows.write_parquet(self.store / f"session={session}" / f"{uuid.uuid4()}.parquet", mkdir=True)

    def minute(self, scope: Scope) -> Any:
        inside = (pl.col("ts_event") >= scope.start) & (pl.col("ts_event") < scope.end)
        return self._of_symbol(scope).filter(inside).sort("ts_event", "sequence").select(COLUMNS).collect()

    def day(self, scope: Scope) -> Any:
        return self._of_symbol(scope).sort("ts_event", "sequence").select(COLUMNS).collect()

    def bars(self, scope: Scope) -> Any:
        minute = pl.col("ts_event").dt.truncate("1m").alias("ts_open")
        return _bars(self._of_symbol(scope), ["symbol", "session", minute]).collect()

    def daily(self) -> Any:
        return _bars(self._standing(), ["symbol", "session"]).collect()

    def replay(self) -> Iterator[Any]:
        for session in data.SESSIONS:
            yield from self._standing().filter(session=session).sort(ORDER).collect().iter_slices(BATCH)

    def join(self, trades: pa.Table, quotes: pa.Table) -> Callable[[], Any]:
        left, right = pl.DataFrame(trades), pl.DataFrame(quotes)
        return lambda: left.join_asof(right, on="ts_event", by=["venue", "symbol"], check_sortedness=False)

    def _of_symbol(self, scope: Scope) -> pl.LazyFrame:
        return self._standing().filter(session=scope.session, symbol=scope.symbol)

    def _standing(self) -> pl.LazyFrame:
        files = pl.scan_parquet(self.store / "*/*.parquet", hive_partitioning=True)
        return files.filter(pl.col("status").is_null())


def _bars(fills: pl.LazyFrame, keys: Sequence[str | pl.Expr]) -> pl.LazyFrame:
    """The sort makes first and last unambiguous."""
    price, size = pl.col("price"), pl.col("size")
    return (
        fills.sort("ts_event", "sequence")
        .group_by(keys, maintain_order=True)
        .agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            size.sum().alias("volume"),
            (price.cast(pl.Float64) * size.cast(pl.Float64)).sum().alias("notional"),
            pl.len().alias("n_trades"),
        )
        .with_columns(vwap=pl.col("notional") / pl.col("volume").cast(pl.Float64))
    )
