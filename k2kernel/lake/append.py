"""One append: look, describe, commit; and again, until its snapshot stands or another's stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from k2kernel.errors import CommitConflict
from k2kernel.lake import commit, offsets
from k2kernel.lake.offsets import Claim
from k2kernel.lake.provenance import COMMIT_KEY, Provenance, SourceRecord
from k2kernel.lake.snapshots import ancestors, head
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from k2kernel.lake.replacing import Replacement
    from k2kernel.lake.write import Writer


@dataclass
class Append:
    """Files on their way into a table. `load` gives the table as it is committed now, `ingests` what stands in it, and
    `latest` the `ts_ingest` of the last of them: a stream commits for years, and asks no more than that.

    With `claims` the rows are those offsets of a stream, and the table must end where they begin; else their sources
    must not be in it.
    """

    name: str
    files: Sequence[str]
    provenance: Provenance
    writer: Writer
    replacement: Replacement
    load: Callable[[], Table]
    ingests: Callable[[Table], list[Provenance]]
    turn: commit.Turn
    latest: Callable[[Table], datetime | None]
    made_for: Sequence[int | None] = ()
    seen: Collection[int | None] | None = None
    claims: Sequence[Claim] = ()
    id: str = field(default_factory=commit.new_commit_id)
    restamped: list[str] = field(default_factory=list)
    _described: list[DataFile] | None = None

    def run(self) -> int:
        """The id of the snapshot. CommitConflict where nothing was committed."""
        try:
            snapshot_id = commit.attempt(self.name, self._step, self.turn)
        except CommitConflict:
            # It may have landed after all, and only the answer to the last attempt was lost.
            landed = commit.landed(self.load(), self.id)
            if landed is None:
                self._discard([*self.restamped, *self.replacement.written])
                raise
            snapshot_id = landed
        self._discard([*self.files] if self.restamped else [])
        return snapshot_id

    def _step(self) -> int:
        table = self.load()
        landed = commit.landed(table, self.id)
        if landed is not None:
            return landed
        if self.made_for and head(table.metadata) not in self.made_for:
            raise CommitConflict(
                self.name, "another writer was quicker, and the rows were checked against what was there"
            )
        there = offsets.held(ancestors(table.metadata, head(table.metadata)))
        if self.claims:
            offsets.check(self.name, there, self.claims)
        else:
            self._refuse_repeated(self.ingests(table))
        self._keep_time_order(table, self.latest(table))
        removed, kept = self.replacement.plan(table)
        added = [*self._manifested(table), *commit.describe_files(table, kept)]
        carried = offsets.summary(there, self.claims)
        return commit.commit(table, added, removed, {**carried, **self.provenance.summary(), COMMIT_KEY: self.id})

    def _refuse_repeated(self, ingests: Sequence[Provenance]) -> None:
        ours: dict[str, list[SourceRecord]] = {}
        for source in self.provenance.sources:
            ours.setdefault(source.digest, []).append(source)
        for ingest in ingests:
            for there in ingest.sources:
                leaves = there.digest in self.provenance.replaced
                if leaves and (self.seen is None or ingest.snapshot_id in self.seen or there.digest in ours):
                    continue
                if leaves or any(source.clashes(there) for source in ours.get(there.digest, ())):
                    raise CommitConflict(
                        self.name,
                        f"{there.name} from {there.first} to {there.last} is in snapshot {ingest.snapshot_id} already",
                        "Nothing was added; run the same command again and it counts the rows as duplicates",
                    )

    def _keep_time_order(self, table: Table, latest: datetime | None) -> None:
        """Another writer may have started later and committed sooner: our rows are then stamped just after its."""
        if latest is None or latest < self.provenance.ts_ingest:
            return
        # A microsecond apart, so that the time of ingest tells the rows of two commits from each other.
        stamp = latest + timedelta(microseconds=1)
        self.provenance = replace(self.provenance, ts_ingest=stamp)
        if "ts_ingest" in TABLES[self.name]:
            self._restamp(table, stamp)

    def _restamp(self, table: Table, ts_ingest: datetime) -> None:
        before = self.restamped
        self.restamped = [self.writer.restamp(table, path, ts_ingest) for path in before or self.files]
        self._described = None
        self._discard(before)

    def _manifested(self, table: Table) -> list[DataFile]:
        if self._described is None:
            self._described = commit.describe_files(table, self.restamped or self.files)
        return self._described

    def _discard(self, paths: Sequence[str]) -> None:
        if paths:
            commit.discard(self.load().io, paths)
