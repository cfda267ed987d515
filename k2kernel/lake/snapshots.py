"""The states of a table: its line of snapshots, and what a reference stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from k2kernel.errors import ExpiredReference, InvalidParameter, UnknownReference, listed
from k2kernel.html import facts, record
from k2kernel.lake.pins import Pin, pinned
from k2kernel.lake.provenance import summary_of
from k2kernel.times import AsOf, from_ns

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

MAIN = "main"
_MS = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9._-]*")
PARENTS = "k2.parents"
"""The table property that says on what the snapshots were built whose parents have expired."""


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

    @property
    def row(self) -> dict[str, object]:
        """What a list of states says of it."""
        left = "" if self.is_current_ancestor else "left behind by a rollback"
        short = {"id": str(self.id), "source": self.source.rpartition("/")[2], "note": left}
        kept = ("id", "committed_at", "operation", "rows_added", "rows_total", "tags", "source", "note")
        return {name: short.get(name, getattr(self, name, None)) for name in kept}

    def _repr_html_(self) -> str:
        return record(facts(self), f"snapshot {self.id}")


@dataclass(frozen=True)
class Reference:
    """A name for a state of a table. `kind` is `tag`, `branch` or `pin`.

    A pin may be held until a day (UTC, inclusive), and has no snapshot where the table had none when it was made.
    """

    name: str
    kind: str
    snapshot_id: int | None
    committed_at: datetime | None
    hold_until: date | None = None


def committed_at(snapshot: IcebergSnapshot) -> datetime:
    """When a snapshot was committed, in UTC."""
    return from_ns(snapshot.timestamp_ms * _MS)


class Parents:
    """What each kept snapshot was built on, also where the parent has expired.

    Expiry cuts the line of ancestors. It leaves in a table property, for each snapshot above a cut, the nearest
    ancestor that is `kept`, and its `true` parent, which `ingest_log` knows.
    """

    def __init__(self, metadata: TableMetadata) -> None:
        self.snapshots = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
        self._cut: dict[str, list[int | None]] = json.loads(metadata.properties.get(PARENTS, "{}"))

    def true(self, snapshot_id: int) -> int | None:
        """The snapshot that this one was built on, kept or not."""
        cut = self._cut.get(str(snapshot_id))
        return self.snapshots[snapshot_id].parent_snapshot_id if cut is None else cut[1]

    def kept(self, snapshot_id: int) -> int | None:
        """The nearest kept ancestor."""
        cut = self._cut.get(str(snapshot_id))
        parent = self.snapshots[snapshot_id].parent_snapshot_id if cut is None else cut[0]
        return parent if parent in self.snapshots else None

    def line(self, snapshot_id: int | None) -> list[int]:
        """The snapshot and its kept ancestors, newest first."""
        found = []
        while snapshot_id is not None and snapshot_id in self.snapshots:
            found.append(snapshot_id)
            snapshot_id = self.kept(snapshot_id)
        return found

    def without(self, gone: Collection[int]) -> dict[str, str]:
        """The property as it must be once the snapshots `gone` have expired."""
        cut = {}
        for snapshot_id in self.snapshots.keys() - gone:
            true = self.true(snapshot_id)
            if true is not None and (true in gone or true not in self.snapshots):
                nearest = next((number for number in self.line(snapshot_id)[1:] if number not in gone), None)
                cut[str(snapshot_id)] = [nearest, true]
        return {PARENTS: json.dumps(cut, separators=(",", ":"))}


def ancestors(metadata: TableMetadata, snapshot_id: int | None) -> list[IcebergSnapshot]:
    """The snapshot and those that it was built on, newest first, as far as they are kept."""
    parents = Parents(metadata)
    return [parents.snapshots[number] for number in parents.line(snapshot_id)]


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
    summary = summary_of(snapshot)
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


def references(metadata: TableMetadata) -> list[Reference]:
    """The names that a table's states have, but main."""
    pins, times = pinned(metadata), {kept.snapshot_id: committed_at(kept) for kept in metadata.snapshots}
    ids = {name: ref.snapshot_id for name, ref in metadata.refs.items() if name != MAIN}
    kinds = {name: "pin" if name in pins else str(metadata.refs[name].snapshot_ref_type.value) for name in ids}
    return [
        Reference(
            name,
            kinds.get(name, "pin"),
            ids.get(name),
            None if name not in ids else times.get(ids[name]),
            pins[name].hold_until if name in pins else None,
        )
        for name in sorted(ids.keys() | pins.keys())
    ]


