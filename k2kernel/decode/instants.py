"""Times of vendors to instants: layouts, units, dates from elsewhere, zones. Exact to the nanosecond.

An instant is Int64 nanoseconds since 1970 UTC. Whole days are counted by the proleptic Gregorian calendar, without
leap seconds; years outside 1900 to 2261 are refused, so that the count cannot wrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from k2kernel.decode.values import Context, quoted, text_of
from k2kernel.profiles import Value

_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY_NS = 86_400 * 1_000_000_000
_FIRST_NS = -25_567 * _DAY_NS
_LAST_NS = 106_650 * _DAY_NS


@dataclass(frozen=True)
class Instant:
    """`ns` since 1970 UTC; `bad` where a text was there and no instant came of it; `why` then; null texts are null."""

    ns: pl.Expr
    bad: pl.Expr
    why: pl.Expr


def instant(value: Value, context: Context) -> Instant | None:
    """The instants of a time column, or None where it has no origin here."""
    text = text_of(value, context)
    if text is None:
        return None
    local, shown = _local(value, text, context)
    ns = _to_utc(local, value)
    ns = pl.when(ns.is_between(_FIRST_NS, _LAST_NS)).then(ns)
    missing = text.is_null()
    bad = ns.is_null() & missing.not_()
    return Instant(ns, bad, pl.concat_str(quoted(shown), pl.lit(f" is not {_wanted(value)}")))


def _wanted(value: Value) -> str:
    how = f"a time of layout {value.layout}" if value.layout else f"a time in {value.unit} since {value.since}"
    region = value.zone or (f"UTC{value.offset}" if value.offset else "")
    return f"{how} that exists once{' in ' + region if region else ''} (years 1900 to 2261)"


def _local(value: Value, text: pl.Expr, context: Context) -> tuple[pl.Expr, pl.Expr]:
    """Nanoseconds since 1970 by the source's own clock (UTC where the text has an offset), and the text to show."""
    if value.date is not None:
        day_text = text_of(value.date, context)
        day_text = pl.lit(None, pl.String) if day_text is None else day_text
        days = date(day_text, value.date).cast(pl.Int64)
        clock = _number(text, value) if value.unit else text.str.to_time(str(value.layout), strict=False).cast(pl.Int64)
        in_day = pl.when(clock.is_between(0, _DAY_NS, closed="left")).then(clock)
        return days * _DAY_NS + in_day, pl.concat_str([day_text, text], separator=" ", ignore_nulls=True)
    if value.unit:
        return _number(text, value), text
    if value.layout == "iso8601":
        return _iso8601(text, value, context.fine), text
    return _parsed(text, str(value.layout), context.fine), text


def _number(text: pl.Expr, value: Value) -> pl.Expr:
    """A count of units, whole or with a fraction that is whole in ns."""
    unit = _NS[str(value.unit)]
    limit = _LAST_NS // unit
    whole = text.cast(pl.Int64, strict=False)
    counted = pl.when(whole.is_between(-limit, limit)).then(whole) * unit
    if unit == 1:
        return counted
    parts = text.str.extract_groups(r"^(-?\d+)\.(\d{1,9})0*$")
    digits = {1_000_000_000: 9, 1_000_000: 6, 1_000: 3}[unit]
    tail = parts.struct[1].str.pad_end(digits, "0")
    fraction = pl.when(tail.str.len_bytes() == digits).then(tail.cast(pl.Int64, strict=False))
    head = parts.struct[0].cast(pl.Int64, strict=False)
    signed = pl.when(parts.struct[0].str.starts_with("-")).then(-fraction).otherwise(fraction)
    return counted.fill_null(pl.when(head.is_between(-limit, limit)).then(head) * unit + signed)


def _parsed(text: pl.Expr, layout: str, fine: bool) -> pl.Expr:
    """A date and time by layout; microseconds first, because the ns parser wraps silently outside 1678 to 2262."""
    micros = text.str.to_datetime(layout, strict=False, time_unit="us").dt.timestamp("us") * 1_000
    if not fine and "%9f" not in layout:
        return micros
    nanos = text.str.to_datetime(layout, strict=False, time_unit="ns").dt.timestamp("ns")
    exact = text.str.contains(r"\.\d{10}").not_()
    return pl.when(exact & micros.is_not_null()).then(nanos)


def _iso8601(text: pl.Expr, value: Value, fine: bool) -> pl.Expr:
    """`2024-03-04T10:00:00.123Z`, with `T` or a blank, and `Z`, an offset, or (with zone/offset in the profile) none."""
    spaced = text.str.replace("T", " ", literal=True)
    if value.zone or value.offset:
        return _parsed(spaced, "%Y-%m-%d %H:%M:%S%.f", fine)
    utc = spaced.str.strip_suffix("Z")
    naive = pl.when(spaced.str.ends_with("Z")).then(utc)
    zoned = pl.when(spaced.str.ends_with("Z").not_()).then(spaced)
    plain = _parsed(naive, "%Y-%m-%d %H:%M:%S%.f", fine)
    return plain.fill_null(_parsed(zoned, "%Y-%m-%d %H:%M:%S%.f%z", fine))


def _to_utc(local_ns: pl.Expr, value: Value) -> pl.Expr:
    if value.offset:
        sign, hours, minutes = value.offset[0], int(value.offset[1:3]), int(value.offset[-2:])
        shift = (hours * 3600 + minutes * 60) * 1_000_000_000
        return local_ns - (shift if sign == "+" else -shift)
    if not value.zone or value.zone == "UTC":
        return local_ns
    micros = local_ns // 1_000
    ambiguous = "null" if value.ambiguous == "reject" else value.ambiguous
    there = micros.cast(pl.Datetime("us")).dt.replace_time_zone(
        value.zone,
        ambiguous=ambiguous,  # type: ignore[arg-type]  # one of its literals, checked by the profile
        non_existent="null",
    )
    return there.dt.timestamp("us") * 1_000 + local_ns % 1_000


def date(text: pl.Expr, value: Value) -> pl.Expr:
    """Days, by the layout or as YYYY-MM-DD."""
    return text.str.to_date(value.layout or "%Y-%m-%d", strict=False)
