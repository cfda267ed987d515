"""A run of ordered events as DuckDB gave them, and as Arrow batch or typed rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from k2kernel.cached import cached_property
from k2kernel.query.position import Key
from k2kernel.replay.events import Event, Quote, Trade
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "kind"
"""The first column of a batch: the table that an event is of."""

KEYS = ("venue", "symbol", "sequence", "source", "source_offset")
"""The total order after the instant and the kind."""

ROWS = 16_384
"""Most events in a chunk."""

_TYPES: dict[str, Any] = {"trades": Trade, "quotes": Quote}
_TIMES = ("ts_event", "ts_recv")


def names_of(kinds: Iterable[str]) -> list[str]:
    """The columns of kinds together, each once."""
    return list(dict.fromkeys(name for kind in sorted(kinds, reverse=True) for name in TABLES[kind].names))


def schema_of(kinds: Sequence[str]) -> pa.Schema:
    """`kind`, then the columns of trades, then those that only quotes have."""
    import pyarrow as pa

    types = {field.name: field.type for kind in kinds for field in TABLES[kind].arrow}
    return pa.schema([(KIND, pa.string()), *((name, types[name]) for name in names_of(kinds))])


class Layout:
    """What the numbered groups of a slice have in common: their kinds, and the `fixed` columns, a value a group."""

    def __init__(self, kinds: Sequence[str], groups: Sequence[str], fixed: Mapping[str, list[Any]]) -> None:
        self.kinds, self.groups, self.fixed = tuple(kinds), tuple(groups), dict(fixed)

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of a batch."""
        return schema_of(self.kinds)

    def column(self, name: str, groups: pa.Array) -> pa.Array:
        """A fixed column, for rows of `groups`."""
        import pyarrow as pa

        values = list(self.groups) if name == KIND else self.fixed[name]
        kind = self.schema.field(name).type
        if any(value != values[0] for value in values):
            return pa.array(values, kind).take(groups)
        return _same(values[0], kind).slice(0, len(groups))


@lru_cache(maxsize=64)
def _same(value: Any, kind: pa.DataType) -> pa.Array:
    """`value` in each of `ROWS` rows."""
    import pyarrow as pa

    return pa.nulls(ROWS, kind) if value is None else pa.repeat(pa.scalar(value, kind), ROWS)


class Chunk:
    """At most `ROWS` events in their order."""

    def __init__(self, narrow: pa.RecordBatch, layout: Layout) -> None:
        self._narrow, self._layout = narrow, layout

    def __len__(self) -> int:
        return int(self._narrow.num_rows)

    @cached_property
    def batch(self) -> pa.RecordBatch:
        """The events with all columns."""
        import pyarrow as pa

        groups = self._narrow.column("k2_group")
        read = {name: self._narrow.column(name) for name in self._narrow.schema.names}
        columns = [
            _typed(read[field.name], field.type) if field.name in read else self._layout.column(field.name, groups)
            for field in self._layout.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._layout.schema)

    def times(self, clock: str) -> list[int]:
        """The instant of each event in ns, by `ts_event` or `ts_recv`."""
        found: list[int] = _list(_ns(self._narrow, clock))
        return found

    def key(self, row: int, clock: str) -> Key:
        """The place of a row in the order."""
        one = self._narrow.slice(row, 1)
        group = one.column("k2_group")[0].as_py()
        fixed = self._layout.fixed
        found = (one.column(name)[0].as_py() if name in one.schema.names else fixed[name][group] for name in KEYS)
        return (_ns(one, clock)[0].as_py(), one.column("k2_kind")[0].as_py(), *found)

    def rows(self) -> Iterator[Event]:
        """The events as `Trade` and `Quote`, made one by one: a list of them would keep the garbage collector busy."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(self._layout.kinds) == 1:
            return self._typed_rows(self._layout.kinds[0], self._narrow)
        kinds = self._narrow.column("k2_kind")
        parts = (self._narrow.filter(pc.equal(kinds, pa.scalar(rank, kinds.type))) for rank in (0, 1))
        by_rank = [self._typed_rows(kind, part) for kind, part in zip(self._layout.kinds, parts, strict=True)]
        return map(next, map(by_rank.__getitem__, _list(kinds)))

    def _typed_rows(self, kind: str, part: pa.RecordBatch) -> Iterator[Event]:
        row = _TYPES[kind]
        columns = [self._values(name, part) for name in row._fields]
        return map(row._make, zip(*columns, strict=False)) if part.num_rows else iter(())

    def _values(self, name: str, part: pa.RecordBatch) -> Iterable[Any]:
        """A column of typed rows as Python values."""
        base = name.removesuffix("_ns")
        if base in _TIMES:
            return _values(_ns(part, base))
        if name == "ts_ingest_ns":
            return self._ingested(part)
        return _values(part.column(name)) if name in part.schema.names else self._repeated(name, part)

    def _ingested(self, part: pa.RecordBatch) -> Iterable[Any]:
        from k2kernel.times import to_ns

        if "ts_ingest" in part.schema.names:
            return _values(_us_to_ns(part.column("ts_ingest")))
        stamps = [None if value is None else to_ns(value) for value in self._layout.fixed["ts_ingest"]]
        return map(stamps.__getitem__, _list(part.column("k2_group")))

    def _repeated(self, name: str, part: pa.RecordBatch) -> Iterable[Any]:
        values = self._layout.fixed[name]
        groups = part.column("k2_group")
        first = groups[0].as_py() if len(groups) else 0
        if len(groups.unique()) <= 1:
            return repeat(values[first], len(groups))
        return map(values.__getitem__, _list(groups))


class Whole:
    """A batch of events that was cut to size, as `Chunk` without typed rows."""

    def __init__(self, batch: pa.RecordBatch, kinds: Sequence[str]) -> None:
        self.batch, self._kinds = batch, kinds

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def times(self, clock: str) -> list[int]:
        """The instant of each event in ns, by `ts_event` or `ts_recv`."""
        found: list[int] = _list(_ns(self.batch, clock))
        return found

    def key(self, row: int, clock: str) -> Key:
        """The place of a row in the order."""
        one = self.batch.slice(row, 1)
        rank = self._kinds.index(one.column(KIND)[0].as_py())
        return (_ns(one, clock)[0].as_py(), rank, *(one.column(name)[0].as_py() for name in KEYS))


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


def _ns(batch: pa.RecordBatch, clock: str) -> pa.Array:
    """`<clock>_ns`, or the µs where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if clock not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.int64())
    coarse = _us_to_ns(batch.column(clock))
    name = f"{clock}_ns"
    if name not in batch.schema.names or batch.column(name).null_count == batch.num_rows:
        return coarse
    return pc.coalesce(batch.column(name), coarse)


