"""What runs a statement: `Engine` is what every engine does; DuckDB is the one that is always there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from k2kernel.query.connection import Database
from k2kernel.query.result import Result
from k2kernel.query.scan import Scan, Values, as_view, query, query_as_view
from k2kernel.query.sql import RAW, Statement

if TYPE_CHECKING:
    import pyarrow as pa

ENGINES = ("duckdb", "spark")


@dataclass(frozen=True)
class Plan:
    """A statement that may run, its values, and what it reads by the names that its text has for it: `scans` of pinned
    tables and `made` bars. Every table is at the snapshot that `snapshots` names, whichever engine reads it. Displays
    show times in `zone` (None: UTC), which is the venue's where all rows are of one.
    """

    statement: Statement
    values: Mapping[str, object]
    scans: Mapping[str, Scan]
    made: Mapping[str, Result]
    snapshots: Mapping[str, int | None]
    zone: str | None = None


class Engine(Protocol):
    """Runs statements of our dialect. Rows, types and names of columns are the same on every engine."""

    def result(self, plan: Plan) -> Result:
        """The answer, which runs when it is asked for."""


class DuckDB:
    """The engine in this process, over the files that a plan leaves."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def result(self, plan: Plan) -> Result:
        """The answer, with the tables as temporary views."""
        views = [as_view(name, scan, is_raw(name)) for name, scan in plan.scans.items()]
        views += [query_as_view(name, result.planned) for name, result in plan.made.items()]
        found = query(plan.statement.text, Values(), *plan.scans.values())
        frames = {name: frame for result in plan.made.values() for name, frame in result.planned.frames.items()}
        behind = tuple(reading for result in plan.made.values() for reading in result.readings)
        planned = replace(
            found,
            values=plan.values,
            views=tuple(views),
            frames={**found.frames, **frames},
            readings=found.readings + behind,
        )
        return Result(self.database, planned, plan.snapshots, zone=plan.zone)

    def schema(self, plan: Plan) -> pa.Schema:
        """The names and types of the columns of an answer; QueryError where the statement is wrong."""
        with self.database.running(self.result(plan).planned) as running:
            return running.relation().limit(0).to_arrow_table().schema


def is_raw(name: str) -> bool:
    """True where a name in a statement stands for every row received."""
    return name.partition("@")[0] == RAW
