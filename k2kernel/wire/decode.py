"""Messages of one schema as a frame: their payloads are put into one Avro container, which Polars reads by columns.

A container does not say where each record must end. What the rows take is compared with what the messages are long:
only where all agree is the frame taken; elsewhere messages are read one by one, and each that cannot be read is told.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from k2kernel.errors import extra
from k2kernel.wire.encode import HEADER, MAGIC, Unsupported, content, record_lengths

_SYNC = b"k2kernel-k2kernel"[:16]
_FRAMING = {"name": "__framing", "type": {"type": "fixed", "name": "k2_framing", "size": HEADER.size}}
"""What is before each record, read as its first field: to cut it off would copy every message once more."""

_CHUNK = 4_096
"""Messages that are tried together, where all together cannot be read."""


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


def decode(schema: Mapping[str, Any], values: pl.Series) -> tuple[pl.DataFrame, list[int], list[Message]]:
    """Framed messages of one schema, none null: a frame of those that can be read, their numbers, and the others."""
    frame = _together(schema, values)
    if frame is not None:
        return frame, list(range(len(values))), []
    frames: list[pl.DataFrame] = []
    numbers: list[int] = []
    bad: list[Message] = []
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK]
        frame, good, wrong = _part(schema, part)
        frames.append(frame)
        numbers += [start + number for number in good]
        bad += [Message(start + message.number, message.reason) for message in wrong]
    return pl.concat(frames), numbers, bad


def _part(schema: Mapping[str, Any], values: pl.Series) -> tuple[pl.DataFrame, list[int], list[Message]]:
    frame = _together(schema, values) if len(values) > 1 else None
    if frame is not None:
        return frame, list(range(len(values))), []
    good, bad = [], []
    for number, value in enumerate(values):
        problem = _problem(schema, value)
        if problem is None:
            good.append(number)
        else:
            bad.append(Message(number, problem))
    frame = _container(schema, values[good])
    return frame, good, bad


def _together(schema: Mapping[str, Any], values: pl.Series) -> pl.DataFrame | None:
    """The frame of all messages, or None where one of them, or the schema, needs a closer look."""
    try:
        frame = _container(schema, values)
        lengths = record_lengths(schema, frame)
    except (OSError, Unsupported, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    wanted = values.bin.size().cast(pl.Int64).to_numpy() - HEADER.size
    return frame if len(lengths) == len(wanted) and bool((lengths == wanted).all()) else None


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
