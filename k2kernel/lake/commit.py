"""Commits: one snapshot per append, whose rows are in the table exactly once whatever becomes of the answer."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, RESTError, ValidationException
from sqlalchemy.exc import SQLAlchemyError

from k2kernel.errors import CommitConflict
from k2kernel.lake.provenance import COMMIT_KEY, summary_of
from k2kernel.metrics import METRICS

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

T = TypeVar("T")
Turn = Callable[[], AbstractContextManager[None]]

_ATTEMPTS, _PATIENCE_S = 12, 60.0
"""How often a commit is tried, and for how long where others were quicker."""

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 2.0
"""Seconds before a second attempt, and at most."""

_NOT_DONE = (CommitFailedException, ValidationException)
_UNKNOWN = (CommitStateUnknownException, RESTError, OSError, SQLAlchemyError)
"""After these the commit may have landed or not: the table must be looked at."""


def new_commit_id() -> str:
    """What a snapshot carries so that its writer knows it again."""
    return uuid.uuid4().hex


def landed(table: Table, commit_id: str) -> int | None:
    """The snapshot of an earlier attempt whose answer was lost."""
    made = (each.snapshot_id for each in table.metadata.snapshots if summary_of(each).get(COMMIT_KEY) == commit_id)
    return next(made, None)


def attempt(name: str, step: Callable[[], T], turn: Turn = nullcontext) -> T:
    """Run `step`, each time in a `turn`, until it returns, with random waits between; CommitConflict after too many
    failures.

    `step` must begin by looking whether an earlier run of it landed.
    """
    began = time.monotonic()
    for number in count(1):
        try:
            with turn():
                done = step()
        except (*_NOT_DONE, *_UNKNOWN) as exc:
            METRICS.commit_conflicts.labels(name).inc()
            raced = isinstance(exc, _NOT_DONE)
            if number >= _ATTEMPTS and not (raced and time.monotonic() - began < _PATIENCE_S):
                METRICS.commit_failures.labels(name).inc()
                raise CommitConflict(name, f"the commit did not succeed in {number} attempts ({exc})") from exc
            time.sleep(random.uniform(0.5, 1) * _wait(number, raced))  # noqa: S311
        else:
            METRICS.commit_seconds.observe(time.monotonic() - began)
            return done
    raise AssertionError("unreachable")


def _wait(number: int, raced: bool) -> float:
    """Longer and longer after faults; after lost races shorter and shorter, so that who has lost often comes before who
    has just begun.
    """
    return min(_FIRST_WAIT / number if raced else _FIRST_WAIT * 2**number, _LONGEST_WAIT)


def describe_files(table: Table, paths: Sequence[str]) -> list[DataFile]:
    """The manifest entries of Parquet files, with the statistics of their footers."""
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    if not paths:
        return []
    metadata = _lenient(table.metadata)
    return [parquet_file_to_data_file(table.io, metadata, path) for path in paths]


def _lenient(metadata: TableMetadata) -> TableMetadata:
    """The metadata with every column nullable, as columns are in files of other programs and in older ones of ours."""
    from pyiceberg.schema import Schema

    schema = metadata.schema()
    fields = (field.model_copy(update={"required": False}) for field in schema.fields)
    return _as_made(metadata).model_copy(update={"schemas": [Schema(*fields, schema_id=schema.schema_id)]})


def _as_made(metadata: TableMetadata) -> TableMetadata:
    """The metadata with the partitions that the table was made with, which are those of our files whatever another
    program has added since: files of several partition specs stand side by side.
    """
    made_with = min(spec.spec_id for spec in metadata.partition_specs)
    return metadata.model_copy(update={"default_spec_id": made_with})


def commit(table: Table, added: Sequence[DataFile], removed: Sequence[DataFile], summary: dict[str, str]) -> int:
    """Add and remove data files in one snapshot of main, and return its id."""
    from k2kernel.lake.transaction import OneCopy

    table.metadata = _as_made(table.metadata)
    with OneCopy(table) as transaction:
        update = transaction.update_snapshot(snapshot_properties=summary)
        producer = update.overwrite() if removed else update.merge_append()
        for file in added:
            producer.append_data_file(file)
        for file in removed:
            producer.delete_data_file(file)
        producer.commit()
    METRICS.commits.labels(table.name()[-1]).inc()
    return producer.snapshot_id


def entries(table: Table, snapshot_id: int | None, paths: Collection[str]) -> list[DataFile]:
    """The manifest entries of the data files at `paths` in a snapshot."""
    snapshot = None if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    if snapshot is None or not paths:
        return []
    io: FileIO = table.io
    return [
        entry.data_file
        for manifest in snapshot.manifests(io)
        for entry in manifest.fetch_manifest_entry(io)
        if entry.data_file.file_path in paths
    ]


def discard(io: FileIO, paths: Iterable[str]) -> None:
    """Delete files; those that are gone already are passed over."""
    for path in paths:
        with suppress(FileNotFoundError):
            io.delete(path)
