"""Compaction: small files of a session become few sorted ones, all in one snapshot that adds and removes no row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from math import ceil
from typing import TYPE_CHECKING

from k2kernel.errors import StorageFault
from k2kernel.lake import commit
from k2kernel.lake.provenance import COMMIT_KEY, carried, summary_of
from k2kernel.lake.replacing import read_rows
from k2kernel.lake.write import by_field_id, own_columns, readable
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from k2kernel.lake.files import FileSet, LakeFile
    from k2kernel.lake.write import Writer


@dataclass(frozen=True)
class Group:
    """Files of one session (None: of a table without partitions) to write as one sorted run."""

    session: date | None
    files: tuple[LakeFile, ...]

    @property
    def rows(self) -> int:
        """Rows in the files, before deletes."""
        return sum(file.rows for file in self.files)

    @property
    def has_deletes(self) -> bool:
        """True where rows of some file may be deleted."""
        return any(file.has_deletes for file in self.files)


def groups(files: FileSet, rows: int, session: date | None = None) -> list[Group]:
    """What there is to compact into files of `rows`: of each session the files with deletes and those less than half
    full, so that a row is written again only a few times; the whole of `session`, where it is given.
    """
    by_session: dict[date | None, list[LakeFile]] = {}
    for file in files:
        by_session.setdefault(file.session, []).append(file)
    if session is not None:
        whole = Group(session, tuple(by_session.get(session, ())))
        return [whole] if len(whole.files) > 1 or whole.has_deletes else []
    days = sorted(by_session.items(), key=lambda item: item[0] or date.min)
    small = (Group(day, tuple(file for file in of if file.has_deletes or 2 * file.rows < rows)) for day, of in days)
    return [group for group in small if _worth(group, rows)]


def _worth(group: Group, rows: int) -> bool:
    return group.has_deletes or ceil(group.rows / rows) < len(group.files)


@dataclass
class Compaction:
    """One compaction of a table on its way. `load` gives the table as it is now, `files` the files of its main."""

    name: str
    writer: Writer
    load: Callable[[], Table]
    files: Callable[[Table], FileSet]
    rows: int
    turn: commit.Turn
    id: str = field(default_factory=commit.new_commit_id)
    _written: dict[Group, list[str]] = field(default_factory=dict)
    _described: dict[Group, list[DataFile]] = field(default_factory=dict)

    def run(self, chosen: Sequence[Group]) -> int | None:
        """The id of the snapshot, or None where other writers took all the files away meanwhile.

        CommitConflict, and nothing changed, where other writers are quicker every time.
        """
        try:
            table = self.load()
            for group in chosen:
                self._write(table, group)
            return commit.attempt(self.name, self._step, self.turn)
        except BaseException:
            if commit.landed(self.load(), self.id) is None:
                commit.discard(self.load().io, [path for paths in self._written.values() for path in paths])
            raise

    def _step(self) -> int | None:
        table = self.load()
        landed = commit.landed(table, self.id)
        if landed is not None:
            return landed
        current = self.files(table)
        standing = set(current)
        ready = [group for group in self._written if standing.issuperset(group.files)]
        self._drop(table, [group for group in self._written if group not in ready])
        if not ready:
            return None
        added = [file for group in ready for file in self._described[group]]
        removed = commit.entries(table, current.snapshot_id, {file.path for group in ready for file in group.files})
        summary = summary_of(table.snapshot_by_id(current.snapshot_id or 0))
        return commit.commit(table, added, removed, {**carried(summary), COMMIT_KEY: self.id})

    def _drop(self, table: Table, groups: Sequence[Group]) -> None:
        """Give up groups whose files another writer has changed: its rows are right, ours are old."""
        for group in groups:
            commit.discard(table.io, self._written.pop(group))

    def _write(self, table: Table, group: Group) -> None:
        written = self._written.setdefault(group, [])
        deleted = [file for file in group.files if file.has_deletes]
        plain = [file for file in group.files if not file.has_deletes]
        there, rows = sum(file.rows for file in plain), 0
        with ExitStack() as stack:
            frames = {f"k2_rest_{at}": read_rows(table, file) for at, file in enumerate(deleted)}
            there += sum(frame.height for frame in frames.values())
            paths = [stack.enter_context(readable(table.io, file.path)) for file in plain]
            text, values = self._sorted(table, paths, list(frames)), {"paths": paths} if paths else {}
            for file in self.writer.write_run(
                table, text, values=values, frames=frames, session=group.session, rows=self.rows
            ):
                written.append(file.path)
                rows += file.rows
        if rows != there:
            raise StorageFault(table.location(), f"{rows} of {there} rows were read while compacting {group.session}")
        self._described[group] = commit.describe_files(table, written)

    def _sorted(self, table: Table, paths: list[str], frames: list[str]) -> str:
        """The rows in the order of the table: DuckDB sorts, and spills what is too much for its memory."""
        contract = TABLES[self.name]
        parts = [*([by_field_id(table, contract)] if paths else []), *frames]
        names = ", ".join(_quoted([*contract.names, *own_columns(table, contract)]))
        union = " UNION ALL ".join(f"SELECT {names} FROM {part}" for part in parts)
        return f"FROM ({union}) ORDER BY {', '.join(f'{column} NULLS FIRST' for column in _quoted(contract.sort))}"


def merge_manifests(table: Table) -> int | None:
    """Merge the manifests of the current state into as few as their target size allows, in one snapshot without rows.

    None where there is one already. CommitConflict where another writer was quicker.
    """
    snapshot = table.current_snapshot()
    if snapshot is None or len(snapshot.manifests(table.io)) < 2:
        return None
    least = "commit.manifest.min-count-to-merge"
    before = table.properties.get(least)
    with table.transaction() as transaction:
        transaction.set_properties({least: "1"})
        producer = transaction.update_snapshot(snapshot_properties=carried(summary_of(snapshot))).merge_append()
        producer.commit()
        transaction.set_properties({least: before}) if before else transaction.remove_properties(least)
    return producer.snapshot_id


def _quoted(names: Sequence[str]) -> list[str]:
    return [f'"{name}"' for name in names]
