"""Pins: one name for a state of several tables, and a record of it in each of them.

The record is a table property beside the tag, committed with it: `k2.pin.<name>`, a JSON object with the snapshot id of
every table that is pinned, when, and the last day of a hold. A table without a snapshot has the record alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, UnknownReference, listed
from k2kernel.html import record, states

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

_PROPERTY = "k2.pin."


def today() -> date:
    """The day by which holds last, in UTC."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Pin:
    """A name that stands in several tables: `snapshots` has the id in each of them, None where a table had no snapshot.

    `hold_until` is the last day (UTC) on which the pin may not be removed or moved. `complete` is false where a table
    lacks its tag or record, as after a process that was killed between two tables.
    """

    name: str
    snapshots: Mapping[str, int | None]
    created_at: datetime
    hold_until: date | None = None
    complete: bool = True

    @property
    def row(self) -> dict[str, object]:
        """What a list of pins says of it."""
        incomplete = "" if self.complete else "incomplete: pin again, or unpin"
        row: dict[str, object] = {"name": self.name, "created_at": self.created_at, "hold_until": self.hold_until}
        return row | {"snapshots": states(self.snapshots), "note": incomplete}

    def _repr_html_(self) -> str:
        return record(self.row, "pin")

    def held(self) -> bool:
        """True where the pin's hold lasts today."""
        return self.hold_until is not None and today() <= self.hold_until

    def property(self) -> dict[str, str]:
        """The record, as a table property."""
        record = {
            "snapshots": {table: None if number is None else str(number) for table, number in self.snapshots.items()},
            "created_at": self.created_at.isoformat(),
            "hold_until": None if self.hold_until is None else self.hold_until.isoformat(),
        }
        return {property_of(self.name): json.dumps(record, separators=(",", ":"))}

    def stands_in(self, table: str, metadata: TableMetadata) -> bool:
        """True where the table has this record and, at its id, the tag."""
        ref = metadata.refs.get(self.name)
        own = self.snapshots[table]
        stands = own is None or (ref is not None and ref.snapshot_id == own)
        return stands and self.property().items() <= metadata.properties.items()


def property_of(name: str) -> str:
    """The table property that holds the record of the pin `name`."""
    return _PROPERTY + name


def pinned(metadata: TableMetadata) -> dict[str, Pin]:
    """The pins that a table has records of, by name."""
    names = (key.removeprefix(_PROPERTY) for key in metadata.properties if key.startswith(_PROPERTY))
    return {name: _parse(name, metadata.properties[property_of(name)]) for name in sorted(names)}


def _parse(name: str, text: str) -> Pin:
    record = json.loads(text)
    return Pin(
        name,
        {table: None if number is None else int(number) for table, number in record["snapshots"].items()},
        datetime.fromisoformat(record["created_at"]),
        None if record["hold_until"] is None else date.fromisoformat(record["hold_until"]),
    )


def merged(tables: Mapping[str, TableMetadata]) -> list[Pin]:
    """Every pin once, oldest first, with what its newest record says."""
    found: dict[str, Pin] = {}
    for metadata in tables.values():
        for name, pin in pinned(metadata).items():
            found[name] = max(pin, found.get(name, pin), key=lambda one: (one.created_at, one.hold_until or date.min))
    return [
        replace(pin, complete=all(table in tables and pin.stands_in(table, tables[table]) for table in pin.snapshots))
        for pin in sorted(found.values(), key=lambda pin: (pin.created_at, pin.name))
    ]


def refuse_held(pin: Pin | None, doing: str) -> None:
    """InvalidParameter where the hold of a pin lasts."""
    if pin is not None and pin.held():
        raise InvalidParameter("name", pin.name, f"is held until {pin.hold_until}", f"It cannot be {doing} before")


def unknown(name: str, pins: Iterable[Pin]) -> UnknownReference:
    """The error for a pin that is not there."""
    return UnknownReference("the lake", name, listed(pin.name for pin in pins), f"there is no pin {name!r}")


def renewed(existing: Pin | None, wanted: Pin, move: bool) -> Pin:
    """The pin to record: one that stands where it did keeps its time, and its hold is never shortened.

    InvalidParameter where it stands elsewhere and is held, or `move` is false.
    """
    if existing is None:
        return wanted
    if existing.snapshots == wanted.snapshots:
        holds = [day for day in (existing.hold_until, wanted.hold_until) if day is not None]
        return Pin(wanted.name, wanted.snapshots, existing.created_at, max(holds, default=None))
    refuse_held(existing, "moved")
    if not move:
        states = listed(f"{table} at {snapshot_id}" for table, snapshot_id in existing.snapshots.items())
        raise InvalidParameter("name", wanted.name, f"is a pin already: {states}", "Move it with move=True")
    return wanted
