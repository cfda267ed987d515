"""Tables that are made from others: their data files are replaced session by session."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from k2kernel.errors import CommitConflict
from k2kernel.lake import commit, snapshots
from k2kernel.lake.provenance import COMMIT_KEY

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from k2kernel.lake.files import FileSet


@dataclass(frozen=True)
class Rebuild:
    """Data files on their way into a table in place of those of `sessions`; `notes` go into the snapshot's summary.

    `base` are the files of the state that they were made for (without a snapshot: of an empty table).
    """

    name: str
    base: FileSet
    sessions: Collection[date]
    files: Sequence[str]
    notes: Mapping[str, str]
    id: str = field(default_factory=commit.new_commit_id)

    def step(self, table: Table) -> int:
        """The id of the snapshot; CommitConflict where another process was quicker."""
        landed = commit.landed(table, self.id)
        if landed is not None:
            return landed
        if snapshots.head(table.metadata) != self.base.snapshot_id:
            raise CommitConflict(self.name, "another process has changed it meanwhile", "Run it again")
        gone = {file.path for file in self.base if file.session in self.sessions}
        removed = commit.entries(table, self.base.snapshot_id, gone)
        added = commit.describe_files(table, self.files)
        return commit.commit(table, added, removed, {**self.notes, COMMIT_KEY: self.id})
