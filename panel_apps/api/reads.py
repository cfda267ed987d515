"""What a request reads: rows with the snapshots that answer, as one page or as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from k2kernel import Position, Replay, Result
from k2kernel.cached import cached_property
from k2kernel.errors import InvalidParameter, listed
from k2kernel.sinks import batches_of


@dataclass(frozen=True)
class Piece:
    """Some rows; `more` says whether others follow, and `position` is then the place to go on from, if there is one."""

    rows: pa.Table
    more: bool = False
    position: str | None = None


class Read(Protocol):
    """A pinned read that has not scanned yet."""

    @property
    def snapshots(self) -> Mapping[str, int | None]:
        """The snapshot of each table that answers."""

    def page(self, limit: int) -> Piece:
        """The first `limit` rows after the place where the read begins."""


@runtime_checkable
class Whole(Read, Protocol):
    """A read that can also be had at once."""

    def count(self) -> int:
        """The rows of `batches`."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows."""


@dataclass(frozen=True)
class ResultRead:
    """The result of a read verb. `query` is the digest of its words, and `after` the key of the page before."""

    result: Result
    query: str
    after: tuple[Any, ...] | None = None
    fields: Sequence[str] | None = None

    @property
    def snapshots(self) -> Mapping[str, int | None]:
        """The snapshot of each table that answers."""
        return self.result.snapshots

    def page(self, limit: int) -> Piece:
        """The first `limit` rows after the key."""
        names = self._names()
        found = self.result.page(limit, self.after)
        token = None if found.after is None else Position.after(self.query, self.snapshots, found.after).encode()
        return Piece(found.rows if names is None else found.rows.select(names), found.more, token)

    def count(self) -> int:
        """All rows."""
        return self.result.count()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows."""
        names = self._names()
        for batch in self.result.batches():
            yield batch if names is None else batch.select(names)

    def _names(self) -> list[str] | None:
        """The fields that were asked for, checked."""
        if self.fields is None:
            return None
        known = self.result.columns
        unknown = [name for name in self.fields if name not in known]
        if unknown or len(set(self.fields)) < len(self.fields):
            problem = f"has no column {unknown[0]!r}" if unknown else "repeats a column"
            raise InvalidParameter("fields", list(self.fields), problem, f"Columns: {listed(known, most=40)}")
        return list(self.fields)


@dataclass(frozen=True)
class LaterRead:
    """A few rows that are made when they are asked for: who has them already asks for none."""

    make: Callable[[], pa.Table]
    snapshots: Mapping[str, int | None]

    @cached_property
    def _rows(self) -> pa.Table:
        return self.make()

    def page(self, limit: int) -> Piece:
        """The first rows."""
        return Piece(self._rows.slice(0, limit), self._rows.num_rows > limit)

    def count(self) -> int:
        """All rows."""
        return int(self._rows.num_rows)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows."""
        yield from batches_of(self._rows)


@dataclass(frozen=True)
class ReplayRead:
    """A replay, made to deliver `limit` events and one more: it is read in pages only."""

    replay: Replay

    @property
    def snapshots(self) -> Mapping[str, int | None]:
        """The snapshot of each table that is replayed."""
        return self.replay.snapshots

    def page(self, limit: int) -> Piece:  # noqa: ARG002 - the replay was made with it
        """The first events after the place where the replay begins."""
        found = self.replay.batches()
        first = next(found, None)
        position = self.replay.position
        more = next(found, None) is not None
        rows = self.replay.schema.empty_table() if first is None else pa.Table.from_batches([first])
        return Piece(rows, more, position if more else None)
