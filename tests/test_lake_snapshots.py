"""References, tags, rollbacks, expiry and deletes."""

from __future__ import annotations

import time
import warnings
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

from k2kernel.errors import InvalidParameter, UnknownReference, UnsupportedTable
from k2kernel.lake import Lake, LakeFile
from k2kernel.times import AsOf, parse_as_of
from tests.lake_frames import DAY, load, rows_of


def at(lake: Lake, reference: object) -> int | None:
    return lake.resolve("trades", parse_as_of(reference))  # type: ignore[arg-type]


def committed(lake: Lake, snapshot_id: int) -> datetime:
    return next(found.committed_at for found in lake.snapshots("trades") if found.id == snapshot_id)


def spaced(lake: Lake, *digests: str) -> list[int]:
    """Load files some milliseconds apart."""
    ids = []
    for digest in digests:
        ids.append(load(lake, digest))
        time.sleep(0.003)
    return ids


def test_every_spelling_of_a_reference(lake: Lake) -> None:
    assert at(lake, None) is None
    assert at(lake, "main") is None
    first, second, third = spaced(lake, "a", "b", "c")
    lake.tag("trades", "eod-2014.03_10", second)
    lake.table("trades").manage_snapshots().create_branch(first, "draft").commit()
    assert at(lake, None) == at(lake, "main") == lake.head("trades") == third
    assert at(lake, first) == at(lake, str(first)) == at(lake, "draft") == first
    assert at(lake, "eod-2014.03_10") == second
    for snapshot_id in (first, second, third):
        moment = committed(lake, snapshot_id)
        assert at(lake, moment) == at(lake, moment.isoformat()) == snapshot_id
        assert at(lake, moment + timedelta(milliseconds=1)) == snapshot_id
    assert at(lake, committed(lake, second) - timedelta(microseconds=1)) == first
    assert at(lake, datetime(2100, 1, 1, tzinfo=UTC)) == third


@pytest.mark.parametrize("reference", [1, "nothing", AsOf(name="eod")])
def test_an_unknown_reference_says_what_there_is(lake: Lake, reference: object) -> None:
    with pytest.raises(UnknownReference, match="no snapshot yet"):
        at(lake, reference)
    head = load(lake, "a")
    lake.tag("trades", "open")
    with pytest.raises(UnknownReference, match=f"It has: open; {head} \\(20"):
        at(lake, reference)


def test_a_time_before_the_first_snapshot(lake: Lake) -> None:
    load(lake, "a")
    with pytest.raises(UnknownReference, match="had no snapshot yet at 2014-03-10"):
        at(lake, "2014-03-10T00:00:00Z")


def test_a_time_after_a_rollback_is_what_was_current_then(lake: Lake) -> None:
    first, second = spaced(lake, "a", "b")
    while_second = datetime.now(UTC)
    time.sleep(0.003)
    lake.rollback("trades", first)
    time.sleep(0.003)
    after_rollback = datetime.now(UTC)
    time.sleep(0.003)
    (third,) = spaced(lake, "c")
    assert at(lake, while_second) == second
    assert at(lake, after_rollback) == first
    assert at(lake, None) == third
    assert at(lake, second) == second
    assert [(found.id, found.is_current_ancestor) for found in lake.snapshots("trades")] == [
        (third, True),
        (second, False),
        (first, True),
    ]
    assert [found.snapshot_id for found in lake.ancestors("trades")] == [third, first]
    assert [found.snapshot_id for found in lake.ancestors("trades", second)] == [second, first]


def expire(lake: Lake, *snapshot_ids: int) -> None:
    lake.table("trades").maintenance.expire_snapshots().by_ids(list(snapshot_ids)).commit()


def test_a_time_whose_snapshot_expired_is_an_error_and_never_an_older_state(lake: Lake) -> None:
    first, second, third = spaced(lake, "a", "b", "c")
    times = {snapshot_id: committed(lake, snapshot_id) for snapshot_id in (first, second, third)}
    expire(lake, second)
    with pytest.raises(UnknownReference, match=f"has expired. It has: {first} .*, {third} "):
        at(lake, times[second])
    with pytest.raises(UnknownReference, match="names no snapshot"):
        at(lake, second)
    assert at(lake, times[third]) == third
    assert at(lake, times[first] - timedelta(seconds=1) + timedelta(days=1)) == third


