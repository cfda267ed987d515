"""The contenders: one module for each library, which alone imports it; a process loads only its own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.engines.engine import Engine
from benchmarks.report import ARCTICDB, CHDB, DUCKDB, DUCKDB_FILE, OURS, POLARS, PYICEBERG

_HOMES = {
    OURS: "ours:Ours",
    DUCKDB: "on_duckdb:OnParquet",
    DUCKDB_FILE: "on_duckdb:OwnFile",
    POLARS: "on_polars:Polars",
    ARCTICDB: "on_arcticdb:Arctic",
    CHDB: "on_chdb:ClickHouse",
    PYICEBERG: "on_pyiceberg:Plain",
}
ENGINES = tuple(_HOMES)


def opened(name: str, store: Path) -> Engine:
    """The engine of that name over its store, which may be empty."""
    module, _, kind = _HOMES[name].partition(":")
    engine: type[Engine] = getattr(import_module(f"benchmarks.engines.{module}"), kind)
    return engine(store)
