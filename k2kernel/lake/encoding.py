"""How each column of a Parquet file is encoded: by what its type is, and by whether its values repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

LAYOUT: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "store_decimal_as_integer": True,
    "store_schema": False,
    "write_batch_size": 8_192,
}
"""What is the same for every file."""

_SAMPLE = 4_096
"""Rows, as far from each other as may be, that show whether the values of a column repeat."""


def encodings(rows: pa.Table) -> dict[str, Any]:
    """The options of a Parquet writer for columns such as those of `rows`, in their order.

    Numbers and times are kept by their differences. Texts and prices are looked up in a dictionary where they repeat;
    where hardly two are the same, prices are kept by their differences too, and texts by their lengths.
    """
    import pyarrow as pa

    sample = rows.take(pa.array(range(0, len(rows), max(1, len(rows) // _SAMPLE))))
    chosen = {name: _encoding(sample[name]) for name in rows.column_names}
    paths = {field.name: _path(field) for field in rows.schema}
    return {
        "use_dictionary": [paths[name] for name, encoding in chosen.items() if encoding is None],
        "column_encoding": {paths[name]: encoding for name, encoding in chosen.items() if encoding is not None},
    }


def _encoding(sample: pa.ChunkedArray) -> str | None:
    """The name of an encoding; None for a dictionary."""
    from pyarrow import types

    kind = sample.type
    if types.is_integer(kind) or types.is_temporal(kind):
        return "DELTA_BINARY_PACKED"
    if types.is_boolean(kind):
        return "PLAIN"
    if types.is_list(kind) or types.is_large_list(kind) or _repeats(sample):
        return None
    if types.is_decimal(kind):
        return "DELTA_BINARY_PACKED" if kind.precision <= _DIGITS_OF_INT64 else "PLAIN"
    return "DELTA_LENGTH_BYTE_ARRAY"


_DIGITS_OF_INT64 = 18


def _repeats(sample: pa.ChunkedArray) -> bool:
    """True where a value stands twice on average, or there is at most one."""
    import pyarrow.compute as pc

    filled: int = len(sample) - sample.null_count
    different: int = pc.count_distinct(sample).as_py()
    return different <= max(filled / 2, 1)


def _path(field: pa.Field) -> str:
    """The column of the file that has the values of a field: of a list, its elements."""
    from pyarrow import types

    nested = types.is_list(field.type) or types.is_large_list(field.type)
    return f"{field.name}.list.element" if nested else field.name
