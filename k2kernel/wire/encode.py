"""Avro by columns: each value becomes bytes in one array operation a column, and the columns are then interleaved.

A message is 0, the schema id in four bytes, and the record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from k2kernel.errors import StreamFault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bytes = NDArray[np.uint8]

MAGIC = 0
HEADER = struct.Struct(">BI")


class Unsupported(StreamFault):
    """A schema that is not encoded by columns."""


@dataclass
class Piece:
    """A part of every row: its length in bytes, row by row, and the bytes of all rows one after another."""

    lengths: Ints
    data: Callable[[], Bytes]


def encode(schema: Mapping[str, Any], frame: pl.DataFrame, schema_id: int) -> list[bytes]:
    """A framed message for each row of `frame`, which has the fields of `schema` as columns."""
    header = np.frombuffer(HEADER.pack(MAGIC, schema_id), np.uint8)
    whole = _interleave([_constant(header, len(frame)), *pieces(schema, frame)])
    ends = np.cumsum(whole.lengths)
    data = whole.data().tobytes()
    return [data[start:end] for start, end in zip((ends - whole.lengths).tolist(), ends.tolist(), strict=True)]


def pieces(schema: Mapping[str, Any], frame: pl.DataFrame) -> Iterator[Piece]:
    """The parts of every row in order."""
    for field in schema["fields"]:
        yield from _field(field["type"], frame[field["name"]])


def _field(kind: Any, column: pl.Series) -> Iterator[Piece]:
    if not isinstance(kind, list):
        if column.null_count():
            raise StreamFault(f"column {column.name}", "has nulls, which its schema refuses")
        yield from _value(kind, column)
        return
    if len(kind) != 2 or "null" not in kind:
        raise Unsupported(f"column {column.name}", f"is a union of {kind}")
    at = kind.index("null")
    absent, present = 2 * at, 2 * (1 - at)
    nulls = column.is_null().to_numpy()
    marks = np.where(nulls, absent, present).astype(np.uint8)
    yield Piece(np.ones(len(column), np.int64), lambda: marks)
    if column.null_count() < len(column):
        for piece in _value(kind[1 - at], column.drop_nulls()):
            yield _spread(piece, ~nulls)


def _spread(piece: Piece, present: NDArray[np.bool_]) -> Piece:
    """The piece of the rows that are present, with nothing in the others."""
    if present.all():
        return piece
    lengths = np.zeros(len(present), np.int64)
    lengths[present] = piece.lengths
    return Piece(lengths, piece.data)


def _value(kind: Any, column: pl.Series) -> Iterator[Piece]:
    """The pieces of a column without nulls."""
    name = kind["type"] if isinstance(kind, dict) else kind
    if name in ("int", "long"):
        yield _varints(column.to_physical().cast(pl.Int64).to_numpy())
    elif name in ("string", "bytes"):
        yield from _texts(column)
    elif name == "boolean":
        flags = column.cast(pl.UInt8).to_numpy()
        yield Piece(np.ones(len(column), np.int64), lambda: flags)
    elif name == "fixed" and kind["size"] == 8 and isinstance(column.dtype, pl.Decimal):
        numbers = column.to_physical().cast(pl.Int64).to_numpy()
        yield Piece(np.full(len(column), 8), lambda: numbers.astype(">i8").view(np.uint8))
    elif name == "array":
        yield _lists(kind["items"], column)
    else:
        raise Unsupported(f"column {column.name}", f"is {kind}")


def _texts(column: pl.Series) -> Iterator[Piece]:
    lengths = (column.str.len_bytes() if column.dtype == pl.String else column.bin.size()).cast(pl.Int64).to_numpy()
    yield _varints(lengths)
    yield Piece(lengths, lambda: content(column))


def content(column: pl.Series) -> Bytes:
    """The bytes of all texts, or binary values, one after another."""
    arrow = column.cast(pl.Binary).to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(arrow.buffers()[1], np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return np.frombuffer(arrow.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]


def _lists(items: Any, column: pl.Series) -> Piece:
    """A block of items, where there are any, and the end."""
    counts = column.list.len().cast(pl.Int64).to_numpy()
    parts = [_constant(np.zeros(1, np.uint8), len(column))]
    if counts.any():
        inner = _interleave(list(_field(items, column.filter(column.list.len() > 0).explode())))
        ends = np.concatenate([[0], np.cumsum(inner.lengths)])
        upto = np.cumsum(counts)
        of_items = Piece(ends[upto] - ends[upto - counts], inner.data)
        parts = [_spread(_varints(counts[counts > 0]), counts > 0), of_items, *parts]
    return _interleave(parts)


def _varints(numbers: Ints) -> Piece:
    """Zigzag numbers, seven bits a byte."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    lengths = np.ones(len(numbers), np.int64)
    most = int(zigzag.max(initial=0))
    steps = max(1, -(-most.bit_length() // 7))
    for step in range(1, steps):
        lengths += zigzag >= np.uint64(1 << (7 * step))
    return Piece(lengths, lambda: _seven_bits(zigzag, lengths, steps))


def _seven_bits(zigzag: NDArray[np.uint64], lengths: Ints, steps: int) -> Bytes:
    out = np.empty(int(lengths.sum()), np.uint8)
    starts = np.cumsum(lengths) - lengths
    for step in range(steps):
        rows = slice(None) if step == 0 else lengths > step
        septet = ((zigzag[rows] >> np.uint64(7 * step)) & np.uint64(0x7F)).astype(np.uint8)
        out[starts[rows] + step] = septet | ((lengths[rows] > step + 1).astype(np.uint8) << 7)
    return out


def _constant(data: Bytes, rows: int) -> Piece:
    return Piece(np.full(rows, len(data)), lambda: np.tile(data, rows))


def _interleave(parts: Sequence[Piece]) -> Piece:
    """Row by row the bytes of each part."""
    lengths = np.sum([part.lengths for part in parts], axis=0)
    return Piece(lengths, lambda: _interleaved(parts, lengths))


def _interleaved(parts: Sequence[Piece], lengths: Ints) -> Bytes:
    out = np.empty(int(lengths.sum()), np.uint8)
    at = np.cumsum(lengths) - lengths
    for part in parts:
        _place(out, at, part)
        at = at + part.lengths
    return out


def _place(out: Bytes, at: Ints, part: Piece) -> None:
    """Copy each row's bytes of a part to its place."""
    if not len(at):
        return
    data, shortest = part.data(), int(part.lengths.min())
    if shortest == part.lengths.max():
        rows = data.reshape(-1, shortest) if shortest else data
        for step in range(shortest):
            out[at + step] = rows[:, step]
        return
    starts = np.cumsum(part.lengths) - part.lengths
    out[np.repeat(at - starts, part.lengths) + np.arange(len(data))] = data
