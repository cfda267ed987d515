"""The files behind a snapshot: manifests are decoded once, and files pruned by their statistics."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from k2kernel.errors import UnsupportedTable

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

_EPOCH = date(1970, 1, 1)
_DELETED_PATH = 2147483546
"""The field id of `file_path` in a position delete file."""

MOST_FILES = 200_000
"""About how many files are kept in mind, at about 1 kB each."""

_STATED = ("symbol", "venue", "ts_event", "source", "status", "price")
"""The columns whose statistics a LakeFile states."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One data file of a snapshot, with what its statistics say; a bound is None where there is none.

    `ts_event` bounds are µs since 1970, both inclusive. Text bounds enclose the values; they are the values themselves
    in files that k2kernel wrote. `status_all_null` and `price_never_null` are true where statistics prove it. `deletes`
    are position delete files that may name rows of this file; `has_deletion_vector` asks for PyIceberg's own reader.
    """

    path: str
    rows: int
    nbytes: int
    session: date | None = None
    symbol_min: str | None = None
    symbol_max: str | None = None
    venue_min: str | None = None
    venue_max: str | None = None
    ts_event_min: int | None = None
    ts_event_max: int | None = None
    source_min: str | None = None
    source_max: str | None = None
    status_all_null: bool = False
    price_never_null: bool = False
    deletes: tuple[str, ...] = ()
    has_deletion_vector: bool = False

    @property
    def venue(self) -> str | None:
        """The venue of all rows, where statistics name one."""
        return self.venue_min if self.venue_min == self.venue_max else None

    @property
    def has_deletes(self) -> bool:
        """True where rows of the file may be deleted."""
        return bool(self.deletes) or self.has_deletion_vector


@dataclass(frozen=True, slots=True)
class FileSet:
    """The data files of one snapshot (None: a table without a snapshot, which has no files)."""

    snapshot_id: int | None
    files: tuple[LakeFile, ...] = ()

    def __iter__(self) -> Iterator[LakeFile]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def rows(self) -> int:
        """Rows in the files, before deletes."""
        return sum(file.rows for file in self.files)

    @property
    def nbytes(self) -> int:
        """Bytes of the files."""
        return sum(file.nbytes for file in self.files)

    def prune(
        self,
        symbols: Iterable[str] | None = None,
        venues: Iterable[str] | None = None,
        sessions: tuple[date, date] | None = None,
        ts_range_us: tuple[int | None, int | None] | None = None,
    ) -> list[LakeFile]:
        """The files that may hold rows of all that is asked for.

        `sessions` are the first and the last, inclusive; `ts_range_us` is of ts_event in µs since 1970, start
        inclusive, end exclusive, None for an open end.
        """
        found: Iterable[LakeFile] = self.files
        if sessions is not None:
            first, last = sessions
            found = [file for file in found if file.session is None or first <= file.session <= last]
        if ts_range_us is not None:
            found = _overlapping(found, *ts_range_us)
        if symbols is not None:
            wanted = sorted(symbols)
            found = [file for file in found if _any_between(wanted, file.symbol_min, file.symbol_max)]
        if venues is not None:
            wanted = sorted(venues)
            found = [file for file in found if _any_between(wanted, file.venue_min, file.venue_max)]
        return list(found)


def _any_between(wanted: Sequence[str], low: str | None, high: str | None) -> bool:
    """True where one of the sorted texts may lie between the bounds, inclusive."""
    first = 0 if low is None else bisect_left(wanted, low)
    return first < len(wanted) and (high is None or wanted[first] <= high)


def _overlapping(files: Iterable[LakeFile], start: int | None, end: int | None) -> list[LakeFile]:
    return [
        file
        for file in files
        if (start is None or file.ts_event_max is None or file.ts_event_max >= start)
        and (end is None or file.ts_event_min is None or file.ts_event_min < end)
    ]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A live entry of a manifest: its file, its sequence number and the partition it belongs to.

    `about` is the one data file that a position delete file is about, where its bounds say so.
    """

    file: LakeFile
    sequence: int
    partition: tuple[Any, ...]
    about: str | None = None


K = TypeVar("K")
V = TypeVar("V", bound=Sized)


