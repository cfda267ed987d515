"""Times of vendors to instants: layouts, units, dates from elsewhere, zones. Exact to the nanosecond.

An instant is Int64 nanoseconds since 1970 UTC; years outside 1900 to 2261 are refused, so that the count cannot wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from k2kernel.decode.clock import ending_in, only, parse
from k2kernel.decode.values import Context, Steps, quoted, text_of
from k2kernel.profiles import Value
from k2kernel.times import DAY_NS, FIRST_DAY, LAST_DAY

_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_FIRST_NS = FIRST_DAY * DAY_NS
_LAST_NS = LAST_DAY * DAY_NS
_QUARTER_US = 900 * 1_000_000


@dataclass(frozen=True)
class Instant:
    """`ns` since 1970 UTC; `bad` where a text was there and no instant came of it; `why` then; null texts are null."""

    ns: pl.Expr
    bad: pl.Expr
    why: pl.Expr


def instant(name: str, value: Value, context: Context, steps: Steps) -> Instant | None:
    """The instants of the time column `name`, or None where it has no origin here."""
    text = text_of(value, context)
    if text is None:
        return None
    shown = text = steps.text(name, text)
    inputs = [text]
    if value.date is not None:
        day = text_of(value.date, context)
        day = steps.text(f"{name}.date", pl.lit(None, pl.String) if day is None else day)
        inputs.append(day)
        shown = pl.concat_str([day, text], separator=" ", ignore_nulls=True)
    own_day = value.date is not None and value.date.option in context.options
    compute = partial(_instants, value=value, iso_day=own_day)
    ns = steps.value(name, pl.map_batches(inputs, compute, return_dtype=pl.Int64))
    return Instant(
        ns, ns.is_null() & text.is_not_null(), pl.concat_str(quoted(shown), pl.lit(f" is not {_wanted(value)}"))
    )


def _wanted(value: Value) -> str:
    how = f"a time of layout {value.layout}" if value.layout else f"a time in {value.unit} since {value.since}"
    region = value.zone or (f"UTC{value.offset}" if value.offset else "")
    where = f" that exists once in {region}" if region else ""
    return f"{how}{where} (years 1900 to 2261)"


def _instants(series: Sequence[pl.Series], *, value: Value, iso_day: bool) -> pl.Series:
    """Nanoseconds since 1970 UTC of the texts (and their days); null where there is none."""
    texts = series[0]
    if texts.null_count() == len(texts):
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Int64)
    if len(series) > 1:
        local = _on_day(texts, series[1], value, iso_day)
    elif value.unit:
        local = _count(texts, _NS[value.unit])
    elif value.layout == "iso8601":
        local = _iso8601(texts, own_zone=not (value.zone or value.offset))
    else:
        local = parse(texts, str(value.layout))
    ns = _to_utc(local, value)
    return only(ns, ns.is_between(_FIRST_NS, _LAST_NS))


def _on_day(texts: pl.Series, days: pl.Series, value: Value, iso_day: bool) -> pl.Series:
    """A time of day on a day of its own."""
    layout = "%Y-%m-%d" if iso_day or value.date is None else value.date.layout or "%Y-%m-%d"
    distinct = days.unique()
    begins = dates(distinct, layout).cast(pl.Int64) * DAY_NS
    start = begins.gather([0] * len(days)) if len(distinct) == 1 else days.replace_strict(distinct, begins)
    clock = _count(texts, _NS[value.unit]) if value.unit else parse(texts, str(value.layout))
    return start + only(clock, clock.is_between(0, DAY_NS, closed="left"))


def _count(texts: pl.Series, unit: int) -> pl.Series:
    """A number of units, whole or with a fraction that is whole in ns."""
    whole = texts.cast(pl.Int64, strict=False)
    counted = only(whole, whole.is_between(-(_LAST_NS // unit), _LAST_NS // unit)) * unit
    odd = whole.is_null() & texts.is_not_null()
    if unit == 1 or not odd.any():
        return counted
    return counted.scatter(odd.arg_true(), _with_fraction(texts.filter(odd), unit))


def _with_fraction(texts: pl.Series, unit: int) -> pl.Series:
    """`1393928400.123` and `1393928400123.0` in ns, where no digit is lost."""
    digits = len(str(unit)) - 1
    parts = texts.str.extract_groups(
        r"^([+-]?)([0-9]{1,10})?\.([0-9]+?)0*$" if unit == _NS["s"] else r"^([+-]?)([0-9]{1,17})?\.([0-9]+?)0*$"
    )
    sign, head, tail = (parts.struct.field(name) for name in parts.struct.fields)
    tail = tail.str.pad_end(digits, "0")
    fraction = only(tail, tail.str.len_bytes() == digits).cast(pl.Int64, strict=False)
    count = head.fill_null("0").cast(pl.Int64)
    total = only(count, count <= _LAST_NS // unit) * unit + fraction
    return total * pl.Series([-1, 1]).gather((sign != "-").cast(pl.UInt32))


def _iso8601(texts: pl.Series, own_zone: bool) -> pl.Series:
    """`2024-03-04T10:00:00.123Z`, with `T` or a blank; `Z` or an offset where it has a zone of its own, none else."""
    layout = "%Y-%m-%dT%H:%M:%S%.f"
    if not own_zone:
        return parse(texts, layout)
    lengths = texts.str.len_bytes()
    values = ending_in(texts, layout, "Z") if lengths.min() == lengths.max() else None
    if values is None:
        values = parse(only(texts, texts.str.ends_with("Z")).str.strip_suffix("Z"), layout)
    rest = values.is_null() & texts.is_not_null()
    return values.scatter(rest.arg_true(), _with_offset(texts.filter(rest), layout)) if rest.any() else values


def _with_offset(texts: pl.Series, layout: str) -> pl.Series:
    parts = texts.str.replace("Z$", "+00").str.extract_groups(r"^(.*?)([+-])([01][0-9]|2[0-3]):?([0-5][0-9])?$")
    local, sign, hours, minutes = (parts.struct.field(name) for name in parts.struct.fields)
    shift = hours.cast(pl.Int64) * 60 + minutes.fill_null("0").cast(pl.Int64)
    signed = shift * pl.Series([-1, 1]).gather((sign == "+").cast(pl.UInt32))
    return parse(local, layout) - signed * 60 * 1_000_000_000


def _to_utc(local_ns: pl.Series, value: Value) -> pl.Series:
    if value.offset:
        sign, hours, minutes = value.offset[0], int(value.offset[1:3]), int(value.offset[-2:])
        shift = (hours * 3600 + minutes * 60) * 1_000_000_000
        return local_ns - (shift if sign == "+" else -shift)
    if not value.zone or value.zone == "UTC":
        return local_ns
    return local_ns - by_quarter(local_ns // 1_000, partial(_ahead, value=value)) * 1_000


def _ahead(local_us: pl.Series, value: Value) -> pl.Series:
    """How many µs the region's clock is ahead of UTC at each local time; null where that is not one number."""
    there = local_us.cast(pl.Datetime("us")).dt.replace_time_zone(
        value.zone,
        ambiguous="null" if value.ambiguous == "reject" else value.ambiguous,
        non_existent="null",
    )
    return local_us - there.dt.timestamp("us")


def by_quarter(micros: pl.Series, compute: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """`compute` once per quarter of an hour where it says the same at both of its ends, and for every row elsewhere.

    It is for what only changes now and then: a zone's offset, a date.
    """
    quarters = micros // _QUARTER_US
    distinct = quarters.drop_nulls().unique().sort()
    if not len(distinct) or 4 * len(distinct) > len(micros):
        return compute(micros)
    starts = distinct * _QUARTER_US
    first, last = compute(starts), compute(starts + (_QUARTER_US - 1))
    at = distinct.search_sorted(quarters.fill_null(distinct[0]))
    values = only(first.gather(at), micros.is_not_null())
    changing = (first != last).fill_null(value=True)
    if not changing.any():
        return values
    rows = changing.gather(at) & micros.is_not_null()
    return values.scatter(rows.arg_true(), compute(micros.filter(rows)))


def dates(texts: pl.Series, layout: str) -> pl.Series:
    """Dates by the layout; null where a text is none."""
    return texts.str.to_date(layout, strict=False)
