"""Columns of Parquet files as texts: every type that a file may have, and nothing of its values lost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2kernel.decode.parquet import parquet_batches
from k2kernel.sources import members
from tests.decoding import decode, profile_of, utc

COLUMNS = {
    "time of day in ms": (pa.array([1_800_377, None], pa.time32("ms")), ["00:30:00.377", None]),
    "time of day in ns": (pa.array([1_800_377_000_123, 0], pa.time64("ns")), ["00:30:00.377000123", "00:00:00"]),
    "duration": (pa.array([1_800_377, None], pa.duration("us")), ["1800377", None]),
    "wide decimal": (pa.array([Decimal("1.5"), None], pa.decimal256(50, 8)), ["1.50000000", None]),
    "map": (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), ['{"key":"a","value":"1"}', None]),
    "struct": (pa.array([{"a": 0.1, "b": 'x"y'}, None]), ['{"a":"0.1","b":"x\\"y"}', None]),
    "list of structs": (pa.array([[{"a": 1}, {"a": 2}], []]), ['{"a":"1"};{"a":"2"}', ""]),
    "list of lists": (pa.array([[[1, 2]], None]), ["1;2", None]),
    "list of a fixed size": (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), ["1;2", None]),
    "bytes": (pa.array([b"\xffA", "é".encode()]), ["\\xffA", "é"]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_type_becomes_text(tmp_path: Path, kind: str) -> None:
    values, texts = COLUMNS[kind]
    pq.write_table(pa.table({"c": values}), tmp_path / "x.parquet")
    (batch,) = parquet_batches(members(tmp_path / "x.parquet")[0], ["c"], 0)
    assert batch.frame["c"].to_list() == texts


def test_a_date_and_a_time_of_day_keep_their_fraction(tmp_path: Path) -> None:
    toml = """
    title = "x"
    [file]
    format = "parquet"
    [[route]]
    table = "trades"
    [route.columns]
    symbol = { constant = "A" }
    venue = { constant = "XASX" }
    ts_event = { column = "t", layout = "%H:%M:%S%.f", zone = "UTC", date = { column = "d", layout = "%Y-%m-%d" } }
    price = "p"
    """
    table = pa.table({"d": pa.array([19_786], pa.date32()), "t": pa.array([36_000_123_456], pa.time64("us")), "p": [1]})
    pq.write_table(table, tmp_path / "x.parquet")
    done = decode(profile_of(tmp_path, toml), tmp_path / "x.parquet")
    assert done.column("ts_event") == [utc(2024, 3, 4, 10, 0, 0, 123_456)]
