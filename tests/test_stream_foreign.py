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


OTHER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"price": "double"}, {"price": 1.123456789012}, "price does not fit decimal"),
    ({"price": "double"}, {"price": float("nan")}, "price does not fit decimal"),
    ({"price": "float"}, {"price": 9.87}, "price does not fit decimal"),
    ({"price": decimal(28, 12)}, {"price": Decimal("10.123456789012")}, "price does not fit decimal"),
    ({"price": "string"}, {"price": "10.123456789"}, "price is text and no decimal"),
    ({"sequence": "double"}, {"sequence": 1.75}, "sequence does not fit int64"),
    ({"ts_event": "string"}, {"ts_event": "2024-07-01T02:00:00Z"}, "ts_event is text and no timestamptz"),
    ({"ts_event": "long"}, {"ts_event": 1719799200000}, "ts_event is int64 and no timestamptz"),
    ({"ts_event": LONG}, {"ts_event": 1719799200000000}, "ts_event is a time without a zone and no timestamptz"),
    ({"symbol": "long"}, {"symbol": 7}, "symbol is int64 and no string"),
    ({"side": "int"}, {"side": 1}, "side is int32 and no string"),
    ({"session": "boolean"}, {"session": True}, "session is boolean and no date"),
    ({"conditions": "string"}, {"conditions": "X"}, "conditions is text and no list<string>"),
]
SAME: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (schema(price=FIXED, size=["null", "exact"]), {"price": Decimal(2), "size": Decimal(3)}, {"size": Decimal(3)}),
    (schema("market_data.trades"), {"sequence": 5}, {"sequence": 5}),
    (schema(price="double"), {"price": 10.1}, {"price": Decimal("10.1")}),
    (schema(price="float"), {"price": 10.125}, {"price": Decimal("10.125")}),
    (schema(price=decimal(28, 12)), {"price": Decimal("10.12345678")}, {"price": Decimal("10.12345678")}),
    (schema(ts_event={"type": "long", "logicalType": "timestamp-millis"}), {}, {"ts_event": NOON}),
    (schema(side=SIDES), {"side": "sell"}, {"side": "sell"}),
]


def test_a_value_of_another_sort_is_told_and_never_rounded(feed: Feed) -> None:
    feed.spoil([message(feed, schema(**kinds), **values) for kinds, values, _ in OTHER])
    rows, reasons = taken(feed)
    assert (len(rows), reasons) == (1, [reason for *_, reason in OTHER])
    feed.check()


def test_what_means_the_same_is_read(feed: Feed) -> None:
    feed.spoil([message(feed, wanted, **values) for wanted, values, _ in SAME])
    (_, *rows), reasons = taken(feed)
    assert reasons == []
    for row, (*_, found) in zip(rows, SAME, strict=True):
        assert row.items() >= found.items()


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


def test_a_field_that_is_there_as_another_type_is_left_out(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    texts = message(feed, schema(note=["null", "string"]), note="a")
    numbers = message(feed, schema(note=["null", "long"]), note=7)
    spelled = message(feed, schema(Note=["null", "string"]), Note="b")
    feed.spoil([texts, numbers])  # in one batch
    assert [row["note"] for row in taken(feed)[0]] == [None, "a", None]
    feed.spoil([numbers, spelled])
    rows, reasons = taken(feed)
    assert ([row["note"] for row in rows], reasons) == ([None, "a", None, None, None], [])
    assert "left out: field note (int64), as trades has it of another type or spelling" in caplog.text
    assert "left out: field Note (string)" in caplog.text
    assert feed.bench.audit().ok
