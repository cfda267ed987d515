"""Messages of producers that know nothing of the contract's own schema: read where they mean the same, else told."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import httpx
import pytest

from k2kernel.schemas import TRADES
from tests.feeds import Feed
from tests.streams import Services, fresh_class

NOON = datetime(2024, 7, 1, 2, tzinfo=UTC)
ROW = {"symbol": "S", "venue": "XASX", "session": date(2024, 7, 1), "ts_event": NOON, "clock": "venue", "sequence": 1}
FIXED = {"type": "fixed", "size": 8, "name": "exact", "logicalType": "decimal", "precision": 18, "scale": 8}
LONG = {"type": "long", "logicalType": "local-timestamp-micros"}
SIDES = {"type": "enum", "name": "sides", "symbols": ["buy", "sell"]}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def schema(name: str = "trades", **kinds: Any) -> dict[str, Any]:
    """The contract's schema with other types of some fields, or more fields."""
    fields = {field["name"]: {"name": field["name"], "type": field["type"]} for field in TRADES.avro["fields"]}
    fields |= {each: {"name": each, "type": kind} for each, kind in kinds.items()}
    return {"type": "record", "name": name, "fields": list(fields.values())}


def register(feed: Feed, text: str, kind: str = "AVRO") -> int:
    body = {"schema": text, "schemaType": kind}
    reply = httpx.post(f"{feed.services.registry_url}/subjects/{fresh_class()}-value/versions", json=body, timeout=30)
    return int(reply.json()["id"])


def message(feed: Feed, wanted: dict[str, Any], **values: Any) -> bytes:
    out = io.BytesIO()
    row = dict.fromkeys(TRADES.names) | ROW | values
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(wanted))), row)
    return struct.pack(">bI", 0, register(feed, json.dumps(wanted))) + out.getvalue()


def taken(feed: Feed) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the topic, and why messages of it are none."""
    feed.drain()
    rows = feed.bench.sql("SELECT * FROM trades_raw ORDER BY source, source_offset").to_arrow().to_pylist()
    letters = feed.bench.sql("SELECT reason FROM dead_letter ORDER BY source, source_offset").to_arrow()
    return rows, letters["reason"].to_pylist()


@pytest.fixture
def feed(services: Services, tmp_path: Path) -> Feed:
    found = Feed(services, tmp_path / ".k2", partitions=1)
    found.publish(1)
    return found


def test_a_field_with_a_default_is_read(feed: Feed) -> None:
    wanted = schema()
    wanted["fields"] += [
        {"name": "note", "type": "string", "default": ""},
        {"name": "lots", "type": "int", "default": 0},
        {
            "name": "tags",
            "type": {"type": "record", "name": "t", "fields": [{"name": "n", "type": "int", "default": 1}]},
        },
    ]
    feed.spoil([message(feed, wanted, note="a", lots=3, tags={"n": 1})])
    rows, reasons = taken(feed)
    assert reasons == []
    assert [(row["note"], row["lots"]) for row in rows] == [(None, None), ("a", 3)]


UNREAD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"more": {"type": "map", "values": "string"}}, {"more": {"a": "b"}}),
    ({"extra": ["null", "string", "int"]}, {"extra": "{}"}),
    ({"side": ["null", SIDES]}, {"side": "buy"}),
    ({"fee": decimal(50, 4)}, {"fee": Decimal("1.5")}),
]


def test_a_schema_that_is_not_read_is_told(feed: Feed, capfd: pytest.CaptureFixture[str]) -> None:
    feed.spoil([message(feed, schema(**kinds), **values) for kinds, values in UNREAD])
    rows, reasons = taken(feed)
    assert (len(rows), len(reasons)) == (1, len(UNREAD))
    assert all(reason.startswith("its schema has a type that is not read") for reason in reasons)
    assert "panic" not in capfd.readouterr().err
    feed.check()


def test_what_is_no_record_and_no_avro_is_told(feed: Feed) -> None:
    text = 'syntax = "proto3"; message trades { string symbol = 1; }'
    numbers = [register(feed, '"string"'), register(feed, text, "PROTOBUF")]
    feed.spoil([struct.pack(">bI", 0, number) + b"\0\0" for number in numbers])
    _, reasons = taken(feed)
    assert reasons == [
        "its schema is of string, and the topic is for trades",
        f"schema id {numbers[1]}: it is of PROTOBUF, and messages are read as AVRO.",
    ]
    feed.check()
