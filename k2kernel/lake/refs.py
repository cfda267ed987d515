"""What a commit of names is made of: tags, the place of main, and properties, changed together or not at all.

PyIceberg's own transaction keeps one requirement of a kind, and so would forget to check main beside a tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
)

from k2kernel.lake.commit import discard
from k2kernel.lake.snapshots import MAIN

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.update import TableRequirement, TableUpdate


def change(
    table: Table,
    tags: Mapping[str, int] | None = None,
    *,
    main: int | None = None,
    remove: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
    forget: Sequence[str] = (),
) -> None:
    """Commit tags to set and names to `remove`, the snapshot that becomes `main`, properties to set and to `forget`.

    The commit fails where one of those names, or main, is not what `table` says it is.
    """
    updates: list[TableUpdate] = [_set(tag, "tag", snapshot_id) for tag, snapshot_id in (tags or {}).items()]
    updates += [RemoveSnapshotRefUpdate(ref_name=name) for name in remove]
    updates += [_set(MAIN, "branch", main)] if main is not None else []
    updates += [SetPropertiesUpdate(updates=dict(properties))] if properties else []
    updates += [RemovePropertiesUpdate(removals=list(forget))] if forget else []
    names = [*(tags or {}), *remove, *([MAIN] if main is not None else [])]
    apply(table, _as_now(table, names), tuple(updates))


def apply(table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]) -> None:
    """Commit updates, and delete the metadata files that the log of metadata has dropped, as PyIceberg's commits do."""
    after = table.catalog.commit_table(table, requirements, updates).metadata
    dropped = {each.metadata_file for each in table.metadata.metadata_log}
    discard(table.io, dropped - {each.metadata_file for each in after.metadata_log})


def _set(name: str, kind: str, snapshot_id: int) -> SetSnapshotRefUpdate:
    return SetSnapshotRefUpdate(
        ref_name=name,
        type=kind,
        snapshot_id=snapshot_id,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )


def _as_now(table: Table, names: Sequence[str]) -> tuple[TableRequirement, ...]:
    refs = table.metadata.refs
    stand = [
        AssertRefSnapshotId(ref=name, snapshot_id=refs[name].snapshot_id if name in refs else None) for name in names
    ]
    return (AssertTableUUID(uuid=table.metadata.table_uuid), *stand)
