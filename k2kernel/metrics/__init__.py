"""What a process counts, as typed attributes. Labels have few values: never a symbol, a key or a snapshot.

Numbers are kept from the start; Prometheus' library is loaded by the first process that shows them.
"""

from __future__ import annotations

from collections.abc import Iterator

from k2kernel.metrics.instruments import Counter, Gauge, Histogram, Instrument

__all__ = ["METRICS", "Counter", "Gauge", "Histogram", "Instrument", "Metrics"]


class Metrics:
    """Every instrument of a process. `route` is a template such as `/v1/summary/{symbol}/{date}`."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.queries_running = Gauge("k2_queries_running", "queries that have a cursor open")
        self.query_seconds = Histogram("k2_query_seconds", "from a query's start until its rows are read")
        self.query_failures = Counter("k2_query_failures", "queries that failed, by the error's name", ("error",))
        self.http_requests = Counter("k2_http_requests", "requests answered", ("method", "route", "status"))
        self.http_seconds = Histogram(
            "k2_http_request_seconds", "from a request's arrival until its answer is sent", ("route",)
        )
        self.http_in_flight = Gauge("k2_http_requests_in_flight", "requests being answered")
        self.http_rows = Counter("k2_http_rows", "rows sent", ("route",))
        self.http_cached = Counter("k2_http_cached", "answers that needed no scan: not_modified, or kept", ("how",))

    def __iter__(self) -> Iterator[Instrument]:
        return (found for found in vars(self).values() if isinstance(found, Instrument))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        from k2kernel.metrics.exposition import text

        return text(self)


METRICS = Metrics()
"""The instruments of this process."""
