"""What a process counts: plain numbers until somebody looks, then Prometheus' text format."""

from __future__ import annotations

import subprocess
import sys

import pytest

from k2kernel.metrics import Counter, Gauge, Histogram, Metrics
from tests.support import ROOT


def test_a_process_that_shows_nothing_loads_no_library_and_one_that_does_has_counted_all_along() -> None:
    script = (
        "import sys; from k2kernel.metrics import METRICS; METRICS.query_failures.labels('QueryError').inc(3);"
        "assert 'prometheus_client' not in sys.modules; print(METRICS.text().decode())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 'k2_query_failures_total{error="QueryError"} 3.0' in done.stdout


def test_series_without_labels_are_there_before_anything_happens() -> None:
    assert b"k2_queries_running 0.0" in Metrics().text()


def test_a_gauge_goes_up_and_down_also_through_an_error() -> None:
    gauge = Gauge("running", "")
    with gauge.track_inprogress():
        assert gauge.series == {(): [1.0]}
    with pytest.raises(ZeroDivisionError), gauge.track_inprogress():
        _ = 1 / 0
    assert gauge.series == {(): [0.0]}
    gauge.set(4)
    gauge.dec()
    assert gauge.series == {(): [3.0]}


def test_a_histogram_counts_at_most_its_bounds() -> None:
    histogram = Histogram("seconds", "", buckets=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.series == {(): [2.0, 1.0, 1.0, 12.0]}


def test_labels_are_as_many_as_declared() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Counter("failures", "", ("error",)).labels()
