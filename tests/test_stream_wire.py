"""Avro on the wire: schemas from the contract, encoding and decoding by columns, held to an independent codec."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2kernel import wire
from k2kernel.errors import InvalidParameter, StreamFault
from k2kernel.schemas import QUOTES, RECEIVED, TRADES, Table
from k2kernel.wire.decode import _problem, schema_id
from k2kernel.wire.walk import sound
from tests.streams import Services, fresh_class

_NOW = datetime(2014, 3, 10, 23, 59, 59, 999_999, tzinfo=UTC)
_TEXT = st.text(max_size=200)
_DECIMAL = st.integers(-(10**18) + 1, 10**18 - 1).map(lambda number: Decimal(number).scaleb(-8))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": _TEXT,
    "date": st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    "timestamptz": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "int64": st.integers(-(2**63), 2**63 - 1),
    "decimal": _DECIMAL,
    "list<string>": st.lists(_TEXT, max_size=4),
}


def columns(table: Table) -> list[str]:
    return [name for name in table.names if name not in RECEIVED]


def rows(table: Table) -> st.SearchStrategy[list[dict[str, Any]]]:
    kinds = {column.name: _VALUES[column.type] for column in table.columns if column.name not in RECEIVED}
    optional = {name: kind if table[name].required else st.none() | kind for name, kind in kinds.items()}
    return st.lists(st.fixed_dictionaries(optional), min_size=1, max_size=12)


def frame_of(table: Table, found: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(found, schema={name: table.polars[name] for name in columns(table)})


@pytest.mark.parametrize("table", [TRADES, QUOTES], ids=lambda table: table.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_encoded_is_what_another_codec_writes_and_reads(table: Table, data: st.DataObject) -> None:
    found = data.draw(rows(table))
    parsed = fastavro.parse_schema(dict(table.avro))
    values = wire.encode(table.avro, frame_of(table, found), 258)
    for row, value in zip(found, values, strict=True):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        assert value == b"\0\0\0\1\2" + out.getvalue()
    assert {schema_id(value) for value in values} == {258}
    frame, numbers, bad = wire.decode(table.avro, pl.Series(values))
    assert frame.to_dicts() == found
    assert (numbers, bad) == (list(range(len(found))), [])


def trades(count: int) -> pl.DataFrame:
    row = {
        "symbol": "BHP",
        "venue": "XASX",
        "session": _NOW.date(),
        "ts_event": _NOW,
        "clock": "venue",
        "price": Decimal("42.5"),
        "conditions": ["XT", "C"],
    }
    found = [dict.fromkeys(columns(TRADES)) | row | {"sequence": number} for number in range(count)]
    return frame_of(TRADES, found)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_messages_are_told_and_their_neighbours_kept(data: st.DataObject) -> None:
    values = wire.encode(TRADES.avro, trades(7), 1)
    whole = dict(enumerate(values))
    for number in data.draw(st.sets(st.integers(0, 6), max_size=4)):
        change = data.draw(st.sampled_from(["cut", "longer", "noise"]))
        value = values[number]
        values[number] = {
            "cut": value[: data.draw(st.integers(5, len(value) - 1))],
            "longer": value + data.draw(st.binary(min_size=1, max_size=9)),
            "noise": value[:5] + data.draw(st.binary(max_size=60)),
        }[change]
    frame, numbers, bad = wire.decode(TRADES.avro, pl.Series(values))
    assert sorted([*numbers, *(message.number for message in bad)]) == list(range(7))
    untouched = [number for number in range(7) if values[number] == whole[number]]
    assert set(untouched) <= set(numbers)
    kept = frame.filter(pl.Series([number in untouched for number in numbers]))
    assert kept.equals(trades(7)[untouched])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_walked_is_a_record_to_a_decoder(data: st.DataObject) -> None:
    """Whatever bytes are changed: Polars is never given what it could panic on."""
    found = data.draw(rows(TRADES))
    values = wire.encode(TRADES.avro, frame_of(TRADES, found), 1)
    assert sound(TRADES.avro, pl.Series(values)).all()
    changed = [bytearray(value) for value in values]
    for value in changed:
        for _ in range(data.draw(st.integers(1, 3))):
            value[data.draw(st.integers(5, len(value) - 1))] = data.draw(st.integers(0, 255))
    series = pl.Series([bytes(value) for value in changed])
    for value, whole in zip(series, sound(TRADES.avro, series), strict=True):
        told = _problem(TRADES.avro, value)
        assert not whole or told is None or "UnicodeDecodeError" in told or "Overflow" in told


@pytest.mark.parametrize("number", [0, 12_345, 19_999])
def test_one_bad_message_among_many_is_found(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    """And nothing is said about it beside what is returned."""
    values = wire.encode(TRADES.avro, trades(20_000), 1)
    for bad in (values[number][:-1], values[number].replace(b"XT", b"\xff\xff"), values[number][:5] + b"\xfe" * 40):
        values[number] = bad
        frame, numbers, told = wire.decode(TRADES.avro, pl.Series(values))
        assert [message.number for message in told] == [number]
        assert len(frame) == len(numbers) == 19_999
    assert capfd.readouterr().err == ""


def test_records_that_others_write_otherwise_are_read() -> None:
    """A list in several blocks, or in one that says its bytes, and a number that is longer than it must be."""
    plain, *others = wire.encode(TRADES.avro, trades(4), 1)
    conditions = b"\4\4XT\2C\0"
    ways = [b"\2\4XT\2\2C\0", b"\3\n\4XT\2C\0", b"\x84\0\4XT\2C\0"]
    values = [plain, *(value.replace(conditions, way) for value, way in zip(others, ways, strict=True))]
    assert len({len(value) for value in values}) > 1
    frame, numbers, bad = wire.decode(TRADES.avro, pl.Series(values))
    assert (numbers, bad) == ([0, 1, 2, 3], [])
    assert frame.equals(trades(4))


def test_topic_names() -> None:
    topic = wire.Topic("equity", "trades", "XASX")
    assert str(topic) == "market.equity.trades.xasx"
    assert wire.Topic.parse(str(topic)) == wire.Topic("equity", "trades", "xasx")
    assert wire.subject(str(topic)) == "market.equity.trades.xasx-value"
    with pytest.raises(InvalidParameter, match="topic='prices'"):
        wire.Topic.parse("prices")


def test_an_incompatible_schema_is_refused(services: Services) -> None:
    with wire.Registry(services.registry_url) as registry:
        topic, fields = f"market.{fresh_class()}.trades.xasx", TRADES.avro["fields"]
        first = registry.register(topic, TRADES.avro)
        assert registry.register(topic, TRADES.avro) == first
        assert registry.schema(first) == TRADES.avro
        grown = {
            **TRADES.avro,
            "fields": [*TRADES.avro["fields"], {"name": "mic", "type": ["null", "string"], "default": None}],
        }
        assert registry.register(topic, grown) != first
        broken = {**TRADES.avro, "fields": [*fields, {"name": "isin", "type": "string"}]}
        with pytest.raises(
            StreamFault, match=r"BACKWARD_TRANSITIVE compatible .*: isin \(new, without a default\)\. Add"
        ):
            registry.register(topic, broken)
        retyped = [
            {**field, "type": "string"} if field["name"] == "sequence" else field for field in TRADES.avro["fields"]
        ]
        with pytest.raises(
            StreamFault, match=r": sequence \(reader type: STRING not compatible with writer type: LONG\)\."
        ):
            registry.register(topic, {**TRADES.avro, "fields": retyped})
        with pytest.raises(wire.UnknownSchema):
            registry.schema(999_999)


def test_a_registry_that_is_away_is_told_apart_from_an_unknown_schema() -> None:
    with wire.Registry("http://127.0.0.1:9/apis/ccompat/v7") as registry, pytest.raises(wire.RegistryDown):
        registry.schema(1)
