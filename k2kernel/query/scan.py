"""A pinned table as SQL: the files that may matter, read by field id, without the rows that deletes name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from k2kernel.cached import cached_property
from k2kernel.errors import UnsupportedTable
from k2kernel.query.connection import Query, Reading, identifier, literal
from k2kernel.query.known import STATUS, Known
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
Bind = Callable[[object], str]

_PLACEHOLDER = re.compile(r"\$(k2_\d+)\b")
"""What `Values` puts into a statement."""

ALWAYS = ("symbol", "venue", "session", "ts_event", "ts_event_ns", "sequence", "source", "source_offset")
"""The columns that conditions and orders of events may use."""


@dataclass(frozen=True)
class Field:
    """A column of an Iceberg table: its id, its name now and DuckDB's name of its type."""

    id: int
    name: str
    type: str


class Values:
    """The values bound to one statement (some of them `bound` before): `bind(value)` keeps it and returns the `$name`
    that stands for it.
    """

    def __init__(self, bound: Mapping[str, object] | None = None) -> None:
        self.bound: dict[str, object] = dict(bound or {})
        self._names: dict[str, str] = {}
        self._next = 1 + max((int(name.removeprefix("k2_")) for name in self.bound), default=-1)

    def bind(self, value: object) -> str:
        """The placeholder of `value`; the same one for a value that is bound already."""
        key = repr(value)
        if key not in self._names:
            self._names[key] = name = f"k2_{self._next}"
            self.bound[name] = value
            self._next += 1
        return f"${self._names[key]}"

    def named_in(self, text: str) -> dict[str, object]:
        """The values whose placeholders are in `text`: a statement takes no others."""
        return {name: self.bound[name] for name in re.findall(r"\$(k2_\d+)", text)}


def local_path(location: str) -> str:
    """The path that DuckDB opens: a `file:` location without its scheme, any other as it is."""
    return urlsplit(location).path if location.startswith("file:") else location


@dataclass(frozen=True)
class Pinned:
    """One table at one snapshot (None: it has none yet), and of its rows those that are `known` (None: all)."""

    lake: Lake
    name: str
    snapshot_id: int | None
    known: Known | None = None

    @cached_property
    def files(self) -> FileSet:
        """The data files of the snapshot."""
        return self.lake.files(self.name, self.snapshot_id)

    def only(self, files: Iterable[LakeFile]) -> Pinned:
        """The same, as if it had no other files."""
        part = replace(self)
        part.__dict__["files"] = replace(self.files, files=tuple(files))
        return part

    @property
    def whole(self) -> Pinned:
        """The same with every file, after `only`."""
        return replace(self)

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
    """Columns of a pinned table in some of its files, as something to select from.

    `undoing` are the files whose cancels and corrections may name rows of `files`: as `files`, but of any time of day.
    `columns` are those that the statement reads beside `ALWAYS`; None for all of them.
    """

    def __init__(
        self,
        pinned: Pinned,
        files: Sequence[LakeFile],
        undoing: Sequence[LakeFile] | None = None,
        columns: Collection[str] | None = None,
    ) -> None:
        self.pinned, self.files = pinned, list(files)
        around = (files if undoing is None else undoing) if pinned.name == "trades" else ()
        self.undoing = [file for file in around if not file.status_all_null]
        self._columns = columns

    @property
    def reading(self) -> Reading:
        """The files that are read, of all."""
        pinned = self.pinned
        return Reading(pinned.name, pinned.snapshot_id, self.files, pinned.files.files)

    def of(self, *columns: str) -> Scan:
        """The same scan, of these columns and `ALWAYS` only: reading fewer is quicker to plan, too."""
        return Scan(self.pinned, self.files, self.undoing, columns)

    def relation(self, raw: bool, bind: Bind) -> str:
        """What to put after FROM: every row where `raw`, else, of trades, the fills that stand. `bind` turns a value
        into a placeholder or a literal.
        """
        if raw or not self.undoing:
            return self._known(self.files, self._fields(), bind)
        return f"({self._standing(bind)})"

    def frames(self) -> dict[str, Callable[[], pa.Table]]:
        """The Arrow tables that `relation` reads by name: files that only PyIceberg can read."""
        groups = [found for found in (_vectors(self.files), _vectors(self.undoing)) if found]
        return {_frame(files): partial(materialise, self.pinned, files) for files in groups}

    def _fields(self, more: Collection[str] = ()) -> list[Field]:
        wanted = None if self._columns is None else {*ALWAYS, *self._columns, *more}
        return [field for field in self.pinned.fields if wanted is None or field.name in wanted]

    def _standing(self, bind: Bind) -> str:
        """The fills and corrections that no later cancel or correction names."""
        names = ", ".join(f"k2_row.{identifier(field.name)}" for field in self._fields())
        rows = self._known(self.files, self._fields(STATUS), bind)
        undoing = self._known(self.undoing, self._fields(STATUS), bind)
        key = f"row({EVENT_NS}, sequence, source, source_offset)"
        return (
            f"SELECT {names} FROM (SELECT *, {key} AS k2_key FROM {rows}) k2_row LEFT JOIN ("
            "SELECT venue AS k2_venue, symbol AS k2_symbol, session AS k2_session, corrects AS k2_corrects, "
            f"max({key}) AS k2_last FROM {undoing} "
            "WHERE status IN ('cancel', 'correction') AND corrects IS NOT NULL GROUP BY ALL) k2_undone "
            "ON venue = k2_venue AND symbol = k2_symbol AND session = k2_session AND trade_id = k2_corrects "
            "WHERE (status IS NULL OR status = 'correction') AND (k2_last IS NULL OR k2_last <= k2_key)"
        )

    def _known(self, files: Sequence[LakeFile], fields: Sequence[Field], bind: Bind) -> str:
        """The rows of files that are known."""
        known = self.pinned.known
        if known is None:
            return self._union(files, fields, bind)
        names = [field.name for field in fields]
        marked = known.moves_marks and self.undoing and "status" in names
        needed = self._fields((*names, *known.columns, *(STATUS if marked else ())))
        rows = self._union(files, needed, bind)
        return known.rows(rows, self._union(self.undoing, needed, bind) if marked else None)

    def _union(self, files: Sequence[LakeFile], fields: Sequence[Field], bind: Bind) -> str:
        """The rows of files, each kind of file by its own reader."""
        vectors = _vectors(files)
        plain = [file for file in files if not file.has_deletes]
        deleted = [file for file in files if file.deletes and not file.has_deletion_vector]
        parts = [_parquet(plain, fields, bind)] if plain else []
        parts += [_without_deleted(deleted, fields, bind)] if deleted else []
        parts += [_of_frame(_frame(vectors), fields)] if vectors else []
        if len(parts) == 1:
            return parts[0]
        names = ", ".join(identifier(field.name) for field in fields)
        union = " UNION ALL ".join(f"SELECT {names} FROM {part}" for part in parts)
        return f"({union or nothing(fields)})"


