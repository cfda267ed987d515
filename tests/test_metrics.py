"""What a process counts: plain numbers until somebody looks, then Prometheus' text format."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import k2kernel as k2
from k2kernel import Workbench
from k2kernel.config import Settings
from k2kernel.metrics import METRICS, Counter, Gauge, Histogram, Metrics
from tests.servers import free_port
from tests.support import ROOT, missing_service

ROWS = """\
ts_event,symbol,venue,sequence,price,size,side,conditions
2024-03-04T00:00:00.000001Z,BHP,XASX,1,44.105,100,buy,XT;LT
2024-03-04T00:00:01Z,BHP,XASX,2,44.1,0.5,sell,
"""


@pytest.fixture
def bench() -> Workbench:
    """A workbench on an empty lake, with a file beside it."""
    Path("trades.csv").write_text(ROWS)
    return k2.connect(".k2").init()


LABELS = {
    *("action", "back", "error", "event", "how", "method"),
    *("outcome", "route", "state", "status", "table", "version"),
}
"""Labels of few values."""


def values(text: bytes) -> dict[str, float]:
    """Each series of Prometheus' text format with its value."""
    lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


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


def test_known_series_are_apart() -> None:
    counter = Counter("runs", "", ("status",), ("ok", "failed"))
    counter.labels("ok").inc()
    assert counter.series == {("ok",): [1.0], ("failed",): [0.0]}


def test_labels_are_as_many_as_declared() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Counter("failures", "", ("error",)).labels()


def test_names_end_in_what_they_count_and_labels_are_few() -> None:
    names = [each.name for each in Metrics()]
    assert len(names) == len(set(names)) >= 50
    for each in Metrics():
        assert re.fullmatch(r"(k2|process)_[a-z_]*[a-z]", each.name)
        assert not each.name.endswith(("_total", "_count", "_ms", "_milliseconds"))
        assert isinstance(each, Histogram) is not isinstance(each, Counter | Gauge)
        assert set(each.label_names) <= LABELS


def test_a_load_and_what_is_asked_of_it_are_counted(bench: Workbench) -> None:
    with bench.metrics():
        before = values(METRICS.text())
        bench.ingest("trades.csv", "k2-trades")
        bench.ingest("trades.csv", "k2-trades")
        bench.trades("BHP").to_polars()
        assert sum(1 for _ in bench.replay("BHP")) == 2
        bench.compact("trades")
        found = values(METRICS.text())
        new = {name: value - before.get(name, 0) for name, value in found.items()}
    assert new['k2_ingest_files_total{outcome="loaded"}'] == new['k2_ingest_files_total{outcome="duplicate"}'] == 1
    assert new['k2_ingest_rows_total{table="trades"}'] == 2
    assert new['k2_ingest_duplicate_rows_total{table="trades"}'] == 2
    assert new['k2_commits_total{table="trades"}'] == 1
    assert new["k2_replay_events_total"] == 2
    assert new["k2_query_scanned_bytes_total"] > 0
    assert new['k2_maintenance_seconds_count{action="compact"}'] == 1
    facts = {name: found[f'k2_table_{name}{{table="trades"}}'] for name in ("rows", "files", "sessions", "snapshots")}
    assert facts == {"rows": 2, "files": 1, "sessions": 1, "snapshots": 1}
    assert found['k2_table_session_rows{back="0",table="trades"}'] == 2
    latest = datetime(2024, 3, 4, 0, 0, 1, tzinfo=UTC).timestamp()
    assert found['k2_table_valid_through_timestamp_seconds{table="trades"}'] == latest


def test_a_lake_that_cannot_be_read_hides_no_other_metric(bench: Workbench) -> None:
    bench.settings.home.joinpath("catalog.db").write_bytes(b"no database")
    with k2.connect(bench.settings.home).metrics():
        before = METRICS.refresh_failures.series[()][0]
        assert b"k2_queries_running" in METRICS.text()
        assert METRICS.refresh_failures.series[()][0] == before + 1


