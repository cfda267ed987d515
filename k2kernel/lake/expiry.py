"""Expiry: snapshots that a policy lets go leave the metadata first, and then the files that only they needed the disk.

What they brought is in `ingest_log` before. A process that is killed on the way leaves files that nothing refers to,
and rows of the log of snapshots that are still kept, which is where they are looked for first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import Field
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update import (
    AssertTableUUID,
    RemovePartitionStatisticsUpdate,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
)

from k2kernel.lake import refs
from k2kernel.lake.snapshots import Parents

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
    from pyiceberg.table.update import TableUpdate


class _StillFree(AssertTableUUID):
    """Fails where a name was set at one of the `expiring` snapshots meanwhile, which would go with it, or where another
    process has expired one. A catalog server knows it as the plain requirement, and checks that alone.
    """

    expiring: frozenset[int] = Field(exclude=True)

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # as its base does
        """CommitFailedException where the requirement is not met."""
        super().validate(base_metadata)
        assert base_metadata is not None  # noqa: S101 - the line above has looked
        named = {ref.snapshot_id for ref in base_metadata.refs.values()} & self.expiring
        if named or not self.expiring <= {snapshot.snapshot_id for snapshot in base_metadata.snapshots}:
            raise CommitFailedException("a snapshot that was to expire has a name now, or is gone")


def to_log(metadata: TableMetadata, gone: Collection[int], logged: Collection[int]) -> list[IcebergSnapshot]:
    """Those of the snapshots `gone`, not `logged` yet, that a kept one is built on."""
    parents = Parents(metadata)
    kept = parents.snapshots.keys() - gone
    needed = {number for one in kept for number in parents.line(one)} & set(gone)
    return [parents.snapshots[number] for number in needed - set(logged)]


def without(table: Table, gone: Collection[int]) -> Table:
    """The table as it will be without the snapshots `gone`."""
    old = table.metadata
    kept = {
        "snapshots": [each for each in old.snapshots if each.snapshot_id not in gone],
        "statistics": [each for each in old.statistics if each.snapshot_id not in gone],
        "partition_statistics": [each for each in old.partition_statistics if each.snapshot_id not in gone],
    }
    return type(table)(table.name(), old.model_copy(update=kept), table.metadata_location, table.io, table.catalog)


def expire(table: Table, gone: Collection[int]) -> None:
    """Take snapshots out of the metadata, in one commit; see `_StillFree` for when it fails."""
    removed: list[TableUpdate] = [
        RemovePartitionStatisticsUpdate(snapshot_id=each.snapshot_id)
        for each in table.metadata.partition_statistics
        if each.snapshot_id in gone
    ]
    updates = (
        *removed,
        RemoveSnapshotsUpdate(snapshot_ids=sorted(gone)),
        SetPropertiesUpdate(updates=Parents(table.metadata).without(gone)),
    )
    free = _StillFree(uuid=table.metadata.table_uuid, expiring=frozenset(gone))
    refs.apply(table, (free,), updates)
