"""The catalog: how to reach it, and how its tables are made."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from sqlalchemy import Select, bindparam, make_url, select
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, SQLAlchemyError

from k2kernel.errors import (
    CatalogMoved,
    CatalogUnreachable,
    LakeNotFound,
    MissingExtra,
    MovedLake,
    StorageFault,
    UnknownTable,
)
from k2kernel.lake import object_store
from k2kernel.lake.local_io import IMPLEMENTATION
from k2kernel.schemas import NAMESPACE, TABLES, Column, Table

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.types import NestedField

    from k2kernel.config import Settings

_NAME = "k2"
BUSY_SECONDS = 60
"""How long SQLite waits for another process's commit."""

MOVED = "k2.moved-to"
"""The property that an embedded catalog has once it has moved; its value says where to."""

_CATALOG_TABLES = ("iceberg_tables", "iceberg_namespace_properties")

_EXACT_STATISTICS = ("symbol", "venue", "source", "status")
"""Columns whose bounds are kept whole: reads and `replace` tell files apart by them."""


def connect(settings: Settings, create: bool) -> Catalog:
    """The catalog of `settings`; LakeNotFound where the embedded one is absent and `create` is false."""
    if settings.embedded:
        return _connect_embedded(settings, create)
    try:
        return _connect_rest(settings) if settings.catalog_url.startswith("http") else _connect_sql(settings)
    except (OSError, ImportError, SQLAlchemyError, RESTError, ValueError) as exc:
        if isinstance(exc, ImportError) and exc.name == "psycopg":
            raise MissingExtra("psycopg", "postgres") from None
        # The message of a driver may repeat the URI, and with it a password: only its kind is passed on.
        raise CatalogUnreachable(settings.catalog_url.partition(":")[0], type(exc).__name__) from None


def _connect_embedded(settings: Settings, create: bool) -> Catalog:
    file = settings.home / "catalog.db"
    if not create and not file.exists():
        raise LakeNotFound(str(settings.home))
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        catalog = _connect_sql(settings)
        check_moved(catalog)
    except OSError as exc:
        raise StorageFault(str(settings.home), exc.strerror or str(exc)) from exc
    except DatabaseError as exc:
        raise StorageFault(str(file), str(exc.orig)) from exc
    return catalog


def shown(uri: str) -> str:
    """A URI for people: without its password."""
    return make_url(uri).render_as_string()


def check_moved(catalog: Catalog) -> None:
    """CatalogMoved where the tables have gone to another catalog."""
    from pyiceberg.catalog.sql import IcebergNamespaceProperties as Properties
    from pyiceberg.catalog.sql import SqlCatalog

    if isinstance(catalog, SqlCatalog):
        with catalog.engine.connect() as connection:
            wanted = select(Properties.property_value).where(Properties.property_key == MOVED)
            to = connection.execute(wanted).scalar()
        if to is not None:
            raise CatalogMoved(str(catalog.engine.url.database), to)


def _connect_rest(settings: Settings) -> Catalog:
    from pyiceberg.catalog import load_catalog

    return load_catalog(_NAME, type="rest", **_properties(settings))


def _connect_sql(settings: Settings) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog

    def opened() -> Catalog:
        catalog = SqlCatalog(_NAME, **_properties(settings))
        finalize(catalog, catalog.engine.dispose)
        return catalog

    # Processes that make the catalog at once: each of its two tables may be found made by another just then.
    for _ in _CATALOG_TABLES:
        with suppress(OperationalError):
            return opened()
    return opened()


def _properties(settings: Settings) -> dict[str, str]:
    url = settings.catalog_url
    if url.startswith("sqlite:"):
        url += f"{'&' if '?' in url else '?'}timeout={BUSY_SECONDS}"
    properties = {"uri": url, "warehouse": settings.warehouse_path, **object_store.properties(settings)}
    return properties if "://" in settings.warehouse_path else properties | {"py-io-impl": IMPLEMENTATION}


def load_table(catalog: Catalog, name: str, settings: Settings) -> IcebergTable:
    """The table as it is committed now; one that the lake is older than is made.

    UnknownTable where there is none of that name, LakeNotFound where the catalog is of something else, CatalogMoved
    where the tables have gone to another one, MovedLake where they are not in the warehouse, StorageFault where it does
    not answer.
    """
    try:
        table = catalog.load_table((NAMESPACE, name))
    except FileNotFoundError as exc:
        raise _gone(str(exc.filename or exc), settings) from exc
    except OSError as exc:
        raise StorageFault(settings.warehouse_path, exc.strerror or str(exc)) from exc
    except NoSuchTableError as exc:
        check_moved(catalog)
        if not catalog.namespace_exists(NAMESPACE):
            raise LakeNotFound(str(settings.home)) from exc
        if name not in TABLES:
            raise UnknownTable(name, (found[-1] for found in catalog.list_tables(NAMESPACE))) from exc
        create_table(catalog, TABLES[name], settings)
        table = catalog.load_table((NAMESPACE, name))
    _check_place(table.location().removeprefix("file://"), settings)
    return table


