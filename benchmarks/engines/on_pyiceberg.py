"""PyIceberg and PyArrow, and no engine beside them: a table of a partition a session, sorted before it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from benchmarks import data
from benchmarks.engines.engine import BATCH, COLUMNS, ORDER, Engine, Scope

_TYPES = {
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "BIGINT": pa.int64(),
    "DECIMAL(18,8)": pa.decimal128(18, 8),
    "VARCHAR": pa.string(),
}
_NAME = "market_data.trades"
_TIME = ("ts_event", "sequence")
_FIGURES = {
    ("row", "min"): "first",
    ("price", "max"): "high",
    ("price", "min"): "low",
    ("row", "max"): "last",
    ("size", "sum"): "volume",
    ("notional", "sum"): "notional",
    ("price", "count"): "n_trades",
}


class Plain(Engine):
    """A table as its defaults make it, in an SQLite catalog."""

    packages = ("pyiceberg", "pyarrow")
    cannot: ClassVar = {"join": "it reads and writes tables, and joins none"}

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self._catalog = SqlCatalog("bench", uri=f"sqlite:///{store}/catalog.db", warehouse=f"file://{store}")

    def load(self, csv: Path) -> None:
        rows = _read(csv)
        self._table(rows.schema).append(rows)

    append = load

    def minute(self, scope: Scope) -> Any:
        return self._rows(
            scope, f" AND ts_event >= '{scope.start.isoformat()}' AND ts_event < '{scope.end.isoformat()}'"
        )

    def day(self, scope: Scope) -> Any:
        return self._rows(scope)

    def bars(self, scope: Scope) -> Any:
        rows = self._rows(scope)
        minute = pc.floor_temporal(rows["ts_event"], unit="minute")
        return _bars(rows.append_column("ts_open", minute), ["symbol", "session", "ts_open"])

    def daily(self) -> Any:
        columns = ("symbol", "session", "price", "size", *_TIME)
        found = self._table().scan("status IS NULL", selected_fields=columns).to_arrow()
        return _bars(found.sort_by(_ascending(_TIME)), ["symbol", "session"])

    def replay(self) -> Iterator[Any]:
        for session in data.SESSIONS:
            found = self._table().scan(f"session = '{session}' AND status IS NULL").to_arrow()
            yield from found.sort_by(_ascending(ORDER)).to_batches(BATCH)

    def _table(self, schema: pa.Schema | None = None) -> Table:
        try:
            return self._catalog.load_table(_NAME)
        except NoSuchTableError:
            self._catalog.create_namespace("market_data")
            table = self._catalog.create_table(_NAME, schema)
            with table.update_spec() as spec:
                spec.add_identity("session")
            return table

    def _rows(self, scope: Scope, more: str = "") -> pa.Table:
        wanted = f"session = '{scope.session}' AND symbol = '{scope.symbol}' AND status IS NULL{more}"
        return self._table().scan(wanted, selected_fields=COLUMNS).to_arrow().sort_by(_ascending(_TIME))


def _read(csv: Path) -> pa.Table:
    types = {name: _TYPES[kind] for name, kind in data.TYPES.items()}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    found = pyarrow.csv.read_csv(csv, convert_options=options)
    local = pc.local_timestamp(pc.cast(found["ts_event"], pa.timestamp("us", "America/New_York")))
    conditions = pc.split_pattern(found["conditions"], ";")
    found = found.set_column(found.schema.get_field_index("conditions"), "conditions", conditions)
    found = found.append_column("session", pc.cast(local, pa.date32()))
    return found.sort_by(_ascending(("session", "symbol", *_TIME)))


def _ascending(columns: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, "ascending") for name in columns]


def _bars(rows: pa.Table, keys: list[str]) -> pa.Table:
    """Of rows in order; PyArrow has no first and last of decimals, so they are taken by the number of the row."""
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    rows = rows.append_column("notional", pc.multiply(rows["price"], rows["size"]))
    found = rows.group_by(keys).aggregate(list(_FIGURES)).rename_columns([*keys, *_FIGURES.values()])
    money, volume = (pc.cast(found[name], pa.float64()) for name in ("notional", "volume"))
    return (
        found.append_column("open", rows["price"].take(found["first"]))
        .append_column("close", rows["price"].take(found["last"]))
        .append_column("vwap", pc.divide(money, volume))
    )
