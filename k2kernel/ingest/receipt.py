"""What an ingest did, so that every line read is accounted for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from k2kernel.errors import counted
from k2kernel.html import table


@dataclass(frozen=True)
class Account:
    """The lines of one source: lines + fanout = rows of all tables + repeated + skipped + rejected.

    `fanout` counts a line that fed n tables n - 1 times; `repeated` are rows by table that were left out because the
    venue's id is that of another one.
    """

    lines: int = 0
    fanout: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: int = 0
    repeated: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Account) -> Account:
        return Account(
            self.lines + other.lines,
            self.fanout + other.fanout,
            summed(self.tables, other.tables),
            summed(self.skipped, other.skipped),
            self.rejected + other.rejected,
            summed(self.repeated, other.repeated),
        )

    def without(self, table: str, repeated: int) -> Account:
        """The same, with so many rows of a table left out."""
        tables = {**self.tables, table: self.tables.get(table, 0) - repeated}
        return replace(self, tables=tables, repeated=summed(self.repeated, {table: repeated}))

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.tables.values())

    def to_json(self) -> str:
        """As it is kept in the commit's provenance."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Account:
        """Read back what `to_json` wrote."""
        return cls(**json.loads(text))


def summed(*counts: Mapping[str, int]) -> dict[str, int]:
    """Counts added up by key."""
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total


@dataclass(frozen=True)
class TableReceipt:
    """One table's part: rows added, rows that were there already (by content or the venue's id), and the snapshot with
    them (None: unchanged).
    """

    rows: int = 0
    duplicate: int = 0
    snapshot_id: int | None = None

    def __add__(self, other: TableReceipt) -> TableReceipt:
        latest = other.snapshot_id if other.snapshot_id is not None else self.snapshot_id
        return TableReceipt(self.rows + other.rows, self.duplicate + other.duplicate, latest)


@dataclass(frozen=True)
class Receipt:
    """What `ingest` did with `files`: lines + fanout = rows + duplicate + skipped + rejected, over all tables.

    `rejected` rows are in `dead_letter` with their text and reason; `notes` are things worth knowing.
    """

    files: tuple[str, ...] = ()
    tables: Mapping[str, TableReceipt] = field(default_factory=dict)
    lines: int = 0
    fanout: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows added to all tables, `dead_letter` not counted."""
        return sum(part.rows for part in self.tables.values())

    @property
    def duplicate(self) -> int:
        """Rows that an earlier load of the same content had brought, its rejects included, and rows that were left out
        because the venue's id is that of another one.
        """
        return sum(part.duplicate for part in self.tables.values())

    @property
    def snapshot_id(self) -> int | None:
        """The newest snapshot where one table was written; None where none or several were (see `tables`)."""
        written = [part.snapshot_id for part in self.tables.values() if part.snapshot_id is not None]
        return written[0] if len(written) == 1 else None

    def __add__(self, other: Receipt) -> Receipt:
        names = {**self.tables, **other.tables}
        none = TableReceipt()
        return Receipt(
            self.files + other.files,
            {name: self.tables.get(name, none) + other.tables.get(name, none) for name in names},
            self.lines + other.lines,
            self.fanout + other.fanout,
            summed(self.skipped, other.skipped),
            self.rejected + other.rejected,
            self.seconds + other.seconds,
            self.notes + other.notes,
        )

    def __str__(self) -> str:
        """One sentence a fact, for people."""
        parts = [f"{name}: {_rows(part)}" for name, part in self.tables.items()]
        parts += [f"skipped {count:,} {kind}" for kind, count in self.skipped.items()]
        parts += [f"rejected {self.rejected:,} (see dead_letter)"] if self.rejected else []
        return "; ".join(parts or ["no rows"]) + f" ({counted(self.lines, 'line')} in {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        headings = ["table", "rows added", "there already", "snapshot"]
        rows = [
            [name, f"{part.rows:,}", f"{part.duplicate:,}", str(part.snapshot_id or "")]
            for name, part in self.tables.items()
        ]
        return table(headings, rows, numbers=[False, True, True, True], below=[str(self), *self.notes])


def _rows(part: TableReceipt) -> str:
    texts = [counted(part.rows, "row")] if part.rows or not part.duplicate else []
    texts += [f"{part.duplicate:,} there already"] if part.duplicate else []
    return ", ".join(texts)
