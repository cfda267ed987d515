"""Prometheus instruments as typed attributes. Labels have few values: never a symbol, a key or a snapshot."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Every instrument of a process. `route` is a template such as `/v1/summary/{symbol}/{date}`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queries_running = Gauge("k2_queries_running", "queries that have a cursor open", registry=self.registry)
        self.query_seconds = Histogram(
            "k2_query_seconds", "from a query's start until its rows are read", buckets=_SECONDS, registry=self.registry
        )
        self.query_failures = Counter(
            "k2_query_failures", "queries that failed, by the error's name", ["error"], registry=self.registry
        )
        self.http_requests = Counter(
            "k2_http_requests", "requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.http_seconds = Histogram(
            "k2_http_request_seconds",
            "from a request's arrival until its answer is sent",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.http_in_flight = Gauge("k2_http_requests_in_flight", "requests being answered", registry=self.registry)
        self.http_rows = Counter("k2_http_rows", "rows sent", ["route"], registry=self.registry)
        self.http_cached = Counter(
            "k2_http_cached", "answers that needed no scan: not_modified, or kept", ["how"], registry=self.registry
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


METRICS = Metrics()
"""The instruments of this process."""
