"""A state of a table in a folder of plain files, and back: rows, what they came from, and how far streams are.

The folder holds `export.json` and the data files as they were, each with its digest. A restored table has one
snapshot, with an id of its own; the ingests before it go to `ingest_log` under their old ids, so that the same file is
still known and `known_at` still answers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import FileFault, InvalidParameter, UnknownReference, UnsupportedTable, counted
from k2kernel.lake import commit, offsets
from k2kernel.lake.history import LOG, log_entries, log_frame
from k2kernel.lake.provenance import COMMIT_KEY, PARENT_KEY, Provenance
from k2kernel.lake.snapshots import PARENTS, head
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table
    from pyiceberg.types import NestedField as Field

    from k2kernel.lake.lake import Lake

MANIFEST, _FORMAT = "export.json", 1


@dataclass(frozen=True)
class Exported:
    """A state of `table` in `folder`: so many files, rows and bytes of its snapshot."""

    table: str
    snapshot_id: int
    folder: str
    files: int
    rows: int
    nbytes: int

    def __str__(self) -> str:
        counts = f"{counted(self.rows, 'row')} in {counted(self.files, 'file')}, {self.nbytes:,} bytes"
        return f"{self.table} at {self.snapshot_id}: {counts} in {self.folder}"


@dataclass(frozen=True)
class Restored:
    """What was restored: `ids` are the old snapshot id and the new one, which `file` keeps as well."""

    table: str
    rows: int
    ids: tuple[int, int]
    file: str

    def __str__(self) -> str:
        became = f"snapshot {self.ids[0]} is {self.ids[1]} here (kept in {self.file})"
        return f"{self.table}: {counted(self.rows, 'row')}; {became}"


def export(lake: Lake, name: str, snapshot_id: int | None, folder: Path) -> Exported:
    """Copy a state of a table to a new folder. UnknownReference where it has none, UnsupportedTable where deletes name
    rows of its files (a compaction takes them in).
    """
    if snapshot_id is None:
        raise UnknownReference(name, "main", "", f"{name} has no snapshot to export")
    files, io = lake.files(name, snapshot_id), lake.table(name).io
    if any(file.has_deletes for file in files):
        raise UnsupportedTable(name, "has files with deleted rows", f"Run `k2 table compact {name}` first")
    if folder.exists() and any(folder.iterdir()):
        raise FileFault(str(folder), "is not empty", "Name a new folder")
    (folder / "data").mkdir(parents=True)
    listed = []
    for number, file in enumerate(files):
        path = folder / "data" / f"{number:06}.parquet"
        _fetch(io, file.path, path)
        session = None if file.session is None else file.session.isoformat()
        known = {"path": f"data/{path.name}", "session": session, "rows": file.rows, "nbytes": file.nbytes}
        listed.append(known | {"sha256": _digest(path)})
    told = {
        "format": _FORMAT,
        "table": name,
        "snapshot_id": str(snapshot_id),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "offsets": offsets.summary(offsets.held(lake.ancestors(name, snapshot_id)), ()),
        "ingests": [_told(ingest) for ingest in lake.provenance(name, snapshot_id)],
        "columns": [_column(field) for field in lake.table(name).schema().fields if field.name not in TABLES[name]],
        "files": listed,
    }
    (folder / MANIFEST).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return Exported(name, snapshot_id, str(folder), len(files), files.rows, files.nbytes)


def restore(lake: Lake, folder: Path) -> Restored:
    """Make one snapshot of an exported state in a table without one. FileFault, and nothing done, where the folder is
    not as it was written; InvalidParameter where the table has a snapshot.
    """
    told = _read(folder)
    name, old = str(told["table"]), int(told["snapshot_id"])
    table = lake.table(name)
    if head(table.metadata) is not None:
        problem = "has a snapshot already"
        raise InvalidParameter("table", name, problem, "Restore into a lake of its own: --home, or K2_HOME")
    ingests = [_ingest(each) for each in told["ingests"]]
    _widen(table, told.get("columns", ()))
    _log(lake, name, ingests)
    paths = [_store(table, folder / each["path"], each) for each in told["files"]]
    last = ingests[-1].snapshot_id if ingests else None
    new = _commit(table, paths, {**told["offsets"], "k2.restored": str(old), COMMIT_KEY: commit.new_commit_id()}, last)
    file = lake.settings.home / "restored" / f"{name}-{new}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"table": name, "snapshots": {str(old): str(new)}}), encoding="utf-8")
    return Restored(name, sum(each["rows"] for each in told["files"]), (old, new), str(file))


def _read(folder: Path) -> dict[str, Any]:
    """What the export says, after a look at every file."""
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise FileFault(
            str(folder), f"holds no {MANIFEST} that can be read", "Give a folder of k2 table export"
        ) from exc
    if told.get("format") != _FORMAT or told.get("table") not in TABLES:
        raise FileFault(str(folder), "is of another version of k2kernel", "Restore it with that one")
    for each in told["files"]:
        path = folder / each["path"]
        if not path.is_file() or _digest(path) != each["sha256"]:
            raise FileFault(str(path), "is missing, or not as it was written", "Take another copy of the export")
    return told


def _column(field: Field) -> dict[str, Any]:
    return {"id": field.field_id, "name": field.name, "type": str(field.field_type), "required": False}


def _widen(table: Table, columns: Sequence[dict[str, Any]]) -> None:
    """Give a table those columns beside the contract's that it lacks. FileFault, and nothing done, where it has one by
    another type or id than the files, which name their columns by ids, or would give it another.
    """
    from pyiceberg.types import NestedField

    wanted = [NestedField.model_validate(each) for each in columns]
    with table.transaction() as change:
        with change.update_schema() as update:
            for field in wanted:
                if field.name not in table.schema().column_names:
                    update.add_column(field.name, field.field_type)
        made = change.table_metadata.schema()
        for field in wanted:
            if made.find_field(field.name) != field:
                problem = f"has the column {field.name} as {field}, and the table has {made.find_field(field.name)}"
                raise FileFault(MANIFEST, problem, "Restore into a lake of its own: --home, or K2_HOME")


def _told(ingest: Provenance) -> dict[str, Any]:
    return {
        "snapshot_id": str(ingest.snapshot_id),
        "committed_at": None if ingest.committed_at is None else ingest.committed_at.isoformat(),
        "summary": ingest.summary(),
    }


def _ingest(told: dict[str, Any]) -> Provenance:
    moment = datetime.fromisoformat(told["committed_at"])
    found = Provenance.parse(told["summary"], int(told["snapshot_id"]), moment)
    assert found is not None  # noqa: S101 - an ingest was written
    return found


def _log(lake: Lake, name: str, ingests: Sequence[Provenance]) -> None:
    """The ingests as `ingest_log` has those of expired snapshots, each built on the one before."""
    rows: list[dict[str, object]] = []
    for before, ingest in pairwise((None, *ingests)):
        assert ingest is not None  # noqa: S101 - only the first has none before it
        parent = {} if before is None else {PARENT_KEY: str(before.snapshot_id)}
        rows += log_entries(name, ingest.snapshot_id, ingest.committed_at, ingest.sources, ingest.summary() | parent)
    if rows:
        written = lake.write(LOG, log_frame(rows))
        lake.append(LOG, [written.path], Provenance((), "restore", "", datetime.now(UTC)))


def _store(table: Table, path: Path, told: dict[str, Any]) -> str:
    session = f"/session={told['session']}" if told["session"] else ""
    location = f"{table.location()}/data{session}/{told['sha256'][:32]}-{path.name}"
    with path.open("rb") as source, table.io.new_output(location).create(overwrite=True) as target:
        shutil.copyfileobj(source, target)
    return location


def _commit(table: Table, paths: Sequence[str], summary: dict[str, str], last: int | None) -> int:
    """One snapshot, said to be built on the last ingest."""
    files = commit.describe_files(table, paths)
    with table.transaction() as transaction:
        producer = transaction.update_snapshot(snapshot_properties=summary).fast_append()
        for file in files:
            producer.append_data_file(file)
        producer.commit()
        if last is not None:
            transaction.set_properties({PARENTS: json.dumps({str(producer.snapshot_id): [None, last]})})
    return producer.snapshot_id


def _fetch(io: FileIO, location: str, path: Path) -> None:
    with io.new_input(location).open() as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
