"""A digest of events that depends on the events alone: not on batch sizes, buffers or the machine."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 65_536
"""Events in a block. Blocks are counted from the first event, so batches may be of any size."""


class Digest:
    """SHA-256 over blocks of events, column by column.

    Of a column goes in: its name and type, a byte a row that says whether it is null, and its values. Numbers, times
    and decimals are little-endian words, 0 where null. Texts are int32 codes, and the distinct texts with their lengths
    in order of appearance; a list is its lengths and its items.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"k2-replay-1")
        self._waiting: list[Any] = []
        self._rows = 0
        self.events = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the events of a batch."""
        self.events += batch.num_rows
        while self._rows + batch.num_rows >= BLOCK:
            head = BLOCK - self._rows
            self._take(self._hash, [*self._waiting, batch.slice(0, head)])
            self._waiting, self._rows, batch = [], 0, batch.slice(head)
        if batch.num_rows:
            self._waiting.append(batch)
            self._rows += batch.num_rows

    def hexdigest(self) -> str:
        """The digest of all events so far."""
        final = self._hash.copy()
        if self._waiting:
            self._take(final, self._waiting)
        return final.hexdigest()

    @staticmethod
    def _take(into: Any, batches: list[pa.RecordBatch]) -> None:
        import pyarrow as pa

        block = pa.concat_batches(batches) if len(batches) > 1 else batches[0]
        into.update(block.num_rows.to_bytes(8, "little"))
        for name, column in zip(block.schema.names, block.columns, strict=True):
            into.update(f"{name}:{column.type};".encode())
            _column(into, column)


def _column(into: Any, column: pa.Array) -> None:
    import pyarrow as pa

    valid = column.is_valid().cast(pa.uint8())
    into.update(_bytes(valid, 1))
    if pa.types.is_list(column.type):
        _list(into, column)
    elif pa.types.is_string(column.type):
        _texts(into, column)
    else:
        width = column.type.bit_width // 8
        into.update(_bytes(_filled(column), width))


def _list(into: Any, column: pa.Array) -> None:
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0)
    into.update(_bytes(lengths, 4))
    _column(into, column.flatten())


def _texts(into: Any, column: pa.Array) -> None:
    import pyarrow.compute as pc

    coded = column.dictionary_encode()
    into.update(_bytes(pc.fill_null(coded.indices, -1), 4))
    texts = [text.encode() for text in coded.dictionary.to_pylist()]
    into.update(b"".join(len(text).to_bytes(8, "little") + text for text in texts))


def _filled(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not column.null_count:
        return column
    zero = Decimal(0) if pa.types.is_decimal(column.type) else 0
    return pc.fill_null(column, pa.scalar(zero, column.type))


def _bytes(column: pa.Array, width: int) -> memoryview:
    """The values of a column of fixed width without nulls, wherever they stand in their buffer."""
    if not len(column):
        return memoryview(b"")
    values = memoryview(column.buffers()[1])
    return values[column.offset * width : (column.offset + len(column)) * width]
