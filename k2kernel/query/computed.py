"""Tables that joins read and make: a `Result` or a frame on the way in, a `Result` on the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from k2kernel.errors import InvalidParameter
from k2kernel.query.connection import Database, Query, Told
from k2kernel.query.result import Result
from k2kernel.sinks import batches_of

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    Rows: TypeAlias = Result | pl.DataFrame | pl.LazyFrame | pa.Table | Any
    """A table to join: a `Result`, or a Polars, Arrow or pandas frame."""

    Make: TypeAlias = Callable[[float | None], pl.DataFrame | pa.Table]
    """What computes the rows; it is given the seconds that each scan may take."""

_NAME = "k2_computed"


class Computed(Result):
    """Rows that are computed in memory from other results and frames, anew by each terminal."""

    def __init__(
        self,
        database: Database,
        make: Make,
        snapshots: Mapping[str, int | None],
        columns: list[str],
        like: Result | None = None,
    ) -> None:
        """Zone, hours and notes are those of `like`."""
        shown = Query(f"SELECT * FROM {_NAME}", frames={_NAME: self.to_arrow})
        zone, hours, notes = (None, "all", ()) if like is None else (like.zone, like.hours, like.notes)
        super().__init__(database, shown, snapshots, columns, zone, hours=hours, notes=notes)
        self._make = make

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars frame."""
        import polars as pl

        return pl.DataFrame(self._make(None))

    def to_arrow(self, timeout: float | None = None) -> pa.Table:
        """All rows as an Arrow table; QueryCancelled when one of the scans takes longer than `timeout` seconds."""
        return arrow(self._make(timeout))

    def batches(
        self,
        rows: int = 65_536,
        timeout: float | None = None,
        limit: int | None = None,
        progress: Told | None = None,  # noqa: ARG002 - nothing is known of it
    ) -> Iterator[pa.RecordBatch]:
        """The rows (the first `limit`) as Arrow batches of at most `rows`; all of them are in memory meanwhile."""
        yield from batches_of(self.to_arrow(timeout).slice(0, limit), rows)


def arrow(frame: pl.DataFrame | pa.Table) -> pa.Table:
    """A frame as an Arrow table with the text type of the contract."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    table = frame.to_arrow()
    return table.cast(pa.schema([(field.name, _plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", _plain(kind.value_type)))
    return pa.string() if pa.types.is_large_string(kind) else kind


def frame_of(rows: Rows, parameter: str) -> Result | pl.DataFrame:
    """A table to join as a `Result` or as a Polars frame; InvalidParameter where it is neither and cannot be made one.

    A frame is taken as it is now: what its owner changes in it later is not seen.
    """
    import polars as pl

    if isinstance(rows, Result | pl.DataFrame):
        return rows
    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    if not hasattr(rows, "__arrow_c_stream__"):
        remedy = "Give a result such as wb.trades(…), or a Polars, pandas or Arrow frame"
        raise InvalidParameter(parameter, type(rows).__name__, "is no table", remedy)
    return pl.DataFrame(rows)


def scanned(rows: Result | pl.DataFrame, timeout: float | None) -> pl.DataFrame:
    """The rows of a result, or of a frame."""
    import polars as pl

    return pl.DataFrame(rows.to_arrow(timeout)) if isinstance(rows, Result) else rows


def pinned(left: Result | pl.DataFrame, right: Result | pl.DataFrame) -> dict[str, int | None]:
    """The snapshots of both tables; where they are of one table at two states, the second is named `… (right)`."""
    found = dict(left.snapshots) if isinstance(left, Result) else {}
    for name, snapshot in (right.snapshots if isinstance(right, Result) else {}).items():
        found[name if found.get(name, snapshot) == snapshot else f"{name} (right)"] = snapshot
    return found
