"""Data files: a frame is sorted by Polars and written by Arrow with the field ids of the Iceberg table."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, StorageFault, UnsupportedTable
from k2kernel.lake import object_store
from k2kernel.lake.encoding import LAYOUT, encodings
from k2kernel.lake.local_io import local_path
from k2kernel.lake.sort import order
from k2kernel.metrics import METRICS
from k2kernel.schemas import DECIMAL_END, declared
from k2kernel.schemas import Table as Contract

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

    from k2kernel.config import Settings

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


def own_columns(table: Table, contract: Contract) -> dict[str, str]:
    """The columns that a table has beside the contract's, with DuckDB's names of their types; UnsupportedTable where
    one is of another type than a message may bring, or one of the contract's is gone.
    """
    found = {}
    gone = [name for name in contract.names if name not in table.schema().column_names]
    if gone:
        problem = f"has no column {', '.join(gone)} any more: another program dropped or renamed it"
        raise UnsupportedTable(contract.name, problem, "Give it back its name, or roll that change back")
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
    for column in table.schema().fields:
        kind = contract[column.name].duckdb if column.name in contract else own[column.name]
        columns.append(f"{column.field_id}: {{'name': '{column.name}', 'type': '{kind}', 'default_value': NULL}}")
    return f"read_parquet($paths, schema=MAP {{{', '.join(columns)}}}, hive_partitioning=false)"


class Writer:
    """Writes data files; what is read for them, one DuckDB connection reads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def write(self, table: Table, name: str, frame: pl.DataFrame, session: date | None) -> DataFile:
        """Sort `frame` (all columns of the contract) and write it as one file of the partition `session`.

        InvalidParameter where a required column has nulls or rows of a partitioned table have no session.
        """
        _check(name, frame, session)
        location, contract = _new_location(table, session), declared(name)
        own = [column for column in own_columns(table, contract) if column in frame.columns]
        rows = frame.select(*contract.names, *own).rechunk()
        parts = _sorted(rows, contract.sort, self._settings.row_group_rows)
        return DataFile(location, frame.height, self._store(table, location, parts))

    def write_run(
        self,
        table: Table,
        text: str,
        *,
        values: dict[str, Any],
        frames: Mapping[str, pl.DataFrame],
        session: date | None,
        rows: int,
    ) -> Iterator[DataFile]:
        """Write what a query (over `values` and `frames`) gives, which is in order, as files of at most `rows`."""
        with self.cursor() as reading:
            for frame in frames:
                reading.register(frame, frames[frame].to_arrow())
            found = reading.sql(text, params=values).to_arrow_reader(self._settings.row_group_rows)
            for part in _parts(found, rows):
                location = _new_location(table, session)
                yield DataFile(location, part.num_rows, self._store(table, location, [part]))

    def restamp(self, table: Table, path: str, ts_ingest: datetime) -> str:
        """Write the data file at `path` again with another `ts_ingest`, and return where."""
        location = f"{path.rpartition('/')[0]}/{uuid.uuid4()}.parquet"
        query = "SELECT * REPLACE ($stamp::TIMESTAMPTZ AS ts_ingest) FROM read_parquet($path, hive_partitioning=false)"
        rows = self._settings.row_group_rows
        with self.cursor() as reading, readable(table.io, path) as source:
            found = reading.sql(query, params={"stamp": ts_ingest.isoformat(), "path": source})
            self._store(table, location, _parts(found.to_arrow_reader(rows), rows))
        return location

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

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

    def _store(self, table: Table, location: str, parts: Iterable[pa.Table]) -> int:
        """Write the rows of `parts` to a new file, whose size in bytes is returned."""
        with storing(location), _writable(table.io, location) as target:
            _write(table, target, parts, self._settings.row_group_rows)
            nbytes = Path(target).stat().st_size
        METRICS.written_files.inc()
        METRICS.written_bytes.inc(nbytes)
        return nbytes


def _write(table: Table, target: str, parts: Iterable[pa.Table], row_group_rows: int) -> None:
    """Write a Parquet file at the path `target`, its columns in the order of the table. UnsupportedTable where rows do
    not fit it, such as those of another program without a value that must be there.
    """
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    parts = iter(parts)
    first = next(parts)
    kinds = schema_to_pyarrow(table.schema().select(*first.column_names))
    with pq.ParquetWriter(target, kinds, **LAYOUT, **encodings(first)) as file:
        for part in chain([first], parts):
            try:
                fitting = part.select(kinds.names).cast(kinds)
            except ValueError as exc:
                problem = f"has rows that do not fit its columns ({exc})"
                raise UnsupportedTable(
                    table.name()[-1], problem, "Correct them with the program that wrote them"
                ) from exc
            file.write_table(fitting, row_group_rows)


def _sorted(frame: pl.DataFrame, keys: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The rows in the order of `keys`, so many at a time: a sorted copy of all would take as much memory again."""
    import polars as pl

    found = order(frame, keys)
    for start in range(0, len(frame), rows):
        part = frame.slice(start, rows) if found is None else frame[found.slice(start, rows)]
        yield part.to_arrow(compat_level=pl.CompatLevel.oldest())


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
        raise StorageFault(location, os.strerror(exc.errno) if exc.errno else str(exc)) from exc
    except duckdb.IOException as exc:
        code = re.search(r'"errno":"(\d+)"', str(exc))
        raise StorageFault(location, os.strerror(int(code[1])) if code else str(exc)) from exc


def _check(name: str, frame: pl.DataFrame, session: date | None) -> None:
    import polars as pl

    table = declared(name)
    if frame.is_empty():
        raise InvalidParameter("frame", frame.shape, "has no rows", "There is nothing to write")
    missing = [column for column in table.names if column not in frame.columns]
    if missing:
        raise InvalidParameter("frame", missing, f"columns of {name} are missing")
    nulls = frame.select(column.name for column in table.columns if column.required).null_count().row(0, named=True)
    if any(nulls.values()):
        raise InvalidParameter("frame", [column for column, count in nulls.items() if count], "has nulls")
    exact = [column.name for column in table.columns if column.type == "decimal"]
    most = frame.select(pl.col(exact).to_physical().abs().max()).row(0, named=True) if exact else {}
    beyond = [name for name, value in most.items() if value is not None and value >= DECIMAL_END]
    if beyond:
        raise InvalidParameter("frame", beyond, "has more than 18 digits")
    if (session is None) != (table.partition is None):
        raise InvalidParameter("session", session, f"{name} is partitioned by {table.partition or 'nothing'}")


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
        try:
            yield str(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
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
