"""Rows as text for people, made by DuckDB: neither Arrow nor pandas is loaded to show a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.html import table
from k2kernel.query.connection import identifier, literal

if TYPE_CHECKING:
    import duckdb

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UINTEGER", "DOUBLE", "FLOAT", "DECIMAL")
_ZONED = "TIMESTAMP WITH TIME ZONE"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shown:
    """The first rows as text: `headings` (times say their zone), which columns are `numbers`, and `cells` by row.

    `more` is true where there were further rows.
    """

    headings: list[str]
    numbers: list[bool]
    cells: list[tuple[str, ...]]
    more: bool

    def text(self, caption: str) -> str:
        """The rows in columns, with a caption under them."""
        lines = [tuple(self.headings), *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in lines]
        return "\n".join([*texts, *(["..."] if self.more else []), caption])

    def html(self, *below: str) -> str:
        """The rows as a table of a page, with lines under it: without the columns that are empty here, which it names,
        and with digests cut short.
        """
        full = [n for n in range(len(self.headings)) if not self.cells or any(row[n] for row in self.cells)]
        empty = [name for n, name in enumerate(self.headings) if n not in full]
        cells = [[_cut(row[n]) for n in full] for row in self.cells]
        left_out = [f"nothing in {', '.join(empty)}"] if empty else []
        numbers = [self.numbers[n] for n in full]
        return table([self.headings[n] for n in full], cells, numbers=numbers, below=[*below, *left_out])


def _cut(cell: str) -> str:
    return f"{cell[:12]}…" if _DIGEST.fullmatch(cell) else cell


def shown(relation: duckdb.DuckDBPyRelation, rows: int, zone: str | None) -> Shown:
    """The first `rows` of a relation; times in `zone` (None: UTC), decimals in plain notation, nulls empty."""
    kinds = [str(kind) for kind in relation.types]
    where = zone or "UTC"
    cells = [_cell(name, kind, where) for name, kind in zip(relation.columns, kinds, strict=True)]
    found = relation.limit(rows + 1).project(", ".join(cells)).fetchall()
    headings = [
        f"{name} ({where})" if kind == _ZONED else name for name, kind in zip(relation.columns, kinds, strict=True)
    ]
    return Shown(headings, [kind.startswith(_NUMBERS) for kind in kinds], found[:rows], len(found) > rows)


def _cell(name: str, kind: str, zone: str) -> str:
    column = identifier(name)
    if kind == _ZONED:
        text = f"strftime(timezone({literal(zone)}, {column}), '%Y-%m-%d %H:%M:%S.%f')"
        text = f"CASE WHEN {text} LIKE '%000' THEN left({text}, -3) ELSE {text} END"
    elif kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        text = f"rtrim(rtrim(CAST({column} AS VARCHAR), '0'), '.')"
    elif kind == "VARCHAR[]":
        text = f"array_to_string({column}, ' ')"
    else:
        text = f"CAST({column} AS VARCHAR)"
    return f"coalesce({text}, '') AS {column}"
