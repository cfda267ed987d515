"""Rows on their way to data files: gathered by table and session, sorted and written by a thread as they grow."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Self

import polars as pl

from k2kernel import schemas
from k2kernel.lake import DataFile, Lake

Key = tuple[str, date | None]


@dataclass
class _Run:
    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0


class Runs:
    """Gathers rows; once more than the settings' buffer is held, the largest sessions become sorted data files.

    At most one file is being written and one waits while the next rows are read, so memory stays below three buffers.
    Used as a context: leaving it by an exception deletes every file that was written and not handed over.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._most = lake.settings.ingest_buffer_rows
        self._runs: dict[Key, _Run] = {}
        self._held = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="k2-write")
        self._pending: list[tuple[str, Future[DataFile]]] = []
        self._files: dict[str, list[DataFile]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.shutdown(wait=True)
        if raised[0] is not None:
            self._discard()

    def add(self, table: str, frame: pl.DataFrame) -> None:
        """Take rows of a table, every column of the contract."""
        for session, part in _by_session(table, frame):
            run = self._runs.setdefault((table, session), _Run())
            run.frames.append(part)
            run.rows += len(part)
            self._held += len(part)
        if self._held > self._most:
            self._flush(self._most // 2)

    def finish(self) -> None:
        """Write what is left."""
        self._flush(0)
        self._collect(0)

    def hand_over(self, table: str) -> list[DataFile]:
        """The data files of a table, which are the caller's from now on, to commit or to discard."""
        return self._files.pop(table, [])

    def written(self, table: str) -> list[DataFile]:
        """The data files of a table so far."""
        return list(self._files.get(table, ()))

    def swap(self, table: str, old: DataFile, new: DataFile | None) -> None:
        """Put another data file (None: no file) in the place of one, which is deleted."""
        self._files[table] = [file for each in self._files[table] if (file := new if each == old else each)]
        self._lake.discard([old.path])

    def _discard(self) -> None:
        done = [file for files in self._files.values() for file in files]
        done += [future.result() for _, future in self._pending if future.exception() is None]
        self._lake.discard(file.path for file in done)

    def _flush(self, keep: int) -> None:
        while self._held > keep:
            key = max(self._runs, key=lambda each: self._runs[each].rows)
            run = self._runs.pop(key)
            self._held -= run.rows
            self._collect(1)
            self._pending.append((key[0], self._writer.submit(self._write, key, run.frames)))

    def _write(self, key: Key, frames: list[pl.DataFrame]) -> DataFile:
        frame = pl.concat(frames)
        frames.clear()
        return self._lake.write(key[0], frame, key[1])

    def _collect(self, leave: int) -> None:
        """Wait until at most `leave` files are being written; an error of the writer is raised here."""
        while len(self._pending) > leave:
            name, future = self._pending[0]
            self._files.setdefault(name, []).append(future.result())
            self._pending.pop(0)


def _by_session(table: str, frame: pl.DataFrame) -> Iterator[tuple[date | None, pl.DataFrame]]:
    if frame.is_empty():
        return
    if schemas.TABLES[table].partition is None:
        yield None, frame
    elif frame["session"].min() == frame["session"].max():
        yield frame["session"][0], frame
    else:
        for (session,), part in frame.partition_by("session", as_dict=True, maintain_order=True).items():
            yield session, part
