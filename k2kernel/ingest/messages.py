"""Messages of a stream as rows of a table, and those that are none as dead letters."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from k2kernel import schemas
from k2kernel.lake import Lake
from k2kernel.times import DAY_NS, FIRST_DAY, LAST_DAY
from k2kernel.wire import Registry, UnknownSchema, decode
from k2kernel.wire.decode import schema_id
from k2kernel.wire.encode import HEADER

_LOG = logging.getLogger("k2kernel.stream")
_ALLOWED = {"side": schemas.SIDES, "status": schemas.STATUSES, "clock": schemas.CLOCKS}
_MORE: dict[pl.DataType, str] = {
    pl.String(): "string",
    pl.Int64(): "int64",
    pl.Int32(): "int32",
    pl.Boolean(): "bool",
    pl.Date(): "date",
    pl.Datetime("us", "UTC"): "timestamptz",
    pl.Decimal(18, 8): "decimal",
}
"""The types of fields that become columns of their own, and the contract's names of them."""

_REJECTED = ("target", "source", "source_offset", "raw", "error", "reason", "schema_id", "attempt")


@dataclass(frozen=True)
class Read:
    """What messages became: `rows` (every column of the table but ts_ingest, and the fields that newer producers add),
    `rejected` (of dead_letter, likewise), and the ids of the schemas they were written by.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    schema_ids: tuple[int, ...]


def read(table: str, messages: pl.DataFrame, registry: Registry) -> Read:
    """Decode messages (source, source_offset, raw) to rows of a table by the schemas of their ids.

    RegistryDown where a schema cannot be asked for now.
    """
    contract = schemas.TABLES[table]
    parts = list(_by_schema(messages))
    found = [_of_schema(contract, part, registry, number) for number, part in parts]
    rows = _together([pl.DataFrame(schema=_kinds(contract)), *(rows for rows, _ in found)])
    empty = pl.DataFrame(schema={name: schemas.DEAD_LETTER.polars[name] for name in _REJECTED})
    rejected = pl.concat([empty, *(part for _, bad in found for part in bad)]).sort("source", "source_offset")
    return Read(rows, rejected, tuple(sorted(number for number, _ in parts if number is not None)))


def joined(reads: Sequence[Mapping[str, Read]]) -> dict[str, Read]:
    """What parts of a batch became, by table, as one."""
    by_table: dict[str, list[Read]] = {}
    for found in reads:
        for table, each in found.items():
            by_table.setdefault(table, []).append(each)
    return {table: _joined(parts) for table, parts in by_table.items()}


def _joined(parts: Sequence[Read]) -> Read:
    rows = _together([each.rows for each in parts])
    rejected = pl.concat([each.rejected for each in parts]).sort("source", "source_offset")
    return Read(rows, rejected, tuple(sorted({number for each in parts for number in each.schema_ids})))


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Rows of several schemas as one frame; a field that they have as two types is the first one's."""
    kinds: dict[str, pl.DataType] = {}
    for frame in frames:
        kinds = {**frame.schema, **kinds}
    fitting = (frame.select(name for name, kind in frame.schema.items() if kinds[name] == kind) for frame in frames)
    return pl.concat(fitting, how="diagonal")


def _kinds(contract: schemas.Table) -> dict[str, pl.DataType]:
    return {name: kind for name, kind in contract.polars.items() if name != "ts_ingest"}


def _by_schema(messages: pl.DataFrame) -> Iterator[tuple[int | None, pl.DataFrame]]:
    """The messages of each schema id; None: not framed."""
    first = (messages["raw"][0] or b"")[: HEADER.size]
    if schema_id(first) is not None and messages["raw"].bin.starts_with(first).all(ignore_nulls=False):
        yield schema_id(first), messages
        return
    heads = messages["raw"].bin.slice(0, HEADER.size).alias("head")
    known = pl.DataFrame(heads.unique())
    known = known.with_columns(pl.Series("id", map(schema_id, known["head"]), pl.Int64))
    marked = messages.with_columns(heads).join(known, on="head", how="left", nulls_equal=True, maintain_order="left")
    for (number,), part in marked.partition_by("id", as_dict=True, maintain_order=True).items():
        yield number, part


