"""Whatever a file holds and however it is cut: every line is accounted for, every good row is there once, exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from k2kernel.config import Settings
from k2kernel.errors import FileFault
from k2kernel.lake import Lake
from k2kernel.sources import files as source_files
from tests.ingest_files import BASE, ingest, mixed, rows_of

LONG = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
QUICK = settings(LONG, max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])


class Row(NamedTuple):
    """A line, and what must become of it: kind T, Q, B, a skipped kind, or `bad`."""

    text: str
    kind: str
    time: int = 0
    symbol: str = ""
    a: Decimal = Decimal(0)
    b: Decimal = Decimal(0)


prices = st.decimals(min_value=-(10**9), max_value=10**9, places=8)
sizes = st.decimals(min_value=0, max_value=10**9, places=3)


@st.composite
def good(draw: st.DrawFn) -> Row:
    kind, symbol = draw(st.sampled_from("TQB")), draw(st.sampled_from(["AAA", "B.B", "007", "É", "a b"]))
    time, a, b = (
        BASE + draw(st.integers(0, 5)) * draw(st.sampled_from([1, 10**9, 86_400 * 10**9])),
        draw(prices),
        draw(sizes),
    )
    return Row(f"{kind},{time},{symbol},,{a:f},{b:f}", kind, time, symbol, a, b)


bad = st.sampled_from(
    [
        "T,1",
        "Q,x,AAA,,1,1",
        f"B,{BASE},AAA,,1e30,1",
        f"T,{BASE},,,1,1",
        f"T,{BASE},AAA,,1,1,1",
        f'T,{BASE},"AAA,,1,1',
        f"Q,{BASE},AAA,,0.000000001,1",
        f"T,{BASE},AAA,,1,one",
    ]
).map(lambda text: Row(text, "bad"))
skipped = st.sampled_from(
    [Row("", "blank"), Row("# note", "comment"), Row("END", "trailer"), Row(f"X,{BASE},A,,1,1", "X")]
)
rows = st.lists(st.one_of(good(), good(), good(), bad, skipped), min_size=1, max_size=40)
line_ends = st.sampled_from(["\n", "\r\n"])


@contextmanager
def fresh(block_bytes: int) -> Iterator[tuple[Lake, Path]]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_files, "BLOCK_BYTES", block_bytes)
        yield Lake.open(Settings(home=Path(folder) / "lake", ingest_buffer_rows=1_000), create=True), Path(folder)


def utc(ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1_000)


def tables_of(row: Row) -> str:
    """T, Q or both."""
    return {"T": "T", "Q": "Q", "B": "TQ"}.get(row.kind, "")


def assert_exact(lake: Lake, lines: list[Row], end: str) -> None:
    for table, kinds, columns in (("trades", "TB", ("price", "size")), ("quotes", "QB", ("bid_px", "bid_sz"))):
        frame = rows_of(lake, table)
        found = sorted(frame.select("source_offset", "symbol", "ts_event", *columns).rows()) if len(frame) else []
        wanted = [
            (number, row.symbol, utc(row.time), row.a, row.b)
            for number, row in enumerate(lines, start=1)
            if row.kind in kinds
        ]
        assert found == wanted
        assert all(row["session"] == row["ts_event"].date() for row in frame.to_dicts())
    letters = rows_of(lake, "dead_letter")
    rejected = set(letters.select("source_offset", "raw").rows()) if len(letters) else set()
    tail = end.removesuffix("\n").encode()
    wanted_letters = {(n, row.text.encode()) for n, row in enumerate(lines, start=1) if row.kind == "bad"}
    assert {(n, raw.removesuffix(tail) if tail else raw) for n, raw in rejected} == wanted_letters


def whole_story(lines: list[Row], end: str, last: bool, block_bytes: int, cuts: list[int]) -> None:
    """Load the first lines, then each time what more there is; nothing is lost or doubled."""
    with fresh(block_bytes) as (lake, folder):
        path, profile = folder / "a.csv", mixed(folder)
        loaded = 0
        for cut in sorted({*(cut for cut in cuts if cut < len(lines)), len(lines)}):
            text = end.join(row.text for row in lines[:cut]) + (end if last else "")
            path.write_bytes(text.encode())
            part = lines[loaded:cut]
            rows, faults = sum(len(tables_of(row)) for row in part), sum(row.kind == "bad" for row in part)
            if not rows and (faults or not loaded):
                with pytest.raises(FileFault):
                    ingest(lake, path, profile, append_grown=True, max_rejects=1)
                continue
            receipt = ingest(lake, path, profile, append_grown=True, max_rejects=1)
            assert (receipt.rows, receipt.duplicate) == (rows, 0)
            assert abs(receipt.lines - len(part)) <= 1, "an empty last line without its end is not there yet"
            assert receipt.skipped.keys() <= {"blank", "comment", "trailer", "X"}
            assert receipt.rejected - receipt.fanout <= faults <= receipt.rejected
            if rows:
                loaded = cut
                assert ingest(lake, path, profile, max_rejects=1).rows == 0
        assert_exact(lake, lines[:loaded], end)


@QUICK
@given(rows, line_ends, st.booleans(), st.integers(1, 400))
def test_one_load(lines: list[Row], end: str, last: bool, block_bytes: int) -> None:
    whole_story(lines, end, last, block_bytes, [])


@QUICK
@given(rows, line_ends, st.booleans(), st.integers(1, 400), st.lists(st.integers(1, 40), max_size=3))
def test_grown_loads(lines: list[Row], end: str, last: bool, block_bytes: int, cuts: list[int]) -> None:
    whole_story(lines, end, last, block_bytes, cuts)


@pytest.mark.long
@pytest.mark.timeout(3_000)
@LONG
@given(rows, line_ends, st.booleans(), st.integers(1, 400), st.lists(st.integers(1, 40), max_size=3))
def test_many_grown_loads(lines: list[Row], end: str, last: bool, block_bytes: int, cuts: list[int]) -> None:
    whole_story(lines, end, last, block_bytes, cuts)
