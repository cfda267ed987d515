"""From raw text to contract values: each `Value` of a profile becomes Polars expressions, exact and vectorised."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2kernel.decode import decimals
from k2kernel.errors import FileFault
from k2kernel.profiles import Lookup, Value, When

MONEY = pl.Decimal(18, 8)


@dataclass(frozen=True)
class Context:
    """What expressions are made for: the member's `place`, the options given, the raw `columns` that there are, the
    column that holds each SQL expression's result, the texts of each lookup, and the texts that mean null.
    """

    place: str
    options: Mapping[str, str]
    columns: tuple[str, ...]
    expressions: Mapping[str, str] = field(default_factory=dict)
    lookups: Mapping[Lookup, Mapping[str, str]] = field(default_factory=dict)
    null_if: tuple[str, ...] = ()


@dataclass(frozen=True)
class Steps:
    """Columns on the way, each computed once: first the cleaned texts, then the values made of them."""

    texts: dict[str, pl.Expr] = field(default_factory=dict)
    values: dict[str, pl.Expr] = field(default_factory=dict)

    def text(self, name: str, made: pl.Expr) -> pl.Expr:
        """Name a text; what comes back refers to it."""
        self.texts[f"__text.{name}"] = made
        return pl.col(f"__text.{name}")

    def value(self, name: str, made: pl.Expr) -> pl.Expr:
        """Name a value; what comes back refers to it."""
        self.values[f"__value.{name}"] = made
        return pl.col(f"__value.{name}")


@dataclass(frozen=True)
class Mapped:
    """A target column: its `value`, where it is `bad`, and the sentence that says `why` (evaluated on bad rows)."""

    value: pl.Expr
    bad: pl.Expr | None = None
    why: pl.Expr | None = None


def text_of(value: Value, context: Context) -> pl.Expr | None:
    """The cleaned text of `value`, or None where it has no origin here."""
    key = key_of(value, context)
    if key is None or value.lookup is None or given(value, context):
        return key
    known = context.lookups[value.lookup]
    return key.replace_strict(list(known), list(known.values()), default=None, return_dtype=pl.String)


def key_of(value: Value, context: Context) -> pl.Expr | None:
    """The cleaned text before its lookup, or None where it has no origin here."""
    if given(value, context):
        return pl.lit(context.options[str(value.option)])
    origin = _origin(value, context)
    return None if origin is None else _cleaned(origin, value, context)


def given(value: Value, context: Context) -> bool:
    """Whether an option was given for it: such a text is taken as it is."""
    return value.option is not None and value.option in context.options


def _origin(value: Value, context: Context) -> pl.Expr | None:
    rest = _rest(value, context)
    if not value.cases:
        return rest
    tests = [pl.when(holds(case.when, context)).then(pl.lit(case.value)) for case in value.cases]
    return pl.coalesce(tests if rest is None else [*tests, rest])


def _rest(value: Value, context: Context) -> pl.Expr | None:
    if value.expr:
        return pl.col(context.expressions[value.expr])
    names = value.columns or ([value.column] if value.column else [])
    if names and all(name in context.columns for name in names):
        return pl.col(names[0]) if len(names) == 1 else pl.concat_str(names, separator=value.join)
    if value.path:
        return pl.lit(_from_path(value, context))
    return None if value.constant is None else pl.lit(value.constant)


def _from_path(value: Value, context: Context) -> str:
    found = re.search(str(value.path), context.place)
    remedy = f"Give --{value.option}" if value.option else "Rename the file, or change the profile"
    if found is None or not found.groups():
        raise FileFault(context.place, f"its path does not match '{value.path}'", remedy)
    text = str(found.group(1))
    if value.lookup:
        key = pl.select(_cleaned(pl.lit(text), value, context)).item()
        if key not in context.lookups[value.lookup]:
            raise FileFault(context.place, f"{key!r} is not in {value.lookup.place}", f"Load that first. {remedy}")
    return text


def _cleaned(text: pl.Expr, value: Value, context: Context) -> pl.Expr:
    """Apply extract, replace, strip, case, pad and null_if, in that order."""
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
    return pl.when(pl.all_horizontal([text != null for null in nulls])).then(text) if nulls else text


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


@dataclass(frozen=True)
class Cell:
    """A target column in the making: its name, its cleaned text, what the profile says of it, and the steps."""

    name: str
    text: pl.Expr
    value: Value
    steps: Steps

    def checked(self, made: pl.Expr, problem: str) -> Mapped:
        """Bad where a text was there and no value came of it."""
        kept = self.steps.value(self.name, made)
        why = pl.concat_str(quoted(self.text), pl.lit(f" {problem}"))
        return Mapped(kept, kept.is_null() & self.text.is_not_null(), why)

    def string(self, allowed: Sequence[str] | None = None) -> Mapped:
        """A text through its `map`; one that the map does not know is bad, kept or null as `unmapped` says."""
        if self.value.map is None:
            return Mapped(self.text) if allowed is None else self._one_of(Mapped(self.text), allowed)
        result = self.steps.value(self.name, through_map(self.text, self.value))
        if self.value.unmapped != "reject":
            return Mapped(result) if allowed is None else self._one_of(Mapped(result), allowed)
        known = list(self.value.map)
        bad = result.is_null() & self.text.is_not_null() & self.text.is_in(known).not_()
        why = pl.concat_str(quoted(self.text), pl.lit(f" is not in the profile's map ({', '.join(known)})"))
        mapped = Mapped(result, bad, why)
        return mapped if allowed is None else self._one_of(mapped, allowed)

    def _one_of(self, mapped: Mapped, allowed: Sequence[str]) -> Mapped:
        wrong = mapped.value.is_not_null() & mapped.value.is_in(list(allowed)).not_()
        why = pl.concat_str(quoted(self.text), pl.lit(f" is none of {', '.join(allowed)}"))
        if mapped.bad is None:
            return Mapped(mapped.value, wrong, why)
        return Mapped(mapped.value, mapped.bad | wrong, pl.when(mapped.bad).then(mapped.why).otherwise(why))

    def boolean(self) -> Mapped:
        """`true` and `false`, after the map."""
        text = self.text if self.value.map is None else through_map(self.text, self.value)
        known = ["true", "false"]
        made = text.str.to_lowercase().replace_strict(known, [True, False], default=None, return_dtype=pl.Boolean)
        return self.checked(made, "is neither true nor false")

    def integer(self, dtype: pl.DataType) -> Mapped:
        """A whole number."""
        return self.checked(self.text.cast(dtype, strict=False), "is not a whole number that fits")

    def decimal(self) -> Mapped:
        """A number with 8 decimals: scaled or brought to a tick, and bad where a digit would be lost."""
        make = partial(decimals.exact, scale=self.value.scale)
        problem = "does not fit decimal(18,8) exactly"
        if self.value.tick is not None and self.value.max_error is not None:
            make = partial(decimals.on_tick, scale=self.value.scale, tick=self.value.tick, most=self.value.max_error)
            problem = f"is not within {self.value.max_error} of a multiple of {self.value.tick}"
        return self.checked(self.text.map_batches(make, return_dtype=MONEY), problem)


def through_map(text: pl.Expr, value: Value) -> pl.Expr:
    """The mapped text; an empty one is null."""
    table = value.map or {}
    default = text if value.unmapped == "keep" else None
    result = text.replace_strict(list(table), list(table.values()), default=default, return_dtype=pl.String)
    return pl.when(result != "").then(result)


def strings(name: str, value: Value, context: Context, steps: Steps) -> Mapped:
    """A list of texts: every column's text, each split where the profile says so; empty where there is none."""
    sources = [value.model_copy(update={"columns": [], "column": name}) for name in value.columns] or [value]
    found = [text for source in sources if (text := text_of(source, context)) is not None]
    if value.map is not None:
        keeping = value.model_copy(update={"unmapped": "keep"})
        found = [through_map(text, keeping) for text in found]
    texts = [steps.text(f"{name}.{number}", text) for number, text in enumerate(found)]
    lists = [text.map_batches(partial(_items, separator=value.split), return_dtype=_LIST) for text in texts]
    if not lists:
        return Mapped(pl.lit([], _LIST))
    return Mapped(steps.value(name, lists[0] if len(lists) == 1 else pl.concat_list(lists)))


