"""Machine formats as pieces of bytes, made batch by batch: JSON, NDJSON, CSV, Parquet and Arrow streams.

JSON and CSV: decimals in plain notation without trailing zeros (in JSON as strings), times as ISO 8601 with six digits,
or nine where they have nanoseconds, in the zone of their column, durations as ISO 8601, snapshot ids as strings; a list
is a JSON array, in CSV its items joined by `;`; a map is a list of keys and values; what else has a shape is JSON in
CSV, too; null is empty in CSV. No rows is `[]`, a CSV heading, or a file with its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any

from k2kernel.sinks.text import as_text, ndjson
from k2kernel.times import parse_zone

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 8_192
"""Rows that become text at once."""

Batches = Iterator["pa.RecordBatch"]


def encode(batches: Iterable[pa.RecordBatch], form: str, zone: str | None = None) -> Iterator[bytes]:
    """Arrow batches (at least one, for the schema) in a format of `FORMATS`, their times in `zone` (None: as they are).

    InvalidParameter, at once, where there is no such zone.
    """
    if zone is not None:
        return FORMATS[form](map(partial(_in_zone, parse_zone(zone)), batches))
    return FORMATS[form](iter(batches))


def _in_zone(zone: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same instants, told in another zone."""
    import pyarrow as pa

    def retold(field: pa.Field) -> pa.Field:
        zoned = pa.types.is_timestamp(field.type) and field.type.tz is not None
        return field.with_type(pa.timestamp(field.type.unit, zone)) if zoned else field

    return batch.cast(pa.schema([retold(field) for field in batch.schema]))


def _json(batches: Batches) -> Iterator[bytes]:
    yield b"["
    mark = ""
    for piece in _small(batches):
        if lines := ndjson(piece).rstrip("\n"):
            yield (mark + lines.replace("\n", ",\n")).encode()
            mark = ",\n"
    yield b"]\n"


def _ndjson(batches: Batches) -> Iterator[bytes]:
    for piece in _small(batches):
        yield ndjson(piece).encode()


def _csv(batches: Batches) -> Iterator[bytes]:
    import polars as pl

    header = True
    for piece in _small(batches):
        found = pl.DataFrame(pl.from_arrow(piece))
        texts = found.select(as_text(name, kind, joined_lists=True) for name, kind in found.schema.items())
        yield texts.write_csv(include_header=header, null_value="").encode()
        header = False


def _small(batches: Batches) -> Batches:
    """The batches in parts of `_ROWS`; an empty one stays."""
    for batch in batches:
        yield from (batch.slice(at, _ROWS) for at in range(0, max(1, batch.num_rows), _ROWS))


def _arrow(batches: Batches) -> Iterator[bytes]:
    import pyarrow as pa

    return _written(batches, pa.ipc.new_stream)


def _parquet(batches: Batches) -> Iterator[bytes]:
    import pyarrow.parquet as pq

    return _written(batches, lambda out, schema: pq.ParquetWriter(out, schema, compression="zstd"))


def _written(batches: Batches, open_writer: Callable[[Any, pa.Schema], Any]) -> Iterator[bytes]:
    first = next(batches)
    out = _Pieces()
    with open_writer(out, first.schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)
            yield out.take()
    yield out.take()


class _Pieces(BytesIO):
    """What was written since it was last taken; positions count from the beginning of everything."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def tell(self) -> int:
        """Bytes written so far."""
        return self._taken + super().tell()

    def close(self) -> None:
        """Stay open: a writer that is done closes what it wrote to, and its last bytes are taken afterwards."""

    def take(self) -> bytes:
        """The bytes since the last time."""
        found = self.getvalue()
        self._taken += len(found)
        self.seek(0)
        self.truncate()
        return found


FORMATS: dict[str, Callable[[Batches], Iterator[bytes]]] = {
    "json": _json,
    "ndjson": _ndjson,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
}


def batches_of(table: pa.Table, rows: int | None = None) -> list[pa.RecordBatch]:
    """The batches of a table, each of at most `rows` (None: any number); at least one, for the schema."""
    import pyarrow as pa

    found: list[pa.RecordBatch] = table.combine_chunks().to_batches(rows)
    return found or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def records_table(found: Sequence[Any]) -> pa.Table:
    """Dataclass records as a table, their ids as texts; without records there are no columns."""
    import pyarrow as pa

    names = [each.name for each in fields(found[0])] if found else []
    return pa.table({name: _column(name, [getattr(each, name) for each in found]) for name in names})


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    texts = pa.list_(pa.string()) if all(isinstance(value, tuple) for value in values) else None
    return pa.array([_plain(name, value) for value in values], texts)


def _plain(name: str, value: Any) -> Any:
    if name == "id" or name.endswith("_id"):
        return None if value is None else str(value)
    return list(value) if isinstance(value, tuple) else value