def _us_to_ns(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.multiply(column.cast(pa.int64()), 1_000)


def _list(column: pa.Array) -> list[Any]:
    """A column of numbers without nulls, or of texts, as a list."""
    found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return found


def _values(column: pa.Array) -> Iterable[Any]:
    """Python values of a column: each distinct one is made once, where there are few."""
    import pyarrow as pa

    if column.null_count == len(column):
        return repeat(None, len(column))
    if pa.types.is_list(column.type):
        return _lists(column)
    if pa.types.is_integer(column.type) and not column.null_count:
        return _list(column)
    if pa.types.is_decimal(column.type):
        return map(_DECIMALS.__getitem__, _mantissas(column))
    coded = column.dictionary_encode(null_encoding="encode")
    if pa.types.is_string(column.type) and len(coded.dictionary) * 2 > len(column):
        return _list(column)
    return map(coded.dictionary.to_pylist().__getitem__, _list(coded.indices))


class _Decimals(dict[int, Decimal | None]):
    """Decimals with eight digits by the integer that they are 1e-8 of; made once, as prices and sizes repeat."""

    def __missing__(self, mantissa: int) -> Decimal | None:
        if len(self) > _MOST_DECIMALS:
            self.clear()
        found = None if mantissa == _NULL else Decimal(mantissa).scaleb(-8)
        self[mantissa] = found
        return found


_NULL = -(2**63)
"""No decimal of 18 digits."""

_MOST_DECIMALS = 200_000
_DECIMALS = _Decimals()


def _mantissas(column: pa.Array) -> list[int]:
    """The integers behind a column of decimal(18, 8): the low words of its 128 bits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pa.Array.from_buffers(pa.int64(), 2 * (column.offset + len(column)), [None, column.buffers()[1]])
    low = pc.list_element(pa.FixedSizeListArray.from_arrays(words, 2), 0).slice(column.offset)
    if column.null_count:
        low = pc.if_else(column.is_valid(), low, pa.scalar(_NULL, pa.int64()))
    return _list(low)


def _lists(column: pa.Array) -> Iterable[Any]:
    """Lists of texts as tuples; equal lists are made once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seen = column.flatten().unique().to_pylist()
    if any(not text or "\x1f" in text for text in seen):  # a text that joining would not tell from another list
        return [None if found is None else tuple(found) for found in column.to_pylist()]
    lengths = pc.list_value_length(column)
    joined = pc.binary_join(column.cast(pa.list_(pa.string())), "\x1f")
    coded = joined.dictionary_encode(null_encoding="encode")
    assert joined.null_count == lengths.null_count  # noqa: S101 - a null inside a list went the slow way
    made = [
        None if text is None else tuple(text.split("\x1f")) if text else () for text in coded.dictionary.to_pylist()
    ]
    return map(made.__getitem__, _list(coded.indices))
