"""Rollbacks: which snapshots main may be set to, and what goes and comes back with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.errors import CommitConflict, InvalidParameter, UnknownReference, counted, listed
from k2kernel.html import Spoken
from k2kernel.lake import refs
from k2kernel.lake.snapshots import MAIN, ancestors, head, known

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from k2kernel.lake.provenance import Provenance


@dataclass(frozen=True)
class Rollback(Spoken):
    """What a rollback did: main of `table` stood at `before` and stands at `after`.

    `undo` is the tag that the state before has, to roll forward to; None where nothing changed. `removed` and
    `returned` are the names of the sources whose rows went and came back.
    """

    table: str
    before: int
    after: int
    rows_before: int
    rows_after: int
    removed: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    undo: str | None = None

    def __str__(self) -> str:
        if self.undo is None:
            return f"{self.table} stands at {self.after} already; nothing changed"
        parts = [f"{self.table} went from {self.before} ({counted(self.rows_before, 'row')})"]
        parts += [f"to {self.after} ({counted(self.rows_after, 'row')})"]
        parts += [f"without {listed(self.removed)}"] if self.removed else []
        parts += [f"with {listed(self.returned)} again"] if self.returned else []
        return f"{' '.join(parts)}; the state before is {self.undo}"


def undo_tag(snapshot_id: int) -> str:
    """The tag that a rollback leaves at the snapshot it rolled back from."""
    return f"before-rollback-{snapshot_id}"


def roll(table: Table, name: str, current: int, target: int) -> None:
    """Set main from `current` to `target`, and leave a tag where it stood, in one commit.

    CommitConflict where another writer has moved main.
    """
    at = head(table.metadata)
    if at == target:
        return
    if at != current:
        raise CommitConflict(name, f"another writer has moved it to {at} meanwhile; nothing was rolled back")
    check_target(name, table.metadata, target)
    refs.change(table, {undo_tag(current): current}, main=target)


def publish(table: Table, name: str, branch: str) -> int:
    """Set main to the head of a branch that is built on it, and return its id.

    CommitConflict where main has rows that the branch has not: they would be dropped without a word. UnknownReference
    where there is no such branch.
    """
    ref, current = table.metadata.refs.get(branch), head(table.metadata)
    if ref is None or ref.snapshot_ref_type != "branch":
        raise UnknownReference(name, branch, known(table.metadata), f"{branch!r} is no branch of {name}")
    if current is not None and current not in _line(table.metadata, ref.snapshot_id):
        raise CommitConflict(
            name, f"main has moved since {branch} left it", "Write the branch again, from main as it is"
        )
    if current != ref.snapshot_id:
        refs.change(table, main=ref.snapshot_id)
    return ref.snapshot_id


def check_target(name: str, metadata: TableMetadata, target: int) -> None:
    """InvalidParameter unless main is built on `target`, or a tag or branch has `target` on its line and that is built
    on main: no other move keeps every row that there is now within reach of a name.
    """
    current = head(metadata)
    if target in _line(metadata, current):
        return
    behind = _line(metadata, target)
    named = (ref.snapshot_id for tag, ref in metadata.refs.items() if tag != MAIN)
    if current in behind and any(target in _line(metadata, snapshot_id) for snapshot_id in named):
        return
    shared = next((number for number in _line(metadata, current) if number in set(behind)), None)
    remedy = "`snapshots` marks those that it is built on"
    if shared is not None:
        remedy = f"Roll back to {shared}, on which both are built, and then forward to a tag of it"
    raise InvalidParameter("snapshot_id", target, f"{name} is not built on it", remedy)


def _line(metadata: TableMetadata, snapshot_id: int | None) -> list[int]:
    return [snapshot.snapshot_id for snapshot in ancestors(metadata, snapshot_id)]


def sources_only_in(some: Iterable[Provenance], others: Iterable[Provenance]) -> tuple[str, ...]:
    """The names of sources that `some` ingests brought and `others` did not."""
    there = {(source.digest, source.first) for ingest in others for source in ingest.sources}
    names = (source.name for ingest in some for source in ingest.sources if (source.digest, source.first) not in there)
    return tuple(dict.fromkeys(names))
