"""What the tests of time travel do to a lake: compact it, and expire its past as maintenance would."""

from __future__ import annotations

import json
from datetime import date

import polars as pl

from k2kernel.lake import Lake, Provenance
from k2kernel.lake.commit import commit, describe_files, entries
from tests.lake_frames import OPEN


def compact(lake: Lake, table: str = "trades", session: date | None = None) -> int:
    """Rewrite the files of a session (None: of each) as one, in one snapshot, and return its id."""
    head = lake.head(table)
    current = lake.files(table, head)
    sessions = {file.session for file in current if session in (None, file.session)}
    written, removed = [], []
    for day in sessions:
        files = [file for file in current if file.session == day]
        rows = pl.concat([pl.read_parquet(file.path, hive_partitioning=False) for file in files])
        written.append(lake.write(table, rows, day).path)
        removed += [file.path for file in files]
    at = lake.table(table)
    return commit(at, describe_files(at, written), entries(at, head, removed), {})


def expire_past(lake: Lake, table: str = "trades") -> None:
    """Copy the provenance of all snapshots but the current one to `ingest_log`, and expire them."""
    ingests = [ingest for ingest in lake.provenance(table) if ingest.snapshot_id != lake.head(table)]
    rows = [
        {
            "table": table,
            "source": source.digest,
            "range_start": source.first,
            "range_end": source.last,
            "rows": source.rows,
            "rejected": source.rejected,
            "snapshot_id": ingest.snapshot_id,
            "committed_at": ingest.committed_at,
            "provenance": json.dumps(ingest.summary()),
        }
        for ingest in ingests
        for source in ingest.sources
    ]
    written = lake.write("ingest_log", pl.DataFrame(rows))
    lake.append("ingest_log", [written.path], Provenance((), "maintenance", "", OPEN))
    old = [snapshot.id for snapshot in lake.snapshots(table) if snapshot.id != lake.head(table)]
    lake.table(table).maintenance.expire_snapshots().by_ids(old).commit()