def _gone(metadata: str, settings: Settings) -> MovedLake | StorageFault:
    """The error for a metadata file that the catalog names and that is not there."""
    there, here = Path(_warehouse_of(metadata)), Path(settings.warehouse_path)
    if "://" in metadata or there == here:
        return StorageFault(metadata, "the catalog names it, and it is gone")
    if there.name == here.name and not there.parent.exists():
        there, here = there.parent, here.parent
    return MovedLake(str(there), str(here), copied=False)


def _warehouse_of(location: str) -> str:
    """The warehouse that a location is in."""
    return location.partition(f"/{NAMESPACE}/")[0]


def _check_place(location: str, settings: Settings) -> None:
    """A copy of a lake leads to the files of the one that was copied, which nobody means."""
    local = settings.embedded and "://" not in location and not settings.on_s3
    if local and not Path(location).resolve().is_relative_to(Path(settings.warehouse_path).resolve()):
        raise MovedLake(_warehouse_of(location), settings.warehouse_path, copied=True)


def create_tables(catalog: Catalog, settings: Settings) -> None:
    """Make the namespace and every table that is missing; what another process makes meanwhile is left as it is."""
    if not catalog.namespace_exists(NAMESPACE):
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(NAMESPACE)
    existing = {identifier[-1] for identifier in catalog.list_tables(NAMESPACE)}
    for name in TABLES.keys() - existing:
        create_table(catalog, TABLES[name], settings)


def create_table(catalog: Catalog, table: Table, settings: Settings) -> None:
    """Make a table; one that is there is left as it is."""
    with suppress(TableAlreadyExistsError):
        catalog.create_table(
            table.identifier,
            table.iceberg,
            location=f"{settings.warehouse_path}/{NAMESPACE}/{table.name}",
            partition_spec=_partition_spec(table),
            sort_order=_sort_order(table),
            properties=table_properties(table, settings.row_group_rows),
        )


def add_columns(table: IcebergTable, columns: Mapping[str, str]) -> None:
    """Give a table the optional columns that it lacks, by name and type of the contract: no file is written again.
    SQL knows no upper case, so a name that is there in another spelling is not lacking.
    """
    there = {field.name.lower() for field in table.schema().fields}
    new = {name.lower(): (name, kind) for name, kind in columns.items() if name.lower() not in there}
    if new:
        with table.update_schema() as update:
            for field in _fields(table, dict(new.values())):
                update.add_column(field.name, field.field_type)


def same_columns(table: IcebergTable, columns: Mapping[str, str]) -> list[str]:
    """Those of some columns that a table has, by name and type of the contract."""
    there = {field.name: field.field_type for field in table.schema().fields}
    return [field.name for field in _fields(table, columns) if there.get(field.name) == field.field_type]


def _fields(table: IcebergTable, columns: Mapping[str, str]) -> tuple[NestedField, ...]:
    optional = tuple(Column(name, kind) for name, kind in columns.items())
    return Table(table.name()[-1], optional, ()).iceberg.fields


def _partition_spec(table: Table) -> PartitionSpec:
    if table.partition is None:
        return UNPARTITIONED_PARTITION_SPEC
    source = table.iceberg.find_field(table.partition).field_id
    return PartitionSpec(PartitionField(source, 1000, IdentityTransform(), table.partition))


def _sort_order(table: Table) -> SortOrder:
    ids = (table.iceberg.find_field(column).field_id for column in table.sort)
    return SortOrder(*(SortField(source_id, IdentityTransform()) for source_id in ids))


def table_properties(table: Table, row_group_rows: int) -> dict[str, str]:
    """The properties a table is made with.

    Commits are retried here and not by PyIceberg, which would not look first whether the rows are there already.
    """
    properties = {
        "format-version": "2",
        "commit.retry.num-retries": "0",
        "commit.manifest-merge.enabled": "true",
        "commit.manifest.min-count-to-merge": "8",
        "write.delete.isolation-level": "snapshot",
        "write.update.isolation-level": "snapshot",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
        "write.parquet.compression-codec": "zstd",
        "write.parquet.row-group-limit": str(row_group_rows),
    }
    exact = (column for column in _EXACT_STATISTICS if column in table)
    return properties | {f"write.metadata.metrics.column.{column}": "full" for column in exact}


def metadata_location(catalog: Catalog, name: str) -> str | None:
    """Where a table's metadata is now, by one cheap question; None where the catalog has no such question."""
    from pyiceberg.catalog.sql import SqlCatalog

    if not isinstance(catalog, SqlCatalog):
        return None
    with catalog.engine.connect() as connection:
        return connection.execute(_location(), {"catalog": catalog.name, "name": name}).scalar()


@cache
def _location() -> Select[str | None]:
    """Made once: making it takes three times as long as running it, and every read asks twice."""
    from pyiceberg.catalog.sql import IcebergTables

    return select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == bindparam("catalog"),
        IcebergTables.table_namespace == NAMESPACE,
        IcebergTables.table_name == bindparam("name"),
    )
