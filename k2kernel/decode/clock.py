"""Texts of dates and times to nanoseconds: fixed layouts by arithmetic on their bytes, all others by strftime rules.

Days are counted by the proleptic Gregorian calendar, without leap seconds (second 60 is refused). A text that is no
time of its layout, or has a nonzero digit below a nanosecond, is null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from k2kernel.times import DAY_NS, FIRST_DAY, LAST_DAY

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

_DIGITS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2, "%3f": 3, "%6f": 6, "%9f": 9}
_SHORT = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M"}
_RANGES = {"%m": (1, 12), "%H": (0, 23), "%M": (0, 59), "%S": (0, 59)}
_FIRST_US, _LAST_US = FIRST_DAY * DAY_NS // 1_000, LAST_DAY * DAY_NS // 1_000


@dataclass(frozen=True)
class Fixed:
    """A layout whose fields have fixed places: where each begins, the bytes between them, and the width.

    `fraction` says that up to nine decimals with their point may follow.
    """

    places: dict[str, int]
    between: dict[int, bytes]
    width: int
    fraction: bool

    @property
    def longest(self) -> int:
        """The width with nine decimals."""
        return self.width + (10 if self.fraction else 0)


@cache
def fixed(layout: str) -> Fixed | None:
    """The layout with its places, or None where a field has no fixed width."""
    for short, long in _SHORT.items():
        layout = layout.replace(short, long)
    body = layout.removesuffix("%.f")
    places: dict[str, int] = {}
    between: dict[int, bytes] = {}
    at = 0
    for part in re.findall(r"%[369]f|%.|[^%]", body):
        if part in _DIGITS and part not in places:
            places[part] = at
        elif len(part) > 1 or not part.isascii():
            return None
        else:
            between[at] = part.encode()
        at += _DIGITS.get(part, 1)
    return Fixed(places, between, at, fraction=body != layout)


def only(values: pl.Series, where: pl.Series) -> pl.Series:
    """The values, null where `where` is false or null."""
    return values if where.all(ignore_nulls=False) else pl.select(pl.when(where).then(values)).to_series()


def parse(texts: pl.Series, layout: str) -> pl.Series:
    """Nanoseconds since 1970 (or since midnight where the layout has no date) as Int64."""
    form = fixed(layout)
    found = None if form is None else _arithmetic(texts, form)
    if found is None:
        return _strftime(texts, layout)
    values, shaped = found
    odd = texts.is_not_null() & ~shaped
    return values.scatter(odd.arg_true(), _strftime(texts.filter(odd), layout)) if odd.any() else values


def ending_in(texts: pl.Series, layout: str, ending: str) -> pl.Series | None:
    """The instants of equally long texts that have the layout and then one more byte; others are null."""
    form = fixed(layout)
    found = None if form is None else _arithmetic(texts, form, ending.encode())
    return None if found is None else found[0]


def _strftime(texts: pl.Series, layout: str) -> pl.Series:
    """By Polars' parser: µs first, because its ns parser wraps silently outside 1678 to 2262."""
    texts = only(texts, ~texts.str.contains(r":60(?:\D|$)|\.[0-9]{9}[0-9]*[1-9]"))
    if not re.search("%[YyCGFDcsj]", layout):
        return texts.str.to_time(layout, strict=False).cast(pl.Int64)
    if not re.search("%[HIkTRrXcs]", layout):
        return texts.str.to_date(layout, strict=False).cast(pl.Int64) * DAY_NS
    micros = texts.str.to_datetime(layout, strict=False, time_unit="us").dt.timestamp("us")
    sound = only(texts, micros.is_between(_FIRST_US, _LAST_US))
    return sound.str.to_datetime(layout, strict=False, time_unit="ns").dt.timestamp("ns")