def test_a_time_before_the_oldest_kept_snapshot(lake: Lake) -> None:
    first, second = spaced(lake, "a", "b")
    moment = committed(lake, first)
    expire(lake, first)
    with pytest.raises(UnknownReference, match=f"has expired. It has: {second} "):
        at(lake, moment)


def test_times_stay_certain_where_an_abandoned_snapshot_expired(lake: Lake) -> None:
    first, second = spaced(lake, "a", "b")
    lake.rollback("trades", first)
    time.sleep(0.003)
    lake.untag("trades", f"before-rollback-{second}")
    expire(lake, second)
    assert at(lake, datetime.now(UTC)) == first
    (third,) = spaced(lake, "c")
    assert at(lake, datetime.now(UTC)) == third


@pytest.mark.parametrize("tag", ["main", "Main", "2014-03-10", "123", "", "a b", "a/b", "-x", "x" + "\n"])
def test_what_is_no_name_for_a_tag(lake: Lake, tag: str) -> None:
    load(lake, "a")
    with pytest.raises(InvalidParameter, match="is no name for a tag"):
        lake.tag("trades", tag)
    assert rows_of(lake).height == 10


def test_a_tag_moves_only_when_told(lake: Lake) -> None:
    first, second = load(lake, "a"), load(lake, "b")
    assert lake.tag("trades", "eod", first) == first
    assert lake.tag("trades", "eod", first) == first
    with pytest.raises(InvalidParameter, match=f"stands at snapshot {first} of trades. Move it with move=True"):
        lake.tag("trades", "eod")
    assert at(lake, "eod") == first
    assert lake.tag("trades", "eod", move=True) == at(lake, "eod") == second
    assert lake.snapshots("trades")[0].tags == ("eod",)
    lake.table("trades").manage_snapshots().create_branch(first, "draft").commit()
    with pytest.raises(InvalidParameter, match="is a branch"):
        lake.tag("trades", "draft", move=True)


def test_tag_and_rollback_name_what_is_missing(lake: Lake) -> None:
    with pytest.raises(UnknownReference, match="trades has no snapshot to name"):
        lake.tag("trades", "eod")
    first, second = load(lake, "a"), load(lake, "b")
    for call in (lambda: lake.tag("trades", "eod", 5), lambda: lake.rollback("trades", 5)):
        with pytest.raises(UnknownReference, match=r"as_of='5' names no snapshot"):
            call()
    lake.rollback("trades", first)
    lake.untag("trades", f"before-rollback-{second}")
    with pytest.raises(InvalidParameter, match="trades is not built on it"):
        lake.rollback("trades", second)
    lake.rollback("trades", first)
    assert lake.head("trades") == first


def test_snapshots_are_described(lake: Lake) -> None:
    first, second = load(lake, "a", rows=3), load(lake, "b", rows=4)
    newest, oldest = lake.snapshots("trades")
    assert (newest.id, newest.parent_id, oldest.id, oldest.parent_id) == (second, first, first, None)
    assert (newest.rows_added, newest.rows_total, newest.operation, newest.source) == (4, 7, "append", "b.csv")
    assert timedelta() <= datetime.now(UTC) - newest.committed_at < timedelta(minutes=1)


def test_a_handle_of_one_caller_is_not_moved_by_another(lake: Lake) -> None:
    load(lake, "a")
    held = lake.table("trades")
    load(lake, "b")
    assert len(held.snapshots()) == 1
    assert len(lake.table("trades").snapshots()) == 2


