"""What a table was made from: the provenance of its snapshots, parsed once, and of expired ones by `ingest_log`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from k2kernel.lake.local_io import opened
from k2kernel.lake.provenance import PARENT_KEY, TS_INGEST_KEY, Provenance, SourceRecord, standing, summary_of
from k2kernel.lake.snapshots import Parents, committed_at
from k2kernel.schemas import TABLES
from k2kernel.times import from_ns

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from k2kernel.lake.files import FileSet

LOG = "ingest_log"


class History:
    """Parsed provenance by snapshot id, which never changes once a snapshot is committed."""

    def __init__(self, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._cursor = cursor
        self._parsed: dict[int, Provenance | None] = {}
        self._logged: dict[tuple[str, int], dict[int, tuple[Provenance | None, int | None]]] = {}

    def of(self, snapshot: IcebergSnapshot) -> Provenance | None:
        """The provenance that a snapshot carries, or None where it is no ingest's."""
        known = snapshot.snapshot_id
        if known not in self._parsed:
            self._parsed[known] = Provenance.parse(summary_of(snapshot), known, committed_at(snapshot))
        return self._parsed[known]

    def sources(self, kept: Iterable[IcebergSnapshot]) -> dict[int, str]:
        """Snapshot id to the names of its sources."""
        found = ((snapshot.snapshot_id, self.of(snapshot)) for snapshot in kept)
        return {key: ", ".join(source.name for source in ingest.sources) for key, ingest in found if ingest}

    def standing(self, name: str, metadata: TableMetadata, snapshot_id: int | None, log: FileSet) -> list[Provenance]:
        """The ingests, oldest first, that a snapshot is built on: of kept ancestors, and of expired ones by the log."""
        parents, found = Parents(metadata), []
        logged = self._log(name, log) if log.files else {}
        while snapshot_id is not None:
            if snapshot_id in parents.snapshots:
                ingest, snapshot_id = self.of(parents.snapshots[snapshot_id]), parents.true(snapshot_id)
            elif snapshot_id in logged:
                ingest, snapshot_id = logged[snapshot_id]
            else:
                break
            if ingest is not None:
                found.append(ingest)
        return standing(reversed(found))

    @staticmethod
    def latest(metadata: TableMetadata, snapshot_id: int | None) -> datetime | None:
        """The `ts_ingest` of the last ingest that a snapshot is built on; None where it has expired, or none is."""
        parents = Parents(metadata)
        while snapshot_id in parents.snapshots:
            stamp = summary_of(parents.snapshots[snapshot_id]).get(TS_INGEST_KEY)
            if stamp is not None:
                return datetime.fromisoformat(stamp)
            snapshot_id = parents.true(snapshot_id)
        return None

    def logged(self, name: str, log: FileSet, among: Collection[int]) -> set[int]:
        """Which of some snapshots of a table the log has."""
        if not log.files:
            return set()
        query = """
            SELECT DISTINCT snapshot_id FROM read_parquet($paths, hive_partitioning = false)
            WHERE "table" = $name AND snapshot_id IN (SELECT unnest($among::BIGINT[]))
        """
        with self._cursor() as connection:
            values = {"paths": [opened(file.path) for file in log.files], "name": name, "among": [*among]}
            return {number for (number,) in connection.execute(query, values).fetchall()}

    def _log(self, name: str, log: FileSet) -> dict[int, tuple[Provenance | None, int | None]]:
        """Expired snapshot to its ingest, if it was one, and to its parent."""
        key = (name, log.snapshot_id or 0)
        if key not in self._logged:
            found = {}
            for number, us, text in _read_log(self._cursor, name, log):
                summary = json.loads(text)
                if number not in self._parsed:
                    self._parsed[number] = Provenance.parse(summary, number, from_ns(us * 1_000))
                parent = summary.get(PARENT_KEY)
                found[number] = (self._parsed[number], None if parent is None else int(parent))
            self._logged = {known: rows for known, rows in self._logged.items() if known[0] != name} | {key: found}
        return self._logged[key]


def log_rows(name: str, gone: Iterable[IcebergSnapshot], parents: Parents, history: History) -> pl.DataFrame:
    """What `ingest_log` keeps of snapshots that are about to expire."""
    rows: list[dict[str, object]] = []
    for snapshot in gone:
        ingest, parent = history.of(snapshot), parents.true(snapshot.snapshot_id)
        known = {key: value for key, value in summary_of(snapshot).items() if key.startswith("k2.")}
        known |= {} if parent is None else {PARENT_KEY: str(parent)}
        sources = () if ingest is None else ingest.sources
        rows += log_entries(name, snapshot.snapshot_id, committed_at(snapshot), sources, known)
    return log_frame(rows)


def log_entries(
    name: str,
    snapshot_id: int | None,
    committed: datetime | None,
    sources: Sequence[SourceRecord],
    keys: Mapping[str, str],
) -> list[dict[str, object]]:
    """What `ingest_log` keeps of one commit: a row a source, the first with all `keys` of its summary."""
    return [
        {
            "table": name,
            "source": source.digest,
            "range_start": source.first,
            "range_end": source.last,
            "rows": source.rows,
            "rejected": source.rejected,
            "snapshot_id": snapshot_id,
            "committed_at": committed,
            "provenance": None if number else json.dumps(keys, separators=(",", ":")),
        }
        for number, source in enumerate(sources or (SourceRecord("", ""),))
    ]


def log_frame(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Rows of `ingest_log` in its types."""
    import polars as pl

    return pl.DataFrame(rows, pl.Schema(TABLES[LOG].polars))


def _read_log(cursor: Callable[[], duckdb.DuckDBPyConnection], name: str, log: FileSet) -> list[tuple[int, int, str]]:
    """Snapshot, time of its commit in µs and its keys of the snapshots of a table in `ingest_log`."""
    query = """
        SELECT snapshot_id, epoch_us(any_value(committed_at)), any_value(provenance)
        FROM read_parquet($paths, hive_partitioning = false) WHERE "table" = $name AND provenance IS NOT NULL
        GROUP BY snapshot_id
    """
    with cursor() as connection:
        values = {"paths": [opened(file.path) for file in log.files], "name": name}
        found: list[tuple[int, int, str]] = connection.execute(query, values).fetchall()
    return found
