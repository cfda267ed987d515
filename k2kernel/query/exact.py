"""Exact division in SQL: decimals as integers, divided once, rounded half to even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal


def digits(column: str) -> str:
    """The digits of a decimal as an integer: exact, where a product with a power of ten might not fit."""
    return f"replace(abs({column})::VARCHAR, '.', '')::HUGEINT"


@dataclass(frozen=True)
class Ratio:
    """numerator / denominator, as SQL: decimals or integers, taken as integers of their last digit, whose ratio times
    10**scale counts 1e-12.
    """

    numerator: str
    denominator: str
    scale: int = 4


def with_ratios(rows: str, ratios: Sequence[Ratio]) -> tuple[str, list[str]]:
    """The SELECT `rows` with columns that ratios are made of, and each ratio as an expression over it: DECIMAL(38, 12),
    null where either side is null or the denominator is 0.

    It is divided in two steps, because the numerator times 10**scale may not fit; the rest is rounded by adding half a
    divisor, and a half goes down again where that made it odd. What is used twice is a column of a SELECT for all
    ratios together: every operator costs time to plan, and so does every SELECT.
    """
    if not ratios:
        return rows, []
    numbered = list(enumerate(ratios))
    for step in (_digits, _divided, _rest):
        rows = f"SELECT *, {', '.join(step(at, ratio) for at, ratio in numbered)} FROM ({rows})"
    return rows, [_rounded(at, ratio) for at, ratio in numbered]


def _digits(at: int, ratio: Ratio) -> str:
    top, bottom = (digits(side) for side in (ratio.numerator, ratio.denominator))
    return f"{top} AS k2_n{at}, nullif({bottom}, 0) AS k2_v{at}"


def _divided(at: int, ratio: Ratio) -> str:
    """The whole part, and twice the rest with a divisor on top."""
    up = 10**ratio.scale
    return f"k2_n{at} // k2_v{at} * {up} AS k2_w{at}, k2_n{at} % k2_v{at} * {2 * up} + k2_v{at} AS k2_m{at}"


def _rest(at: int, _: Ratio) -> str:
    return f"k2_m{at} // (k2_v{at} * 2) AS k2_q{at}"


def _rounded(at: int, ratio: Ratio) -> str:
    """The quotient with its sign, as DECIMAL(38, 12)."""
    half = f"CASE WHEN k2_q{at} * 2 * k2_v{at} = k2_m{at} THEN k2_q{at} & 1 ELSE 0 END"
    signs = f"(sign({ratio.numerator}) * sign({ratio.denominator}))"
    return f"((k2_w{at} + k2_q{at} - {half}) * {signs})::DECIMAL(38, 0) * 0.000000000001::DECIMAL(13, 12)"


def with_ratio(rows: str, numerator: str, denominator: str, name: str) -> str:
    """The SELECT `rows` with the column `name`: the ratio of a DECIMAL(38, 16) and a DECIMAL(38, 8)."""
    made, (ratio,) = with_ratios(rows, [Ratio(numerator, denominator)])
    return f"SELECT * EXCLUDE (k2_n0, k2_v0, k2_w0, k2_m0, k2_q0), {ratio} AS {name} FROM ({made})"


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
