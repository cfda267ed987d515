"""`Result`: a read that is pinned and planned, and runs when one of its terminals is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from k2kernel.cached import cached_property
from k2kernel.errors import InvalidPosition, extra
from k2kernel.html import states
from k2kernel.query.connection import Database, Query, Told
from k2kernel.query.display import Shown, shown
from k2kernel.query.durations import with_durations
from k2kernel.query.pages import Cut, Page, page
from k2kernel.query.position import Key
from k2kernel.times import parse_zone
from k2kernel.words import parse_limit

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_SHOWN = 20
"""Rows that a display shows."""


class Result:
    """Rows of a pinned state of the lake. Each terminal scans; the same result gives the same rows for ever.

    Prices and sizes are exact decimals and times are UTC in every terminal. Displays show the first rows, their times
    in the venue's zone where the rows are of one venue.
    """

    def __init__(
        self,
        database: Database,
        query: Query,
        snapshots: Mapping[str, int | None],
        columns: list[str] | None = None,
        zone: str | None = None,
        *,
        hours: str = "all",
        notes: tuple[str, ...] = (),
        cut: Cut | None = None,
    ) -> None:
        self._database, self._query, self._zone, self._cut = database, query, zone, cut
        self._columns = columns
        self.readings = query.readings
        """Of each table that is read, the files that are scanned and all that its state has."""
        self.snapshots = dict(snapshots)
        """The snapshot of each table that answers; None where a table has none yet."""
        self.hours, self.notes = hours, notes
        """The hours of trading that the rows are of, and what is unsure about them, a sentence each."""
        self.asked: tuple[str, dict[str, Any]] | None = None
        """The verb of the workbench that it answers, and the words given; None where it is no answer of one."""

    @property
    def planned(self) -> Query:
        """The query that a terminal runs."""
        return self._query

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns in order."""
        if self._columns is not None:
            return list(self._columns)
        with self._database.running(self._query) as running:
            return list(running.relation().columns)

    @property
    def zone(self) -> str | None:
        """The zone in which displays show times: the venue's where the rows are of one venue, else None for UTC."""
        return self._zone

    def tz(self, zone: str) -> Self:
        """The same rows, whose displays and charts show times in another zone, such as `UTC` or `Australia/Sydney`."""
        made = copy(self)
        vars(made)["_zone"] = parse_zone(zone)
        return made

    def to_arrow(self, timeout: float | None = None) -> pa.Table:
        """All rows as an Arrow table; QueryCancelled when it takes longer than `timeout` seconds."""
        return self._database.arrow(self._query, timeout)

    def page(self, limit: int, after: Key | None = None) -> Page:
        """The first `limit` rows after the key `after`, which is that of the page before (None: from the first row on).

        Pages together are the whole result, each row once. What is made with a `limit` of its own, by `sql` or by
        `stats` has a first page only.
        """
        if self._cut is not None:
            return page(self._database.arrow(self._cut(limit + 1, after)), limit)
        if after is not None:
            raise InvalidPosition("is of a read that has no order to go on in", "Ask for more rows at once")
        return page(self.head(limit + 1), limit)

    def count(self) -> int:
        """How many rows there are."""
        counted = replace(self._query, text=f"SELECT count(*) AS n FROM ({self._query.text})")
        return int(self._database.arrow(counted)["n"][0].as_py())

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars frame."""
        import polars as pl

        return pl.DataFrame(self.to_arrow())

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a pandas frame; decimals and dates stay Python objects, exact."""
        with extra("notebook", "pandas"):
            import pandas  # noqa: F401, ICN001 - Arrow asks for it
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_duckdb(self) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation over the rows, on a connection of its own that reads the warehouse only."""
        return self._database.relation(self._query)

    def batches(
        self,
        rows: int = 65_536,
        timeout: float | None = None,
        limit: int | None = None,
        progress: Told | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows (the first `limit`) as Arrow batches of at most `rows`, as they are scanned; memory does not grow
        with the result. Without rows there is one empty batch, for its schema. `progress` is told the share done.
        """
        import pyarrow as pa

        most = parse_limit(limit)
        with self._database.running(self._query, timeout, progress) as running:
            whole = running.relation()
            relation = whole if most is None else whole.limit(most)
            reader = running.wait_for(lambda: relation.to_arrow_reader(rows))
            batch = running.wait_for(lambda: next(reader, pa.RecordBatch.from_pylist([], schema=reader.schema)))
            while batch is not None:
                yield with_durations(batch)
                batch = running.wait_for(lambda: next(reader, None))

    def explain(self) -> str:
        """The files and bytes that a scan reads and leaves out, by table, and DuckDB's plan; nothing is scanned."""
        text = replace(self._query, text=f"EXPLAIN {self._query.text}")
        plans = [
            plan for _, plan in self._database.rows(text)
        ]  # not relation.explain: that takes over a notebook's page
        return "\n".join([*map(str, self.readings), "", *plans])

    def over(self, rows: pa.Table) -> Result:
        """The same result with its rows, or the first of them, in memory: terminals scan nothing again."""
        held = Query("FROM k2_rows", frames={"k2_rows": lambda: rows})
        columns = rows.column_names
        made = Result(self._database, held, self.snapshots, columns, self._zone, hours=self.hours, notes=self.notes)
        made.asked, made.readings = self.asked, self.readings
        return made

    def head(self, rows: int = _SHOWN) -> pa.Table:
        """The first rows as an Arrow table."""
        with self._database.running(self._query) as running:
            return with_durations(running.wait_for(running.relation().limit(rows).to_arrow_table))

    def shown(self, rows: int = _SHOWN) -> Shown:
        """The first rows as text for people; times in the venue's zone where the rows are of one venue."""
        with self._database.running(self._query) as running:
            return running.wait_for(lambda: shown(running.relation(), rows, self._zone))

    def __repr__(self) -> str:
        found = self.shown()
        return found.text("\n".join([f"[{self._caption(found)}]", *self.notes]))

    def _repr_html_(self) -> str:
        found = self.shown()
        return found.html(self._caption(found), *self.notes)

    def _caption(self, found: Shown) -> str:
        count = f"{len(found.cells)} row{'s' * (len(found.cells) != 1)}"
        hours = [] if self.hours == "all" else [f"hours {self.hours}"]
        pins = [states(self.snapshots)] if self.snapshots else []
        return "; ".join([f"first {count}" if found.more else count, *hours, *pins])
