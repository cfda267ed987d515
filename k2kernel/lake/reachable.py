"""Which files the metadata of a table refers to, and which its folder has."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from k2kernel.errors import UnsupportedTable
from k2kernel.lake import object_store
from k2kernel.lake.local_io import local_path
from k2kernel.lake.write import is_local

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table


@dataclass
class Reachable:
    """Finds the files of tables; manifests, which never change, are read once."""

    _paths: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def files(self, table: Table) -> set[str]:
        """Every file that a kept snapshot, or the table itself, needs: data, deletes, manifests and their lists,
        statistics, and the metadata files that the log of metadata names.
        """
        metadata = table.metadata
        found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
        found |= {each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)}
        found |= {snapshot.manifest_list for snapshot in metadata.snapshots}
        manifests = {one.manifest_path: one for kept in metadata.snapshots for one in kept.manifests(table.io)}
        self._paths = {path: self._read(one, table.io) for path, one in manifests.items()}
        return found.union(manifests, *self._paths.values())

    def _read(self, manifest: ManifestFile, io: FileIO) -> tuple[str, ...]:
        known = self._paths.get(manifest.manifest_path)
        if known is None:
            known = tuple(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io))
        return known


@dataclass(frozen=True)
class Found:
    """A file on the disk or in a store: its size and the time (seconds since 1970) of its last change."""

    path: str
    nbytes: int
    changed: float

    @property
    def place(self) -> str:
        """See `place`."""
        return place(self.path)


def place(location: str) -> str:
    """One spelling of a location, which may be a path or a URI, by one of several schemes, and lead through a link."""
    if is_local(location):
        return str(local_path(location).resolve())
    return posixpath.normpath(location.partition("://")[2])


def can_list(table: Table) -> bool:
    """True where it can be told which files the folder of a table has."""
    return is_local(table.location()) or object_store.can_list(table.io)


def on_disk(name: str, table: Table) -> list[Found]:
    """Every file in the folder of a table; UnsupportedTable where that is in a store that is not known here."""
    if not can_list(table):
        raise UnsupportedTable(name, "its files cannot be listed", "Use the clean-up of the store that they are in")
    if is_local(table.location()):
        return list(_walked(local_path(table.location())))
    return [Found(*each) for each in object_store.listed(table.io, table.location())]


def _walked(top: Path) -> Iterator[Found]:
    for folder, _, names in os.walk(top):
        for each in names:
            path = Path(folder, each)
            try:
                stat = path.stat()
            except FileNotFoundError:  # a writer or another clean-up was quicker
                continue
            yield Found(str(path), stat.st_size, stat.st_mtime)


def sizes(io: FileIO, paths: set[str]) -> int:
    """Bytes of files; those that are gone count nothing."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += len(io.new_input(path))
    return total
