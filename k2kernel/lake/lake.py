"""`Lake`: the tables of the namespace, and everything that is done to them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace as changed
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from k2kernel.cached import cached_property
from k2kernel.errors import ExpiredReference, InvalidParameter, UnknownReference, UnknownTable
from k2kernel.lake import commit, offsets, pins, snapshots
from k2kernel.lake.append import Append
from k2kernel.lake.catalog import (
    add_columns,
    connect,
    create_table,
    create_tables,
    load_table,
    metadata_location,
    same_columns,
)
from k2kernel.lake.derived import Rebuild
from k2kernel.lake.files import MOST_FILES, FileSet, Manifests, Recent
from k2kernel.lake.history import LOG, History
from k2kernel.lake.names import Names
from k2kernel.lake.offsets import Claim
from k2kernel.lake.pins import Pin
from k2kernel.lake.repeats import Repeats
from k2kernel.lake.replacing import Replacement
from k2kernel.lake.rollback import Rollback, publish, roll, sources_only_in, undo_tag
from k2kernel.lake.turns import Turns
from k2kernel.lake.write import DataFile, Writer, storing
from k2kernel.schemas import TABLES, declared
from k2kernel.times import AsOf, from_ns

if TYPE_CHECKING:
    import polars as pl
    from pyiceberg.catalog import Catalog
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from k2kernel.config import Settings
    from k2kernel.lake.maintenance import Maintenance
    from k2kernel.lake.provenance import Provenance
    from k2kernel.lake.snapshots import Reference, Snapshot


class Lake:
    """The Iceberg tables behind one catalog. Safe to share between threads; several processes may write at once."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog
        self._writer = Writer(settings)
        self._manifests = Manifests()
        self._history = History(self._writer.cursor)
        self._names = Names(self.table)
        self._turns = Turns(settings.home / "turns")
        self._lock = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._file_sets = Recent[tuple[str, int], FileSet](MOST_FILES)

    @classmethod
    def open(cls, settings: Settings, create: bool = False) -> Lake:
        """The lake of `settings`. With `create` its folder, catalog and tables are made where they are missing.

        LakeNotFound where the embedded catalog is absent and `create` is false.
        """
        catalog = connect(settings, create)
        if create:
            with storing(settings.warehouse_path):
                create_tables(catalog, settings)
        return cls(settings, catalog)

    def close(self) -> None:
        """Let go of connections; the lake can still be used, and opens them again."""
        self._writer.close()
        self.catalog.close()

    def table(self, name: str) -> Table:
        """The table as it is committed now; UnknownTable where there is none of that name, and see `load_table`.

        The object is the caller's own: committing through it changes no other one.
        """
        known = self._tables.get(name)
        location = metadata_location(self.catalog, name)
        if known is None or location is None or known.metadata_location != location:
            known = self._tables[name] = load_table(self.catalog, name, self.settings)
        return Table(known.name(), known.metadata, known.metadata_location, known.io, self.catalog)

    def head(self, name: str) -> int | None:
        """The snapshot id of main, or None where nothing was committed yet."""
        return snapshots.head(self.table(name).metadata)

    def resolve(self, name: str, as_of: AsOf | None) -> int | None:
        """The snapshot id that `as_of` stands for (None: the current one), or None where there is no snapshot yet.

        A time stands for the snapshot that was current then; a pin for None where the table had no snapshot when it
        was made. UnknownReference, which lists what there is, where nothing answers to `as_of`; ExpiredReference
        where the snapshot that was current then is not kept.
        """
        try:
            return snapshots.resolve(name, self.table(name).metadata, as_of)
        except ExpiredReference:
            raise
        except UnknownReference as exc:
            owners = self._owners(as_of)
            if as_of is None or not owners:
                raise
            kind = "snapshot" if as_of.id is not None else "name"
            problem = f"as_of={str(as_of)!r} is a {kind} of {' and '.join(owners)}, not of {name}"
            raise UnknownReference(name, as_of, exc.known, problem) from exc

    def _owners(self, as_of: AsOf | None) -> list[str]:
        """The tables that have the snapshot or the name."""
        if as_of is None or (as_of.id is None and as_of.name is None):
            return []
        tables = ((name, self.table(name).metadata) for name in TABLES)
        return [
            name
            for name, metadata in tables
            if as_of.name in metadata.refs or any(kept.snapshot_id == as_of.id for kept in metadata.snapshots)
        ]

    def state(self, name: str, as_of: AsOf | None) -> int | None:
        """As `resolve`, with None also where the table has no snapshot, or had none at that time: for reads of several
        tables, of which one may have come later.
        """
        try:
            return self.resolve(name, as_of)
        except ExpiredReference:
            raise
        except UnknownReference:
            if self.head(name) is None or (as_of is not None and as_of.instant is not None):
                return None
            raise

    def states(self, as_of: AsOf | None) -> AsOf:
        """`as_of` settled for every table that has such a state, so that later writes, moved tags and rollbacks change
        nothing; UnknownReference where no table has one.
        """
        found: dict[str, int | None] = {}
        for name in TABLES:
            with suppress(UnknownReference):
                found[name] = self.resolve(name, as_of)
        if not found:
            self.resolve(next(iter(TABLES)), as_of)
        return (as_of or AsOf()).settled(found)

    def snapshots(self, name: str) -> list[Snapshot]:
        """Every kept state of a table, newest first."""
        metadata = self.table(name).metadata
        return snapshots.describe(metadata, self._history.sources(metadata.snapshots))

    def ancestors(self, name: str, snapshot_id: int | None = None) -> list[IcebergSnapshot]:
        """The snapshot (None: the current one) and those that it was built on, newest first."""
        metadata = self.table(name).metadata
        return snapshots.ancestors(metadata, snapshots.head(metadata) if snapshot_id is None else snapshot_id)

    def provenance(self, name: str, snapshot_id: int | None = None) -> list[Provenance]:
        """Every ingest that a snapshot (None: main) is built on, oldest first: of kept ones, and of expired ones by
        `ingest_log`. Sources that a later ingest replaced are left out.
        """
        return self._provenance(name, self.table(name), snapshot_id)

    def _provenance(self, name: str, table: Table, snapshot_id: int | None = None) -> list[Provenance]:
        start = snapshots.head(table.metadata) if snapshot_id is None else snapshot_id
        return self._history.standing(name, table.metadata, start, self._log())

    def _latest(self, name: str, table: Table) -> datetime | None:
        """The `ts_ingest` of the last ingest: it grows along commits, so the last kept one says it, if one is kept."""
        kept = self._history.latest(table.metadata, snapshots.head(table.metadata))
        return kept or max((ingest.ts_ingest for ingest in self._provenance(name, table)), default=None)

    def _log(self) -> FileSet:
        return self._current_files(LOG, self.table(LOG))

    def ingested_by(self, name: str, snapshot_id: int | None, instant: int) -> datetime:
        """The last `ts_ingest` (UTC) of rows in a snapshot whose commit was visible at an instant in ns.

        `ts_ingest` grows with every commit, so the rows up to it are those of the commits until then, wherever a
        compaction has put them and whether or not those snapshots are kept.
        """
        moment = from_ns(instant)
        stamps = [(ingest.committed_at, ingest.ts_ingest) for ingest in self.provenance(name, snapshot_id)]
        until = [stamp for committed, stamp in stamps if committed is not None and committed <= moment]
        since = [stamp for committed, stamp in stamps if committed is not None and committed > moment]
        # Rows of other programs' commits have no record: their own stamps decide.
        foreign = min([moment, *(stamp - timedelta(microseconds=1) for stamp in since)])
        return max([foreign, *until])

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
            known = self._file_sets.get((name, snapshot_id))
            found = self._decode(table, name, snapshot_id) if known is None else known
            return self._file_sets.put((name, snapshot_id), found)

    def _decode(self, table: Table, name: str, snapshot_id: int) -> FileSet:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise UnknownReference(name, snapshot_id, snapshots.known(table.metadata))
        try:
            return self._manifests.files(name, table.metadata, snapshot, table.io)
        except FileNotFoundError as exc:  # an expiry was quicker
            raise self.maintenance.expired(str(exc.filename)) or exc from exc

    def tag(self, name: str, tag: str, snapshot_id: int | None = None, move: bool = False) -> int:
        """Name a snapshot (None: the current one) and return its id.

        InvalidParameter where the name is not `[a-z][a-z0-9._-]*`, is `main`, a branch or a pin, or stands at another
        snapshot and `move` is false; UnknownReference where there is no such snapshot.
        """
        return self._names.tag(name, tag, snapshot_id, move)

    def tags(self, name: str) -> list[Reference]:
        """The names that a table's states have: tags, branches and pins."""
        return snapshots.references(self.table(name).metadata)

    def untag(self, name: str, tag: str) -> None:
        """Take a tag away; the snapshot stays until it expires.

        UnknownReference where there is no such tag; InvalidParameter where it is a branch, or a pin.
        """
        self._names.untag(name, tag)

    def pin(
        self,
        name: str,
        tables: Iterable[str] | None = None,
        as_of: AsOf | None = None,
        hold_until: date | None = None,
        move: bool = False,
    ) -> Pin:
        """One name for a state of several tables (None: all of them); see `Workbench.pin`."""
        chosen = list(TABLES if tables is None else tables)
        if not chosen or (hold_until is not None and hold_until < pins.today()):
            wrong = ("tables", chosen, "is empty") if not chosen else ("hold_until", str(hold_until), "is past")
            raise InvalidParameter(*wrong)
        states = {table: self.state(table, as_of) for table in chosen}
        if all(snapshot_id is None for snapshot_id in states.values()):
            self.resolve(chosen[0], as_of or AsOf(name=name))
        return self._names.pin(Pin(name, states, datetime.now(UTC), hold_until), move)

    def pins(self) -> list[Pin]:
        """Every pin, oldest first."""
        return self._names.pins()

    def unpin(self, name: str) -> None:
        """Take a pin away from every table; InvalidParameter while its hold lasts."""
        self._names.unpin(name)

    def rollback(self, name: str, snapshot_id: int) -> Rollback:
        """Make an earlier snapshot the current one, or a later one again; see `Workbench.rollback`."""
        before = self.table(name)
        current = snapshots.existing(name, before.metadata, snapshots.head(before.metadata))
        snapshots.existing(name, before.metadata, snapshot_id)
        commit.attempt(name, lambda: roll(self.table(name), name, current, snapshot_id))
        was, now = self._provenance(name, before, current), self._provenance(name, self.table(name), snapshot_id)
        return Rollback(
            table=name,
            before=current,
            after=snapshot_id,
            rows_before=self.files(name, current).rows,
            rows_after=self.files(name, snapshot_id).rows,
            removed=sources_only_in(was, now),
            returned=sources_only_in(now, was),
            undo=None if current == snapshot_id else undo_tag(current),
        )

    def publish(self, name: str, branch: str) -> int:
        """Make the head of a branch the current state, if it is built on the one that is; see `rollback.publish`."""
        return commit.attempt(name, lambda: publish(self.table(name), name, branch))

    @cached_property
    def maintenance(self) -> Maintenance:
        """What keeps the tables small and fast: compaction, expiry, and the removal of orphans."""
        from k2kernel.lake.maintenance import Maintenance, Tables

        return Maintenance(
            self.settings,
            Tables(self.table, self._current_files, self.write, self.append, self._history, self._writer, self._turns),
        )

    def write(self, name: str, frame: pl.DataFrame, session: date | None = None) -> DataFile:
        """Write a sorted data file of the partition `session`, for `append` to commit or `discard` to delete.

        `frame` has every column of the contract; InvalidParameter where one is missing or a required one has nulls.
        """
        return self._writer.write(self.table(name), name, frame, session)

    def widen(self, name: str, columns: Mapping[str, str]) -> list[str]:
        """Give a table optional columns beside the contract's, by name and type; which of them it has then. It lacks
        those that it has of another type, or in another spelling, which are left as they are.
        """
        if not columns.keys() <= set(self.table(name).schema().column_names):
            commit.attempt(name, lambda: add_columns(self.table(name), columns))
        return same_columns(self.table(name), columns) if columns else []

    def discard(self, paths: Iterable[str]) -> None:
        """Delete data files that no snapshot refers to; those that are gone already are passed over."""
        commit.discard(self.table("ingest_log").io, paths)

    def repeats(
        self, new: Sequence[str], snapshot_id: int | None, sources: Sequence[str], leaving: Collection[str] = ()
    ) -> Repeats:
        """The fills in data files of trades that were written, not committed, whose venue's id another one has, there
        or in a snapshot; see `Repeats`.
        """
        stored = self.files("trades", snapshot_id)
        return Repeats(self.table("trades"), self._writer, new, stored, sources=sources, leaving=leaving)

    def offsets(self, name: str, snapshot_id: int | None = None) -> dict[str, Claim]:
        """How far a state of a table (None: the current one) has each `topic/partition`, and who wrote it last."""
        return offsets.held(self.ancestors(name, snapshot_id))

    def append(
        self,
        name: str,
        files: Sequence[str],
        provenance: Provenance,
        replace: Collection[str] = (),
        *,
        seen: Collection[int | None] | None = None,
        made_for: Sequence[int | None] = (),
        claims: Sequence[Claim] = (),
    ) -> int:
        """Commit data files in exactly one snapshot of main, with their provenance, and return its id.

        `replace` are digests whose rows are taken out in the same snapshot. Where the last commit's `ts_ingest` is
        later than ours, the files are written again with that one: it never decreases along commits.
        CommitConflict, and nothing committed, where a part of a source is in the table already (another writer may
        have been quicker), where another brought rows back that would be taken out (`seen`, if given, are the snapshots
        that the caller knew), where `made_for` is given and another snapshot is current (None: none is), or where the
        commit keeps failing. The files are then the caller's to discard.

        `claims` say that the rows (there may be none) are these offsets of a stream: each must begin where the table
        ends, else CommitConflict; WriterFenced where a later writer has taken a partition over.
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
            turn=lambda: self._turns.at(name),
            latest=lambda table: self._latest(name, table),
            made_for=made_for,
            seen=seen,
            claims=claims,
        ).run()

    def rebuild(
        self, name: str, base: FileSet, sessions: Collection[date], files: Sequence[str], notes: Mapping[str, str]
    ) -> int:
        """Put data files in place of those of `sessions` in a table that is made from others, in one snapshot with
        `notes` in its summary, and return its id. CommitConflict where the table is no longer at `base`.
        """
        step = Rebuild(name, base, sessions, files, notes).step
        return commit.attempt(name, lambda: step(self.table(name)))

    def notes(self, name: str) -> list[tuple[int, Mapping[str, str]]]:
        """The kept snapshots of a table that is made from others, newest first, with their notes; none where there is
        no such table.
        """
        try:
            line = self.ancestors(name)
        except UnknownTable:
            return []
        return [(each.snapshot_id, each.summary.additional_properties) for each in line if each.summary is not None]

    def make(self, name: str) -> None:
        """Make a table that is made from others where it is missing."""
        create_table(self.catalog, declared(name), self.settings)

    def _current_files(self, name: str, table: Table) -> FileSet:
        return self._files(table, name, snapshots.head(table.metadata))
