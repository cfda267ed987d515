"""Answers of different engines in one form, so that they can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from polars import selectors as cs
from polars.testing import assert_frame_equal

TOLERANCE = 1e-9
"""Of sums and means, which some engines make of floats; prices and sizes of this data are the same in both."""


def keep(folder: Path, name: str, answer: Any, columns: tuple[str, ...]) -> None:
    """Write those columns of an answer; only where time comes first is its order a part of it."""
    frame = pl.DataFrame(answer).select(columns)
    numbers, times = cs.numeric().cast(pl.Float64), cs.datetime().cast(pl.Datetime("us", "UTC"))
    frame = frame.with_columns(numbers, times, (cs.string() | cs.categorical()).cast(pl.String))
    (frame if columns[0] == "ts_event" else frame.sort(columns)).write_ipc(folder / f"{name}.arrow")


def faults(ours: Path, theirs: Path) -> list[str]:
    """Answers of one engine that differ from those of another, and how."""
    found = []
    for path in sorted(theirs.glob("*.arrow")):
        try:
            assert_frame_equal(pl.read_ipc(ours / path.name), pl.read_ipc(path), rel_tol=TOLERANCE, abs_tol=0)
        except AssertionError as exc:
            found.append(f"{path.stem}: {exc}")
    return found