_LIST = pl.List(pl.String())


def _items(texts: pl.Series, separator: str | None) -> pl.Series:
    """The items of each text: split once per distinct text, then looked up."""
    distinct = texts.drop_nulls().unique()
    made = pl.lit(distinct)
    lists = pl.concat_list(made) if separator is None else made.str.split(separator)
    if separator is not None:
        lists = lists.list.eval(pl.element().str.strip_chars())
    items = pl.select(lists.list.eval(pl.element().filter(pl.element() != ""))).to_series().cast(_LIST)
    codes = texts.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32).fill_null(len(distinct)).to_numpy()
    return _gathered(items, codes).alias(texts.name)


def _gathered(lists: pl.Series, codes: npt.NDArray[np.uint32]) -> pl.Series:
    """The list at each code, an empty one past the end; quick where most are empty."""
    counts = np.append(lists.list.len().to_numpy(), 0).astype(np.int64)
    firsts = np.cumsum(counts) - counts
    sizes = counts[codes]
    ends = np.cumsum(sizes)
    inner = np.arange(ends[-1] if len(ends) else 0) + np.repeat(firsts[codes] - ends + sizes, sizes)
    texts = lists.explode(empty_as_null=False, keep_nulls=False).gather(inner)
    offsets = pa.array(np.append(0, ends), pa.int64())
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, texts.to_arrow())), dtype=_LIST)