def _of_schema(
    contract: schemas.Table, messages: pl.DataFrame, registry: Registry, number: int | None
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The rows of messages of one schema, and those that are none."""
    nothing = pl.DataFrame(schema=_kinds(contract))

    def bad(messages: pl.DataFrame, error: str, reason: str | pl.Series) -> pl.DataFrame:
        return _rejected(contract.name, messages, error, reason, number)

    if number is None:
        return nothing, [bad(messages, "frame", "is not framed: no magic byte and schema id")]
    try:
        schema = registry.schema(number)
    except UnknownSchema as exc:
        return nothing, [bad(messages, "schema", str(exc))]
    name = schema.get("name", schema["type"])
    if schema["type"] != "record" or name.rpartition(".")[2] != contract.name:
        reason = f"its schema is of {name}, and the topic is for {contract.name}"
        return nothing, [bad(messages, "schema", reason)]
    frame, good, wrong = decode(schema, messages["raw"])
    rows, rejected = nothing, []
    if good:
        whole = messages if len(good) == len(messages) else messages[good]
        problems = _problems(contract, frame)
        rows = _rows(contract, frame, whole)
        if problems.null_count() < len(problems):
            rows = rows.filter(problems.is_null())
            rejected.append(bad(whole.filter(problems.is_not_null()), "value", problems.drop_nulls()))
    if wrong:
        noise, reasons = messages[[each.number for each in wrong]], [each.reason for each in wrong]
        rejected.append(bad(noise, "decode", pl.Series(reasons, dtype=pl.String)))
    return rows, rejected


def _rows(contract: schemas.Table, frame: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """The contract's columns and types."""
    columns = [_cast(contract, name, frame) for name in contract.names if name not in schemas.RECEIVED]
    identity = messages["source"], messages["source_offset"]
    more = [name for name in frame.columns if _is_more(contract, name, frame.schema[name])]
    return (
        frame.with_columns(identity).select("source", "source_offset", *columns, *more).select(*_kinds(contract), *more)
    )


def as_stored(lake: Lake, table: str, rows: pl.DataFrame, stamp: datetime) -> pl.DataFrame:
    """Rows as a table takes them. It gets the columns beside the contract's that newer producers send; a field that it
    has as another column already is left out, and the log says so.
    """
    contract = schemas.TABLES[table]
    own = {name: _MORE[kind] for name, kind in rows.schema.items() if name not in contract}
    kept = lake.widen(table, own)
    for name in own.keys() - kept:
        _LOG.warning("left out: field %s (%s), as %s has it of another type or spelling", name, own[name], table)
    at = pl.lit(stamp, pl.Datetime("us", "UTC")).alias("ts_ingest")
    return rows.with_columns(at).select(*contract.names, *kept)


def _is_more(contract: schemas.Table, name: str, kind: pl.DataType) -> bool:
    """Whether a field that the contract has not becomes a column: of a plain type, and not confused with another."""
    return kind in _MORE and name.lower() not in contract and not name.startswith("k2_")


def _problems(contract: schemas.Table, frame: pl.DataFrame) -> pl.Series:
    """What is wrong with each row, null where nothing is."""
    names = (name for name in contract.names if name not in schemas.RECEIVED)
    reasons = [reason for name in names for reason in _breaks(contract, name, frame)]
    reasons += list(_beyond(contract, frame))
    if not frame.select(pl.any_horizontal(*(bad for _, bad in reasons)).any()).item():
        return pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    told = pl.coalesce(*(pl.when(bad).then(pl.lit(text)) for text, bad in reasons), pl.lit(None, pl.String))
    return frame.select(pl.repeat(None, pl.len(), dtype=pl.String).alias("none"), told.alias("told"))["told"]


def _cast(table: schemas.Table, name: str, frame: pl.DataFrame) -> pl.Expr:
    """A column as the contract has it: null where there is none, and where its values are of another sort."""
    kind = table.polars[name]
    if name not in frame.columns or not _is_sort(frame.schema[name], kind):
        return pl.lit(None, kind).alias(name)
    return pl.col(name) if frame.schema[name] == kind else pl.col(name).cast(kind, strict=False)


def _is_sort(given: pl.DataType, kind: pl.DataType) -> bool:
    """Whether values of one type may be taken for another's, as far as they fit: text is no number, a number without
    a unit no time, and a time without a zone no instant.
    """
    if isinstance(kind, pl.Datetime):
        return isinstance(given, pl.Datetime) and given.time_zone is not None
    if kind.is_numeric():
        return given.is_numeric()
    return given == kind or (kind == pl.String and isinstance(given, pl.Categorical | pl.Enum))


def _breaks(table: schemas.Table, name: str, frame: pl.DataFrame) -> Iterator[tuple[str, pl.Expr]]:
    """What may be wrong with a column: the sentence, and where it is so."""
    column, kind = table[name], table.polars[name]
    if name not in frame.columns:
        if column.required:
            yield f"{name} is missing", pl.lit(value=True)
        return
    given, value = frame.schema[name], _cast(table, name, frame)
    if column.required:
        yield f"{name} is null", pl.col(name).is_null()
    if not _is_sort(given, kind):
        yield f"{name} is {_told(given)} and no {column.type}", pl.col(name).is_not_null()
        return
    if given != kind:
        # In 32 bits 9.87 is what 9.86999989 is, too.
        whole = pl.Float64() if given.is_float() else given
        yield f"{name} does not fit {column.type}", value.cast(whole, strict=False).ne_missing(pl.col(name).cast(whole))
    if isinstance(kind, pl.Decimal):
        yield f"{name} has more than 18 digits", value.to_physical().abs() >= schemas.DECIMAL_END
    if name in _ALLOWED:
        yield f"{name} is none of {', '.join(_ALLOWED[name])}", ~value.is_in(list(_ALLOWED[name]))
    if name in ("symbol", "venue"):
        yield f"{name} is empty", value == ""


def _told(kind: pl.DataType) -> str:
    """A type that columns of the contract have not, in words."""
    if isinstance(kind, pl.Datetime):
        return "a time without a zone"
    return "text" if kind == pl.String else str(kind).lower()


def _beyond(contract: schemas.Table, frame: pl.DataFrame) -> Iterator[tuple[str, pl.Expr]]:
    """Days and times that tables cannot keep, whoever's column it is, and nanoseconds that are of another instant."""
    for name, given in frame.schema.items():
        kind = contract.polars.get(name, given)
        if kind.is_temporal():
            day = 1 if kind == pl.Date else DAY_NS // 1_000
            count = (_cast(contract, name, frame) if name in contract else pl.col(name)).to_physical()
            beyond = (count < FIRST_DAY * day) | (count >= LAST_DAY * day)
            yield f"{name} is not in the years 1900 to 2261", beyond
    for name in ("ts_event", "ts_recv"):
        if {name, f"{name}_ns"} <= {*frame.columns}:
            micros, nanos = (_cast(contract, each, frame) for each in (name, f"{name}_ns"))
            off = nanos.is_not_null() & micros.to_physical().ne_missing(nanos // 1_000)
            yield f"{name}_ns is not the instant of {name}", off


def _rejected(
    table: str, messages: pl.DataFrame, error: str, reason: str | pl.Series, number: int | None
) -> pl.DataFrame:
    """Messages as dead letters."""
    kinds: Mapping[str, Any] = schemas.DEAD_LETTER.polars
    facts = {"target": table, "error": error, "reason": reason, "schema_id": number, "attempt": 1}
    told = [pl.lit(value, kinds[name]).alias(name) for name, value in facts.items()]
    return messages.with_columns(told).select(_REJECTED)
