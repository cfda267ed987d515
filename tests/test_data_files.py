"""Data files: the order of their rows, how columns are encoded, and what they refuse to hold."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2kernel.errors import InvalidParameter, UnsupportedTable
from k2kernel.lake import Lake
from k2kernel.lake.local_io import local_path
from k2kernel.lake.sort import order
from k2kernel.schemas import TABLES
from tests.lake_frames import DAY, load, new_lake, trades


def test_rows_are_sorted_and_grouped(tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    symbols = ["RIO", "BHP"] * 2_500
    written = lake.write("trades", trades(5_000, "a", symbol=symbols), DAY)
    stored = pl.read_parquet(written.path, hive_partitioning=False)
    assert stored.equals(stored.sort(TABLES["trades"].sort, maintain_order=True))
    assert pq.read_metadata(written.path).num_row_groups == 3
    assert f"/data/session={DAY}/" in written.path


def sort(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    found = order(rows, keys)
    return rows if found is None else rows[found]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["RIO", "BHP", "AMP"])])
def test_sort_is_the_plain_stable_sort(dtype: pl.DataType, shuffled: bool) -> None:
    rows = pl.DataFrame(
        {
            "symbol": pl.Series(["RIO", "BHP", "AMP", "BHP", "RIO", "BHP"] * 50, dtype=pl.String),
            "ns": [None, 3, 1, None, 2, 2] * 50,
            "venue": "XASX",
            "at": range(300),
            "empty": pl.Series([None] * 300, dtype=pl.Int64),
        }
    )
    rows = rows.sample(fraction=1, shuffle=True, seed=7) if shuffled else rows
    keys = ["symbol", "empty", "venue", "ns"]
    expected = rows.sort(keys, maintain_order=True)
    assert sort(rows.with_columns(pl.col("symbol").cast(dtype)), keys)["at"].to_list() == expected["at"].to_list()
    assert sort(rows.clear(), keys).is_empty()


_NUMBERS = st.none() | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1, 2**40, -(2**61), 2**61])


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | st.sampled_from(["", "A", "a", "é", "\U0001f600"]),
                "small": st.none() | st.integers(-128, 127),
                "when": st.none() | st.datetimes(),
                "one": _NUMBERS,
                "two": _NUMBERS,
                "exact": st.none() | st.decimals(-5, 5, places=8),
            }
        ),
        max_size=40,
    ),
    st.permutations(["text", "small", "when", "one", "two", "exact"]),
)
def test_keys_that_share_a_number_sort_as_they_do_apart(rows: list[dict[str, Any]], keys: list[str]) -> None:
    kinds = {"text": pl.String(), "small": pl.Int8(), "when": pl.Datetime("us"), "one": pl.Int64(), "two": pl.Int64()}
    frame = pl.DataFrame(rows, schema=kinds | {"exact": pl.Decimal(18, 8)}).with_row_index("at")
    assert sort(frame, keys)["at"].to_list() == frame.sort(keys, maintain_order=True)["at"].to_list()


def test_a_number_of_too_many_digits_is_refused(lake: Lake) -> None:
    """Its file would have another one: 8 bytes hold the units of 10^-8, and of 19 digits not all."""
    units = b"".join(number.to_bytes(16, "little") for number in (10**18 - 1, 10**18))
    exact = pa.Array.from_buffers(pa.decimal128(18, 8), 2, [None, pa.py_buffer(units)])
    rows = trades(2, "a").with_columns(pl.Series("price", pl.from_arrow(exact)))
    with pytest.raises(InvalidParameter, match=r"frame=\['price'\]: has more than 18 digits"):
        lake.write("trades", rows, DAY)
    written = lake.write("trades", rows.head(1), DAY)
    assert pl.read_parquet(written.path)["price"].to_list() == [Decimal("9999999999.99999999")]


def test_a_table_that_has_lost_a_column_says_so(lake: Lake) -> None:
    load(lake, "a")
    with lake.table("trades").update_schema(allow_incompatible_changes=True) as change:
        change.rename_column("side", "direction")
    with pytest.raises(UnsupportedTable, match="has no column side any more"):
        load(lake, "b", minute=1)
    assert lake.files("trades", lake.head("trades")).rows == 10


def test_rows_of_another_program_that_lack_a_value_are_not_compacted(lake: Lake) -> None:
    for minute, name in enumerate("ab"):
        load(lake, name, minute=minute)
    path = local_path(lake.files("trades", lake.head("trades")).files[0].path)
    rows = pq.read_table(path, partitioning=None)
    at, old = rows.schema.get_field_index("clock"), rows.schema.field("clock")
    without = pa.field("clock", old.type, nullable=True, metadata=old.metadata)
    pq.write_table(rows.set_column(at, without, pa.nulls(len(rows), old.type)), path)
    before = sorted(path.parent.iterdir())
    with pytest.raises(UnsupportedTable, match=r"do not fit its columns .*'clock'.*Correct them"):
        lake.maintenance.compact("trades")
    assert sorted(path.parent.iterdir()) == before, "nothing half-written is left"


def test_a_column_is_encoded_by_whether_its_values_repeat(lake: Lake) -> None:
    """The first rows are of a symbol that trades at one price; those of the other have a price and an id each."""
    rows = trades(10_000, "a", symbol=["A"] * 5_000 + ["B"] * 5_000)
    units = [100] * 5_000 + list(range(100_000, 105_000))
    ids = pl.Series("trade_id", [f"t{number}" for number in range(10_000)])
    price = pl.Series("price", [Decimal(number).scaleb(-8) for number in units], pl.Decimal(18, 8))
    written = lake.write("trades", rows.with_columns(price, ids), DAY)
    group = pq.read_metadata(written.path).row_group(0)
    found = {group.column(at).path_in_schema: set(group.column(at).encodings) for at in range(group.num_columns)}
    for name in ("symbol", "venue", "source", "conditions.list.element"):
        assert "RLE_DICTIONARY" in found[name], name
    for name in ("ts_event", "session", "sequence", "price"):
        assert "DELTA_BINARY_PACKED" in found[name], name
    assert "DELTA_LENGTH_BYTE_ARRAY" in found["trade_id"]
