"""A stable sort that does no more than the frame needs: files mostly arrive in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def sort(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """`frame` in the order of `keys`, nulls first, rows with equal keys in the order in which they were."""
    import polars as pl

    texts = (pl.String, pl.Categorical, pl.Enum)
    varying = [frame[key] for key in keys if key in frame.columns and not constant(frame[key])]
    needed = _unsorted_prefix([_ranks(key) if key.dtype in texts else key for key in varying])
    if not needed:
        return frame
    helpers = {f"__{number}": key for number, key in enumerate(needed)}
    return frame.with_columns(**helpers).sort(*helpers, maintain_order=True).drop(*helpers)


def constant(series: pl.Series) -> bool:
    """True where every value is the same, or all are null."""
    if series.null_count():
        return series.null_count() == len(series)
    return bool(len(series) == 0 or (series == series[0]).all())


def _ranks(texts: pl.Series) -> pl.Series:
    """Small integers that order as the texts do by code point."""
    import polars as pl

    texts = texts.cast(pl.String)
    values = texts.drop_nulls().unique().sort()
    return texts.cast(pl.Enum(values)).to_physical()


def _unsorted_prefix(keys: list[pl.Series]) -> list[pl.Series]:
    """The leading keys that a stable sort needs: the rows are already in order of those that are left off."""
    ordered: pl.Series | None = None
    for number in range(len(keys) - 1, -1, -1):
        ordered = _ordered(keys[number], ordered)
        if not ordered.all():
            return keys[: number + 1]
    return []


def _ordered(key: pl.Series, rest: pl.Series | None) -> pl.Series:
    """For each row but the first: whether it may follow the one before it, by `key` and at equal key by `rest`."""
    before, after = key[:-1], key[1:]
    # A null sorts first, so a row with a null may follow only a null.
    equal = before.eq_missing(after)
    less = (before < after).fill_null(False) | (before.is_null() & after.is_not_null())
    return less | equal if rest is None else less | (equal & rest)
