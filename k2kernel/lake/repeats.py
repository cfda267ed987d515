"""Fills that repeat the venue's id of another one: among data files to be committed, and in a table already."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import date
from typing import TYPE_CHECKING, NamedTuple, Self

from k2kernel.lake.replacing import read_rows
from k2kernel.lake.write import readable
from k2kernel.schemas import TRADES

if TYPE_CHECKING:
    import polars as pl
    from pyiceberg.table import Table

    from k2kernel.lake.files import FileSet, LakeFile
    from k2kernel.lake.write import Writer

KEY = ("venue", "symbol", "session", "trade_id")
"""What a venue's id is unique in."""

_COLUMNS = f"{', '.join(KEY)}, source, source_offset"
_FILLS = "trade_id IS NOT NULL AND (status IS NULL OR status IN ('cancelled', 'superseded'))"
"""Records that undo or replace a fill may carry its id, and a correction may come twice."""


class Repeat(NamedTuple):
    """A row with the id of another: where and what it is, and where the first of them is (`stored`: in the table)."""

    source: str
    source_offset: int
    venue: str
    symbol: str
    session: date
    trade_id: str
    first_source: str
    first_offset: int
    stored: bool


class Repeats:
    """The fills in new files whose id another fill has. A context: it keeps a temporary table, which spills to disk.

    `sources` are the digests of the new rows in their order; rows of one source are in the order of their offsets.
    Stored rows come before all new ones; those of the digests `leaving` are not looked at.
    """

    def __init__(
        self,
        table: Table,
        writer: Writer,
        new: Sequence[str],
        stored: FileSet,
        *,
        sources: Sequence[str],
        leaving: Collection[str],
    ) -> None:
        self._table, self._new, self._stored = table, new, stored
        self._sources, self._leaving = list(sources), list(leaving)
        self._cursor = writer.cursor()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            paths = {path: stack.enter_context(readable(self._table.io, path)) for path in self._new}
            self._places = {place: path for path, place in paths.items()}
            near = self._near() if self._places else []
            plain = [file for file in near if not file.has_deletes]
            there = [stack.enter_context(readable(self._table.io, file.path)) for file in plain]
            stored = ["read_parquet($stored, hive_partitioning = false)"] if there else []
            stored += [self._frame(number, file) for number, file in enumerate(near) if file not in plain]
            if self._places:
                values = {"sources": self._sources, "new": list(self._places)}
                values |= {"stored": there} if there else {}
                values |= {"leaving": self._leaving} if stored else {}
                self._cursor.execute(f"CREATE OR REPLACE TEMP TABLE k2_repeats AS {_text(stored)}", values)
        return self

    def _near(self) -> list[LakeFile]:
        """The stored files that may have rows of the same instruments and sessions."""
        of = "read_parquet($new, hive_partitioning = false) WHERE trade_id IS NOT NULL"
        text = f"SELECT min(session), max(session), list(DISTINCT symbol) FROM {of}"
        first, last, symbols = self._cursor.execute(text, {"new": list(self._places)}).fetchall()[0]
        return [] if first is None else self._stored.prune(symbols=symbols, sessions=(first, last))

    def _frame(self, number: int, file: LakeFile) -> str:
        """The name of a stored file's rows, less those that are deleted, as a table."""
        self._cursor.register(f"k2_stored_{number}", read_rows(self._table, file).to_arrow())
        return f"k2_stored_{number}"

    def __exit__(self, *raised: object) -> None:
        self._cursor.close()

    def first(self, stored_only: bool = False) -> Repeat | None:
        """The first row in the order of the sources that repeats an earlier one (`stored_only`: of the table)."""
        if not self._places:
            return None
        text = (
            f"SELECT source, source_offset, {', '.join(KEY)}, first_source, first_offset, stored FROM k2_repeats "
            f"WHERE place > 1{' AND stored' if stored_only else ''} "
            "ORDER BY list_position($sources, source), source_offset LIMIT 1"
        )
        found = self._cursor.execute(text, {"sources": self._sources}).fetchone()
        return None if found is None else Repeat(*found)

    def files(self) -> list[str]:
        """The new files that have such rows."""
        if not self._places:
            return []
        rows = self._cursor.execute("SELECT DISTINCT path FROM k2_repeats").fetchall()
        return [self._places[place] for (place,) in rows]

    def kept(self, path: str, last: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of a new file without those that repeat an id (`last`: that a later row repeats), and those."""
        import polars as pl

        drop = "place < many" if last else "place > 1"
        place = next(here for here, name in self._places.items() if name == path)
        text = f"SELECT source, source_offset FROM k2_repeats WHERE path = $path AND {drop}"
        gone = pl.DataFrame(self._cursor.sql(text, params={"path": place}).to_arrow_table())
        with readable(self._table.io, path) as source:
            rows = pl.read_parquet(source, hive_partitioning=False).cast(pl.Schema(TRADES.polars))
        return rows.join(gone, on=["source", "source_offset"], how="anti", maintain_order="left"), gone


def _text(stored: Sequence[str]) -> str:
    """Every new row that has company, with its `place` among `many` of one id."""
    key, new = ", ".join(KEY), "read_parquet($new, hive_partitioning = false, filename = true)"
    turn, left = "list_position($sources, source)", "list_contains($leaving, source)"
    rows = [f"SELECT {_COLUMNS}, filename AS path, {turn} AS turn FROM {new} WHERE {_FILLS}"]
    rows += [
        f"SELECT {_COLUMNS}, NULL AS path, 0 AS turn FROM {each} "
        f"WHERE {_FILLS} AND NOT {left} AND symbol IN (SELECT symbol FROM {new})"
        for each in stored
    ]
    return (
        "SELECT * EXCLUDE (turn) FROM (SELECT *, row_number() OVER ordered AS place, "
        f"count(*) OVER (PARTITION BY {key}) AS many, first(source) OVER ordered AS first_source, "
        "first(source_offset) OVER ordered AS first_offset, first(turn) OVER ordered = 0 AS stored "
        f"FROM ({' UNION ALL '.join(rows)}) WINDOW ordered AS (PARTITION BY {key} ORDER BY turn, source_offset)) "
        "WHERE many > 1 AND path IS NOT NULL ORDER BY path"
    )
