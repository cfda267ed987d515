"""A pinned table as SQL: the files that may matter, read by field id, without the rows that deletes name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from k2kernel.errors import UnsupportedTable
from k2kernel.query.connection import Query, identifier, literal
from k2kernel.query.order import EVENT_NS

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType

    from k2kernel.lake import FileSet, Lake, LakeFile

_TYPES = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}
UNDOING = ("cancel", "correction")
"""The statuses of records that undo or replace the fill they name in `corrects`."""


@dataclass(frozen=True)
class Field:
    """A column of an Iceberg table: its id, its name now and DuckDB's name of its type."""

    id: int
    name: str
    type: str


class Values:
    """The values bound to one statement: `bind(value)` keeps it and returns the `$name` that stands for it."""

    def __init__(self) -> None:
        self.bound: dict[str, object] = {}

    def bind(self, value: object) -> str:
        """The placeholder of `value`; the same one for a value that is bound already."""
        name = f"k2_{len(self.bound)}"
        self.bound[name] = value
        return f"${name}"


def local_path(location: str) -> str:
    """The path that DuckDB opens: a `file:` location without its scheme, any other as it is."""
    return urlsplit(location).path if location.startswith("file:") else location


@dataclass(frozen=True)
class Pinned:
    """One table at one snapshot (None: it has none yet)."""

    lake: Lake
    name: str
    snapshot_id: int | None

    @cached_property
    def files(self) -> FileSet:
        """The data files of the snapshot."""
        return self.lake.files(self.name, self.snapshot_id)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The table's columns as they are now: one added later reads as null in an older snapshot."""
        return fields(self.name, self.lake.table(self.name).schema())


def fields(table: str, schema: Schema) -> tuple[Field, ...]:
    """The columns of an Iceberg schema; UnsupportedTable where a type has no reading here."""
    return tuple(Field(item.field_id, item.name, _duckdb(table, item.field_type)) for item in schema.fields)


def _duckdb(table: str, kind: IcebergType) -> str:
    from pyiceberg.types import DecimalType, ListType

    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if isinstance(kind, ListType):
        return f"{_duckdb(table, kind.element_type)}[]"
    if str(kind) not in _TYPES:
        raise UnsupportedTable(table, f"a column has the type {kind}", "Read it with PyIceberg")
    return _TYPES[str(kind)]


