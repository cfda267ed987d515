"""Texts to exact decimal(18, 8): never rounded. A text that is no number, or would lose a digit, is null."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from k2kernel.decode.clock import only

_MONEY = pl.Decimal(18, 8)
_WIDE = pl.Decimal(38, 18)
_MANY = 10**6
"""More decimals, or zeros, than any number that fits has."""


def exact(texts: pl.Series, scale: Decimal | None = None) -> pl.Series:
    """The numbers, times `scale`."""
    power, factor = _power_and_factor(scale)
    shifted = _shifted(texts, power)
    if factor == 1:
        return only(shifted.cast(_MONEY, strict=False), ~_loses(texts, power))
    wide = only(shifted.cast(_WIDE, strict=False), _decimals(texts, power) <= 18)
    product = _product(wide, factor)
    money = product.cast(_MONEY, strict=False)
    return only(money, money.cast(_WIDE, strict=False) == product)


def on_tick(texts: pl.Series, scale: Decimal | None, tick: Decimal, most: Decimal) -> pl.Series:
    """The nearest multiple of `tick`; null where that moves the number by more than `most`."""
    power, factor = _power_and_factor(scale)
    shifted = _shifted(texts, power)
    number = _product(shifted.cast(_WIDE, strict=False), factor)
    steps = (number.cast(pl.Float64) / float(tick)).round().cast(pl.Int64, strict=False)
    snapped = steps.cast(pl.Decimal(38, 0)) * pl.Series([tick], dtype=_MONEY)
    money = snapped.cast(_MONEY, strict=False)
    moved = (money.cast(_WIDE) - number).abs()
    return only(money, moved <= pl.Series([most], dtype=_WIDE))


def _shifted(texts: pl.Series, power: int) -> pl.Series:
    """The texts of the numbers times 10^power."""
    if power == 0:
        return texts
    shifted = texts + f"e{power}"
    odd = texts.str.contains("[eE]").fill_null(value=False)
    if not odd.any():
        return shifted
    parts = texts.str.extract_groups(r"^([^eE]*)[eE]([+-]?[0-9]{1,4})$")
    mantissa, exponent = (parts.struct.field(name) for name in parts.struct.fields)
    return (mantissa + "e" + (exponent.cast(pl.Int64, strict=False) + power).cast(pl.String)).zip_with(odd, shifted)


def _product(numbers: pl.Series, factor: int) -> pl.Series:
    """The numbers times a whole factor; null where that passes 10^10 (multiplication raises where it overflows)."""
    if factor == 1:
        return numbers
    most = pl.Series([Decimal(10**10) / abs(factor)]).cast(_WIDE)
    small = only(numbers, numbers.abs() <= most)
    return (small * pl.Series([Decimal(factor)], dtype=pl.Decimal(38, 0))).cast(_WIDE)


def _power_and_factor(scale: Decimal | None) -> tuple[int, int]:
    """`scale` as factor x 10^power with a whole factor."""
    if scale is None:
        return 0, 1
    parts = scale.normalize().as_tuple()
    digits = int("".join(map(str, parts.digits))) * (-1 if parts.sign else 1)
    return int(parts.exponent), digits


def _loses(texts: pl.Series, power: int) -> pl.Series:
    """True where text x 10^power has a nonzero digit after the eighth decimal; costs little where no text can."""
    if power:
        return _decimals(texts, power) > 8
    odd = _may_lose(texts)
    none = pl.repeat(value=False, n=len(texts), dtype=pl.Boolean, eager=True)
    return none.scatter(odd, _decimals(texts.gather(odd), 0) > 8) if len(odd) else none


def _may_lose(texts: pl.Series) -> pl.Series:
    """The places of texts with an exponent, or with more than eight digits after a point."""
    found = texts.str.contains("[eE]")
    longest = texts.str.len_bytes().max()
    if longest is not None and int(str(longest)) > 9:
        found |= texts.str.len_bytes() > texts.str.find(".", literal=True) + 9
    return found.fill_null(value=False).arg_true()


def _decimals(texts: pl.Series, power: int) -> pl.Series:
    """How many decimals text x 10^power needs; below zero where trailing zeros stand before the point."""
    lower = texts.str.to_lowercase()
    written = lower.str.extract(r"e([+-]?[0-9]+)$", 1)
    exponent = written.cast(pl.Int64, strict=False).clip(-_MANY, _MANY)
    exponent = exponent.fill_null(-_MANY).zip_with(written.is_not_null(), pl.zeros(len(texts), pl.Int64, eager=True))
    mantissa = lower.str.extract(r"^[+-]?([0-9.]*)", 1)
    trimmed = mantissa.str.extract(r"\.([0-9]*)$", 1).fill_null("").str.strip_chars_end("0")
    whole = mantissa.str.extract(r"^([0-9]*)", 1)
    zeros = whole.str.len_bytes().cast(pl.Int64) - whole.str.strip_chars_end("0").str.len_bytes().cast(pl.Int64)
    own = trimmed.str.len_bytes().cast(pl.Int64)
    needed = own.zip_with(trimmed != "", -zeros) - exponent - power
    return needed.zip_with(mantissa.str.contains("[1-9]"), pl.zeros(len(texts), pl.Int64, eager=True))
