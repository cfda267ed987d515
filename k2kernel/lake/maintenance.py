"""`Maintenance`: what keeps tables small and fast for years, and no reader waits for or notices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial, wraps
from math import ceil
from time import time
from typing import TYPE_CHECKING, ParamSpec

from k2kernel.errors import ExpiredReference, counted, listed
from k2kernel.lake import commit, expiry
from k2kernel.lake.compaction import Compaction, Group, groups, merge_manifests
from k2kernel.lake.history import LOG, History, log_rows
from k2kernel.lake.local_io import opened
from k2kernel.lake.provenance import Provenance
from k2kernel.lake.reachable import Reachable, can_list, on_disk, place, sizes
from k2kernel.lake.retention import Retention, length, to_expire
from k2kernel.lake.snapshots import Parents, committed_at, known
from k2kernel.lake.turns import Turns
from k2kernel.lake.upkeep import Upkeep
from k2kernel.lake.write import own_columns
from k2kernel.metrics import METRICS
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    import polars as pl
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from k2kernel.config import Settings
    from k2kernel.lake.files import FileSet
    from k2kernel.lake.write import DataFile, Writer

P = ParamSpec("P")
_LOG = logging.getLogger("k2kernel.maintenance")


@dataclass(frozen=True)
class Tables:
    """What maintenance needs of a lake: tables as they are now, the files of their main, and how rows get in."""

    load: Callable[[str], Table]
    files: Callable[[str, Table], FileSet]
    write: Callable[[str, pl.DataFrame], DataFile]
    append: Callable[[str, list[str], Provenance], int]
    history: History
    writer: Writer
    turns: Turns


def _measured(step: Callable[P, Upkeep]) -> Callable[P, Upkeep]:
    """A step whose time and outcome are counted under its name."""
    action = step.__name__.replace("_", "-")

    @wraps(step)
    def measured(*given: P.args, **named: P.kwargs) -> Upkeep:
        try:
            with METRICS.upkeep_seconds.labels(action).time():
                done = step(*given, **named)
        except Exception:
            METRICS.upkeep_failures.labels(action).inc()
            raise
        if done.applied:
            METRICS.upkeep_deleted.labels(action).inc(done.deleted)
            METRICS.upkeep_deleted_bytes.labels(action).inc(done.deleted_nbytes)
            METRICS.upkeep_last.labels(action).set(time())
        return done

    return measured


@dataclass
class Maintenance:
    """Compacts, expires and cleans tables. Every step may run while others read and write, and may be killed."""

    settings: Settings
    tables: Tables
    _reachable: dict[str, Reachable] = field(default_factory=dict)

    @_measured
    def compact(self, name: str, session: date | None = None, dry_run: bool = False) -> Upkeep:
        """Write the small files of each session as few files in the table's order (of `session`: all of its files), in
        one snapshot that adds and removes no row; rows that deletes name go for good.

        A writer that is quicker is waited for; sessions whose files it replaced are left. CommitConflict, and nothing
        changed, where it goes on too long.
        """
        before = self.tables.load(name)
        own_columns(before, TABLES[name])  # refused now where they cannot be written: they would be lost
        rows = self.settings.ingest_buffer_rows
        chosen = groups(self.tables.files(name, before), rows, session)
        many = sum(len(group.files) for group in chosen)
        note = f"{counted(many, 'file')} of {counted(len(chosen), 'session')}" if chosen else ""
        if dry_run:
            return self._would_compact(name, before, chosen, note)
        if chosen:
            load, files = partial(self.tables.load, name), partial(self.tables.files, name)
            turn = partial(self.tables.turns.at, name)
            Compaction(name, self.tables.writer, load, files, rows, turn).run(chosen)
        return self._report(name, "compact", before, note=note)

    def _would_compact(self, name: str, before: Table, chosen: list[Group], note: str) -> Upkeep:
        rows = self.settings.ingest_buffer_rows
        fewer = sum(len(group.files) - ceil(group.rows / rows) for group in chosen)
        files, states = self.tables.files(name, before), len(before.metadata.snapshots)
        after = (len(files) - fewer, files.nbytes, None if chosen else files.nbytes)
        return Upkeep(name, "compact", False, states, states + bool(chosen), len(files), *after, note=note)

    @_measured
    def rewrite_manifests(self, name: str, dry_run: bool = False) -> Upkeep:
        """Merge the manifests of the current state, which make planning slow, in one snapshot without rows."""
        before = self.tables.load(name)
        many = self._manifests(before)
        if not dry_run:
            commit.attempt(name, lambda: merge_manifests(self.tables.load(name)))
        after = self.tables.load(name)
        fewer = "fewer" if dry_run else self._manifests(after)
        note = f"{many} → {fewer} manifests" if many > 1 else ""
        return self._report(name, "rewrite-manifests", before, applied=not dry_run, note=note)

    @staticmethod
    def _manifests(table: Table) -> int:
        snapshot = table.current_snapshot()
        return 0 if snapshot is None else len(snapshot.manifests(table.io))

    @_measured
    def expire(
        self,
        name: str,
        policy: Mapping[str, object] | None = None,
        dry_run: bool = True,
        now: datetime | None = None,
    ) -> Upkeep:
        """Take away the states that the policy (None: of the settings) does not keep, and every file that only they
        needed. Tags, branches, pins and holds keep theirs; `ingest_log` keeps what they brought.
        """
        retention = Retention.of(self.settings, **(policy or {}))
        moment = now or datetime.now(UTC)
        before = self.tables.load(name)
        if dry_run:
            return self._would_expire(name, before, retention, moment)
        needed: set[str] = set()
        note = ""

        def step() -> None:
            nonlocal note
            table = self.tables.load(name)
            gone = to_expire(name, table.metadata, retention, moment)
            note = note or _of_when(table.metadata, gone)
            if gone:
                needed.update(self._files(name, table))
                self._log(name, table, gone)
                expiry.expire(table, gone)

        commit.attempt(name, step, partial(self.tables.turns.at, name))
        # Files of another folder are not the table's; each commit deletes the metadata files that it makes too many.
        own = (path for path in needed if path.startswith(f"{before.location()}/"))
        needed = {path for path in own if not path.endswith(".metadata.json")}
        free = needed - self._needed(name) if needed else set()
        nbytes = sizes(before.io, free)
        commit.discard(before.io, free)
        return self._report(name, "expire", before, deleted=len(free), deleted_nbytes=nbytes, note=note)

    def _would_expire(self, name: str, before: Table, retention: Retention, moment: datetime) -> Upkeep:
        gone = to_expire(name, before.metadata, retention, moment)
        free = self._files(name, before) - self._files(name, expiry.without(before, gone)) if gone else set()
        report = self._report(
            name, "expire", before, applied=False, deleted=len(free), note=_of_when(before.metadata, gone)
        )
        return replace(report, snapshots_after=report.snapshots - len(gone), deleted_nbytes=sizes(before.io, free))

    def _files(self, name: str, table: Table) -> set[str]:
        """Every file that a table needs."""
        return self._reachable.setdefault(name, Reachable()).files(table)

    def _needed(self, name: str) -> set[str]:
        """The files that a table needs now; where another process expires some of it meanwhile, then once more."""
        return commit.attempt(name, lambda: self._files(name, self.tables.load(name)))

    def expired(self, path: str) -> ExpiredReference | None:
        """The error for a data file that is missing because no kept state has it; None where one has, or none had."""
        for name in TABLES:
            table = self.tables.load(name)
            if path.startswith(f"{opened(table.location())}/"):
                if path in {opened(file) for file in self._files(name, table)}:
                    return None
                problem = f"the state of {name} that is being read has expired meanwhile, and its files are gone"
                return ExpiredReference(name, path, known(table.metadata), problem)
        return None

    def _log(self, name: str, table: Table, gone: list[int]) -> None:
        """Copy to `ingest_log` what is about to expire. The log itself needs none: nobody asks what it is made of."""
        if name == LOG:
            return
        history, log = self.tables.history, self.tables.load(LOG)
        there = history.logged(name, self.tables.files(LOG, log), gone)
        rows = log_rows(name, expiry.to_log(table.metadata, gone, there), Parents(table.metadata), history)
        if rows.height:
            written = self.tables.write(LOG, rows)
            self.tables.append(LOG, [written.path], Provenance((), "maintenance", "", datetime.now(UTC)))

    @_measured
    def orphans(self, name: str, older_than: object = None, dry_run: bool = True) -> Upkeep:
        """Delete files in the table's folder that nothing refers to, and that have not changed for `older_than` (None:
        of the settings): younger ones may be those of a commit on its way. UnsupportedTable where the table is in a
        store whose files cannot be listed.
        """
        age = length(self.settings.orphan_age if older_than is None else older_than, "older_than")
        # The disk first: what is committed after that is not an orphan, and what is written is too young.
        there, latest = on_disk(name, self.tables.load(name)), datetime.now(UTC).timestamp() - age.total_seconds()
        needed = {place(path) for path in self._needed(name)}
        free = [file for file in there if file.changed <= latest and file.place not in needed]
        table = self.tables.load(name)
        if not dry_run:
            commit.discard(table.io, (file.path for file in free))
        note = _some([file.path for file in free], table.location())
        gone = {"deleted": len(free), "deleted_nbytes": sum(file.nbytes for file in free), "note": note}
        return self._report(name, "orphans", table, applied=not dry_run, **gone)

    def maintain(self, name: str | None = None, dry_run: bool = False) -> list[Upkeep]:
        """Compact, expire and clean a table (None: all of them) by the policy of the settings; see `orphans` for what
        is not cleaned. A step that fails keeps no other from being done: the first error is raised in the end.
        """
        done: list[Upkeep] = []
        faults: list[tuple[str, Exception]] = []
        for table in TABLES if name is None else (name,):
            for step in self._steps(table):
                try:
                    done.append(step(table, dry_run=dry_run))
                except Exception as exc:  # noqa: BLE001 - whatever it is, it is of this step
                    faults.append((table, exc))
        for table, fault in faults[1:]:
            _LOG.error("%s: %s", table, fault)
        if faults:
            raise faults[0][1]
        return done

    def _steps(self, name: str) -> list[Callable[..., Upkeep]]:
        return [self.compact, self.expire, *([self.orphans] if can_list(self.tables.load(name)) else [])]

    def _report(self, name: str, action: str, before: Table, applied: bool = True, **more: object) -> Upkeep:
        after = self.tables.load(name) if applied else before
        was, now = self.tables.files(name, before), self.tables.files(name, after)
        return Upkeep(
            name,
            action,
            applied,
            len(before.metadata.snapshots),
            len(after.metadata.snapshots),
            len(was),
            len(now),
            was.nbytes,
            now.nbytes,
            **more,  # type: ignore[arg-type]
        )


def _of_when(metadata: TableMetadata, gone: Collection[int]) -> str:
    """When the states were committed that go."""
    times = sorted(committed_at(each) for each in metadata.snapshots if each.snapshot_id in gone)
    if not times:
        return ""
    first, last = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (times[0], times[-1]))
    return f"those of {first} to {last} UTC go" if len(times) > 1 else f"that of {first} UTC goes"


def _some(paths: Collection[str], top: str) -> str:
    """The first of some paths in a folder, for people."""
    return listed((path.rpartition(f"{opened(top)}/")[2] for path in sorted(paths)), none="", most=3)
