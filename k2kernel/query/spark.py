"""Spark as an engine, through Spark Connect: a client of a server that somebody runs beside the same catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from k2kernel.cached import cached_property
from k2kernel.errors import InvalidParameter, QueryError, extra
from k2kernel.query.connection import Database, Query
from k2kernel.query.engines import DuckDB, Plan
from k2kernel.query.result import Result
from k2kernel.query.scope import current_scope

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.session import SparkSession

    from k2kernel.config import Settings
    from k2kernel.query.dialect import Translated

_SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # what overflows is an error, not null
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",  # a product has all its decimals, as in DuckDB
    "spark.sql.iceberg.vectorization.enabled": "false",  # it fails on Parquet pages of whole numbers without a value
}


class Spark:
    """Statements in Spark SQL over the same snapshots; DuckDB says which columns of which types an answer has.

    What reads no rows of tables (DESCRIBE, VALUES, a SELECT of constants) is answered by DuckDB here.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._here = settings, DuckDB(database)

    def result(self, plan: Plan) -> Result:
        """The answer, which Spark computes as a whole for each terminal: memory grows with its rows."""
        if not plan.statement.references or _describes(plan):
            return self._here.result(plan)
        with extra("spark", "sqlglot"):
            from k2kernel.query.dialect import to_spark

        schema = self._here.schema(plan)
        rows = partial(self._rows, to_spark(plan, self._settings.spark_catalog), schema)
        asked = Query("FROM k2_rows", frames={"k2_rows": rows})
        return Result(self._here.database, asked, plan.snapshots, schema.names, plan.zone)

    def _rows(self, statement: Translated, schema: pa.Schema) -> pa.Table:
        import pyarrow as pa

        with self._running() as session:
            found = session.sql(statement.text, args=_arguments(statement.values)).toArrow()
        try:
            columns = [column.cast(kind) for column, kind in zip(found.columns, schema.types, strict=True)]
        except pa.ArrowInvalid as exc:
            raise QueryError(f"Spark's answer does not fit {schema.types}: {exc}", "Cast to a wider type") from exc
        return pa.table(columns, schema=schema)

    @cached_property
    def _session(self) -> SparkSession:
        url = self._settings.spark_url
        if url is None:
            raise InvalidParameter("spark_url", None, "is not set", "Set K2_SPARK_URL, such as sc://127.0.0.1:15002")
        with extra("spark", "Spark Connect"):
            from pyspark.errors import PySparkException
            from pyspark.sql.connect.client.retries import DefaultPolicy
            from pyspark.sql.connect.session import SparkSession
        try:
            session = SparkSession(url.get_secret_value())
            session.client.set_retry_policies([DefaultPolicy(max_retries=4, max_backoff=1_000)])  # not ten minutes
            for name, value in _SESSION.items():
                session.conf.set(name, value)
        except PySparkException as exc:
            raise QueryError("Spark does not answer", "Check K2_SPARK_URL, and that its server runs") from exc
        return session

    @contextmanager
    def _running(self) -> Iterator[SparkSession]:
        """The session, while a statement runs that an interrupt here ends there, too."""
        session, tag = self._session, f"k2-{uuid4()}"
        session.addTag(tag)
        try:
            with _translated(), current_scope().watching(partial(session.interruptTag, tag)):
                yield session
        except KeyboardInterrupt:
            session.interruptTag(tag)
            raise
        finally:
            session.removeTag(tag)


def _describes(plan: Plan) -> bool:
    return bool((plan.statement.tree.get("from_table") or {}).get("type") == "SHOW_REF")


def _arguments(values: Mapping[str, object]) -> dict[str, Any]:
    from pyspark.sql.connect.functions import builtin

    lists = {name: builtin.array(*map(builtin.lit, value)) for name, value in values.items() if isinstance(value, list)}
    return {**values, **lists}


@contextmanager
def _translated() -> Iterator[None]:
    """Spark's errors as ours, with Spark's own sentence."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as exc:
        said = str(exc).strip().splitlines()[0]
        raise QueryError(f"Spark says: {said}", 'Correct it, or run it with engine="duckdb"') from exc
