"""What the metrics say about the tables of a lake, brought up to date when somebody looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING

from k2kernel.lake.compaction import groups
from k2kernel.metrics import METRICS
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from k2kernel.lake.files import FileSet
    from k2kernel.lake.lake import Lake

_BACK, _DAYS = 10, 30


class Gauges:
    """The facts of one lake. Nothing is read but metadata, of a state that was read before not even that."""

    def __init__(self, lake: Callable[[], Lake | None]) -> None:
        self._open = lake
        self._seen: dict[str, str] = {}

    def refresh(self) -> None:
        """Set the gauges of every table that has changed."""
        lake = self._open()
        if lake is None:
            return
        for name in TABLES:
            table = lake.table(name)
            if self._seen.get(name) != table.metadata_location:
                _set(lake, name, table)
                self._seen[name] = table.metadata_location


def _set(lake: Lake, name: str, table: Table) -> None:
    snapshot = table.current_snapshot()
    for counter in (METRICS.commits, METRICS.commit_conflicts, METRICS.commit_failures):
        counter.labels(name).inc(0)
    METRICS.table_snapshots.labels(name).set(len(table.metadata.snapshots))
    if snapshot is None:
        return
    METRICS.table_committed.labels(name).set(snapshot.timestamp_ms / 1_000)
    files = lake.files(name, snapshot.snapshot_id)
    small = groups(files, lake.settings.ingest_buffer_rows)
    METRICS.table_rows.labels(name).set(files.rows)
    METRICS.table_bytes.labels(name).set(files.nbytes)
    METRICS.table_files.labels(name).set(len(files))
    METRICS.table_small_files.labels(name).set(sum(len(group.files) for group in small))
    through = max((file.ts_event_max for file in files if file.ts_event_max is not None), default=None)
    if through is not None:
        METRICS.table_through.labels(name).set(through / 1e6)
    _set_sessions(name, files)


def _set_sessions(name: str, files: FileSet) -> None:
    rows: Counter[date] = Counter()
    for file in files:
        if file.session is not None:
            rows[file.session] += file.rows
    if not rows:
        return
    latest = sorted(rows, reverse=True)
    METRICS.table_sessions.labels(name).set(len(rows))
    for back, session in enumerate(latest[:_BACK]):
        METRICS.table_session_rows.labels(name, str(back)).set(rows[session])
    days = (latest[0] - timedelta(number) for number in range(1, _DAYS + 1))
    gaps = sum(day.weekday() < 5 and day not in rows for day in days if day > latest[-1])
    METRICS.table_gaps.labels(name).set(gaps)
