"""What the tests of time travel do to a lake: write to it meanwhile, compact it, and expire its past."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

import polars as pl

from k2kernel.lake import Lake, Provenance
from k2kernel.lake.commit import commit, describe_files, entries
from k2kernel.schemas import KINDS
from tests.lake_frames import OPEN
from tests.query_lake import add


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


@contextmanager
def writer_at_work(lake: Lake, row: Mapping[str, Any]) -> Iterator[None]:
    """Meanwhile a writer of its own appends rows like `row` to both kinds and compacts them, again and again."""
    stop, failures = threading.Event(), list[Exception]()

    def work() -> None:
        own = Lake.open(lake.settings)
        try:
            for number in range(1_000):
                for table in KINDS:
                    add(own, f"{table}-meanwhile-{number}", [dict(row)], table, minute=number)
                    compact(own, table, row["session"])
                if stop.is_set():
                    return
        except Exception as exc:  # noqa: BLE001 - raised below, in the test's own thread
            failures.append(exc)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
    assert not failures, failures


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
