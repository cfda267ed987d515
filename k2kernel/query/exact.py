"""Exact division in SQL: decimals as integers, divided once, rounded half to even."""

from __future__ import annotations

from decimal import Decimal


def digits(column: str) -> str:
    """The digits of a decimal as an integer: exact, where a product with a power of ten might not fit."""
    return f"replace(abs({column})::VARCHAR, '.', '')::HUGEINT"


def with_vwap(rows: str, notional: str, volume: str) -> str:
    """The SELECT `rows` with the column `vwap`: notional / volume, see `with_ratio`."""
    return with_ratio(rows, notional, volume, "vwap")


def with_ratio(rows: str, numerator: str, denominator: str, name: str) -> str:
    """The SELECT `rows` with the column `name`: numerator / denominator as DECIMAL(38, 12), rounded half to even, null
    where the denominator is null or 0.

    `numerator` is a column of DECIMAL(38, 16), `denominator` of DECIMAL(38, 8). The first counts 1e-16 and the second
    1e-8, so numerator / denominator * 1e4 counts 1e-12. It is divided in two steps, because numerator * 1e4 may not
    fit. Each step is a SELECT of its own: nested expressions would be bound many times over.
    """
    both = f"SELECT *, {digits(numerator)} AS k2_n, {digits(denominator)} AS k2_v FROM ({rows})"
    whole = f"SELECT *, k2_n // nullif(k2_v, 0) AS k2_w, k2_n % nullif(k2_v, 0) * 10000 AS k2_m FROM ({both})"
    parts = f"SELECT *, k2_w * 10000 + k2_m // k2_v AS k2_q, k2_m % k2_v * 2 AS k2_r FROM ({whole})"
    up = "CASE WHEN k2_r > k2_v OR (k2_r = k2_v AND k2_q % 2 = 1) THEN 1 ELSE 0 END"
    rounded = f"SELECT *, (k2_q + {up}) * (sign({numerator}) * sign({denominator})) AS k2_e FROM ({parts})"
    ones, rest = "(k2_e // 1000000000000)::DECIMAL(26, 0)", "(k2_e % 1000000000000)::DECIMAL(12, 0)"
    ratio = f"({ones} + {rest} * 0.000000000001::DECIMAL(13, 12))::DECIMAL(38, 12)"
    return f"SELECT * EXCLUDE (k2_n, k2_v, k2_w, k2_m, k2_q, k2_r, k2_e), {ratio} AS {name} FROM ({rounded})"


def scaled(column: str, numerator: str, denominator: str, scale: int, to: int) -> str:
    """The SQL of column * numerator / denominator as DECIMAL(38, to), rounded half to even; null where one of them is.

    `column` has `scale` decimals, at most `to`. The two others are positive integers in SQL whose product fits a
    HUGEINT: the whole part is multiplied after the division and the rest before it, so that what fits comes out.
    """
    whole = f"({digits(column)} * {10 ** (to - scale)})"
    rest = f"({whole} % {denominator} * {numerator})"
    down = f"({whole} // {denominator} * {numerator} + {rest} // {denominator})"
    twice = f"({rest} % {denominator} * 2)"
    up = f"CASE WHEN {twice} > {denominator} OR ({twice} = {denominator} AND {down} % 2 = 1) THEN 1 ELSE 0 END"
    unit = f"{Decimal(1).scaleb(-to):f}::DECIMAL({to + 1}, {to})"
    return f"((({down} + {up}) * sign({column}))::DECIMAL(38, 0) * {unit})"
