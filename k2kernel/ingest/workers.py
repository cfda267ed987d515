"""Several files: one after another in this process, or side by side in processes of their own."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from traceback import format_exc
from typing import TYPE_CHECKING, Any

from k2kernel.errors import FileFault
from k2kernel.ingest.files import Turn, ingest_file
from k2kernel.ingest.known import Options
from k2kernel.ingest.progress import Phase, Progress, silent
from k2kernel.ingest.receipt import Receipt
from k2kernel.lake import Lake
from k2kernel.metrics import METRICS
from k2kernel.profiles import Profile

if TYPE_CHECKING:
    from k2kernel.config import Settings

_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
"""What Polars and PyArrow look at, once, when they are loaded."""

_AMOUNT = re.compile(r"[\d.]+")
_LEAST_ROWS = 100_000
"""Rows that a worker holds at least before it writes a file; fewer make files that cost more than they save."""

_CODE = "import gc, sys; gc.disable(); from k2kernel.ingest.workers import work; gc.enable(); work(int(sys.argv[1]))"
_AGAIN = (
    "Run the same again: each table has all of the file or nothing, and what it has is not added twice. "
    "Where memory ran out, use fewer workers"
)
_STOP_S = 10.0
"""How long a worker may take to delete what it has not committed; then it is killed."""


@dataclass(frozen=True)
class Loaded:
    """What became of one file: a receipt, or the fault for which nothing of it was loaded."""

    path: Path
    receipt: Receipt | None
    fault: FileFault | None

    @classmethod
    def of(
        cls,
        lake: Lake,
        path: Path,
        profile: Profile,
        options: Options,
        progress: Progress = silent,
        *,
        turn: Turn | None = None,
    ) -> Loaded:
        """Load the file."""
        try:
            return cls(path, ingest_file(lake, path, profile, options, progress, turn=turn), None)
        except FileFault as fault:
            return cls(path, None, fault)

    def get(self) -> Receipt:
        """The receipt; raises the fault."""
        if self.receipt is None:
            raise self.fault or FileFault(str(self.path), "was not loaded")
        return self.receipt


def ingest_files(
    lake: Lake,
    paths: Sequence[Path],
    profile: Profile,
    options: Options,
    progress: Progress = silent,
    *,
    workers: int = 1,
) -> Iterator[Loaded]:
    """Load files, and tell of each in the order of `paths`.

    Up to `workers` files are loaded at a time, each in a process with its share of the threads, of `memory_limit` and
    of `ingest_buffer_rows`; one a core at most, since more only cost their start. Their commits take turns; a file is
    still one commit a table, or nothing. Where a process is killed that is the fault of its file alone. Where this one
    stops or is killed they stop too, and clean up. With one worker a file is begun when the one before it was taken.
    """
    workers = min(workers, len(paths), os.cpu_count() or 1)
    if workers < 2:
        yield from (Loaded.of(lake, path, profile, options, progress) for path in paths)
        return
    share = _share(lake.settings, workers)
    with _crew(workers, share, profile, options) as load:
        for path, loaded in zip(paths, load(paths), strict=True):
            Phase(progress, str(path), "loading", path.stat().st_size if loaded.receipt else 0).done()
            yield loaded


def _share(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many workers."""
    threads = max(1, (settings.threads or os.cpu_count() or 1) // workers)
    rows = max(_LEAST_ROWS, settings.ingest_buffer_rows // workers)
    limit = _AMOUNT.sub(lambda found: f"{float(found[0]) / workers:g}", settings.memory_limit, count=1)
    return settings.model_copy(update={"threads": threads, "ingest_buffer_rows": rows, "memory_limit": limit})


def work(descriptor: int) -> None:
    """In a worker: load what the other end of the socket asks for, until it goes, which also interrupts a load."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked: SimpleQueue[Any] = SimpleQueue()
    with suppress(KeyboardInterrupt), socket.socket(fileno=descriptor) as end, end.makefile("rwb") as pipe:

        def listen() -> None:
            with suppress(EOFError, OSError, pickle.UnpicklingError):
                while True:
                    asked.put(pickle.load(pipe))  # noqa: S301 - as below
            os.kill(os.getpid(), signal.SIGINT)
            asked.put(None)

        def tell(what: object) -> None:
            pickle.dump(what, pipe)
            pipe.flush()

        def wait() -> None:
            tell(None)
            asked.get()

        settings, profile, options = pickle.load(pipe)  # noqa: S301 - from the process that started this one
        Thread(target=listen, daemon=True).start()
        lake = cache(partial(Lake.open, settings))
        for path, began in iter(asked.get, None):
            tell((_outcome(lake, path, profile, options, (began, wait)), METRICS.hand_over()))


def _outcome(
    lake: Callable[[], Lake], path: Path, profile: Profile, options: Options, turn: Turn
) -> Loaded | Exception:
    try:
        return Loaded.of(lake(), path, profile, options, turn=turn)
    except Exception as exc:  # noqa: BLE001 - it is raised in the other process
        exc.add_note(format_exc())
        return exc


@contextmanager
def _crew(
    number: int, settings: Settings, profile: Profile, options: Options
) -> Iterator[Callable[[Sequence[Path]], Iterator[Loaded]]]:
    """What loads files with so many workers, which end with the block."""
    crew = [_Worker(settings, profile, options) for _ in range(number)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    turns = _Turns()
    for worker in crew:
        idle.put(worker)

    def load(path: Path) -> Loaded:
        worker = idle.get()
        try:
            with turns.one() as began:
                return worker.load(path, began, turns)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(number, thread_name_prefix="k2-ingest")
    try:
        yield lambda paths: threads.map(load, paths)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for end in (_Worker.stop, _Worker.wait, _Worker.close):
            for worker in crew:
                end(worker)


class _Turns:
    """Files commit in the order in which they began, so that no ts_ingest has to be written anew: who is ready before
    one that began earlier waits for it, for as long as its own load took at most.
    """

    def __init__(self) -> None:
        self._running: list[datetime] = []
        self._changed = Condition()

    @contextmanager
    def one(self) -> Iterator[datetime]:
        """A load, by when it began."""
        with self._changed:
            began = datetime.now(UTC)
            self._running.append(began)
        try:
            yield began
        finally:
            with self._changed:
                self._running.remove(began)
                self._changed.notify_all()

    def wait(self, began: datetime) -> None:
        """Return when it is the turn of the load that began then."""
        with self._changed:
            took = (datetime.now(UTC) - began).total_seconds()
            self._changed.wait_for(lambda: self._running[0] == began, took)


class _Worker:
    """A process that loads one file after another, for some settings, by a profile and with options."""

    def __init__(self, settings: Settings, profile: Profile, options: Options) -> None:
        self._given = settings, profile, options
        self._environment = os.environ | dict.fromkeys(_THREADS, str(settings.threads))
        self._environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno())],
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # a terminal's Ctrl-C is for this process, which stops that one
            )
        self._pipe = self._socket.makefile("rwb")
        self._tell(self._given)
        if self._stopped:
            self.stop()

    def _tell(self, what: object) -> None:
        pickle.dump(what, self._pipe)
        self._pipe.flush()

    def load(self, path: Path, began: datetime, turns: _Turns) -> Loaded:
        """Load a file; where the process ends meanwhile that is the file's fault, and another process starts."""
        try:
            with METRICS.ingest_running.track_inprogress():
                self._tell((path, began))
                while (said := pickle.load(self._pipe)) is None:  # noqa: S301 - from the process that this one started
                    turns.wait(began)
                    self._tell(True)
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._lost(path)
        outcome: Loaded | Exception
        outcome, counts = said
        METRICS.take(counts)
        if isinstance(outcome, Exception):
            raise outcome
        METRICS.ingest_last.set(time.time())
        return outcome

    def _lost(self, path: Path) -> Loaded:
        METRICS.ingest_files.labels("failed").inc()
        self.wait()
        status = self._process.returncode
        how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
        if not self._stopped:
            self.close()
            self._start()
        return Loaded(path, None, FileFault(str(path), f"the process that loaded it {how}", _AGAIN))

    def stop(self) -> None:
        """Let the process know that it is to end now."""
        self._stopped = True
        with suppress(OSError):  # it has gone
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self) -> None:
        """Return when the process has ended, by force where it does not end by itself."""
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Give the socket back."""
        with suppress(OSError):
            self._pipe.close()
        self._socket.close()
