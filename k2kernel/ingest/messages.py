"""Messages of a stream as rows of a table, and those that are none as dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from k2kernel import schemas
from k2kernel.wire import Registry, UnknownSchema, decode
from k2kernel.wire.decode import schema_id

_ALLOWED = {"side": schemas.SIDES, "status": schemas.STATUSES, "clock": schemas.CLOCKS}
_MOST_DIGITS = 10**18
_REJECTED = ("target", "source", "source_offset", "raw", "error", "reason", "schema_id", "attempt")


@dataclass
class Messages:
    """Messages on their way to one table: the value, the source (`topic/partition`) and the offset of each."""

    table: str
    values: list[bytes | None] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, source: str, values: Sequence[bytes | None], offsets: Sequence[int]) -> None:
        """Messages of one source."""
        self.values += values
        self.sources += [source] * len(values)
        self.offsets += offsets


@dataclass(frozen=True)
class Read:
    """What messages became: `rows` (every column of the table but ts_ingest), `rejected` (of dead_letter, likewise),
    and the ids of the schemas they were written by.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    schema_ids: tuple[int, ...]


def read(messages: Messages, registry: Registry) -> Read:
    """Decode messages by the schemas of their ids. RegistryDown where a schema cannot be asked for now."""
    frames: list[pl.DataFrame] = []
    faults: list[_Faults] = []
    by_schema = _by_schema(messages)
    for number, at in by_schema.items():
        rows, bad = _of_schema(messages, registry, number, at)
        frames.append(rows)
        faults += bad
    names = [name for name in schemas.TABLES[messages.table].names if name != "ts_ingest"]
    empty = pl.DataFrame(schema={name: schemas.TABLES[messages.table].polars[name] for name in names})
    rows = pl.concat([empty, *(frame.select(names) for frame in frames)])
    return Read(rows, _rejected(messages, faults), tuple(sorted(each for each in by_schema if each is not None)))


@dataclass(frozen=True)
class _Faults:
    """Messages that are no rows, by their numbers, with a reason each; `error` is the class of the fault."""

    error: str
    numbers: Sequence[int]
    reasons: Sequence[str]
    schema_id: int | None = None


def _by_schema(messages: Messages) -> dict[int | None, Sequence[int]]:
    """The numbers of the messages of each schema id; None: not framed."""
    heads = {None if value is None else value[:5] for value in messages.values}
    ids = {head: schema_id(head) for head in heads}
    if len(set(ids.values())) == 1:
        return {next(iter(ids.values())): range(len(messages.values))}
    found: dict[int | None, list[int]] = {}
    for number, value in enumerate(messages.values):
        found.setdefault(ids[None if value is None else value[:5]], []).append(number)
    return dict(found)


def _of_schema(
    messages: Messages, registry: Registry, number: int | None, at: Sequence[int]
) -> tuple[pl.DataFrame, list[_Faults]]:
    nothing = pl.DataFrame(schema=schemas.TABLES[messages.table].polars)
    if number is None:
        return nothing, [_Faults("frame", at, ["is not framed: no magic byte and schema id"] * len(at))]
    try:
        schema = registry.schema(number)
    except UnknownSchema as exc:
        return nothing, [_Faults("schema", at, [str(exc)] * len(at), number)]
    if schema.get("type") != "record" or schema.get("name") != messages.table:
        reason = f"its schema is of {schema.get('name')}, and the topic is for {messages.table}"
        return nothing, [_Faults("schema", at, [reason] * len(at), number)]
    frame, good, bad = decode(schema, [messages.values[each] or b"" for each in at])
    faults = [_Faults("decode", [at[each.number] for each in bad], [each.reason for each in bad], number)]
    numbers = (
        pl.Series("__number", at, pl.Int64)
        if len(good) == len(at)
        else pl.Series("__number", [at[each] for each in good], pl.Int64)
    )
    rows, wrong = _checked(messages, frame.with_columns(numbers), number)
    return rows, [*faults, *wrong]


def _checked(messages: Messages, frame: pl.DataFrame, number: int) -> tuple[pl.DataFrame, list[_Faults]]:
    """The contract's columns and types; rows that break the contract become faults."""
    table = schemas.TABLES[messages.table]
    casts: list[pl.Expr] = []
    reasons: list[tuple[str, pl.Expr]] = []
    for column in table.columns:
        if column.name not in schemas.RECEIVED:
            casts.append(_cast(table, column.name, frame))
            reasons += _breaks(table, column.name, frame)
    reason = pl.coalesce(*(pl.when(bad).then(pl.lit(text)) for text, bad in reasons), pl.lit(None, pl.String))
    told = frame.select("__number", reason.alias("reason"))
    bad = told.filter(pl.col("reason").is_not_null())
    faults = [] if bad.is_empty() else [_Faults("value", bad["__number"].to_list(), bad["reason"].to_list(), number)]
    rows = frame.select("__number", *casts).filter(told["reason"].is_null())
    at = rows["__number"]
    sources = pl.Series("source", messages.sources, pl.String).gather(at)
    offsets = pl.Series("source_offset", messages.offsets, pl.Int64).gather(at)
    return rows.with_columns(sources, offsets), faults


def _cast(table: schemas.Table, name: str, frame: pl.DataFrame) -> pl.Expr:
    kind = table.polars[name]
    if name not in frame.columns:
        return pl.lit(None, kind).alias(name)
    return pl.col(name) if frame.schema[name] == kind else pl.col(name).cast(kind, strict=False)


def _breaks(table: schemas.Table, name: str, frame: pl.DataFrame) -> Iterator[tuple[str, pl.Expr]]:
    """What may be wrong with a column: the sentence, and where it is so."""
    column, kind = table[name], table.polars[name]
    if name not in frame.columns:
        if column.required:
            yield f"{name} is missing", pl.lit(value=True)
        return
    if column.required:
        yield f"{name} is null", pl.col(name).is_null()
    if frame.schema[name] != kind:
        cast = pl.col(name).cast(kind, strict=False)
        yield f"{name} does not fit {column.type}", cast.is_null() & pl.col(name).is_not_null()
    elif isinstance(kind, pl.Decimal):
        yield f"{name} has more than 18 digits", pl.col(name).to_physical().abs() >= _MOST_DIGITS
    if name in _ALLOWED:
        yield f"{name} is none of {', '.join(_ALLOWED[name])}", ~pl.col(name).is_in(list(_ALLOWED[name]))
    if name in ("symbol", "venue"):
        yield f"{name} is empty", pl.col(name) == ""


def _rejected(messages: Messages, faults: Sequence[_Faults]) -> pl.DataFrame:
    """The dead letters, in the order of the messages."""
    found = [
        (number, reason, fault.error, fault.schema_id)
        for fault in faults
        for number, reason in zip(fault.numbers, fault.reasons, strict=True)
    ]
    kinds: Mapping[str, Any] = schemas.DEAD_LETTER.polars
    rows = [
        (messages.table, messages.sources[at], messages.offsets[at], messages.values[at], error, reason, of, 1)
        for at, reason, error, of in sorted(found, key=lambda each: each[0])
    ]
    return pl.DataFrame(rows, schema={name: kinds[name] for name in _REJECTED}, orient="row")
