"""The one DuckDB instance of an engine: locked down, shared by cursors, its errors translated here."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from k2kernel.errors import InvalidParameter, K2Error, QueryError, QueryTooLarge, UnreadableData
from k2kernel.html import amount
from k2kernel.metrics import METRICS
from k2kernel.query.durations import with_durations
from k2kernel.query.known import NO_CAPTURE
from k2kernel.query.scope import cancelled, current_scope

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from k2kernel.config import Settings
    from k2kernel.errors import ExpiredReference
    from k2kernel.lake import LakeFile

T = TypeVar("T")
Expired = Callable[[str], "ExpiredReference | None"]
"""The error for a missing file that no kept state has; None for any other."""

_MISSING = re.compile(r'"([^"]+\.parquet)"')

Told = Callable[[float], None]
"""Is told from time to time which share of a query is done, from 0 to 1."""

_TELL_S = 0.25
_AGAIN_S = 0.002
"""Between two interrupts: one that comes before a statement has begun is lost."""


@dataclass(frozen=True)
class Reading:
    """What a query reads of a table at `snapshot_id`: the files that may matter, of all that the state has."""

    table: str
    snapshot_id: int | None
    files: Sequence[LakeFile]
    every: Sequence[LakeFile]

    def __str__(self) -> str:
        facts = self.facts
        scanned, pruned = (amount(facts[name]) for name in ("nbytes", "nbytes_pruned"))
        left_out = f", {facts['files_pruned']:,} ({pruned}) pruned" if facts["files_pruned"] else ""
        return (
            f"{self.table} at {self.snapshot_id or 'no snapshot'}: {facts['files']:,} of {len(self.every):,} files "
            f"({scanned}) scanned{left_out}"
        )

    @property
    def facts(self) -> dict[str, int]:
        """`files` and `nbytes` scanned, `files_pruned` and `nbytes_pruned` that statistics or partitions rule out."""
        nbytes, of = (sum(file.nbytes for file in files) for files in (self.files, self.every))
        pruned = len(self.every) - len(self.files)
        return {"files": len(self.files), "nbytes": nbytes, "files_pruned": pruned, "nbytes_pruned": of - nbytes}


_TELLING = {"enable_progress_bar": "true", "enable_progress_bar_print": "false", "progress_bar_time": "0"}
"""What a cursor sets to know how far its query is."""

_HELD = "k2_held"


@dataclass(frozen=True)
class Query:
    """One SELECT ready to run: its text, the values bound to its `$names`, the statements that make the temporary views
    it reads, and Arrow tables it reads by name, made when it runs. `readings` are the tables of the lake behind it.
    `few` says that making its rows takes longer than holding them: it is planned once then, and not for a relation too.
    """

    text: str
    values: Mapping[str, object] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    frames: Mapping[str, Callable[[], pa.Table]] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    few: bool = False


class Database:
    """A DuckDB instance that reads the warehouse and nothing else, opened when it is first needed."""

    def __init__(self, settings: Settings, expired: Expired = lambda _: None) -> None:
        self._settings, self._expired = settings, expired
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the shared instance."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection.cursor()

    def close(self) -> None:
        """Close the instance; the next cursor opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connect(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        config: dict[str, Any] = {"memory_limit": self._settings.memory_limit}
        if self._settings.threads is not None:
            config["threads"] = self._settings.threads
        connection = duckdb.connect(":memory:", config=config)
        if self._settings.on_s3:
            from k2kernel.lake.object_store import file_system

            connection.register_filesystem(file_system(self._settings))
        for statement in self._set_up():
            connection.execute(statement)
        return connection

    def _set_up(self) -> list[str]:
        """Settings in the order that works: nothing can be changed once the last one holds."""
        spill, warehouse = str(self._settings.home / "tmp"), self._settings.warehouse_path
        return [
            "SET GLOBAL TimeZone = 'UTC'",
            "SET preserve_insertion_order = true",
            "SET parquet_metadata_cache = true",
            "SET validate_external_file_cache = 'NO_VALIDATION'",  # a data file is never written twice
            "SET GLOBAL asof_loop_join_threshold = 0",  # by its estimate it loops over 91,631 rows: 50 s, else 0.7 s
            "SET enable_progress_bar = false",
            "SET python_enable_replacements = false",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET temp_directory = {literal(spill)}",
            f"SET allowed_directories = [{literal(warehouse)}]",
            "SET enable_external_access = false",
            f"SET allowed_configs = [{', '.join(map(literal, _TELLING))}]",
            "SET lock_configuration = true",
        ]

    def relation(self, query: Query) -> duckdb.DuckDBPyRelation:
        """The query as a relation of a fresh cursor, bound and not yet run."""
        with self.translated():
            return Running(self.cursor(), query).relation()

    def arrow(self, query: Query, timeout: float | None = None) -> pa.Table:
        """The rows of a query. QueryCancelled when it takes longer than `timeout` seconds."""
        with self.running(query, timeout) as running:
            return running.wait_for(running.table)

    def rows(self, query: Query) -> list[tuple[Any, ...]]:
        """The rows of a small query of ours, without times with a zone: quicker to start than Arrow."""
        with self.running(query) as running:
            return running.execute().fetchall()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """DuckDB's errors as ours; a file that is missing because its state has expired is an ExpiredReference."""
        import duckdb

        with translated():
            try:
                yield
            except duckdb.IOException as exc:
                path = _MISSING.search(str(exc))
                reason = None if path is None else self._expired(path[1])
                if reason is None:
                    raise
                raise reason from exc

    @contextmanager
    def running(self, query: Query, timeout: float | None = None, progress: Told | None = None) -> Iterator[Running]:
        """The query while it is read: errors are translated, and `timeout` seconds interrupt it."""
        cursor = self.cursor()
        for name, value in (_TELLING if progress else {}).items():
            cursor.execute(f"SET {name} = {value}")
        watchdog = None if timeout is None else threading.Timer(timeout, cursor.interrupt)
        with _measured(query), self.translated(), cursor, current_scope().watching(cursor.interrupt):
            if watchdog is not None:
                watchdog.start()
            try:
                yield Running(cursor, query, progress)
            finally:
                if watchdog is not None:
                    watchdog.cancel()


@dataclass(frozen=True)
class Running:
    """A query on its cursor, to be run in one way, and a way to wait for it that Ctrl-C ends and that tells of its
    progress.
    """

    cursor: duckdb.DuckDBPyConnection
    query: Query
    progress: Told | None = None

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The query as a relation, bound and not yet run."""
        self._prepare()
        return self.cursor.sql(self.query.text, params=self._values)

    def execute(self, before: str = "") -> duckdb.DuckDBPyConnection:
        """Run the query, with `before` in front of its text."""
        self._prepare()
        return self.cursor.execute(before + self.query.text, self._values)

    def table(self) -> pa.Table:
        """All rows; few of them by way of a temporary table, because a relation is planned when it is made and again
        when it runs.
        """
        if not self.query.few:
            return with_durations(self.relation().to_arrow_table())
        self.execute(f"CREATE TEMP TABLE {_HELD} AS ")
        return with_durations(self.cursor.sql(f"FROM {_HELD}").to_arrow_table())

    @property
    def _values(self) -> dict[str, object] | None:
        return dict(self.query.values) or None

    def _prepare(self) -> None:
        for name, frame in self.query.frames.items():
            self.cursor.register(name, frame())
        for view in self.query.views:
            self.cursor.execute(view)

    def wait_for(self, work: Callable[[], T]) -> T:
        """What `work` returns.

        DuckDB does not look at signals while it runs, and only the main thread gets them: there another one works.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        with ThreadPoolExecutor(1, "k2-query") as pool:
            future = pool.submit(work)
            try:
                self._watch(future)
            except KeyboardInterrupt:
                while wait([future], _AGAIN_S).not_done:
                    self.cursor.interrupt()
                raise
            return future.result()

    def _watch(self, future: Future[T]) -> None:
        """Until it is done, or failed, say how far it is."""
        while wait([future], _TELL_S if self.progress else None).not_done:
            if self.progress:
                self.progress(max(self.cursor.query_progress(), 0) / 100)


@contextmanager
def _measured(query: Query) -> Iterator[None]:
    """Count a query while it runs, what it reads, and how it ends."""
    for facts in (reading.facts for reading in query.readings):
        METRICS.query_files.inc(facts["files"])
        METRICS.query_bytes.inc(facts["nbytes"])
        METRICS.query_pruned_files.inc(facts["files_pruned"])
        METRICS.query_pruned_bytes.inc(facts["nbytes_pruned"])
    with METRICS.queries_running.track_inprogress(), METRICS.query_seconds.time():
        try:
            yield
        except K2Error as exc:
            METRICS.query_failures.labels(type(exc).__name__).inc()
            raise


@contextmanager
def translated() -> Iterator[None]:
    """DuckDB's errors as ours, with DuckDB's own sentence."""
    import duckdb

    try:
        yield
    except (duckdb.InterruptException, KeyboardInterrupt) as exc:
        raise cancelled() from exc
    except duckdb.OutOfMemoryException as exc:
        raise QueryTooLarge(_said(exc), "Ask for less at once, or raise K2_MEMORY_LIMIT") from exc
    except duckdb.OutOfRangeException as exc:
        raise QueryError(_said(exc), "Cast to a wider type, such as price::DECIMAL(38, 8) * size") from exc
    except duckdb.IOException as exc:
        raise UnreadableData(_said(exc), "Check that the warehouse is complete and can be read") from exc
    except duckdb.Error as exc:
        if NO_CAPTURE in str(exc):
            raise InvalidParameter("clock", "recv", NO_CAPTURE, "Use clock='event'") from exc
        raise QueryError(_said(exc), "Correct the statement; `DESCRIBE trades` lists the columns of a table") from exc
    except (RuntimeError, OSError) as exc:
        # A stream that is interrupted raises OSError, Ctrl-C in a fetch a RuntimeError.
        if "interrupt" in str(exc).lower():
            raise cancelled() from exc
        raise


def _said(exc: Exception) -> str:
    return str(exc).strip()


def literal(text: str) -> str:
    """A text as an SQL literal: only for paths and names of ours where DuckDB binds no parameters."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
