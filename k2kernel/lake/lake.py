"""`Lake`: the tables of the namespace, and everything that is done to them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace as changed
from datetime import date
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from k2kernel.errors import InvalidParameter, UnknownReference, UnknownTable
from k2kernel.lake import commit, snapshots
from k2kernel.lake.append import Append
from k2kernel.lake.catalog import connect, create_tables, metadata_location
from k2kernel.lake.files import FileSet, Manifests
from k2kernel.lake.history import History
from k2kernel.lake.replacing import Replacement
from k2kernel.lake.write import DataFile, FieldIds, Writer, field_ids
from k2kernel.schemas import NAMESPACE

if TYPE_CHECKING:
    import polars as pl
    from pyiceberg.catalog import Catalog
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from k2kernel.config import Settings
    from k2kernel.lake.provenance import Provenance
    from k2kernel.lake.snapshots import Snapshot
    from k2kernel.times import AsOf

_KEPT_FILE_SETS = 64


class Lake:
    """The Iceberg tables behind one catalog. Safe to share between threads; several processes may write at once."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog
        self._writer = Writer(settings)
        self._manifests = Manifests()
        self._history = History()
        self._lock = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._file_sets: OrderedDict[tuple[str, int], FileSet] = OrderedDict()

    @classmethod
    def open(cls, settings: Settings, create: bool = False) -> Lake:
        """The lake of `settings`. With `create` its folder, catalog and tables are made where they are missing.

        LakeNotFound where the embedded catalog is absent and `create` is false.
        """
        catalog = connect(settings, create)
        if create:
            create_tables(catalog, settings)
        return cls(settings, catalog)

    def close(self) -> None:
        """Let go of connections; the lake can still be used, and opens them again."""
        self._writer.close()

    def table(self, name: str) -> Table:
        """The table as it is committed now; UnknownTable where there is none of that name.

        The object is the caller's own: committing through it changes no other one.
        """
        known = self._tables.get(name)
        location = metadata_location(self.catalog, name)
        if known is None or location is None or known.metadata_location != location:
            known = self._tables[name] = self._load(name)
        return Table(known.name(), known.metadata, known.metadata_location, known.io, self.catalog)

    def _load(self, name: str) -> Table:
        try:
            return self.catalog.load_table((NAMESPACE, name))
        except NoSuchTableError as exc:
            raise UnknownTable(name, (found[-1] for found in self.catalog.list_tables(NAMESPACE))) from exc

    def field_ids(self, name: str) -> FieldIds:
        """Column name to field id in the Iceberg table; of a list also the id of its element."""
        return field_ids(self.table(name).schema())

    def head(self, name: str) -> int | None:
        """The snapshot id of main, or None where nothing was committed yet."""
        return snapshots.head(self.table(name).metadata)

    def resolve(self, name: str, as_of: AsOf | None) -> int | None:
        """The snapshot id that `as_of` stands for (None: the current one), or None where there is no snapshot yet.

        A time stands for the snapshot that was current then. UnknownReference, which lists what there is, where
        nothing answers to `as_of`, or where the snapshot that was current then has expired.
        """
        return snapshots.resolve(name, self.table(name).metadata, as_of)

    def snapshots(self, name: str) -> list[Snapshot]:
        """Every kept state of a table, newest first."""
        metadata = self.table(name).metadata
        return snapshots.describe(metadata, self._history.sources(metadata.snapshots))

    def ancestors(self, name: str, snapshot_id: int | None = None) -> list[IcebergSnapshot]:
        """The snapshot (None: the current one) and those that it was built on, newest first."""
        metadata = self.table(name).metadata
        return snapshots.ancestors(metadata, snapshots.head(metadata) if snapshot_id is None else snapshot_id)

    def provenance(self, name: str) -> list[Provenance]:
        """Every ingest that main is built on, oldest first: of kept snapshots, and of expired ones by `ingest_log`.

        Sources that a later ingest replaced are left out.
        """
        return self._provenance(name, self.table(name))

    def _provenance(self, name: str, table: Table) -> list[Provenance]:
        line = snapshots.ancestors(table.metadata, snapshots.head(table.metadata))
        log = self._current_files("ingest_log", self.table("ingest_log"))
        return self._history.standing(name, line, log)

    def files(self, name: str, snapshot_id: int | None) -> FileSet:
        """The data files of a snapshot (None: of a table without one), decoded once.

        UnknownReference where the snapshot is not kept; UnsupportedTable where rows were deleted by equality.
        """
        known = None if snapshot_id is None else self._file_sets.get((name, snapshot_id))
        return self._files(self.table(name), name, snapshot_id) if known is None else known

    def _files(self, table: Table, name: str, snapshot_id: int | None) -> FileSet:
        if snapshot_id is None:
            return FileSet(None)
        with self._lock:
            known = self._file_sets.pop((name, snapshot_id), None)
            if known is None:
                known = self._decode(table, name, snapshot_id)
            self._file_sets[name, snapshot_id] = known
            if len(self._file_sets) > _KEPT_FILE_SETS:
                self._file_sets.popitem(last=False)
        return known

    def _decode(self, table: Table, name: str, snapshot_id: int) -> FileSet:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise UnknownReference(name, snapshot_id, snapshots.known(table.metadata))
        return self._manifests.files(name, table.metadata, snapshot, table.io)

    def tag(self, name: str, tag: str, snapshot_id: int | None = None, move: bool = False) -> int:
        """Name a snapshot (None: the current one) and return its id.

        InvalidParameter where the name is not `[a-z][a-z0-9._-]*`, is `main` or a branch, or stands at another
        snapshot and `move` is false; UnknownReference where there is no such snapshot.
        """
        return commit.attempt(name, lambda: self._tag(name, tag, snapshot_id, move))

    def _tag(self, name: str, tag: str, snapshot_id: int | None, move: bool) -> int:
        table = self.table(name)
        wanted = self._existing(name, table, snapshots.head(table.metadata) if snapshot_id is None else snapshot_id)
        if snapshots.check_tag(table, name, tag, wanted, move):
            table.manage_snapshots().create_tag(wanted, tag).commit()
        return wanted

    def rollback(self, name: str, snapshot_id: int) -> None:
        """Make an earlier snapshot the current one. What came after it stays readable by its id until it expires.

        UnknownReference where it is not kept, InvalidParameter where main is not built on it.
        """
        commit.attempt(name, lambda: self._rollback(name, snapshot_id))

    def _rollback(self, name: str, snapshot_id: int) -> None:
        table = self.table(name)
        self._existing(name, table, snapshot_id)
        line = snapshots.ancestors(table.metadata, snapshots.head(table.metadata))
        if snapshot_id not in {snapshot.snapshot_id for snapshot in line}:
            remedy = "`snapshots` marks those that it is built on"
            raise InvalidParameter("snapshot_id", snapshot_id, f"{name} is not built on it", remedy)
        if line[0].snapshot_id != snapshot_id:
            table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()

    @staticmethod
    def _existing(name: str, table: Table, snapshot_id: int | None) -> int:
        if snapshot_id is None:
            raise UnknownReference(name, None, snapshots.known(table.metadata), f"{name} has no snapshot to name")
        if table.snapshot_by_id(snapshot_id) is None:
            raise UnknownReference(name, snapshot_id, snapshots.known(table.metadata))
        return snapshot_id

    def write(self, name: str, frame: pl.DataFrame, session: date | None = None) -> DataFile:
        """Write a sorted data file of the partition `session`, for `append` to commit or `discard` to delete.

        `frame` has every column of the contract; InvalidParameter where one is missing or a required one has nulls.
        """
        return self._writer.write(self.table(name), name, frame, session)

    def discard(self, paths: Iterable[str]) -> None:
        """Delete data files that no snapshot refers to; those that are gone already are passed over."""
        commit.discard(self.table("ingest_log").io, paths)

    def append(self, name: str, files: Sequence[str], provenance: Provenance, replace: Collection[str] = ()) -> int:
        """Commit data files in exactly one snapshot of main, with their provenance, and return its id.

        `replace` are digests whose rows are taken out in the same snapshot. Where the last commit's `ts_ingest` is
        later than ours, the files are written again with that one: it never decreases along commits.
        CommitConflict, and nothing committed, where a part of a source is in the table already (another writer may
        have been quicker) or where the commit keeps failing. The files are then the caller's to discard.
        """
        replacement = Replacement(name, replace, self._writer, lambda table: self._current_files(name, table))
        return Append(
            name=name,
            files=files,
            provenance=changed(provenance, replaced=tuple(replace)),
            writer=self._writer,
            replacement=replacement,
            load=lambda: self.table(name),
            ingests=lambda table: self._provenance(name, table),
        ).run()

    def _current_files(self, name: str, table: Table) -> FileSet:
        return self._files(table, name, snapshots.head(table.metadata))