class DeleteManifestWriter(ManifestWriterV2):
    """PyIceberg writes no delete manifests; the other engines that share a table do."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def delete_rows(
    lake: Lake, content: DataFileContent, path: str, positions: list[int], kind: FileFormat = FileFormat.PARQUET
) -> int:
    """Commit a delete file as another engine would, and return the snapshot id."""
    table = lake.table("trades")
    place = f"{table.location()}/data/{content.name}-{len(table.snapshots())}.parquet"
    pq.write_table(pa.table({"file_path": [path] * len(positions), "pos": pa.array(positions, pa.int64())}), place)
    entry = ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        data_file=DataFile.from_args(
            content=content,
            file_path=place,
            file_format=kind,
            record_count=len(positions),
            partition=Record((DAY - date(1970, 1, 1)).days),
            file_size_in_bytes=Path(place).stat().st_size,
            lower_bounds={2147483546: path.encode()},
            upper_bounds={2147483546: path.encode()},
            equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
        ),
    )
    return _commit_deletes(lake, entry)


def _commit_deletes(lake: Lake, entry: ManifestEntry) -> int:
    table = lake.table("trades")
    meta, number, parent = table.metadata, table.metadata.new_snapshot_id(), table.current_snapshot()
    assert parent is not None
    sequence = meta.next_sequence_number()
    out = table.io.new_output(f"{table.location()}/metadata/{number}-deletes.avro")
    with DeleteManifestWriter(table.spec(), table.schema(), out, number, "deflate") as writer:
        writer.add(entry)
    listing = f"{table.location()}/metadata/snap-{number}.avro"
    target = table.io.new_output(listing)
    with write_manifest_list(2, target, number, parent.snapshot_id, sequence, "deflate") as manifests:
        manifests.add_manifests([*parent.manifests(table.io), writer.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence,
        manifest_list=listing,
        summary=Summary(Operation.DELETE),
        schema_id=meta.current_schema_id,
    )
    head = SetSnapshotRefUpdate(
        ref_name="main",
        type="branch",
        snapshot_id=number,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )
    lake.catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), head))
    return number


def files_by_source(lake: Lake) -> dict[str | None, LakeFile]:
    return {file.source_min: file for file in lake.files("trades", lake.head("trades"))}


def test_position_deletes_are_on_the_files_they_are_about(lake: Lake) -> None:
    load(lake, "a")
    load(lake, "b")
    target = files_by_source(lake)["a"].path
    delete_rows(lake, DataFileContent.POSITION_DELETES, target, [0, 3])
    load(lake, "c")
    found = files_by_source(lake)
    assert [len(found[source].deletes) for source in "abc"] == [1, 0, 0]
    assert not any(file.has_deletion_vector for file in found.values())
    planned = {
        task.file.file_path: {file.file_path for file in task.delete_files}
        for task in lake.table("trades").scan().plan_files()
    }
    assert {file.path: set(file.deletes) for file in found.values()} == planned
    assert rows_of(lake).height == 28


def test_deletion_vectors_are_told_apart(lake: Lake) -> None:
    load(lake, "a")
    load(lake, "b")
    target = files_by_source(lake)["a"].path
    delete_rows(lake, DataFileContent.POSITION_DELETES, target, [0], FileFormat.PUFFIN)
    found = files_by_source(lake)
    assert [(found[source].has_deletion_vector, found[source].deletes) for source in "ab"] == [(True, ()), (False, ())]


def test_equality_deletes_are_refused(lake: Lake) -> None:
    load(lake, "a")
    head = delete_rows(lake, DataFileContent.EQUALITY_DELETES, "", [0])
    with pytest.raises(UnsupportedTable, match=r"deleted by equality.*Compact"):
        lake.files("trades", head)


def test_what_pyiceberg_does_that_we_rely_on_or_guard_against(lake: Lake) -> None:
    """Each line that fails after an upgrade names a guard that may go, or that must be built anew."""
    first, _ = spaced(lake, "a", "b")
    table = lake.table("trades")
    table.manage_snapshots().create_tag(first, "moved").commit()
    table.manage_snapshots().create_tag(table.metadata.current_snapshot_id or 0, "moved").commit()
    assert table.refs()["moved"].snapshot_id != first, "re-creating a tag moves it without a word"
    table.manage_snapshots().remove_tag("moved").commit()
    table.manage_snapshots().rollback_to_snapshot(first).commit()
    assert table.metadata.snapshot_log[-1].snapshot_id == first, "a rollback is in the snapshot log"
    assert table.metadata.snapshot_log[-1].timestamp_ms > table.metadata.snapshots[0].timestamp_ms
    load(lake, "c")
    table = lake.table("trades")
    table.maintenance.expire_snapshots().by_id(first).commit()
    kept = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    assert first not in {entry.snapshot_id for entry in table.metadata.snapshot_log}, "expiry edits the log"
    assert all(snapshot.parent_snapshot_id is None for snapshot in kept.values()), "expiry cuts the line of ancestors"
    assert sorted(snapshot.sequence_number or 0 for snapshot in kept.values()) == [2, 3], "sequence numbers are dense"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.manage_snapshots().create_tag(table.metadata.snapshots[0].snapshot_id, "main").commit()
    assert table.refs()["main"].snapshot_ref_type == "tag", "a tag named main destroys the branch"