class Scan:
    """The rows of a pinned table in some of its files.

    `undoing` are the files whose cancels and corrections may name rows of `files`: as `files`, but of any time of day.
    """

    def __init__(self, pinned: Pinned, files: Sequence[LakeFile], undoing: Sequence[LakeFile] | None = None) -> None:
        self.pinned, self.files = pinned, list(files)
        self.undoing = [file for file in (files if undoing is None else undoing) if not file.status_all_null]

    def rows(self, bind: Callable[[list[str]], str]) -> str:
        """Every row as a SELECT. `bind` turns a list of paths into a placeholder or a literal."""
        return self._select(self.files, bind)

    def standing(self, bind: Callable[[list[str]], str]) -> str:
        """The fills that stand as a SELECT; no predicate at all where statistics show no status."""
        if not self.undoing:
            return self.rows(bind)
        names = ", ".join(f"k2_row.{identifier(field.name)}" for field in self.pinned.fields)
        key = f"row({EVENT_NS}, sequence, source, source_offset)"
        return (
            f"SELECT {names} FROM (SELECT *, {key} AS k2_key FROM ({self.rows(bind)})) k2_row LEFT JOIN ("
            f"SELECT venue AS k2_venue, symbol AS k2_symbol, session AS k2_session, corrects AS k2_corrects, "
            f"max({key}) AS k2_last FROM ({self._select(self.undoing, bind)}) "
            f"WHERE status IN ({', '.join(map(literal, UNDOING))}) AND corrects IS NOT NULL GROUP BY ALL) k2_undone "
            "ON venue = k2_venue AND symbol = k2_symbol AND session = k2_session AND trade_id = k2_corrects "
            "WHERE (status IS NULL OR status = 'correction') AND (k2_last IS NULL OR k2_last <= k2_key)"
        )

    def frames(self) -> dict[str, Callable[[], pa.Table]]:
        """The Arrow tables that the SELECT reads by name: files that only PyIceberg can read."""
        groups = {_frame(self._vectors(self.files)), _frame(self._vectors(self.undoing))}
        by_name = {_frame(files): files for files in (self._vectors(self.files), self._vectors(self.undoing))}
        return {name: partial(materialise, self.pinned, by_name[name]) for name in groups if name}

    def _vectors(self, files: Sequence[LakeFile]) -> list[LakeFile]:
        return [file for file in files if file.has_deletion_vector]

    def _select(self, files: Sequence[LakeFile], bind: Callable[[list[str]], str]) -> str:
        plain = [file for file in files if not file.deletes and not file.has_deletion_vector]
        deleted = [file for file in files if file.deletes and not file.has_deletion_vector]
        parts = [self._read(plain, bind)] if plain else []
        parts += [self._read_without_deleted(deleted, bind)] if deleted else []
        parts += [self._from_frame(_frame(self._vectors(files)))] if self._vectors(files) else []
        return " UNION ALL ".join(parts) or self._nothing()

    def _read(self, files: Sequence[LakeFile], bind: Callable[[list[str]], str], more: str = "") -> str:
        names = ", ".join(identifier(field.name) for field in self.pinned.fields)
        paths = bind([local_path(file.path) for file in files])
        return f"SELECT {names}{more} FROM read_parquet({paths}, schema={self._schema}, hive_partitioning=false)"

    def _read_without_deleted(self, files: Sequence[LakeFile], bind: Callable[[list[str]], str]) -> str:
        names = ", ".join(identifier(field.name) for field in self.pinned.fields)
        rows = self._read(files, bind, ", filename AS k2_file, file_row_number AS k2_position")
        deletes = bind(sorted({local_path(path) for file in files for path in file.deletes}))
        return (
            f"SELECT {names} FROM ({rows}) WHERE NOT EXISTS (SELECT 1 FROM read_parquet({deletes}) AS k2_deleted "
            "WHERE k2_deleted.pos = k2_position AND regexp_replace(k2_deleted.file_path, '^file:(//)?', '') = k2_file)"
        )

    def _from_frame(self, name: str) -> str:
        columns = (f"{identifier(field.name)}::{field.type} AS {identifier(field.name)}" for field in self._fields)
        return f"SELECT {', '.join(columns)} FROM {identifier(name)}"

    def _nothing(self) -> str:
        columns = (f"NULL::{field.type} AS {identifier(field.name)}" for field in self._fields)
        return f"SELECT {', '.join(columns)} WHERE false"

    @property
    def _fields(self) -> tuple[Field, ...]:
        return self.pinned.fields

    @cached_property
    def _schema(self) -> str:
        entries = (
            f"{field.id}: {{'name': {literal(field.name)}, 'type': {literal(field.type)}, 'default_value': NULL}}"
            for field in self._fields
        )
        return f"MAP {{{', '.join(entries)}}}"


def _frame(files: Sequence[LakeFile]) -> str:
    """The name of the Arrow table that holds the rows of `files`: equal files have equal names."""
    return f"k2_frame_{abs(hash(tuple(file.path for file in files)))}" if files else ""


def materialise(pinned: Pinned, files: Sequence[LakeFile]) -> pa.Table:
    """The rows of `files` by PyIceberg's own reader, which applies deletion vectors."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    table, wanted = pinned.lake.table(pinned.name), {file.path for file in files}
    tasks = [task for task in table.scan(snapshot_id=pinned.snapshot_id).plan_files() if task.file.file_path in wanted]
    return ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table(tasks)


def literal_paths(paths: list[str]) -> str:
    """A list of paths as an SQL literal, for views, which bind no parameters."""
    return f"[{', '.join(map(literal, paths))}]"


def events(scan: Scan, raw: bool, bind: Callable[[Any], str]) -> str:
    """The rows of a scan as a subquery to select from: all of them, or of trades the fills that stand."""
    return f"({scan.rows(bind) if raw or scan.pinned.name != 'trades' else scan.standing(bind)})"


def as_view(name: str, scan: Scan, raw: bool) -> str:
    """The statement that makes the rows of a scan a temporary view."""
    return f"CREATE TEMP VIEW {identifier(name)} AS FROM {events(scan, raw, literal_paths)}"


def query(text: str, values: Values, *scans: Scan) -> Query:
    """A query over scans."""
    frames = {name: frame for scan in scans for name, frame in scan.frames().items()}
    return Query(text, values.bound, frames=frames)
