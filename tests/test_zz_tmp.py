"""Numbers, times and JSON, against Python's own exact arithmetic, for any text that anyone may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2kernel.decode import clock, decimals
from k2kernel.decode.instants import _instants
from k2kernel.decode.jsonlines import quote_numbers
from k2kernel.decode.values import _items
from k2kernel.profiles import Value
from tests.decoding import PLAIN, decode_text, utc
from tests.support import ROOT

LIMIT = Decimal(10) ** 10
EIGHT = Decimal("0.00000001")

digits = st.text("0123456789", max_size=14)
number_texts = st.one_of(
    st.builds(
        lambda sign, whole, point, part, exponent: sign + whole + point + part + exponent,
        st.sampled_from(["", "-", "+"]),
        digits,
        st.sampled_from(["", "."]),
        digits,
        st.one_of(
            st.just(""),
            st.builds(
                lambda e, n: f"{e}{n}",
                st.sampled_from(["e", "E", "e+", "e-"]),
                st.one_of(st.integers(0, 22), st.integers(0, 999)),
            ),
        ),
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-LIMIT, max_value=LIMIT).map(str),
    st.floats(allow_nan=True).map(repr),
    st.text("0123456789.-+eE_ ,x٣", max_size=12),
)


def exactly(text: str, scale: Decimal | None = None) -> Decimal | None:
    """The number if decimal(18, 8) holds it, or None."""
    if not text.isascii() or "_" in text or text != text.strip():
        return None
    try:
        number = Decimal(text) * (1 if scale is None else scale)
    except ArithmeticError:
        return None
    if not number.is_finite() or abs(number) >= LIMIT:
        return None
    return number if number == number.quantize(EIGHT) else None


@settings(max_examples=3000, deadline=None)
@given(st.lists(number_texts, min_size=1, max_size=40))
def test_a_decimal_is_exact_or_refused(texts: list[str]) -> None:
    assert decimals.exact(pl.Series(texts, dtype=pl.String)).to_list() == [exactly(text) for text in texts]


def test_monstrous_exponents_are_refused() -> None:
    texts = pl.Series([f"{number}e{sign}{9 * 10**20}" for number in (1, 25) for sign in ("", "-")])
    assert decimals.exact(texts).to_list() == [None] * 4
    assert decimals.exact(texts, Decimal("0.01")).to_list() == [None] * 4


@settings(max_examples=3000, deadline=None)
@given(
    st.lists(number_texts, min_size=1, max_size=20),
    st.sampled_from([Decimal(scale) for scale in ("0.0001", "1e-9", "100", "0.25", "-1", "3", "1000000", "0.5e-8")]),
)
def test_a_scaled_decimal_is_exact_or_refused(texts: list[str], scale: Decimal) -> None:
    found = decimals.exact(pl.Series(texts, dtype=pl.String), scale).to_list()
    for text, number in zip(texts, found, strict=True):
        wanted = exactly(text, scale)
        # Between, a product may need more digits than there are: then it is refused, but never another number.
        assert number == wanted or (number is None and abs(Decimal(text)) >= LIMIT), text


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1), st.sampled_from(["0.01", "0.005", "0.25", "1", "0.0001"]))
def test_a_printed_float_goes_to_its_tick(steps: list[int], tick: str) -> None:
    prices = [step * Decimal(tick) for step in steps]
    texts = pl.Series([repr(float(price)) for price in prices])
    assert decimals.on_tick(texts, None, Decimal(tick), Decimal("1e-6")).to_list() == prices


def test_beyond_its_bound_a_price_is_refused() -> None:
    texts = pl.Series(["7.400000001", "7.4000000011", "7.399999999", "7.3999999989", None, "x"])
    found = decimals.on_tick(texts, None, Decimal("0.01"), Decimal("1e-9")).to_list()
    assert found == [Decimal("7.4"), None, Decimal("7.4"), None, None, None]


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**22), 10**22),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
        st.sampled_from(["1,2", ":3", '"4"', "\\", '\\"5', "[6", "-7e8", "\u2028"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)


def texts_of(value: Any) -> Any:
    """The value with its numbers as they were written."""
    return json.loads(value, parse_float=str, parse_int=str)


@settings(max_examples=3000, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=5), min_size=1, max_size=6),
    st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    st.booleans(),
)
def test_numbers_in_json_keep_their_digits(
    values: list[Any], separators: tuple[str, str] | None, ascii_only: bool
) -> None:
    lines = [json.dumps(value, separators=separators, ensure_ascii=ascii_only) for value in values]
    lines = [line.replace("\u2028", "\\u2028") for line in lines]
    quoted = quote_numbers(("\n".join(lines) + "\n").encode()).decode().split("\n")[:-1]
    assert [json.loads(line) for line in quoted] == [texts_of(line) for line in lines]


def test_an_unfinished_string_does_not_reach_the_next_line() -> None:
    data = b'{"a": "x, 1}\n{"a": 1.50, "b": [-2, 3e4], "c": "5, 6"}\n{"a\\\\": 7}\n'
    assert quote_numbers(data).split(b"\n")[1:3] == [
        b'{"a": "1.50", "b": ["-2", "3e4"], "c": "5, 6"}',
        b'{"a\\\\": "7"}',
    ]


ZONES = {
    "Australia/Sydney": [(2024, 4, 6), (2024, 10, 5)],
    "America/New_York": [(2024, 3, 9), (2024, 11, 2), (2007, 3, 10)],
    "Europe/London": [(2024, 3, 30), (2024, 10, 26)],
    "Asia/Shanghai": [(2024, 3, 4)],
    "Australia/Lord_Howe": [(2024, 4, 6), (2024, 10, 5)],
    "America/Sao_Paulo": [(2018, 11, 3), (2018, 2, 17)],
}


def by_zoneinfo(local: datetime, zone: str, ambiguous: str) -> int | None:
    """µs since 1970, or None where the local time does not exist or is meant to be refused."""
    first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    if first.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
        return None
    if first.utcoffset() != second.utcoffset() and ambiguous == "reject":
        return None
    chosen = second if ambiguous == "latest" else first
    return (chosen.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@settings(max_examples=3000, deadline=None)
@given(
    st.sampled_from([(zone, day) for zone, days in ZONES.items() for day in days]),
    st.lists(st.integers(0, 2 * 86_400 * 10**6), min_size=1, max_size=60),
    st.sampled_from(["earliest", "latest", "reject"]),
    st.sampled_from(["%m/%d/%Y %H:%M:%S%.f", "%Y%m%d-%H%M%S%6f", "%Y-%m-%dT%H:%M:%S.%6f", "%d %b %Y %H:%M:%S%.f"]),
)
def test_local_times_agree_with_zoneinfo(
    where: tuple[str, Any], micros: list[int], ambiguous: Any, layout: str
) -> None:
    zone, day = where
    local = [datetime(*day) + timedelta(microseconds=each) for each in micros]  # noqa: DTZ001 - it is local
    texts = [each.strftime(layout.replace("%.f", ".%f").replace("%6f", "%f")) for each in local]
    value = Value(column="t", layout=layout, zone=zone, ambiguous=ambiguous)
    found = _instants([pl.Series(texts)], value=value, iso_day=False).to_list()
    assert found == [
        None if (instant := by_zoneinfo(each, zone, ambiguous)) is None else instant * 1_000 for each in local
    ]


def test_many_times_of_a_week_go_by_quarters_of_an_hour() -> None:
    local = pl.datetime_range(datetime(2024, 10, 4), datetime(2024, 10, 8), "7s", eager=True)  # noqa: DTZ001 - it is local
    for ambiguous in ("earliest", "latest", "reject"):
        value = Value(column="t", layout="%Y-%m-%d %H:%M:%S", zone="Australia/Lord_Howe", ambiguous=ambiguous)
        texts = local.dt.strftime("%Y-%m-%d %H:%M:%S")
        found = _instants([texts], value=value, iso_day=False)
        wanted = [by_zoneinfo(each, "Australia/Lord_Howe", ambiguous) for each in local]
        assert found.to_list() == [None if each is None else each * 1_000 for each in wanted]


@settings(max_examples=3000, deadline=None)
@given(
    st.lists(
        st.tuples(st.datetimes(datetime(1900, 1, 2), datetime(2261, 12, 30)), st.integers(0, 999), st.integers(0, 9)),  # noqa: DTZ001
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["Z", "+11:00", "-05:30", "+0000", "+01", "mixed"]),
    st.sampled_from(["T", " "]),
)
def test_iso_times_are_exact_to_the_nanosecond(
    times: list[tuple[datetime, int, int]], ending: str, between: str
) -> None:
    texts, wanted = [], []
    for number, (time, below, places) in enumerate(times):
        zone = ending if ending != "mixed" else ["Z", "+11:00", "-0530"][number % 3]
        fraction = f"{time.microsecond:06}{below:03}"[:places]
        texts.append(
            f"{time:%Y-%m-%d}".zfill(10) + between + f"{time:%H:%M:%S}" + ("." + fraction if places else "") + zone
        )
        hours, minutes = (
            (int((zone[1:].replace(":", "") + "00")[at : at + 2] or 0) for at in (0, 2)) if zone != "Z" else (0, 0)
        )
        shift = (hours * 60 + minutes) * (-1 if zone.startswith("-") else 1)
        seconds = (time.replace(microsecond=0) - datetime(1970, 1, 1)) // timedelta(seconds=1) - shift * 60  # noqa: DTZ001
        wanted.append(seconds * 10**9 + int((fraction + "0" * 9)[:9]))
    value = Value(column="t", layout="iso8601")
    assert _instants([pl.Series(texts)], value=value, iso_day=False).to_list() == wanted


NO_TIMES = [
    "2024-02-30T10:00:00Z",
    "2023-02-29T10:00:00Z",
    "2024-13-01T10:00:00Z",
    "2024-00-01T10:00:00Z",
    "2024-03-04T24:00:00Z",
    "2024-03-04T10:60:00Z",
    "2024-03-04T10:00:60Z",
    "2024-03-04T10:00:00.1234567891Z",
    "2024-03-04T10:00:00.Z",
    "2024-03-04T10:00:00.12x4Z",
    "2024-03-04T10:00:00",
    "2024-03-04",
    "1899-12-31T23:59:59Z",
    "2262-01-01T00:00:00Z",
    "9999-01-01T00:00:00Z",
    "",
    " ",
    "\uff12\uff1024-03-04T10:00:00Z",  # full-width digits
]


@pytest.mark.parametrize("text", NO_TIMES)
@pytest.mark.parametrize(
    "neighbours", [[], ["2024-03-04T10:00:00Z"], ["2024-03-04T10:00:00.5Z", "2024-03-04T10:00:00+01:00"]]
)
def test_what_is_no_time_is_refused_beside_any_neighbour(text: str, neighbours: list[str]) -> None:
    value = Value(column="t", layout="iso8601")
    found = _instants([pl.Series([*neighbours, text])], value=value, iso_day=False).to_list()
    assert found[-1] is None
    assert None not in found[:-1]


@pytest.mark.parametrize(
    "layout", ["%Y%m%d %H%M%S%3f", "%Y-%m-%d %H:%M:%S%.f", "%d/%m/%Y %H:%M:%S", "%b %d %Y %I:%M:%S %p"]
)
def test_a_time_by_arithmetic_is_the_time_by_strftime(layout: str) -> None:
    times = pl.datetime_range(datetime(1999, 12, 30), datetime(2004, 3, 2), "7h13m17s123ms", eager=True)  # noqa: DTZ001
    texts = times.dt.strftime(layout)
    assert clock.parse(texts, layout).to_list() == clock._strftime(texts, layout).to_list()


def test_lenient_layouts_read_short_fields() -> None:
    texts = pl.Series(["3/4/2024 9:05:01", "03/04/2024 09:05:01", None, "13/04/2024 09:05:01"])
    found = clock.parse(texts, "%m/%d/%Y %H:%M:%S").to_list()
    assert found[0] == found[1] == 1_709_543_101 * 10**9
    assert found[2:] == [None, None]


def test_a_leap_second_is_refused() -> None:
    assert clock.parse(pl.Series(["100060", "100059"]), "%H%M%S").to_list() == [None, 36_059 * 10**9]
    assert clock.parse(pl.Series(["10:00:60", "9:00:60"]), "%H:%M:%S").to_list() == [None, None]


def test_counts_of_units() -> None:
    texts = [
        "1709546400",
        "1709546400.5",
        "1709546400.000000001",
        "1709546400.0000000001",
        "-1.5",
        ".5",
        "1e9",
        "x",
        None,
        "",
    ]
    value = Value(column="t", unit="s")
    found = _instants([pl.Series(texts)], value=value, iso_day=False).to_list()
    start = 1_709_546_400 * 10**9
    assert found == [start, start + 500_000_000, start + 1, None, -1_500_000_000, 500_000_000, None, None, None, None]


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text("ab;  x", max_size=6)), max_size=30), st.sampled_from([";", "", None]))
def test_items_of_lists(texts: list[str | None], separator: str | None) -> None:
    def split(text: str | None) -> list[str]:
        if text is None:
            return []
        parts = [text] if separator is None else list(text) if separator == "" else text.split(separator)
        parts = parts if separator is None else [part.strip() for part in parts]
        return [part for part in parts if part]

    assert _items(pl.Series(texts, dtype=pl.String), separator).to_list() == [split(text) for text in texts]


SCRIPT = """
import json, sys
from pathlib import Path
from tests.decoding import PLAIN, decode_text
sydney = 'layout = "%d.%m.%Y %H:%M:%S", zone = "Australia/Sydney", ambiguous = "latest"'
toml = PLAIN.replace('layout = "iso8601"', sydney)
rows = ["06.04.2024 23:59:59,1", "07.04.2024 02:30:00,2", "06.10.2024 03:00:00,3"]
done = decode_text(Path(sys.argv[1]), toml, "\\n".join(["time,price", *rows]))
print(json.dumps([(str(row["ts_event"]), str(row["session"])) for row in done.tables["trades"]]))
"""


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York"])
def test_the_zone_of_this_machine_does_not_matter(tmp_path: Path, zone: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        env=os.environ | {"TZ": zone},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        ["2024-04-06 12:59:59+00:00", "2024-04-06"],
        ["2024-04-06 16:30:00+00:00", "2024-04-07"],
        ["2024-10-05 16:00:00+00:00", "2024-10-06"],
    ]


def test_a_session_that_straddles_two_utc_dates(tmp_path: Path) -> None:
    toml = PLAIN.replace("XASX", "OANDA")
    rows = ["2024-03-08T21:59:59Z,1", "2024-03-08T22:00:00Z,2", "2024-03-10T20:59:59Z,3", "2024-03-10T21:00:00Z,4"]
    done = decode_text(tmp_path, toml, "\n".join(["time,price", *rows]))
    assert [str(day) for day in done.column("session")] == ["2024-03-08", "2024-03-09", "2024-03-10", "2024-03-11"]
    assert done.column("ts_event")[0] == utc(2024, 3, 8, 21, 59, 59)
