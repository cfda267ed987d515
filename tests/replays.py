"""Lakes for the tests of replays, and their rows put in order without k2kernel."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.replay import Replay
from k2kernel.sample import generate
from k2kernel.workbench import Workbench, connect
from tests.lake_frames import rows_of

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

PROFILES = {"trades": "k2-trades", "quotes": "k2-quotes"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def sample_bench(folder: Path, rows: int = 6_000, sessions: int = 2, symbols: int = 6) -> Workbench:
    """A workbench on generated trades and quotes of three venues, replayed in many slices."""
    settings = Settings(home=folder / ".k2", _env_file=None, threads=2, row_group_rows=2_048, replay_slice_rows=1_000)
    bench = connect(settings=settings)
    for path in generate(folder / "csv", rows=rows, sessions=sessions, symbols=symbols):
        kind = path.name.partition("-")[0]
        if kind in PROFILES:
            bench.ingest(path, PROFILES[kind])
    return bench


def ns(row: Row, clock: str = "ts_event") -> int:
    """The instant of a row, in integers only."""
    if row[f"{clock}_ns"] is not None:
        return int(row[f"{clock}_ns"])
    delta: timedelta = row[clock] - _EPOCH
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000


def key(row: Row, clock: str = "ts_event", first: str = "quotes") -> tuple[Any, ...]:
    """The total order, written down once more."""
    rank = 0 if row["kind"] == first else 1
    return (ns(row, clock), rank, *(row[name] for name in ("venue", "symbol", "sequence", "source", "source_offset")))


def stored(lake: Lake, snapshots: dict[str, int | None] | None = None) -> list[Row]:
    """Every row of both tables as PyIceberg reads them, each with its kind, in no order."""
    found: list[Row] = []
    for kind in ("trades", "quotes"):
        frame = rows_of(lake, kind, None if snapshots is None else snapshots[kind])
        found += [{"kind": kind, **row} for row in frame.to_dicts()]
    return found


def expected(lake: Lake, clock: str = "ts_event", first: str = "quotes") -> list[Row]:
    """Every row of both tables in the total order."""
    return sorted(stored(lake), key=lambda row: key(row, clock, first))


def flat(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    """The rows of batches, each with the columns of its own kind."""
    return [row for batch in batches for row in batch.to_pylist()]


def identity(row: Row) -> tuple[str, str, int]:
    return row["kind"], row["source"], row["source_offset"]


def same(found: list[Row], wanted: list[Row]) -> bool:
    """True where the rows are equal, column by column, in the same order."""
    return len(found) == len(wanted) and all(
        all(row[name] == value for name, value in want.items()) for row, want in zip(found, wanted, strict=True)
    )


def ids(replay: Replay) -> list[tuple[str, str, int]]:
    """The identities of the rest of a replay, by typed rows."""
    return [(event.kind, event.source, event.source_offset) for event in replay]
