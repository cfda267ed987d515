"""What a process counts, as typed attributes. Labels have few values: never a symbol, a key or a snapshot.

Numbers are kept from the start; Prometheus' library is loaded by the first process that shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from k2kernel.metrics.instruments import CONTENT_TYPE, Counter, Gauge, Histogram, Instrument, Series

if TYPE_CHECKING:
    from k2kernel.config import Settings

__all__ = ["METRICS", "Counter", "Gauge", "Histogram", "Instrument", "Metrics"]

_LONG = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_SIZES = (10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0)


_STEPS = ("compact", "expire", "orphans", "rewrite-manifests")


class Metrics:
    """Every instrument of a process. `route` is a template such as `/v1/summary/{symbol}/{date}`."""

    content_type = CONTENT_TYPE

    def __init__(self) -> None:
        self._refreshers: list[Callable[[], object]] = []
        self._folder: Path | None = None
        self._ingest()
        self._stream()
        self._lake()
        self._tables()
        self._reads()
        self._http()
        self._process()

    def _ingest(self) -> None:
        self.ingest_files = Counter(
            "k2_ingest_files", "files by outcome", ("outcome",), ("loaded", "duplicate", "failed")
        )
        self.ingest_lines = Counter("k2_ingest_lines", "lines read from files")
        self.ingest_rows = Counter("k2_ingest_rows", "rows of files added", ("table",))
        self.ingest_duplicates = Counter("k2_ingest_duplicate_rows", "rows of files that were there", ("table",))
        self.ingest_rejected = Counter("k2_ingest_rejected_rows", "lines of files that were no rows")
        self.ingest_skipped = Counter("k2_ingest_skipped_lines", "lines of files that a profile passes over")
        self.ingest_running = Gauge("k2_ingests_running", "files being loaded")
        self.ingest_seconds = Histogram("k2_ingest_seconds", "to load a file", buckets=_LONG)
        self.ingest_last = Gauge("k2_ingest_last_success_timestamp_seconds", "when a file was loaded last", across=max)

    def _stream(self) -> None:
        self.stream_messages = Counter("k2_stream_messages", "messages committed")
        self.stream_rows = Counter("k2_stream_rows", "rows of messages committed", ("table",))
        self.stream_letters = Counter("k2_stream_dead_letters", "messages that were no rows")
        self.stream_bytes = Counter("k2_stream_bytes", "bytes of the messages committed")
        self.stream_batch = Histogram("k2_stream_batch_messages", "messages of a batch", buckets=_SIZES)
        self.stream_seconds = Histogram("k2_stream_deliver_seconds", "from a batch's end until it is committed")
        self.stream_conflicts = Counter("k2_stream_conflicts", "batches whose table had moved on")
        self.stream_gaps = Counter("k2_stream_sequence_events", "gaps, reorders, duplicates and resets", ("event",))
        self.stream_held = Gauge("k2_stream_held", "streams that wait for the schema registry")
        self.stream_partitions = Gauge("k2_stream_partitions", "partitions being read")
        self.stream_buffered = Gauge("k2_stream_buffered_messages", "messages read and not yet on their way")
        self.stream_lag = Gauge("k2_stream_lag_messages", "messages of the brokers that are not committed")
        self.stream_last = Gauge("k2_stream_last_commit_timestamp_seconds", "when a batch was committed", across=max)
        self.stream_watermark = Gauge(
            "k2_stream_watermark_timestamp_seconds", "latest event time of the rows committed", across=max
        )

    def _lake(self) -> None:
        table, action = ("table",), ("action",)
        self.commits = Counter("k2_commits", "snapshots added", table)
        self.commit_seconds = Histogram("k2_commit_seconds", "from the first attempt until a commit stands")
        self.commit_conflicts = Counter("k2_commit_conflicts", "attempts that another commit, or a fault, undid", table)
        self.commit_failures = Counter("k2_commit_failures", "commits given up", table)
        self.written_files = Counter("k2_written_files", "data files written")
        self.written_bytes = Counter("k2_written_bytes", "bytes of data files written")
        self.upkeep_seconds = Histogram("k2_maintenance_seconds", "a step of maintenance", action, buckets=_LONG)
        self.upkeep_deleted = Counter("k2_maintenance_deleted_files", "files taken off the disk", action)
        self.upkeep_deleted_bytes = Counter("k2_maintenance_deleted_bytes", "bytes taken off the disk", action)
        self.upkeep_failures = Counter("k2_maintenance_failures", "steps that failed", action, _STEPS)
        self.upkeep_last = Gauge(
            "k2_maintenance_last_success_timestamp_seconds", "when a step was last done", action, across=max
        )

    def _tables(self) -> None:
        table = ("table",)
        self.table_rows = Gauge("k2_table_rows", "rows of the current state", table, across=max)
        self.table_bytes = Gauge("k2_table_bytes", "bytes of its data files", table, across=max)
        self.table_files = Gauge("k2_table_files", "its data files", table, across=max)
        self.table_small_files = Gauge("k2_table_small_files", "files that a compaction would merge", table, across=max)
        self.table_sessions = Gauge("k2_table_sessions", "sessions with rows", table, across=max)
        self.table_session_rows = Gauge(
            "k2_table_session_rows",
            "rows of the last ten sessions, by how many back",
            ("table", "back"),
            across=max,
        )
        self.table_gaps = Gauge(
            "k2_table_missing_weekdays", "of the 30 days before the last session, without rows", table, across=max
        )
        self.table_snapshots = Gauge("k2_table_snapshots", "kept states", table, across=max)
        self.table_committed = Gauge(
            "k2_table_last_commit_timestamp_seconds", "when the current state was committed", table, across=max
        )
        self.table_through = Gauge(
            "k2_table_valid_through_timestamp_seconds", "latest event time that it holds", table, across=max
        )
        self.refresh_failures = Counter("k2_refresh_failures", "times that facts about tables could not be had")

    def _reads(self) -> None:
        self.queries_running = Gauge("k2_queries_running", "queries that have a cursor open")
        self.query_seconds = Histogram("k2_query_seconds", "from a query's start until its rows are read")
        self.query_failures = Counter("k2_query_failures", "queries that failed, by the error's name", ("error",))
        self.query_bytes = Counter("k2_query_scanned_bytes", "bytes of the data files that queries read")
        self.query_files = Counter("k2_query_scanned_files", "data files that queries read")
        self.query_pruned_files = Counter("k2_query_pruned_files", "data files that statistics ruled out")
        self.query_pruned_bytes = Counter("k2_query_pruned_bytes", "bytes of those files")
        self.replays = Counter("k2_replays", "replays by how they ended", ("state",))
        self.replays_running = Gauge("k2_replays_running", "replays being read")
        self.replay_events = Counter("k2_replay_events", "events delivered")
        self.runs = Counter("k2_runs", "notebook runs by how they ended", ("status",), ("ok", "failed"))
        self.run_seconds = Histogram("k2_run_seconds", "a notebook run", buckets=_LONG)
        self.run_last = Gauge("k2_run_last_success_timestamp_seconds", "when a notebook run ended well", across=max)

    def _http(self) -> None:
        route = ("route",)
        self.http_requests = Counter("k2_http_requests", "requests answered", ("method", "route", "status"))
        self.http_seconds = Histogram(
            "k2_http_request_seconds", "from a request's arrival until its answer is sent", route
        )
        self.http_in_flight = Gauge("k2_http_requests_in_flight", "requests being answered")
        self.http_rows = Counter("k2_http_rows", "rows sent", route)
        self.http_cached = Counter("k2_http_cached", "answers that needed no scan", ("how",), ("not_modified", "kept"))

    def _process(self) -> None:
        self.process_cpu = Counter("process_cpu_seconds", "processor time used")
        self.process_memory = Gauge("process_resident_memory_bytes", "memory in use")
        self.process_virtual = Gauge("process_virtual_memory_bytes", "address space in use")
        self.process_files = Gauge("process_open_fds", "open files")
        self.process_most_files = Gauge("process_max_fds", "files that may be open")
        self.process_start = Gauge("process_start_time_seconds", "when the process started", across=min)
        self.processes = Gauge("k2_processes", "processes whose numbers are added up here")
        self.build = Gauge("k2_build_info", "1, with the version", ("version",), across=max)

    def __iter__(self) -> Iterator[Instrument]:
        return (found for found in vars(self).values() if isinstance(found, Instrument))

    @contextmanager
    def refreshed_by(self, refresh: Callable[[], object]) -> Iterator[None]:
        """While the block runs, call `refresh` before numbers are shown: it sets gauges."""
        self._refreshers.append(refresh)
        try:
            yield
        finally:
            self._refreshers.remove(refresh)

    def text(self) -> bytes:
        """Everything in Prometheus' text format, of every process that shares its numbers with this one."""
        from k2kernel.metrics import exposition

        self.refresh()
        return exposition.text([*self], self._folder)

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        for refresh in self._refreshers:
            try:
                refresh()
            except Exception:  # noqa: BLE001 - what cannot be measured must not hide what can
                self.refresh_failures.inc()

    def hand_over(self) -> dict[str, Series]:
        """What was counted so far, for another process to `take`; it is zero then. Gauges say what is now, and stay."""
        return {each.name: each.hand_over() for each in self if not isinstance(each, Gauge)}

    def take(self, told: Mapping[str, Series]) -> None:
        """Add what another process has handed over."""
        for each in self:
            each.take(told.get(each.name, {}))

    @contextmanager
    def shown(self, settings: Settings, *, serve: bool = True) -> Iterator[None]:
        """While the block runs: shared with other processes through K2_METRICS_FOLDER, served at K2_METRICS_PORT (with
        `serve`), and at its end written to K2_METRICS_TEXTFILE; each where it is set.
        """
        if not (settings.metrics_folder or settings.metrics_textfile or (serve and settings.metrics_port)):
            yield
            return
        from k2kernel.metrics import exposition

        self._folder = settings.metrics_folder
        with exposition.shown([*self], self.text, settings, serve=serve):
            yield


METRICS = Metrics()
"""The instruments of this process."""
