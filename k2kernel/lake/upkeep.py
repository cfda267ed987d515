"""What a step of maintenance did to a table."""

from __future__ import annotations

from dataclasses import dataclass

from k2kernel.html import Spoken, amount


@dataclass(frozen=True)
class Upkeep(Spoken):
    """One step: `action` on `table`, done where `applied`, else what it would do.

    `files` and `nbytes` are the data files of the current state, `snapshots` the kept states, each before and after
    (None: it takes the doing to know). `deleted` files, of `deleted_nbytes`, left the disk. `note` says what else.
    """

    table: str
    action: str
    applied: bool
    snapshots: int
    snapshots_after: int
    files: int
    files_after: int
    nbytes: int
    nbytes_after: int | None
    deleted: int = 0
    deleted_nbytes: int = 0
    note: str = ""

    @property
    def row(self) -> dict[str, object]:
        """What a list of steps says of it."""
        after = "?" if self.nbytes_after is None else amount(self.nbytes_after)
        return {
            "table": self.table,
            "action": self.action if self.applied else f"{self.action} (dry run)",
            "snapshots": _moved(f"{self.snapshots:,}", f"{self.snapshots_after:,}"),
            "data files": _moved(f"{self.files:,}", f"{self.files_after:,}"),
            "size": _moved(amount(self.nbytes), after),
            "off the disk": f"{self.deleted:,} files, {amount(self.deleted_nbytes)}" if self.deleted else "",
            "note": self.note,
        }

    @property
    def idle(self) -> bool:
        """True where there is nothing to do."""
        return not (self.deleted or self.note) and self.snapshots == self.snapshots_after

    def __str__(self) -> str:
        would = "" if self.applied else " (dry run)"
        return f"{self.table}: {self.action}{would}: {', '.join(self._changes()) or 'nothing to do'}"

    def _changes(self) -> list[str]:
        counts = (
            (self.snapshots, self.snapshots_after, "snapshots"),
            (self.files, self.files_after, "data files"),
            (self.nbytes, self.nbytes if self.nbytes_after is None else self.nbytes_after, "bytes"),
        )
        told = [f"{before:,} → {after:,} {what}" for before, after, what in counts if before != after]
        told += [f"{self.deleted:,} files ({self.deleted_nbytes:,} bytes) off the disk"] if self.deleted else []
        return [*told, *([self.note] if self.note else [])]


def _moved(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