def _vectors(files: Sequence[LakeFile]) -> list[LakeFile]:
    return [file for file in files if file.has_deletion_vector]


def _parquet(files: Sequence[LakeFile], fields: Sequence[Field], bind: Bind) -> str:
    paths = bind([local_path(file.path) for file in files])
    return f"read_parquet({paths}, schema={bind(_by_id(fields))}, hive_partitioning=false)"


def _by_id(fields: Sequence[Field]) -> dict[str, list[Any]]:
    """The columns by their field ids: a MAP as DuckDB binds it, by its keys and values. One that is written out takes
    a quarter of the time of a small query to plan.
    """
    columns = [{"name": field.name, "type": field.type, "default_value": None} for field in fields]
    return {"key": [field.id for field in fields], "value": columns}


def _without_deleted(files: Sequence[LakeFile], fields: Sequence[Field], bind: Bind) -> str:
    names = ", ".join(identifier(field.name) for field in fields)
    deletes = bind(sorted({local_path(path) for file in files for path in file.deletes}))
    return (
        f"(SELECT {names} FROM {_parquet(files, fields, bind)} k2_data WHERE NOT EXISTS ("
        f"SELECT 1 FROM read_parquet({deletes}, hive_partitioning=false) AS k2_deleted WHERE k2_deleted.pos = "
        "k2_data.file_row_number AND regexp_replace(k2_deleted.file_path, '^file:(//)?', '') = k2_data.filename))"
    )


def _of_frame(name: str, fields: Sequence[Field]) -> str:
    columns = (f"{identifier(field.name)}::{field.type} AS {identifier(field.name)}" for field in fields)
    return f"(SELECT {', '.join(columns)} FROM {identifier(name)})"


def nothing(fields: Sequence[Field]) -> str:
    """A SELECT of the columns without a row."""
    columns = (f"NULL::{field.type} AS {identifier(field.name)}" for field in fields)
    return f"SELECT {', '.join(columns)} WHERE false"


def _frame(files: Sequence[LakeFile]) -> str:
    """The name of the Arrow table that holds the rows of `files`: equal files have equal names."""
    return f"k2_frame_{abs(hash(tuple(file.path for file in files)))}"


def materialise(pinned: Pinned, files: Sequence[LakeFile]) -> pa.Table:
    """The rows of `files` by PyIceberg's own reader, which applies deletion vectors."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    table, wanted = pinned.lake.table(pinned.name), {file.path for file in files}
    tasks = [task for task in table.scan(snapshot_id=pinned.snapshot_id).plan_files() if task.file.file_path in wanted]
    return ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table(tasks)


def query_as_view(name: str, planned: Query) -> str:
    """The statement that makes the rows of a query of ours a temporary view, its values written out."""
    text = _PLACEHOLDER.sub(lambda found: _written(planned.values[found[1]]), planned.text)
    return f"CREATE TEMP VIEW {identifier(name)} AS {text}"


def _written(value: object) -> str:
    """A value that is bound as an SQL literal, for views, which bind no parameters."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        if value.keys() == {"key", "value"}:
            return f"MAP({_written(value['key'])}, {_written(value['value'])})"
        return f"{{{', '.join(f'{literal(key)}: {_written(held)}' for key, held in value.items())}}}"
    if isinstance(value, date):
        return f"DATE {literal(value.isoformat())}"
    return literal(value) if isinstance(value, str) else str(value)


def as_view(name: str, scan: Scan, raw: bool) -> str:
    """The statement that makes the rows of a scan a temporary view."""
    return f"CREATE TEMP VIEW {identifier(name)} AS FROM {scan.relation(raw, _written)}"


def query(text: str, values: Values, *scans: Scan) -> Query:
    """A query over scans, with the values that its text uses."""
    frames = {name: frame for scan in scans for name, frame in scan.frames().items()}
    return Query(text, values.named_in(text), frames=frames, readings=tuple(scan.reading for scan in scans))
