"""Names of states: tags of one table, and pins over several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, UnknownReference
from k2kernel.lake import pins, refs, snapshots
from k2kernel.lake.commit import attempt
from k2kernel.lake.pins import Pin
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Names:
    """Sets and takes away names; `table` gives a table as it is committed now. Every step can be run again."""

    table: Callable[[str], Table]

    def tag(self, name: str, tag: str, snapshot_id: int | None, move: bool) -> int:
        """Name a snapshot (None: the current one) of a table."""
        return attempt(name, lambda: self._tag(name, tag, snapshot_id, move))

    def _tag(self, name: str, tag: str, snapshot_id: int | None, move: bool) -> int:
        table = self.table(name)
        chosen = snapshots.head(table.metadata) if snapshot_id is None else snapshot_id
        wanted = snapshots.existing(name, table.metadata, chosen)
        if snapshots.check_tag(table, name, tag, wanted, move):
            refs.change(table, {tag: wanted})
        return wanted

    def untag(self, name: str, tag: str) -> None:
        """Take a tag away from a table."""
        attempt(name, lambda: self._untag(name, tag))

    def _untag(self, name: str, tag: str) -> None:
        table = self.table(name)
        ref = table.metadata.refs.get(tag)
        pin = pins.pinned(table.metadata).get(tag)
        pins.refuse_held(pin, "removed")
        if pin is not None:
            raise InvalidParameter("tag", tag, f"is a pin of {name} and other tables", "Remove it with unpin")
        if ref is None:
            raise UnknownReference(name, tag, snapshots.known(table.metadata))
        if ref.snapshot_ref_type != "tag":
            raise InvalidParameter("tag", tag, f"is a branch of {name}", "Only tags are taken away")
        refs.change(table, remove=[tag])

    def pins(self) -> list[Pin]:
        """Every pin, oldest first."""
        return pins.merged({name: self.table(name).metadata for name in TABLES})

    def pin(self, wanted: Pin, move: bool) -> Pin:
        """Set a pin, table by table."""
        existing = next((pin for pin in self.pins() if pin.name == wanted.name), None)
        pin = pins.renewed(existing, wanted, move)
        for name in pin.snapshots:
            snapshots.check_pin(self.table(name), name, pin, existing, move)
        for name in pin.snapshots:
            attempt(name, lambda at=name: self._pin(at, pin))  # type: ignore[misc]
        for name in (existing.snapshots if existing else {}).keys() - pin.snapshots.keys():
            attempt(name, lambda at=name: self._unpin(at, pin.name))  # type: ignore[misc]
        return pin

    def _pin(self, name: str, pin: Pin) -> None:
        table = self.table(name)
        if not pin.stands_in(name, table.metadata):
            state = pin.snapshots[name]
            gone = [pin.name] if state is None and pin.name in table.metadata.refs else []
            refs.change(table, {} if state is None else {pin.name: state}, remove=gone, properties=pin.property())

    def unpin(self, name: str) -> None:
        """Take a pin away from every table."""
        found = self.pins()
        existing = next((pin for pin in found if pin.name == name), None)
        if existing is None:
            raise pins.unknown(name, found)
        pins.refuse_held(existing, "removed")
        for table in existing.snapshots:
            attempt(table, lambda at=table: self._unpin(at, name))  # type: ignore[misc]

    def _unpin(self, name: str, pin: str) -> None:
        table = self.table(name)
        if pin in pins.pinned(table.metadata):
            gone = [pin] if pin in table.metadata.refs else []
            refs.change(table, remove=gone, forget=[pins.property_of(pin)])
