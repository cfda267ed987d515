"""Where records end: fields are stepped over, in all messages at once, and nothing is decoded.

Polars panics on bytes that are no record of their schema, and a panic prints on standard error before it can be
caught. What is stepped over from its beginning to exactly its end holds nothing that it could trip over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from k2kernel.wire.encode import HEADER, Unsupported, content

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_AT_ONCE = 16_384
"""Messages that are walked together: as many as a processor's cache holds."""

_INT, _LONG = 5, 10
"""Bytes that a number takes at most."""

_WIDTHS = {"float": 4, "double": 8}
_MOST = 1_000
"""Items and blocks of a list that are walked; one of more needs a decoder."""

_LOST = 2**62
"""Where a message is that is not sound: behind every end, whatever is added."""


def sound(schema: Mapping[str, Any], values: pl.Series) -> Flags:
    """Whether each framed message is, beyond doubt, one record of the schema; of another one a decoder must tell.

    Unsupported where the schema has a type that is not walked.
    """
    parts = (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
    return np.concatenate([np.zeros(0, np.bool_), *(_sound(schema, part) for part in parts)])


def _sound(schema: Mapping[str, Any], values: pl.Series) -> Flags:
    lengths = values.bin.size().cast(pl.Int64).to_numpy()
    ends = np.cumsum(lengths)
    walk, at = _Walk(content(values)), ends - lengths + HEADER.size
    for each in schema["fields"]:
        at = walk.step(each["type"], at)
    # Nothing goes back, so who is at its end now was never behind it.
    reached: Flags = at == ends
    return reached


@dataclass(frozen=True)
class _Walk:
    """Steps over fields of messages in `data`: takes where each of them begins, and returns where it ends."""

    data: NDArray[np.uint8]

    def step(self, kind: Any, at: Ints) -> Ints:
        """Over one field."""
        name = kind["type"] if isinstance(kind, dict) else kind
        if isinstance(kind, list):
            return self._union(kind, at)
        if name in ("int", "long"):
            return self._over_number(at, _INT if name == "int" else _LONG)
        if name in ("string", "bytes"):
            lengths, after = self._length(at)
            return after + lengths
        if name == "boolean":
            return _lost(at + 1, self._byte(at) > 1)
        if name == "fixed" or name in _WIDTHS:
            return at + int(_WIDTHS.get(name) or kind["size"])
        if name == "array":
            return self._array(kind["items"], at)
        raise Unsupported(f"type {name}", "is not read by columns")

    def _byte(self, at: Ints) -> NDArray[np.uint8]:
        return self.data.take(at, mode="clip")

    def _union(self, kinds: list[Any], at: Ints) -> Ints:
        if len(kinds) != 2 or "null" not in kinds:
            raise Unsupported(f"union {kinds}", "is not read by columns")
        present = 1 - kinds.index("null")
        mark = self._byte(at)
        after, some = _lost(at + 1, (mark != 0) & (mark != 2)), mark == 2 * present
        if some.all():
            return self.step(kinds[present], after)
        if some.any():
            after[some] = self.step(kinds[present], after[some])
        return after

    def _array(self, items: Any, at: Ints) -> Ints:
        """Over blocks of items up to an empty one. Blocks that say their length in bytes are left to a decoder."""
        at, left = at.copy(), np.arange(len(at))
        for _ in range(_MOST):
            counts, after = self._length(at[left])
            at[left] = _lost(after, counts > _MOST)
            going = (counts > 0) & (at[left] < _LOST)
            left, counts = left[going], counts[going]
            if not len(left):
                return at
            at[left] = self._items(items, at[left], counts)
        at[left] = _LOST
        return at

    def _items(self, kind: Any, at: Ints, counts: Ints) -> Ints:
        for number in range(int(counts.max())):
            some = counts > number
            at[some] = self.step(kind, at[some])
        return at

    def _length(self, at: Ints) -> tuple[Ints, Ints]:
        """A number that must not be negative, and where it ends."""
        byte = self._byte(at)
        if byte.max(initial=0) < 0x80:
            return (byte >> 1).astype(np.int64), _lost(at + 1, (byte & 1).astype(np.bool_))
        after, number = self._over_number(at, _INT), np.zeros(len(at), np.uint64)
        for step in range(_INT):
            inside = at + step < after
            number |= np.where(inside, self._byte(at + step) & 0x7F, 0).astype(np.uint64) << np.uint64(7 * step)
        return (number >> np.uint64(1)).astype(np.int64), _lost(after, (number & np.uint64(1)).astype(np.bool_))

    def _over_number(self, at: Ints, longest: int) -> Ints:
        """Over a number of at most so many bytes."""
        byte, after = self._byte(at), at + 1
        more = byte > 0x7F
        for _ in range(1, longest):
            if not more.any():
                return after
            byte = self._byte(after)
            after += more
            more &= byte > 0x7F
        # The last byte that a number may have holds the bits that are left of 32, or of 64.
        most = 0x0F if longest == _INT else 0x01
        full = after - at == longest
        return _lost(after, more | (full & (byte > most)))


def _lost(at: Ints, which: Flags) -> Ints:
    return np.where(which, _LOST, at) if which.any() else at
