"""Exact division in SQL: decimals as integers, divided once, rounded half to even."""

from __future__ import annotations

DIGITS = "replace(abs({})::VARCHAR, '.', '')::HUGEINT"
"""The digits of a decimal as an integer: exact, where a product with a power of ten might not fit."""


def with_ratio(rows: str, name: str, numerator: str, denominator: str, scale: int = 4) -> str:
    """The SELECT `rows` with the column `name`: numerator / denominator as DECIMAL(38, 12), null where either is null
    or the denominator is 0.

    Both are decimals or integers, taken as integers of their last digit; their ratio times 10**scale must count 1e-12.
    It is divided in two steps, because the numerator times 10**scale may not fit. Each step is a SELECT of its own:
    nested expressions would be bound many times over.
    """
    up = 10**scale
    digits = f"SELECT *, {DIGITS.format(numerator)} AS k2_n, {DIGITS.format(denominator)} AS k2_v FROM ({rows})"
    whole = f"SELECT *, k2_n // nullif(k2_v, 0) AS k2_w, k2_n % nullif(k2_v, 0) * {up} AS k2_m FROM ({digits})"
    parts = f"SELECT *, k2_w * {up} + k2_m // k2_v AS k2_q, k2_m % k2_v * 2 AS k2_r FROM ({whole})"
    odd = "CASE WHEN k2_r > k2_v OR (k2_r = k2_v AND k2_q % 2 = 1) THEN 1 ELSE 0 END"
    rounded = f"SELECT *, (k2_q + {odd}) * (sign({numerator}) * sign({denominator})) AS k2_e FROM ({parts})"
    ones, rest = "(k2_e // 1000000000000)::DECIMAL(26, 0)", "(k2_e % 1000000000000)::DECIMAL(12, 0)"
    ratio = f"({ones} + {rest} * 0.000000000001::DECIMAL(13, 12))::DECIMAL(38, 12)"
    return f"SELECT * EXCLUDE (k2_n, k2_v, k2_w, k2_m, k2_q, k2_r, k2_e), {ratio} AS {name} FROM ({rounded})"
