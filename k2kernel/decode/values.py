"""From raw text to contract values: each `Value` of a profile becomes Polars expressions, exact and vectorised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.profiles import Lookup, Value, When

WIDE = pl.Decimal(38, 18)
MONEY = pl.Decimal(18, 8)
_INEXACT = r"\.\d{8}\d*[1-9]"
"""A nonzero digit after the eighth decimal."""


@dataclass(frozen=True)
class Context:
    """What expressions are made for: the member's `place`, the options given, the raw `columns` that there are, the
    column that holds each SQL expression's result, the texts of each lookup, the texts that mean null, and whether
    times in this batch may have digits below a microsecond (`fine`; parsing them costs twice).
    """

    place: str
    options: Mapping[str, str]
    columns: tuple[str, ...]
    expressions: Mapping[str, str] = field(default_factory=dict)
    lookups: Mapping[Lookup, Mapping[str, str]] = field(default_factory=dict)
    null_if: tuple[str, ...] = ()
    fine: bool = False


@dataclass(frozen=True)
class Mapped:
    """A target column: its `value`, where it is `bad`, and the sentence that says `why` (evaluated on bad rows)."""

    value: pl.Expr
    bad: pl.Expr | None = None
    why: pl.Expr | None = None


def text_of(value: Value, context: Context) -> pl.Expr | None:
    """The cleaned text of `value`, or None where it has no origin here."""
    if value.option and value.option in context.options:
        return pl.lit(context.options[value.option])
    origin = _origin(value, context)
    return None if origin is None else clean(origin, value, context)


def _origin(value: Value, context: Context) -> pl.Expr | None:
    if value.cases:
        tests = [pl.when(holds(case.when, context)).then(pl.lit(case.value)) for case in value.cases]
        return pl.coalesce(tests)
    if value.expr:
        return pl.col(context.expressions[value.expr])
    if value.column or value.columns:
        names = value.columns or [str(value.column)]
        if not all(name in context.columns for name in names):
            return None
        return pl.concat_str(names, separator=value.join) if value.columns else pl.col(names[0])
    if value.path:
        return pl.lit(_from_path(value, context))
    return None if value.constant is None else pl.lit(value.constant)


def _from_path(value: Value, context: Context) -> str:
    found = re.search(str(value.path), context.place)
    if found is None or not found.groups():
        option = f"Give --{value.option}" if value.option else "Rename the file, or change the profile"
        raise FileFault(context.place, f"its path does not match {value.path!r}", option)
    return str(found.group(1))


def clean(text: pl.Expr, value: Value, context: Context) -> pl.Expr:
    """Apply extract, replace, strip, case, pad, null_if and lookup, in that order."""
    if value.extract:
        text = text.str.extract(value.extract, 1)
    for pattern, by in value.replace:
        text = text.str.replace_all(pattern, by)
    if value.strip:
        text = text.str.strip_chars()
    if value.case:
        text = text.str.to_uppercase() if value.case == "upper" else text.str.to_lowercase()
    if value.pad:
        text = text.str.zfill(value.pad)
    nulls = context.null_if if value.null_if is None else value.null_if
    if nulls:
        text = pl.when(text.is_in(list(nulls)).not_()).then(text)
    if value.lookup:
        known = context.lookups[value.lookup]
        text = text.replace_strict(list(known), list(known.values()), default=None, return_dtype=pl.String)
    return text


def holds(test: When, context: Context) -> pl.Expr:
    """True where the test holds; never null."""
    if test.expr:
        return pl.col(context.expressions[test.expr]).eq_missing(pl.lit("true"))
    column = pl.col(str(test.column)) if test.column in context.columns else pl.lit(None, pl.String)
    parts = []
    if test.equals is not None:
        parts.append(column == test.equals)
    if test.one_of is not None:
        parts.append(column.is_in(test.one_of))
    if test.matches is not None:
        parts.append(column.str.contains(test.matches))
    if test.empty is not None:
        is_empty = column.is_null() | (column == "")
        parts.append(is_empty if test.empty else is_empty.not_())
    return pl.all_horizontal(parts).fill_null(value=False)


def quoted(text: pl.Expr) -> pl.Expr:
    """The text in quotes, for messages; `null` where there is none."""
    return pl.concat_str(pl.lit("'"), text, pl.lit("'")).fill_null("null")


def checked(value: pl.Expr, text: pl.Expr, problem: str, also: pl.Expr | None = None) -> Mapped:
    """Bad where a text was there and no value came of it (or where `also` holds)."""
    bad = value.is_null() & text.is_not_null()
    bad = bad if also is None else bad | also.fill_null(value=False)
    return Mapped(value, bad, pl.concat_str(quoted(text), pl.lit(f" {problem}")))


def string(text: pl.Expr, value: Value, allowed: tuple[str, ...] | None = None) -> Mapped:
    """A text through its `map`; one that the map does not know is bad, kept or null as `unmapped` says."""
    if value.map is None:
        return Mapped(text) if allowed is None else _one_of(text, text, allowed)
    default = text if value.unmapped == "keep" else None
    result = text.replace_strict(
        list(value.map), list(value.map.values()), default=default, return_dtype=pl.String
    )
    result = pl.when(result != "").then(result)
    known = text.is_in(list(value.map))
    bad = (text.is_not_null() & known.not_()) if value.unmapped == "reject" else None
    why = pl.concat_str(quoted(text), pl.lit(f" is not in the profile's map ({', '.join(value.map)})"))
    if allowed is None:
        return Mapped(result, bad, why)
    second = _one_of(result, text, allowed)
    return Mapped(second.value, second.bad if bad is None else bad | second.bad, why)


def _one_of(result: pl.Expr, text: pl.Expr, allowed: tuple[str, ...]) -> Mapped:
    bad = result.is_not_null() & result.is_in(list(allowed)).not_()
    return Mapped(result, bad, pl.concat_str(quoted(text), pl.lit(f" is none of {', '.join(allowed)}")))


def boolean(text: pl.Expr, value: Value) -> Mapped:
    """`true` and `false`, after the map."""
    mapped = string(text, value)
    result = mapped.value.str.to_lowercase().replace_strict(
        ["true", "false"], [True, False], default=None, return_dtype=pl.Boolean
    )
    return checked(result, text, "is neither true nor false")


def integer(text: pl.Expr, dtype: pl.DataType) -> Mapped:
    """A whole number."""
    return checked(text.cast(dtype, strict=False), text, "is not a whole number")


def decimal(text: pl.Expr, value: Value) -> Mapped:
    """An exact decimal(18, 8): scaled, brought to a tick, and bad where digits would be lost."""
    if value.tick is not None:
        return _to_tick(text, value)
    power, factor = _power_and_factor(value.scale)
    shifted = text if power == 0 else pl.concat_str(text, pl.lit(f"e{power}"))
    if factor == 1:
        number = shifted.cast(MONEY, strict=False)
    else:
        number = (shifted.cast(WIDE, strict=False) * pl.lit(factor, pl.Decimal(18, 0))).cast(MONEY, strict=False)
    return checked(number, text, "does not fit decimal(18,8) exactly", _loses_digits(text, power))


def _power_and_factor(scale: Decimal | None) -> tuple[int, int]:
    """`scale` as factor x 10^power with a whole factor."""
    if scale is None:
        return 0, 1
    parts = scale.normalize().as_tuple()
    digits = int("".join(map(str, parts.digits))) * (-1 if parts.sign else 1)
    return int(parts.exponent), digits


def _loses_digits(text: pl.Expr, power: int) -> pl.Expr:
    """True where text x 10^power has a nonzero digit after the eighth decimal."""
    if power == 0:
        plain = text.str.contains(_INEXACT)
        exponent = text.str.contains("e", literal=True) | text.str.contains("E", literal=True)
        return pl.when(exponent).then(_decimals(text, 0) > 8).otherwise(plain)
    return _decimals(text, power) > 8


def _decimals(text: pl.Expr, power: int) -> pl.Expr:
    """How many decimals text x 10^power needs; below zero where trailing zeros stand before the point."""
    lower = text.str.to_lowercase()
    exponent = lower.str.extract(r"e([+-]?\d+)$", 1).cast(pl.Int64, strict=False).fill_null(0)
    mantissa = lower.str.extract(r"^[+-]?([\d.]*)", 1)
    fraction = mantissa.str.extract(r"\.(\d*)$", 1).fill_null("")
    trimmed = fraction.str.strip_chars_end("0")
    whole = mantissa.str.extract(r"^(\d*)", 1)
    zeros = whole.str.len_bytes().cast(pl.Int64) - whole.str.strip_chars_end("0").str.len_bytes().cast(pl.Int64)
    own = pl.when(trimmed != "").then(trimmed.str.len_bytes().cast(pl.Int64)).otherwise(-zeros)
    needed = own - exponent - power
    return pl.when(mantissa.str.contains("[1-9]")).then(needed).otherwise(0)


def _to_tick(text: pl.Expr, value: Value) -> Mapped:
    """The nearest multiple of the tick; bad where that moves the number by more than `max_error`."""
    tick, most = Decimal(str(value.tick)), Decimal(str(value.max_error))
    power, factor = _power_and_factor(value.scale)
    shifted = text if power == 0 else pl.concat_str(text, pl.lit(f"e{power}"))
    number = shifted.cast(WIDE, strict=False)
    number = number if factor == 1 else (number * pl.lit(factor, pl.Decimal(18, 0))).cast(WIDE, strict=False)
    steps = (number.cast(pl.Float64) / float(tick)).round().cast(pl.Int64, strict=False)
    snapped = (steps.cast(pl.Decimal(38, 0)) * pl.lit(tick, pl.Decimal(18, 8))).cast(MONEY, strict=False)
    moved = (snapped.cast(WIDE) - number).abs() > pl.lit(most, WIDE)
    return checked(snapped, text, f"is not within {most} of a multiple of {tick}", moved)


def strings(value: Value, context: Context) -> Mapped:
    """A list of texts: every column's text, each split where the profile says so; empty where there is none."""
    sources = [value.model_copy(update={"columns": [], "column": name}) for name in value.columns] or [value]
    texts = [text for source in sources if (text := text_of(source, context)) is not None]
    items = [_items(text, value) for text in texts]
    if not items:
        return Mapped(pl.lit([], pl.List(pl.String)))
    joined = items[0] if len(items) == 1 else pl.concat_list(items)
    return Mapped(joined)


def _items(text: pl.Expr, value: Value) -> pl.Expr:
    if value.map is not None:
        text = string(text, value.model_copy(update={"unmapped": "keep"})).value
    if value.split is None:
        return pl.concat_list(text).list.drop_nulls()
    parts = text.fill_null("").str.split(value.split)
    parts = parts.list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def check_options(given: Mapping[str, str], known: list[str]) -> None:
    """Refuse an option that the profile does not read."""
    for name, text in given.items():
        if name not in known:
            raise InvalidParameter(name, text, "is not an option of this profile", f"It reads: {', '.join(known)}")
