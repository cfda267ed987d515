"""What a table was made from: the provenance of its snapshots, parsed once, and of expired ones by `ingest_log`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from k2kernel.lake.local_io import local_path
from k2kernel.lake.provenance import Provenance, standing
from k2kernel.lake.snapshots import committed_at
from k2kernel.times import from_ns

if TYPE_CHECKING:
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from k2kernel.lake.files import FileSet


class History:
    """Parsed provenance by snapshot id, which never changes once a snapshot is committed."""

    def __init__(self) -> None:
        self._parsed: dict[int, Provenance | None] = {}
        self._logged: dict[tuple[str, int], list[Provenance]] = {}

    def of(self, snapshot: IcebergSnapshot) -> Provenance | None:
        """The provenance that a snapshot carries, or None where it is no ingest's."""
        known = snapshot.snapshot_id
        if known not in self._parsed:
            summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
            self._parsed[known] = Provenance.parse(summary, known, committed_at(snapshot))
        return self._parsed[known]

    def sources(self, kept: Iterable[IcebergSnapshot]) -> dict[int, str]:
        """Snapshot id to the names of its sources."""
        found = ((snapshot.snapshot_id, self.of(snapshot)) for snapshot in kept)
        return {key: ", ".join(source.name for source in ingest.sources) for key, ingest in found if ingest}

    def standing(self, name: str, line: Sequence[IcebergSnapshot], log: FileSet) -> list[Provenance]:
        """The ingests, oldest first, of a line of ancestors (newest first) and of what the log has from before it."""
        kept = [ingest for snapshot in reversed(line) if (ingest := self.of(snapshot)) is not None]
        if not line or not log.files:
            return standing(kept)
        reached, start = {snapshot.snapshot_id for snapshot in line}, committed_at(line[-1])
        # What the log has from later than the oldest ancestor was left behind by a rollback.
        expired = [
            ingest
            for ingest in self._log(name, log)
            if ingest.snapshot_id not in reached and ingest.committed_at is not None and ingest.committed_at <= start
        ]
        return standing(expired + kept)

    def _log(self, name: str, log: FileSet) -> list[Provenance]:
        key = (name, log.snapshot_id or 0)
        if key not in self._logged:
            self._logged = {key: _read_log(name, log)}
        return self._logged[key]


def _read_log(name: str, log: FileSet) -> list[Provenance]:
    """The ingests of a table in `ingest_log`, oldest first: one for each snapshot."""
    import duckdb

    query = """
        SELECT snapshot_id, epoch_us(any_value(committed_at)), any_value(provenance)
        FROM read_parquet($paths, hive_partitioning = false) WHERE "table" = $name AND provenance IS NOT NULL
        GROUP BY snapshot_id ORDER BY 2
    """
    with duckdb.connect(":memory:") as connection:
        values = {"paths": [str(local_path(file.path)) for file in log.files], "name": name}
        rows = connection.execute(query, values).fetchall()
    parsed = (Provenance.parse(json.loads(text), number, from_ns(us * 1_000)) for number, us, text in rows)
    return [ingest for ingest in parsed if ingest is not None]