def resolve(name: str, metadata: TableMetadata, as_of: AsOf | None) -> int | None:
    """The snapshot id that `as_of` stands for (None: main), or None where the table has no snapshot yet.

    An id, a tag, a branch or a pin that does not exist, and a time before the first snapshot, are an UnknownReference;
    a time whose snapshot is not kept is an ExpiredReference.
    """
    if as_of is None or as_of.name == MAIN:
        return head(metadata)
    if name in dict(as_of.states):
        return _settled(name, metadata, dict(as_of.states)[name])
    if as_of.instant is not None:
        return _at(name, metadata, as_of.instant)
    if as_of.name is not None and as_of.name in metadata.refs:
        return metadata.refs[as_of.name].snapshot_id
    if as_of.name in pinned(metadata):
        return None
    if any(snapshot.snapshot_id == as_of.id for snapshot in metadata.snapshots):
        return as_of.id
    if as_of.id is not None or as_of.name is not None:
        raise UnknownReference(name, as_of, known(metadata))
    there, lacking = (known(metadata), "") if metadata.snapshots else ("", ", which has no snapshot yet")
    raise UnknownReference(name, as_of, there, f"as_of says nothing of {name}{lacking}")


def _settled(name: str, metadata: TableMetadata, snapshot_id: int | None) -> int | None:
    if snapshot_id is None or any(snapshot.snapshot_id == snapshot_id for snapshot in metadata.snapshots):
        return snapshot_id
    raise ExpiredReference(name, snapshot_id, known(metadata), f"snapshot {snapshot_id} of {name} is not kept any more")


def known(metadata: TableMetadata) -> str:
    """What there is to refer to, for a message: names, and ids with their times, newest first."""
    names = sorted((metadata.refs.keys() | pinned(metadata).keys()) - {MAIN})
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
        raise ExpiredReference(name, from_ns(instant), _nearest(metadata, instant), _expired(name, instant))
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
    stands elsewhere unless `move`; a pin, which stands in several tables, moves by itself only.
    """
    check_name(tag)
    ref = table.metadata.refs.get(tag)
    if tag in pinned(table.metadata) and (ref is None or ref.snapshot_id != snapshot_id):
        raise InvalidParameter("tag", tag, f"is a pin of {name} and other tables", "Move it with pin and move=True")
    if ref is None:
        return True
    if ref.snapshot_ref_type != "tag":
        raise InvalidParameter("tag", tag, f"is a branch of {name}", "Choose another name")
    if ref.snapshot_id != snapshot_id and not move:
        raise InvalidParameter("tag", tag, f"stands at snapshot {ref.snapshot_id} of {name}", "Move it with move=True")
    return ref.snapshot_id != snapshot_id


def existing(name: str, metadata: TableMetadata, snapshot_id: int | None) -> int:
    """`snapshot_id`; UnknownReference where the table has no such snapshot."""
    if snapshot_id is None:
        raise UnknownReference(name, None, known(metadata), f"{name} has no snapshot to name")
    if not any(snapshot.snapshot_id == snapshot_id for snapshot in metadata.snapshots):
        raise UnknownReference(name, snapshot_id, known(metadata))
    return snapshot_id


def check_pin(table: Table, name: str, wanted: Pin, existing: Pin | None, move: bool) -> None:
    """InvalidParameter for what is no name, for a branch's name, and for a tag of its own that stands elsewhere."""
    check_name(wanted.name)
    ref = table.metadata.refs.get(wanted.name)
    if ref is None or (existing is not None and name in existing.snapshots):
        return
    check_tag(table, name, wanted.name, wanted.snapshots[name] or 0, move)


def check_name(name: str) -> None:
    """InvalidParameter for what is no name of a state."""
    if name == MAIN or not _NAME.fullmatch(name):
        raise InvalidParameter("tag", name, "is no name for a tag", "Use a-z, 0-9, . _ -, a letter first, and not main")
