"""The interface of a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa


@runtime_checkable
class Sink(Protocol):
    """Takes batches of one schema, in order, and makes them durable when it is closed."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch."""

    def close(self) -> None:
        """Make everything that was written visible; nothing is written afterwards."""

    def discard(self) -> None:
        """Give up: leave nothing behind where that is possible."""
