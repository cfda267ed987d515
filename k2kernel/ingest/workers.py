"""Several files: one after another in this process, or side by side in processes of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from k2kernel.errors import FileFault
from k2kernel.ingest.files import ingest_file
from k2kernel.ingest.known import Options
from k2kernel.ingest.progress import Phase, Progress, silent
from k2kernel.ingest.receipt import Receipt
from k2kernel.lake import Lake
from k2kernel.profiles import Profile

if TYPE_CHECKING:
    from k2kernel.config import Settings

_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
"""What Polars and PyArrow look at, once, when they are loaded."""

_AMOUNT = re.compile(r"[\d.]+")
_LEAST_ROWS = 100_000
"""Rows that a worker holds at least before it writes a file; fewer make files that cost more than they save."""


@dataclass(frozen=True)
class Loaded:
    """What became of one file: a receipt, or the fault for which nothing of it was loaded."""

    path: Path
    receipt: Receipt | None
    fault: FileFault | None

    @classmethod
    def of(cls, lake: Lake, path: Path, profile: Profile, options: Options, progress: Progress) -> Loaded:
        """Load the file."""
        try:
            return cls(path, ingest_file(lake, path, profile, options, progress), None)
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
    of `ingest_buffer_rows`. Their commits take turns; a file is still one commit a table, or nothing. With one worker
    a file is begun when the one before it was taken.
    """
    workers = min(workers, len(paths))
    if workers < 2:
        yield from (Loaded.of(lake, path, profile, options, progress) for path in paths)
        return
    share = _share(lake.settings, workers)
    with _few_threads(share.threads or 1), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        begun = [pool.submit(_load, share, path, profile, options) for path in paths]
        try:
            for path, each in zip(paths, begun, strict=True):
                loaded = each.result()
                Phase(progress, str(path), "loading", path.stat().st_size if loaded.receipt else 0).done()
                yield loaded
        finally:
            for each in begun:
                each.cancel()


def _share(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many workers."""
    threads = max(1, (settings.threads or os.cpu_count() or 1) // workers)
    rows = max(_LEAST_ROWS, settings.ingest_buffer_rows // workers)
    limit = _AMOUNT.sub(lambda found: f"{float(found[0]) / workers:g}", settings.memory_limit, count=1)
    return settings.model_copy(update={"threads": threads, "ingest_buffer_rows": rows, "memory_limit": limit})


@contextmanager
def _few_threads(threads: int) -> Iterator[None]:
    """Processes that begin meanwhile have so many threads."""
    before = {name: os.environ[name] for name in _THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name in _THREADS:
            del os.environ[name]
        os.environ.update(before)


def _load(settings: Settings, path: Path, profile: Profile, options: Options) -> Loaded:
    """In a worker: load the file."""
    return Loaded.of(Lake.open(settings), path, profile, options, silent)