def _arithmetic(texts: pl.Series, form: Fixed, ending: bytes = b"") -> tuple[pl.Series, pl.Series] | None:
    """The instants, null where there is none, and which texts have the layout's shape; None where none can have it."""
    table, fits = _table(texts, form, len(ending))
    if table is None:
        return None
    shaped = np.ones(len(texts), dtype=bool)
    if ending:
        shaped &= table[-1] == ord(ending)
        table = table[:-1]
    digits = table - 48
    for place, byte in form.between.items():
        shaped &= table[place] == ord(byte) if byte != b"T" else (table[place] == ord("T")) | (table[place] == ord(" "))
    numbers = {name: _number(digits[at : at + _DIGITS[name]], shaped) for name, at in form.places.items()}
    total = _in_day(numbers)
    if form.fraction:
        total = total + _fraction(table[form.width :], digits[form.width :], shaped)
    good = shaped.copy()
    for name, (least, most) in _RANGES.items():
        if name in numbers:
            good &= (numbers[name] >= least) & (numbers[name] <= most)
    total = total + _days(numbers, good) * DAY_NS
    shape = pl.Series(shaped) if fits is None else (pl.Series(shaped) & fits).fill_null(value=False)
    return only(pl.Series(texts.name, total), pl.Series(good) & shape), shape


def _table(texts: pl.Series, form: Fixed, more: int) -> tuple[Bytes | None, pl.Series | None]:
    """A row per byte place, padded with zeros, then `more` for an ending; and which texts fit, where not all do."""
    lengths = texts.str.len_bytes()
    least, most = lengths.min(), lengths.max()
    if least is None or int(str(least)) > form.longest + more or int(str(most)) < form.width + more:
        return None, None
    fits, width = None, int(str(most))
    if texts.null_count() or least != most:
        if more:
            return None, None
        width = form.longest
        fits = lengths.is_between(form.width, width) & (texts.str.len_chars() == lengths)
        texts = only(texts, fits).fill_null("").str.pad_end(width, "\0")
    data = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    start = np.frombuffer(data.buffers()[1], dtype=np.int64)[data.offset]
    raw = np.frombuffer(data.buffers()[2], dtype=np.uint8, count=len(texts) * width, offset=int(start))
    columns = raw.reshape(len(texts), width).T
    table = np.zeros((form.longest + more, len(texts)), dtype=np.uint8)
    table[: width - more] = columns[: width - more]
    table[form.longest :] = columns[width - more :]
    return table, fits


def _number(digits: Bytes, good: Flags) -> Numbers:
    """The decimal number of some rows of digits; `good` loses the columns where one is no digit."""
    total = np.zeros(digits.shape[1], dtype=np.int32)
    for row in digits:
        good &= row < 10
        total *= 10
        total += row
    return total.astype(np.int64)


def _days(numbers: dict[str, Numbers], good: Flags) -> Numbers:
    """Days since 1970 of year, month and day; 0 without a date."""
    if not {"%Y", "%m", "%d"} <= numbers.keys():
        return np.zeros(len(good), dtype=np.int64)
    year, month, day = numbers["%Y"], numbers["%m"], numbers["%d"]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[np.minimum(month, 12)]
    good &= (day >= 1) & (day <= last + (leap & (month == 2))) & (year >= 1900) & (year < 2262)
    shifted = year - (month <= 2)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719_468


def _in_day(numbers: dict[str, Numbers]) -> Numbers:
    units = {"%H": 3600 * 10**9, "%M": 60 * 10**9, "%S": 10**9, "%3f": 10**6, "%6f": 10**3, "%9f": 1}
    parts = [numbers[name] * unit for name, unit in units.items() if name in numbers]
    return np.sum(parts, axis=0, dtype=np.int64) if parts else np.zeros(1, dtype=np.int64)


def _fraction(table: Bytes, digits: Bytes, good: Flags) -> Numbers:
    """Nanoseconds of a point and up to nine digits, padded with zero bytes; nothing at all is 0."""
    padded = table == 0
    good &= (table[0] == ord(".")) | padded[0]
    good &= padded[0] | ~padded[1]
    good &= ((digits[1:] < 10) | padded[1:]).all(axis=0) & ~(padded[:-1] & ~padded[1:]).any(axis=0)
    total = np.zeros(table.shape[1], dtype=np.int32)
    for row, pad in zip(digits[1:], padded[1:], strict=True):
        total *= 10
        total += np.where(pad, 0, row)
    return total.astype(np.int64)
