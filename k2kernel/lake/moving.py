"""Moving the embedded catalog to another one: the tables stay where they are, and the old catalog is retired."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchTableError, RESTError

from k2kernel.errors import CatalogMoved, InvalidParameter, LakeNotFound, counted
from k2kernel.lake.catalog import BUSY_SECONDS, MOVED, connect, shown

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from k2kernel.config import Settings

_RETIRE = (
    "CREATE TRIGGER k2_moved BEFORE INSERT ON iceberg_tables BEGIN SELECT RAISE(ABORT, 'this catalog has moved'); END"
)
"""So that nobody makes the tables anew where they were, whatever program it is."""


@dataclass(frozen=True)
class Moved:
    """A catalog that has moved: its tables, with where their metadata is, and the settings that lead to them now."""

    tables: dict[str, str]
    settings: dict[str, str]

    def __str__(self) -> str:
        names = ", ".join(self.tables)
        lines = [f"Moved {counted(len(self.tables), 'table')}: {names}", "Set these wherever the lake is used:"]
        return "\n".join([*lines, *(f"  {name}={value}" for name, value in self.settings.items())])


def move(settings: Settings, uri: str) -> Moved:
    """Register every table of the embedded catalog of `settings` in the catalog at `uri`, and retire the embedded one.

    Writers wait meanwhile, and then fail with CatalogMoved; nothing is copied, so history, names and files stay.
    Where it fails nothing has changed. InvalidParameter where the lake is not in the embedded catalog, or the other
    one has such tables of another lake.
    """
    file = settings.home / "catalog.db"
    if not settings.embedded:
        raise InvalidParameter("uri", shown(uri), "is given for a lake that has a catalog of its own already")
    if not file.exists():
        raise LakeNotFound(str(settings.home))
    given = {**settings.model_dump(), "catalog_uri": uri, "warehouse": settings.warehouse_path}
    with closing(connect(type(settings)(**given), create=True)) as target, _alone(file) as cursor:
        tables = _tables(cursor, str(file))
        with _registered(target, tables):
            cursor.execute("DELETE FROM iceberg_tables")
            cursor.execute(_RETIRE)
            marker = ("k2", "k2", MOVED, shown(uri))
            cursor.execute("INSERT INTO iceberg_namespace_properties VALUES (?, ?, ?, ?)", marker)
            cursor.execute("COMMIT")
    named = {f"{space}.{name}": location for (space, name), location in tables.items()}
    return Moved(named, {"K2_CATALOG_URI": shown(uri), "K2_WAREHOUSE": settings.warehouse_path})


@contextmanager
def _alone(file: Path) -> Iterator[sqlite3.Cursor]:
    """The SQLite file in a transaction that nobody reads or writes beside; undone where it is not committed."""
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        cursor = connection.cursor()
        cursor.execute("BEGIN EXCLUSIVE")
        try:
            yield cursor
        finally:
            if connection.in_transaction:
                cursor.execute("ROLLBACK")


def _tables(cursor: sqlite3.Cursor, file: str) -> dict[tuple[str, str], str]:
    """Where the metadata of each (namespace, table) is."""
    moved = cursor.execute("SELECT property_value FROM iceberg_namespace_properties WHERE property_key = ?", (MOVED,))
    if (to := moved.fetchone()) is not None:
        raise CatalogMoved(file, to[0])
    found = cursor.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables ORDER BY 1, 2")
    return {(space, name): location for space, name, location in found.fetchall()}


@contextmanager
def _registered(target: Catalog, tables: dict[tuple[str, str], str]) -> Iterator[None]:
    """The tables in the other catalog; out of it again where the block fails."""
    done: list[tuple[str, str]] = []
    try:
        for table, location in tables.items():
            if not target.namespace_exists(table[0]):
                target.create_namespace_if_not_exists(table[0])
            _forget(target, table, location)
            _register(target, table, location)
            done.append(table)
        yield
    except BaseException:
        for table in done:
            target.drop_table(table)
        raise


def _register(target: Catalog, table: tuple[str, str], location: str) -> None:
    """A SQL catalog notes the place; a REST catalog reads what is there, and may have no access."""
    try:
        target.register_table(table, location)
    except RESTError as exc:
        problem = f"that catalog cannot take {'.'.join(table)} where it is: {exc}"
        remedy = "Its server must reach the warehouse at that place: a bucket it has the keys of, or the same folder"
        raise InvalidParameter("uri", shown(target.properties["uri"]), problem, remedy) from exc


def _forget(target: Catalog, table: tuple[str, str], location: str) -> None:
    """Take out what a move that did not end has left; InvalidParameter where it is another table."""
    try:
        there = target.load_table(table)
    except NoSuchTableError:
        return
    if Path(there.metadata_location).parent != Path(location).parent:
        problem = f"has a table {'.'.join(table)} already"
        raise InvalidParameter("uri", there.metadata_location, problem, "Name an empty catalog")
    target.drop_table(table)
