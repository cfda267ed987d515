"""Messages of one schema as a frame: their payloads are put into one Avro container, which Polars reads by columns.

A container does not say where each record must end, so messages are walked first: what is no whole record is asked of
a decoder that reads one message at a time, and told.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from k2kernel.errors import extra
from k2kernel.wire.encode import HEADER, MAGIC, Unsupported, content
from k2kernel.wire.walk import sound

_SYNC = b"k2kernel-k2kernel"[:16]
_FRAMING = {"name": "__framing", "type": {"type": "fixed", "name": "k2_framing", "size": HEADER.size}}
"""What is before each record, read as its first field: to cut it off would copy every message once more."""

_FEW = 4_096
"""Messages of which each is asked of a decoder, where they cannot be read together."""

_DIGITS = 38
"""What a decimal of Polars may have."""

_NULLABLE = 2
"""Types of a union of null and another."""

_ODD = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
Decoded = tuple[pl.DataFrame, list[int], list["Message"]]


@dataclass(frozen=True)
class Message:
    """What is wrong with a message: its number in the sequence that was decoded, and why."""

    number: int
    reason: str


def schema_id(value: bytes | None) -> int | None:
    """The id of a message's schema, or None where it is not framed."""
    if value is None or len(value) < HEADER.size or value[0] != MAGIC:
        return None
    return int.from_bytes(value[1:5], "big")


def decode(schema: Mapping[str, Any], values: pl.Series) -> Decoded:
    """Framed messages of one schema, none null: a frame of those that can be read, their numbers, and the others. The
    frame has no columns where none can be, because of the schema.
    """
    if _panics(schema):
        return _unread(values)
    try:
        return _read(schema, values, _doubtful(schema, values))
    except _ODD:
        return _apart(schema, values)


def _unread(values: pl.Series) -> Decoded:
    reason = "its schema has a type that is not read, such as a map, a nullable enum, or a union of several"
    return pl.DataFrame(), [], [Message(number, reason) for number in range(len(values))]


def _panics(kind: Any) -> bool:
    """Whether a type makes Polars panic, which it tells on standard error before that can be caught."""
    if isinstance(kind, list):
        enums = any(isinstance(each, dict) and each["type"] == "enum" for each in kind)
        return len(kind) != _NULLABLE or "null" not in kind or enums or any(map(_panics, kind))
    if not isinstance(kind, dict):
        return False
    within = [kind["type"], kind.get("items"), *(field["type"] for field in kind.get("fields", ()))]
    return kind["type"] == "map" or kind.get("precision", 0) > _DIGITS or any(map(_panics, within))


def _apart(schema: Mapping[str, Any], values: pl.Series) -> Decoded:
    """As `decode`, where sound records hold what cannot be read, such as a text that is no UTF-8."""
    try:
        nothing = _container(schema, values.clear())
    except _ODD:
        return _unread(values)
    if len(values) <= _FEW:
        try:
            return _read(schema, values, range(len(values)))
        except _ODD as exc:
            if len(values) == 1:
                return nothing, [], [Message(0, f"its record cannot be read: {exc}")]
    half = len(values) // 2
    left, right = decode(schema, values[:half]), decode(schema, values[half:])
    later = [Message(half + message.number, message.reason) for message in right[2]]
    return pl.concat([left[0], right[0]]), [*left[1], *(half + number for number in right[1])], [*left[2], *later]


def _doubtful(schema: Mapping[str, Any], values: pl.Series) -> Sequence[int]:
    """The messages of which it is not sure that they are records of the schema."""
    try:
        return np.flatnonzero(~sound(schema, values)).tolist()
    except Unsupported:
        return range(len(values))


def _read(schema: Mapping[str, Any], values: pl.Series, doubtful: Sequence[int]) -> Decoded:
    """As `decode`, where all but the `doubtful` messages are sound."""
    told = ((number, _problem(schema, values[number])) for number in doubtful)
    bad = [Message(number, problem) for number, problem in told if problem is not None]
    wrong = {message.number for message in bad}
    if not bad:
        return _container(schema, values), list(range(len(values))), bad
    good = [number for number in range(len(values)) if number not in wrong]
    return _container(schema, values[good]), good, bad


def _container(schema: Mapping[str, Any], values: pl.Series) -> pl.DataFrame:
    fields = schema["fields"]
    head = _head({**schema, "fields": [_FRAMING, *fields]})
    file = io.BytesIO(b"".join([head, *_block(values)]))
    return pl.read_avro(file, columns=[field["name"] for field in fields])


def _head(schema: Mapping[str, Any]) -> bytes:
    meta = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": b"null"}
    entries = (_varint(len(text)) + text for pair in meta.items() for text in pair)
    return b"".join([b"Obj\x01", _varint(len(meta)), *entries, b"\0", _SYNC])


def _block(values: pl.Series) -> Iterator[bytes | memoryview]:
    if len(values):
        body = content(values).data
        yield from (_varint(len(values)), _varint(len(body)), body, _SYNC)


def _varint(number: int) -> bytes:
    zigzag, out = number << 1, bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def _problem(schema: Mapping[str, Any], value: bytes) -> str | None:
    """Why one message cannot be read, or None."""
    with extra("kafka", "fastavro"):
        import fastavro
    source = io.BytesIO(value[HEADER.size :])
    try:
        fastavro.schemaless_reader(source, dict(schema), None)
    except Exception as exc:  # noqa: BLE001 - bytes of anybody's making raise anything
        return f"its bytes are no record of its schema: {type(exc).__name__} {exc}".strip()
    left = len(value) - HEADER.size - source.tell()
    return f"{left} bytes follow the record" if left else None
