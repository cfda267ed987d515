"""Whole numbers at random, the same on every machine.

Only the bit stream of PCG64 is used, never NumPy's distributions, whose results may change between versions, and no
floating point, whose last bit may change between processors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LANE = 65_536
"""Entries of a `lookup` table; also the denominator of a probability."""


class Draws:
    """One independent stream for each (`seed`, `key`)."""

    def __init__(self, seed: int, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))

    def below(self, bound: int, count: int) -> Ints:
        """`count` numbers from 0 inclusive to `bound` exclusive."""
        raw: Ints = (self._bits.random_raw(count) >> np.uint64(1)).astype(np.int64)
        return raw % bound

    def pick(self, table: Ints, count: int) -> Ints:
        """`count` entries of a table made by `lookup`."""
        picked: Ints = table[self.below(LANE, count)]
        return picked

    def chance(self, out_of_lane: int, count: int) -> Flags:
        """`count` flags, each set with the probability `out_of_lane` / 65,536."""
        flags: Flags = self.below(LANE, count) < out_of_lane
        return flags


def lookup(weights: Sequence[int], values: Sequence[int] | None = None) -> Ints:
    """A table of 65,536 entries in which each value (default: its index) is as frequent as its weight."""
    entries = np.arange(len(weights)) if values is None else np.asarray(values)
    table: Ints = np.repeat(entries.astype(np.int64), apportion(LANE, np.asarray(weights, np.int64)))
    return table


def apportion(total: int, weights: Ints) -> Ints:
    """`total` cut in whole parts in proportion to `weights`; the parts add up to `total` exactly."""
    bounds = np.cumsum(weights) * total // int(weights.sum())
    return np.diff(bounds, prepend=0)


def fold(values: Ints, low: Ints, high: Ints) -> Ints:
    """`values` reflected at `low` and `high` until they lie between the two."""
    span = high - low
    offset = (values - low) % (2 * span)
    folded: Ints = low + np.where(offset > span, 2 * span - offset, offset)
    return folded
