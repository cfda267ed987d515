"""The states of a table: its line of snapshots, and what a reference stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, UnknownReference, listed
from k2kernel.times import AsOf, from_ns

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

MAIN = "main"
_MS = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9._-]*")


@dataclass(frozen=True)
class Snapshot:
    """One state of a table. `committed_at` is UTC, to the millisecond; `source` names what its rows came from.

    `is_current_ancestor` is false for a state that a rollback left behind.
    """

    id: int
    parent_id: int | None
    committed_at: datetime
    operation: str
    rows_added: int
    rows_total: int
    source: str
    tags: tuple[str, ...]
    is_current_ancestor: bool


def committed_at(snapshot: IcebergSnapshot) -> datetime:
    """When a snapshot was committed, in UTC."""
    return from_ns(snapshot.timestamp_ms * _MS)


def ancestors(metadata: TableMetadata, snapshot_id: int | None) -> list[IcebergSnapshot]:
    """The snapshot and those before it, newest first, as far as they are kept."""
    kept = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    line = []
    while snapshot_id is not None and snapshot_id in kept:
        line.append(kept[snapshot_id])
        snapshot_id = kept[snapshot_id].parent_snapshot_id
    return line


def head(metadata: TableMetadata) -> int | None:
    """The snapshot that main stands at."""
    ref = metadata.refs.get(MAIN)
    return None if ref is None else ref.snapshot_id


def describe(metadata: TableMetadata, sources: Mapping[int, str]) -> list[Snapshot]:
    """Every kept snapshot, newest first; `sources` says by id what its rows came from."""
    current = {snapshot.snapshot_id for snapshot in ancestors(metadata, head(metadata))}
    tags: dict[int, list[str]] = {}
    for name, ref in sorted(metadata.refs.items()):
        if name != MAIN:
            tags.setdefault(ref.snapshot_id, []).append(name)
    newest_first = sorted(metadata.snapshots, key=lambda snapshot: -(snapshot.sequence_number or 0))
    return [
        _describe(snapshot, sources.get(snapshot.snapshot_id, ""), tags.get(snapshot.snapshot_id, ()), current)
        for snapshot in newest_first
    ]


def _describe(snapshot: IcebergSnapshot, source: str, tags: Iterable[str], current: set[int]) -> Snapshot:
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    return Snapshot(
        id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        committed_at=committed_at(snapshot),
        operation="" if snapshot.summary is None else snapshot.summary.operation.value,
        rows_added=int(summary.get("added-records", 0)),
        rows_total=int(summary.get("total-records", 0)),
        source=source,
        tags=tuple(tags),
        is_current_ancestor=snapshot.snapshot_id in current,
    )


def resolve(name: str, metadata: TableMetadata, as_of: AsOf | None) -> int | None:
    """The snapshot id that `as_of` stands for (None: main), or None where the table has no snapshot yet.

    An id, a tag or a branch that does not exist, and a time whose snapshot is not kept, are an UnknownReference.
    """
    if as_of is None or as_of.name == MAIN:
        return head(metadata)
    if as_of.instant is not None:
        return _at(name, metadata, as_of.instant)
    if as_of.name in metadata.refs:
        return metadata.refs[as_of.name].snapshot_id
    if any(snapshot.snapshot_id == as_of.id for snapshot in metadata.snapshots):
        return as_of.id
    raise UnknownReference(name, as_of, known(metadata))


def known(metadata: TableMetadata) -> str:
    """What there is to refer to, for a message: names, and ids with their times, newest first."""
    names = sorted(metadata.refs.keys() - {MAIN})
    newest_first = sorted(metadata.snapshots, key=lambda snapshot: -(snapshot.sequence_number or 0))
    states = listed((_label(snapshot) for snapshot in newest_first), none="no snapshot yet", most=5)
    return f"{listed(names)}; {states}" if names else states


def _label(snapshot: IcebergSnapshot) -> str:
    return f"{snapshot.snapshot_id} ({committed_at(snapshot).isoformat(timespec='milliseconds')})"


def _at(name: str, metadata: TableMetadata, instant: int) -> int:
    """The snapshot that was current at an instant in ns, by the snapshot log."""
    log = metadata.snapshot_log
    before = [entry for entry in log if entry.timestamp_ms * _MS <= instant]
    since = before[-1].timestamp_ms if before else None
    if _uncertain(metadata, since, instant // _MS):
        raise UnknownReference(name, from_ns(instant), _nearest(metadata, instant), _expired(name, instant))
    if not before:
        problem = f"{name} had no snapshot yet at {from_ns(instant).isoformat()}"
        raise UnknownReference(name, from_ns(instant), known(metadata), problem)
    return before[-1].snapshot_id


def _expired(name: str, instant: int) -> str:
    return f"the snapshot of {name} that was current at {from_ns(instant).isoformat()} has expired"


def _uncertain(metadata: TableMetadata, since_ms: int | None, instant_ms: int) -> bool:
    """True where a snapshot that is gone may have become current after `since_ms` and by `instant_ms`.

    Expiry takes a snapshot out of the log without a trace; only its sequence number is missing then. It was committed
    between its kept neighbours.
    """
    if metadata.format_version == 1:
        return False  # no sequence numbers to tell by
    times = {snapshot.sequence_number or 0: snapshot.timestamp_ms for snapshot in metadata.snapshots}
    if len(times) == metadata.last_sequence_number:
        return False
    last_change = metadata.snapshot_log[-1].timestamp_ms if metadata.snapshot_log else metadata.last_updated_ms
    present = sorted(times)
    edges = zip([0, *present], [*present, metadata.last_sequence_number + 1], strict=True)
    gaps = ((times.get(low), times.get(high, last_change)) for low, high in edges if high - low > 1)
    return any((low is None or low <= instant_ms) and (since_ms is None or high > since_ms) for low, high in gaps)


def _nearest(metadata: TableMetadata, instant: int) -> str:
    """The kept snapshots on either side of an instant."""
    by_time = sorted(metadata.snapshots, key=lambda snapshot: snapshot.timestamp_ms)
    earlier = [snapshot for snapshot in by_time if snapshot.timestamp_ms * _MS <= instant][-1:]
    later = [snapshot for snapshot in by_time if snapshot.timestamp_ms * _MS > instant][:1]
    return listed((_label(snapshot) for snapshot in earlier + later), none="no snapshot")


def check_tag(table: Table, name: str, tag: str, snapshot_id: int, move: bool) -> bool:
    """True where `tag` must be set, False where it stands at `snapshot_id` already.

    InvalidParameter for a name that is not `[a-z][a-z0-9._-]*`, for main, for a branch's name, and for a tag that
    stands elsewhere unless `move`.
    """
    if tag == MAIN or not _NAME.fullmatch(tag):
        raise InvalidParameter("tag", tag, "is no name for a tag", "Use a-z, 0-9, . _ -, a letter first, and not main")
    ref = table.metadata.refs.get(tag)
    if ref is None:
        return True
    if ref.snapshot_ref_type != "tag":
        raise InvalidParameter("tag", tag, f"is a branch of {name}", "Choose another name")
    if ref.snapshot_id != snapshot_id and not move:
        raise InvalidParameter("tag", tag, f"stands at snapshot {ref.snapshot_id} of {name}", "Move it with move=True")
    return ref.snapshot_id != snapshot_id
