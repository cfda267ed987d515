"""HTTP: a server in a process of its own, and clients beside it on the same machine.

No two requests for rows are the same, so none is answered from what the server keeps; but summaries are also asked for
as those who look at a few sessions ask.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

import k2kernel as k2
from benchmarks.data import BUSY, QUIET, SESSIONS, START
from benchmarks.report import OURS, Measure, Report

CONNECTIONS, SECONDS = 8, 60.0
STREAM_ROWS = 1_000_000
SHARE = 0.4
"""Of the rate of `to_arrow` in the process that a stream over HTTP must reach."""

HEALTH_MS = 50.0
KEY = "benchmark"
SLOW = "SELECT sum(a.i * b.i) AS n FROM range(1000000) AS a(i), range(1000000) AS b(i) WHERE (a.i + b.i) % 7 = 3"


@dataclass
class Load:
    """What came of many requests: ms of each, and the answers that were none."""

    spent: list[float] = field(default_factory=list)
    errors: int = 0


@dataclass(frozen=True)
class Server:
    """A server that was started for the measurement."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1_024

    def get(self, connection: HTTPConnection, path: str) -> int:
        """The status of a GET, read to its end."""
        connection.request("GET", path, headers={"X-API-Key": KEY})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def connect(self) -> HTTPConnection:
        """A connection that stays open."""
        return HTTPConnection("127.0.0.1", self.port, timeout=120)


def measure(report: Report, home: Path, seconds: float = SECONDS) -> None:
    """The figures of HTTP over the lake at `home`; `seconds` of load for each route."""
    workbench = k2.connect(home)
    with _serving(home) as server:
        for name, path, call in _calls(workbench):
            beside = _median_ms(call)
            _load(server, path, 2)
            base = server.memory_mb
            load = _load(server, path, seconds)
            _tell(report, name, load, beside, seconds)
            report.add(Measure("  memory more than before", "MB", {OURS: server.memory_mb - base}))
        report.add(Measure("GET /health beside 4 heavy queries", "ms", {OURS: _health_ms(server)}, most=HEALTH_MS))
        _stream(report, server, workbench)


def _calls(workbench: k2.Workbench) -> Iterator[tuple[str, Callable[[int], str], Callable[[int], object]]]:
    """The name of a route, its path for the n-th request, and the same call of the workbench."""

    def start(n: int) -> str:
        return f"{START + timedelta(milliseconds=n):%Y-%m-%dT%H:%M:%S.%fZ}"

    yield (
        "GET /v1/trades?limit=100",
        lambda n: f"/v1/trades?symbols={QUIET}&start={start(n)}&limit=100",
        lambda n: workbench.trades(QUIET, start=start(n), limit=100).to_arrow(),
    )
    yield (
        "GET /v1/summary, of five sessions",
        lambda n: f"/v1/summary/{BUSY}/{SESSIONS[n % 5]}",
        lambda n: workbench.summary(BUSY, SESSIONS[n % 5]),
    )
    # The word that tells requests apart is one that changes nothing.
    yield (
        "GET /v1/summary, never the same",
        lambda n: f"/v1/summary/{BUSY}/{SESSIONS[n % 5]}?known_at={_later(n)}&clock=event",
        lambda n: workbench.summary(BUSY, SESSIONS[n % 5], known_at=_later(n), clock="event"),
    )


def _later(n: int) -> str:
    return f"2025-01-01T00:00:00.{n % 1_000_000:06}Z"


def _tell(report: Report, name: str, load: Load, beside: float, seconds: float) -> None:
    found = sorted(load.spent)
    slowest = found[int(len(found) * 0.99)]
    report.add(Measure(f"{name}, {CONNECTIONS} connections", "req/s", {OURS: len(found) / seconds}))
    report.add(Measure("  median", "ms", {OURS: statistics.median(found)}))
    report.add(Measure(f"  p99 of {len(found)}", "ms", {OURS: slowest}, most=10 * beside + 50))
    report.add(Measure("  the same call in the process, median", "ms", {OURS: beside}))
    report.add(Measure("  errors", "", {OURS: float(load.errors)}, most=0))


def _load(server: Server, path: Callable[[int], str], seconds: float) -> Load:
    """Every connection asks again as soon as it is answered."""
    found, numbers, until = Load(), count(int(time.time() * 1_000) % 10_000_000), time.perf_counter() + seconds

    def ask() -> None:
        connection = server.connect()
        while (start := time.perf_counter()) < until:
            found.errors += server.get(connection, path(next(numbers))) != 200
            found.spent.append((time.perf_counter() - start) * 1_000)

    threads = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _median_ms(call: Callable[[int], object], runs: int = 50, warm_up: int = 5) -> float:
    spent = []
    for n in range(warm_up + runs):
        start = time.perf_counter()
        call(n)
        spent.append((time.perf_counter() - start) * 1_000)
    return statistics.median(spent[warm_up:])


def _health_ms(server: Server, asked: int = 200) -> float:
    """The median of `/health` while four statements run that nobody will wait for."""
    heavy = [server.connect() for _ in range(4)]
    for rows, connection in enumerate(heavy, start=1):  # equal statements would be run once
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        connection.request("POST", "/v1/sql", json.dumps({"query": SLOW, "limit": rows}), headers)
    time.sleep(1)
    connection, spent = server.connect(), []
    for _ in range(asked):
        start = time.perf_counter()
        server.get(connection, "/health")
        spent.append((time.perf_counter() - start) * 1_000)
    for each in heavy:
        each.close()
    time.sleep(1)
    return statistics.median(spent)


def _stream(report: Report, server: Server, workbench: k2.Workbench, rounds: int = 5) -> None:
    """Rows a second of an Arrow stream beside `to_arrow`, which take turns."""
    days = min(len(SESSIONS), -(-STREAM_ROWS * len(SESSIONS) // report.rows))
    session = f"{SESSIONS[0]}..{SESSIONS[days - 1]}"
    contenders: dict[str, Callable[[], int]] = {
        "HTTP": lambda: _rows(server, f"/v1/trades?session={session}&format=arrow"),
        "to_arrow": lambda: int(workbench.trades(session=session).to_arrow().num_rows),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    base = 0.0
    for turn in range(rounds + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            rates[name].append(work() / (time.perf_counter() - start))
        base = server.memory_mb if turn == 0 else base
    inside = statistics.median(rates["to_arrow"][1:])
    report.add(
        Measure("Arrow stream over HTTP", "rows/s", {OURS: statistics.median(rates["HTTP"][1:])}, least=SHARE * inside)
    )
    report.add(Measure("  to_arrow in the process", "rows/s", {OURS: inside}))
    report.add(Measure("  memory more than after the first", "MB", {OURS: server.memory_mb - base}))


def _rows(server: Server, path: str) -> int:
    connection = server.connect()
    connection.request("GET", path, headers={"X-API-Key": KEY})
    answer = connection.getresponse()
    reader = pa.ipc.open_stream(answer)
    return sum(int(batch.num_rows) for batch in reader)


@contextmanager
def _serving(home: Path) -> Iterator[Server]:
    """A server with a rate that the load does not reach."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"K2_API_KEYS": KEY, "K2_HTTP_RATE": "100000000", "K2_HTTP_SQL": "true", "K2_HTTP_TIMEOUT": "120"}
    words = [sys.executable, "-m", "panel_apps", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(words, env={**os.environ, **given}, stderr=subprocess.DEVNULL)
    server = Server(port, process)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait(server: Server) -> None:
    for _ in range(600):
        try:
            server.get(server.connect(), "/health")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the server did not start")
