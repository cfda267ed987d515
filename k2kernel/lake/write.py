"""Data files: a frame is sorted by Polars and written by DuckDB with the field ids of the Iceberg table."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, StorageFault, UnsupportedTable
from k2kernel.lake import object_store
from k2kernel.lake.local_io import local_path
from k2kernel.lake.sort import constant, sort
from k2kernel.metrics import METRICS
from k2kernel.schemas import Table as Contract
from k2kernel.schemas import declared

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

    from k2kernel.config import Settings

FieldIds = dict[str, "int | FieldIds"]
"""Column name to Iceberg field id; of a list, to the ids of the list and of its `element`."""

_FRAME = "frame"

_OWN = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "int": "INTEGER",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "decimal(18, 8)": "DECIMAL(18,8)",
}
"""The types of columns that a table may have beside the contract's, and DuckDB's name of each."""


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that was written and is not committed yet: where, how many rows, how many bytes."""

    path: str
    rows: int
    nbytes: int


def field_ids(schema: Schema) -> FieldIds:
    """The field ids of an Iceberg schema, as DuckDB's COPY wants them."""
    from pyiceberg.types import ListType

    ids: FieldIds = {}
    for column in schema.fields:
        if isinstance(column.field_type, ListType):
            ids[column.name] = {"__duckdb_field_id": column.field_id, "element": column.field_type.element_id}
        else:
            ids[column.name] = column.field_id
    return ids


def own_columns(table: Table, contract: Contract) -> dict[str, str]:
    """The columns that a table has beside the contract's, with DuckDB's names of their types; UnsupportedTable where
    one is of another type than a message may bring.
    """
    found = {}
    for column in table.schema().fields:
        if column.name not in contract:
            if str(column.field_type) not in _OWN:
                problem = f"its column {column.name} is of the type {column.field_type}"
                raise UnsupportedTable(contract.name, problem, "Rewrite it with the program that made the column")
            found[column.name] = _OWN[str(column.field_type)]
    return found


def by_field_id(table: Table, contract: Contract) -> str:
    """The rows of the files `$paths` as DuckDB reads them, with the columns of the contract: by their ids, so that
    those which were renamed or added later come out right.
    """
    columns = []
    own = own_columns(table, contract)
    for name, known in field_ids(table.schema()).items():
        number = known["__duckdb_field_id"] if isinstance(known, dict) else known
        kind = contract[name].duckdb if name in contract else own[name]
        columns.append(f"{number}: {{'name': '{name}', 'type': '{kind}', 'default_value': NULL}}")
    return f"read_parquet($paths, schema=MAP {{{', '.join(columns)}}}, hive_partitioning=false)"


class Writer:
    """Writes data files through one DuckDB connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def write(self, table: Table, name: str, frame: pl.DataFrame, session: date | None) -> DataFile:
        """Sort `frame` (all columns of the contract) and write it as one file of the partition `session`.

        InvalidParameter where a required column has nulls or rows of a partitioned table have no session.
        """
        _check(name, frame, session)
        location, own = _new_location(table, session), own_columns(table, declared(name))
        own = {column: kind for column, kind in own.items() if column in frame.columns}
        with self.cursor() as cursor:
            varying, fixed = _split(frame.select(*own, *declared(name).names))
            cursor.register(_FRAME, self._batches(sort(varying, declared(name).sort)))
            nbytes = self._copy(cursor, _selection(name, fixed, own), fixed, table, location)
        return DataFile(location, frame.height, nbytes)

    def write_run(
        self,
        table: Table,
        name: str,
        text: str,
        *,
        values: dict[str, Any],
        frames: Mapping[str, pl.DataFrame],
        session: date | None,
        rows: int,
    ) -> Iterator[DataFile]:
        """Write what a query (over `values` and `frames`) gives, which is in order, as files of at most `rows`."""
        with self.cursor() as reading, self.cursor() as writing:
            for frame in frames:
                reading.register(frame, frames[frame].to_arrow())
            found = reading.sql(text, params=values).to_arrow_reader(self._settings.row_group_rows)
            for part in _parts(found, rows):
                location = _new_location(table, session)
                writing.register(_FRAME, part)
                own = own_columns(table, declared(name))
                nbytes = self._copy(writing, _selection(name, (), own), {}, table, location)
                yield DataFile(location, part.num_rows, nbytes)

    def restamp(self, table: Table, path: str, ts_ingest: datetime) -> str:
        """Write the data file at `path` again with another `ts_ingest`, and return where."""
        location = f"{path.rpartition('/')[0]}/{uuid.uuid4()}.parquet"
        query = "SELECT * REPLACE ($stamp::TIMESTAMPTZ AS ts_ingest) FROM read_parquet($path, hive_partitioning=false)"
        with self.cursor() as cursor, readable(table.io, path) as source:
            self._copy(cursor, query, {"stamp": ts_ingest.isoformat(), "path": source}, table, location)
        return location

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _batches(self, frame: pl.DataFrame) -> pa.Table:
        """The frame in pieces of a row group, which DuckDB takes in much faster than one long piece."""
        import pyarrow as pa

        return pa.Table.from_batches(frame.to_arrow().to_batches(max_chunksize=self._settings.row_group_rows))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the writer's DuckDB."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection.cursor()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": self._settings.memory_limit}
        config["temp_directory"] = str(self._settings.home / "tmp")
        if self._settings.threads is not None:
            config["threads"] = self._settings.threads
        connection = duckdb.connect(":memory:", config=config)
        if self._settings.on_s3:
            connection.register_filesystem(object_store.file_system(self._settings))
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
        return connection

    def _copy(
        self, cursor: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any], table: Table, location: str
    ) -> int:
        columns = cursor.sql(query, params=values or None).columns
        ids = {column: known for column, known in field_ids(table.schema()).items() if column in columns}
        options = (
            f"FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {self._settings.row_group_rows}, "
            f"FIELD_IDS {_duckdb_struct(ids)}"
        )
        with storing(location), _writable(table.io, location) as target:
            cursor.execute(f"COPY ({query}) TO $copy_to ({options})", {**values, "copy_to": target})
            nbytes = Path(target).stat().st_size
        METRICS.written_files.inc()
        METRICS.written_bytes.inc(nbytes)
        return nbytes


def _parts(found: pa.RecordBatchReader, rows: int) -> Iterator[pa.Table]:
    """The batches in tables of `rows`, the last one of what is left."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in found:
        rest = batch
        while rest.num_rows:
            room = rows - sum(part.num_rows for part in waiting)
            waiting.append(rest.slice(0, room))
            rest = rest.slice(min(room, rest.num_rows))
            if waiting[-1].num_rows == room:
                yield pa.Table.from_batches(waiting)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