class Recent(Generic[K, V]):
    """What was put here last, by key: as much of it as has `most` parts together, and the last one at any rate.

    A table that is written to all day has another list of files after every commit.
    """

    def __init__(self, most: int) -> None:
        self._most, self._parts = most, 0
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return self._parts

    def get(self, key: K) -> V | None:
        """What is kept under a key, if anything."""
        return self._kept.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep a value, also one that is kept already, as the last one."""
        before = self._kept.pop(key, None)
        self._parts += len(value) - (0 if before is None else len(before))
        self._kept[key] = value
        while self._parts > self._most and len(self._kept) > 1:
            self._parts -= len(self._kept.popitem(last=False)[1])
        return value


class Manifests:
    """Decodes manifests and remembers them by path: a manifest never changes."""

    def __init__(self) -> None:
        self._decoded = Recent[str, tuple[_Entry, ...]](MOST_FILES)

    def files(self, name: str, metadata: TableMetadata, snapshot: Snapshot, io: FileIO) -> FileSet:
        """The files of a snapshot; UnsupportedTable where rows are deleted by equality."""
        from pyiceberg.manifest import ManifestContent

        data: list[_Entry] = []
        deletes: list[_Entry] = []
        for manifest in snapshot.manifests(io):
            into = data if manifest.content == ManifestContent.DATA else deletes
            into.extend(self._entries(name, metadata, manifest, io))
        files = _with_deletes(data, deletes) if deletes else (entry.file for entry in data)
        return FileSet(snapshot.snapshot_id, tuple(files))

    def _entries(self, name: str, metadata: TableMetadata, manifest: ManifestFile, io: FileIO) -> tuple[_Entry, ...]:
        path = manifest.manifest_path
        entries = self._decoded.get(path)
        if entries is None:
            decode = _Decoder(name, metadata, manifest.partition_spec_id)
            entries = tuple(decode(entry) for entry in manifest.fetch_manifest_entry(io))
        return self._decoded.put(path, entries)


class _Decoder:
    """Turns the entries of one manifest into ours."""

    def __init__(self, name: str, metadata: TableMetadata, spec_id: int) -> None:
        from pyiceberg.types import PrimitiveType

        self._name, self._spec_id = name, spec_id
        spec = metadata.specs()[spec_id]
        columns = ((field.name, field.field_id, field.field_type) for field in metadata.schema().fields)
        ids = {column: (number, kind) for column, number, kind in columns if isinstance(kind, PrimitiveType)}
        self._columns = {column: ids.get(column) for column in _STATED}
        session = ids.get("session")
        positions = [at for at, field in enumerate(spec.fields) if session and field.source_id == session[0]]
        self._session_at = positions[0] if positions else None

    def __call__(self, entry: ManifestEntry) -> _Entry:
        from pyiceberg.manifest import DataFileContent

        file = entry.data_file
        if file.content == DataFileContent.EQUALITY_DELETES:
            raise UnsupportedTable(
                self._name, "rows were deleted by equality", "Compact the table with the engine that deleted them"
            )
        is_data = file.content == DataFileContent.DATA
        values = tuple(file.partition[at] for at in range(len(file.partition)))
        partition = (self._spec_id, *values)
        about = None if is_data else _about(file)
        decoded = self._data(file) if is_data else _delete(file)
        return _Entry(decoded, entry.sequence_number or 0, partition, about)

    def _data(self, file: DataFile) -> LakeFile:
        symbol_min, symbol_max = self._bounds(file, "symbol")
        venue_min, venue_max = self._bounds(file, "venue")
        ts_min, ts_max = self._bounds(file, "ts_event")
        source_min, source_max = self._bounds(file, "source")
        return LakeFile(
            path=file.file_path,
            rows=file.record_count,
            nbytes=file.file_size_in_bytes,
            session=self._session(file),
            symbol_min=symbol_min,
            symbol_max=symbol_max,
            venue_min=venue_min,
            venue_max=venue_max,
            ts_event_min=ts_min,
            ts_event_max=ts_max,
            source_min=source_min,
            source_max=source_max,
            status_all_null=self._nulls(file, "status") == file.record_count,
            price_never_null=self._nulls(file, "price") == 0,
        )

    def _bounds(self, file: DataFile, column: str) -> tuple[Any, Any]:
        from pyiceberg.conversions import from_bytes

        known = self._columns[column]
        if known is None:
            return None, None
        field_id, field_type = known
        ends = ((bounds or {}).get(field_id) for bounds in (file.lower_bounds, file.upper_bounds))
        low, high = (None if end is None else from_bytes(field_type, end) for end in ends)
        return low, high

    def _nulls(self, file: DataFile, column: str) -> int | None:
        known = self._columns[column]
        return None if known is None else (file.null_value_counts or {}).get(known[0])

    def _session(self, file: DataFile) -> date | None:
        days = None if self._session_at is None else file.partition[self._session_at]
        return None if days is None else _EPOCH + timedelta(days=days)


def _delete(file: DataFile) -> LakeFile:
    """A position delete file, or the Puffin file of a deletion vector."""
    vector = file.file_format.value.upper() == "PUFFIN"
    return LakeFile(file.file_path, file.record_count, file.file_size_in_bytes, has_deletion_vector=vector)


def _about(file: DataFile) -> str | None:
    low, high = (file.lower_bounds or {}).get(_DELETED_PATH), (file.upper_bounds or {}).get(_DELETED_PATH)
    return low.decode() if low is not None and low == high else None


def _with_deletes(data: Iterable[_Entry], deletes: Iterable[_Entry]) -> Iterator[LakeFile]:
    """Each data file with the delete files of its partition, or about it, that are not older than it."""
    by_key: dict[object, list[_Entry]] = {}
    for delete in deletes:
        by_key.setdefault(delete.about or delete.partition, []).append(delete)
    for entry in data:
        near = [*by_key.get(entry.file.path, ()), *by_key.get(entry.partition, ())]
        applying = [delete.file for delete in near if delete.sequence >= entry.sequence]
        yield replace(
            entry.file,
            deletes=tuple(file.path for file in applying if not file.has_deletion_vector),
            has_deletion_vector=any(file.has_deletion_vector for file in applying),
        )
