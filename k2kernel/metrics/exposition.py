"""Numbers in Prometheus' text format: of this process, or of all that share a folder; at a port, or in a file."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from k2kernel.metrics.instruments import CONTENT_TYPE, Counter, Gauge, Histogram, Instrument, Numbers, Series

if TYPE_CHECKING:
    from k2kernel.config import Settings

_LOG = logging.getLogger("k2kernel.metrics")
_SHARE_S = 1.0
_ENDED = "ended.json"

State = dict[str, Series]
"""The series of each instrument, by its name."""


def text(instruments: Sequence[Instrument], folder: Path | None = None) -> bytes:
    """Every series of a process, and of those that share `folder` with it."""
    own = _state(instruments)
    states = [own]
    if folder is not None:
        _share(own, folder)
        states += _others(instruments, folder)
    registry = CollectorRegistry()
    registry.register(_Collector((each, _together(each, states)) for each in instruments))
    return generate_latest(registry)


@contextmanager
def shown(
    instruments: Sequence[Instrument], told: Callable[[], bytes], settings: Settings, *, serve: bool
) -> Iterator[None]:
    """See `Metrics.shown`; `told` is its text."""
    with ExitStack() as closing:
        if settings.metrics_folder is not None:
            closing.enter_context(_sharing(instruments, settings.metrics_folder))
        if serve and settings.metrics_port is not None:
            closing.enter_context(_served(told, settings.metrics_host, settings.metrics_port))
        try:
            yield
        finally:
            if settings.metrics_textfile is not None:
                _replace(settings.metrics_textfile, told())


class _Collector(Collector):
    """Instruments and their series as Prometheus' library knows them."""

    def __init__(self, found: Iterable[tuple[Instrument, Series]]) -> None:
        self._found = list(found)

    def collect(self) -> Iterator[Metric]:
        """Each instrument with its series."""
        return (_family(instrument, series) for instrument, series in self._found)


def _family(instrument: Instrument, series: Series) -> Metric:
    if isinstance(instrument, Histogram):
        shown = HistogramMetricFamily(instrument.name, instrument.meaning, labels=instrument.label_names)
        for labels, numbers in series.items():
            shown.add_metric(labels, *_buckets(instrument, numbers))
        return shown
    made: type[CounterMetricFamily | GaugeMetricFamily]
    made = CounterMetricFamily if isinstance(instrument, Counter) else GaugeMetricFamily
    family = made(instrument.name, instrument.meaning, labels=instrument.label_names)
    for labels, (value,) in series.items():
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram, numbers: Numbers) -> tuple[list[tuple[str, float]], float]:
    """The running counts by their bounds, and the sum."""
    bounds = [*map(str, histogram.buckets), "+Inf"]
    return list(zip(bounds, accumulate(numbers[:-1]), strict=True)), numbers[-1]


def _state(instruments: Sequence[Instrument]) -> State:
    """The numbers of this process, what the system says about it among them."""
    from importlib.metadata import version

    by_name = {each.name: each for each in instruments}
    for family in ProcessCollector(registry=None).collect():
        by_name[family.name].series[()] = [family.samples[0].value]
    by_name["k2_processes"].series[()] = [1.0]
    by_name["k2_build_info"].series[version("k2kernel"),] = [1.0]
    return {each.name: {labels: [*numbers] for labels, numbers in [*each.series.items()]} for each in instruments}


def _together(instrument: Instrument, states: Iterable[State]) -> Series:
    """One series from those of several processes: sums, or what the gauge says."""
    across = instrument.across if isinstance(instrument, Gauge) else sum
    found: dict[tuple[str, ...], list[Numbers]] = {}
    for state in states:
        for labels, numbers in state.get(instrument.name, {}).items():
            found.setdefault(labels, []).append(numbers)
    return {labels: [across([*values]) for values in zip(*all_, strict=True)] for labels, all_ in found.items()}


def _identity(pid: int) -> str:
    """A process by its number and, as numbers are used again, by when it started; the number alone where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return str(pid)
    return f"{pid}-{stat.rpartition(')')[2].split()[19]}"


def _share(state: State, folder: Path) -> None:
    """Put the numbers of this process where the others find them."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{_identity(os.getpid())}.json", json.dumps(_told(state)).encode())


def _told(state: State) -> dict[str, list[tuple[list[str], Numbers]]]:
    return {name: [([*labels], numbers) for labels, numbers in series.items()] for name, series in state.items()}


def _read(path: Path) -> State:
    told = json.loads(path.read_text(encoding="utf-8"))
    return {name: {tuple(labels): numbers for labels, numbers in series} for name, series in told.items()}


def _others(instruments: Sequence[Instrument], folder: Path) -> list[State]:
    """The numbers of the other processes. What those that have ended counted stays, in one file; what they were at does
    not.
    """
    mine = _identity(os.getpid())
    counted = [each for each in instruments if not isinstance(each, Gauge)]
    with _locked(folder):
        files = [path for path in folder.glob("[0-9]*.json") if path.stem != mine]
        ended = [path for path in files if _identity(int(path.stem.partition("-")[0])) != path.stem]
        known = _read(folder / _ENDED) if (folder / _ENDED).exists() else {}
        if ended:
            states = [known, *map(_read, ended)]
            known = {each.name: _together(each, states) for each in counted}
            _replace(folder / _ENDED, json.dumps(_told(known)).encode())
            for path in ended:
                path.unlink()
        return [known, *(_read(path) for path in files if path not in ended)]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: what has ended is not counted twice."""
    from fcntl import LOCK_EX, flock

    with (folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


@contextmanager
def _sharing(instruments: Sequence[Instrument], folder: Path) -> Iterator[None]:
    """Share the numbers every second, and at the end."""
    ended = threading.Event()

    def share() -> None:
        while not ended.wait(_SHARE_S):
            _share(_state(instruments), folder)

    thread = threading.Thread(target=share, name="k2-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _share(_state(instruments), folder)


@contextmanager
def _served(told: Callable[[], bytes], host: str, port: int) -> Iterator[None]:
    """A small server of its own, in a thread. Where the port is taken the work goes on without."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = told()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked has left
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """A scrape is no news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as exc:
        _LOG.warning("no metrics at %s:%d: %s; set another K2_METRICS_PORT", host, port, exc.strerror)
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="k2-metrics-port", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is never seen half done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    made.write_bytes(content)
    made.replace(path)