def test_a_command_leaves_a_text_file(bench: Workbench, tmp_path: Path) -> None:
    bench.ingest("trades.csv", "k2-trades")
    file = tmp_path / "metrics" / "k2.prom"
    environment = {**os.environ, "K2_METRICS_TEXTFILE": str(file), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", "from k2kernel.cli import main; main()", "query", "trades", "-s", "BHP"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    found = values(file.read_bytes())
    assert found["k2_query_scanned_files_total"] >= 1
    assert found['k2_table_rows{table="trades"}'] == 2
    assert [path.name for path in file.parent.iterdir()] == ["k2.prom"]


def test_a_long_command_shows_them_at_its_port_and_goes_on_where_that_is_taken(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=bench.settings.home, metrics_port=free_port())
    with k2.connect(settings=settings).metrics():
        with k2.connect(settings=settings).metrics():
            assert "K2_METRICS_PORT" in caplog.text
        answer = httpx.get(f"http://127.0.0.1:{settings.metrics_port}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert values(answer.content)["process_resident_memory_bytes"] > 1e6


WORKER = """
import sys, time
from pathlib import Path
from k2kernel.config import Settings
from k2kernel.metrics import METRICS
with METRICS.shown(Settings(metrics_folder=sys.argv[1])):
    METRICS.http_rows.labels("/v1/trades").inc(int(sys.argv[2]))
    METRICS.http_seconds.labels("/v1/trades").observe(0.2)
    METRICS.http_in_flight.inc()
    METRICS.ingest_last.set(int(sys.argv[2]))
    METRICS.text()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_several_processes_are_added_up_and_what_an_ended_one_counted_stays(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WORKER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen([*words, str(rows)], **pipes) for rows in (3, 4)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2  # type: ignore[union-attr]
    metrics = Metrics()
    with metrics.shown(Settings(metrics_folder=tmp_path)):
        both = values(metrics.text())
        workers[0].kill()
        workers[0].wait()
        one = values(metrics.text())
        workers[1].communicate("")
        none = values(metrics.text())
        assert len(list(tmp_path.glob("*.json"))) == 2, "its own, and one of all that have ended"
    workers[0].communicate()
    for found in (both, one, none):
        assert found['k2_http_rows_total{route="/v1/trades"}'] == 7
        assert found['k2_http_request_seconds_bucket{le="0.25",route="/v1/trades"}'] == 2
    assert [found["k2_http_requests_in_flight"] for found in (both, one, none)] == [2, 1, 0]
    assert [found["k2_processes"] for found in (both, one, none)] == [3, 2, 1]
    assert both["k2_ingest_last_success_timestamp_seconds"] == 4


def test_a_process_that_has_the_number_of_an_ended_one_is_another(tmp_path: Path) -> None:
    ended = {"k2_http_rows": [[["/v1/trades"], [5.0]]], "k2_http_requests_in_flight": [[[], [1.0]]]}
    (tmp_path / f"{os.getpid()}-1.json").write_text(json.dumps(ended))
    metrics = Metrics()
    with metrics.shown(Settings(metrics_folder=tmp_path)):
        metrics.http_rows.labels("/v1/trades").inc(2)
        for _ in range(3):
            found = values(metrics.text())
            assert found['k2_http_rows_total{route="/v1/trades"}'] == 7
            assert found["k2_http_requests_in_flight"] == 0


def test_everything_is_named_and_told_as_prometheus_wants_it(bench: Workbench) -> None:
    """By Prometheus' own linter: base units, suffixes, help."""
    if shutil.which("promtool") is None:
        missing_service("Prometheus", "apt-get install prometheus")
    with bench.metrics():
        bench.ingest("trades.csv", "k2-trades")
        bench.maintain()
        assert bench.trades("BHP").to_polars().height == 2
        text = METRICS.text()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