@contextmanager
def storing(location: str) -> Iterator[None]:
    """StorageFault where what is at `location` cannot be used, with the reason that the system gave."""
    import duckdb

    try:
        yield
    except OSError as exc:
        raise StorageFault(location, exc.strerror or str(exc)) from exc
    except duckdb.IOException as exc:
        code = re.search(r'"errno":"(\d+)"', str(exc))
        raise StorageFault(location, os.strerror(int(code[1])) if code else str(exc)) from exc


def _check(name: str, frame: pl.DataFrame, session: date | None) -> None:
    table = declared(name)
    if frame.is_empty():
        raise InvalidParameter("frame", frame.shape, "has no rows", "There is nothing to write")
    missing = [column for column in table.names if column not in frame.columns]
    if missing:
        raise InvalidParameter("frame", missing, f"columns of {name} are missing")
    nulls = frame.select(column.name for column in table.columns if column.required).null_count().row(0, named=True)
    if any(nulls.values()):
        raise InvalidParameter("frame", [column for column, count in nulls.items() if count], "has nulls")
    if (session is None) != (table.partition is None):
        raise InvalidParameter("session", session, f"{name} is partitioned by {table.partition or 'nothing'}")


def _split(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The columns that vary, at least one, and the value of each that does not: DuckDB needs only the one."""
    import polars as pl

    scalars = (pl.String, pl.Date, pl.Datetime)
    columns = (column for column in frame.get_columns()[:-1] if column.dtype in scalars or column.null_count())
    fixed = {column.name: column[0] for column in columns if constant(column)}
    return frame.drop(*fixed), fixed


def _selection(name: str, fixed: Collection[str], own: Mapping[str, str]) -> str:
    """Every column in order, cast to the type of the contract, and the table's own ones; the values of `fixed` are
    bound by their names.
    """
    kinds = {column.name: column.duckdb for column in declared(name).columns} | dict(own)
    columns = (
        f"CAST({f'${column}' if column in fixed else _quoted(column)} AS {kind}) AS {_quoted(column)}"
        for column, kind in kinds.items()
    )
    return f"SELECT {', '.join(columns)} FROM {_FRAME}"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _duckdb_struct(ids: FieldIds) -> str:
    parts = (f'"{name}": {_duckdb_struct(to) if isinstance(to, dict) else to}' for name, to in ids.items())
    return "{" + ", ".join(parts) + "}"


def _new_location(table: Table, session: date | None) -> str:
    folder = f"{table.location()}/data" + (f"/session={session.isoformat()}" if session else "")
    return f"{folder}/{uuid.uuid4()}.parquet"


def is_local(location: str) -> bool:
    """True where DuckDB can open the location as a path of this machine."""
    return "://" not in location or location.startswith("file:")


@contextmanager
def _writable(io: FileIO, location: str) -> Iterator[str]:
    """A local path to write: the place itself, or a scratch file that is copied there on the way out."""
    if is_local(location):
        path = local_path(location)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        yield str(path)
        with path.open("rb") as source, io.new_output(location).create() as target:
            shutil.copyfileobj(source, target)


@contextmanager
def readable(io: FileIO, location: str) -> Iterator[str]:
    """A local path to read: the place itself, or a scratch copy."""
    if is_local(location):
        yield str(local_path(location))
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        with io.new_input(location).open() as source:
            shutil.copyfileobj(source, copy)
        copy.flush()
        yield copy.name
