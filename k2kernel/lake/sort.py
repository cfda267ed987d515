"""A stable sort that does little: keys share a number where they fit, and what is in order is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_BITS = 62
"""Of a number that keys are packed into; the sign is left out, and no sum of parts can reach it."""


def order(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series | None:
    """The numbers of the rows in the order of `keys`, nulls first, rows with equal keys in the order in which they are;
    None where all are in order.
    """
    import polars as pl

    varying = [frame[key] for key in keys if key in frame.columns and not _constant(frame[key])]
    packed = list(_packed([_physical(key) for key in varying]))
    if _in_order(packed):
        return None
    helpers = pl.DataFrame({f"{number}": key for number, key in enumerate(packed)})
    found = _sorted(helpers[:, :1])
    return found if _in_order([key.gather(found) for key in helpers]) else _sorted(helpers)


def _sorted(keys: pl.DataFrame) -> pl.Series:
    import polars as pl

    return keys.select(pl.arg_sort_by(keys.columns, maintain_order=True)).to_series()


def _constant(series: pl.Series) -> bool:
    """True where every value is the same, or all are null."""
    if series.null_count():
        return series.null_count() == len(series)
    return bool(len(series) == 0 or (series == series[0]).all())


def _physical(key: pl.Series) -> pl.Series:
    """A key as integers where it has some: of texts, small ones that order as the texts do by code point."""
    import polars as pl

    if key.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = key.cast(pl.String)
        values = texts.drop_nulls().unique().sort()
        return texts.cast(pl.Enum(values)).to_physical()
    return key.to_physical()


def _packed(keys: Sequence[pl.Series]) -> Iterator[pl.Series]:
    """Fewer keys of the same order: neighbours share a number as long as it has bits for them, nulls below all."""
    import polars as pl

    waiting: pl.Series | None = None
    used = 0
    for key in keys:
        low, bits = _extent(key)
        if waiting is not None and used + bits > _BITS:
            yield waiting
            waiting = None
        if bits > _BITS:
            yield key
            continue
        part = (key.cast(pl.Int64) - low + 1).fill_null(0)
        waiting, used = (part, bits) if waiting is None else (waiting * (1 << bits) + part, used + bits)
    if waiting is not None:
        yield waiting


def _extent(key: pl.Series) -> tuple[int, int]:
    """The least value of a key, and the bits that its values above that and a null take; too many of what is no
    integer.
    """
    import polars as pl

    if not key.dtype.is_integer():
        return 0, _BITS + 1
    low, high = key.to_frame().select(pl.first().min().alias("low"), pl.first().max().alias("high")).row(0)
    return low, (high - low + 1).bit_length()


def _in_order(keys: Sequence[pl.Series]) -> bool:
    """Whether each row may follow the one before it."""
    ordered: pl.Series | None = None
    for key in reversed(keys):
        before, after = key[:-1], key[1:]
        # A null sorts first, so a row with a null may follow only a null.
        less = (before < after).fill_null(False) | (before.is_null() & after.is_not_null())
        equal = before.eq_missing(after)
        ordered = less | (equal if ordered is None else equal & ordered)
    return ordered is None or bool(ordered.all())
