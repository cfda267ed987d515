"""Turnover: the money of trades, by the multiplier, direction and price unit of their instrument, never mixed.

A trade of a linear instrument is worth price * size * multiplier * (one price unit in the currency); of an inverse one,
whose size counts money of the price's currency, it is worth size * multiplier / price in units of the base. A sum is
exact but for one rounding, half to even at sixteen decimals, of what the multiplier and the unit make of it; of inverse
instruments each trade is rounded so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from k2kernel.eligibility import policy
from k2kernel.errors import InvalidParameter
from k2kernel.query.counting import Counting, counting
from k2kernel.query.exact import digits, scaled
from k2kernel.query.result import Result
from k2kernel.query.scan import Values
from k2kernel.query.selection import Instrument
from k2kernel.query.units import Spec, specs
from k2kernel.query.when import Moment, parse_when
from k2kernel.times import AsOfLike, parse_range

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.query.engine import QueryEngine
    from k2kernel.query.selection import Selection

BY = ("venue", "symbol", "session")
COLUMNS = (*BY, "currency", "measure", "value", "n_trades", "eligible")
_FRAME = "k2_specs"


def turnover(
    engine: QueryEngine,
    symbol: str | Sequence[str] | None = None,
    *,
    by: str | Sequence[str] = BY,
    venue: str | None = None,
    session: object = None,
    start: object = None,
    end: object = None,
    eligible: str = "venue",
    as_of: AsOfLike = None,
    known_at: Moment = None,
    clock: str = "ingest",
) -> Result:
    """The worth of the trades that stand and count, with the columns venue, symbol, session, currency, measure, value
    (decimal(38, 16)), n_trades and eligible (the policy that said which trades count), ordered by the first five.

    `by` says which of venue, symbol and session to keep apart; the others are null, and their values are summed within
    a currency only. `measure` is `currency`; `base` for inverse instruments, whose value is in units of the base, which
    instruments does not name; or `raw` where it has no price_currency for the trade's session, and value is price *
    size (* multiplier): of these every venue and symbol stays apart. Trades count where they do for VWAP by the policy
    `eligible`. `as_of` and `known_at` hold for instruments as well.
    """
    when, keys = parse_when(as_of, known_at, clock), _keys(by)
    trades = engine.chosen("trades", symbol, venue, parse_range(session, start, end), when)
    instruments = when.pin_or_empty(engine.lake, "instruments")
    known = specs(trades.database, instruments, _symbols(trades.selection))
    rows, values, home = list(_rows(known)), Values(), engine.lake.settings.home
    policies = {code: policy(code, eligible, home) for code in trades.venues} or {"": policy("", eligible, home)}
    counted = counting(policies, values, ("vwap",))
    text = _text(trades.rows(values, False, ("price", "size", "conditions")), counted, keys)
    planned = trades.planned(text, values)
    # A policy binds what it says of open, high, low and close as well, which this statement does not name.
    frames: dict[str, Callable[[], pa.Table]] = {**planned.frames, _FRAME: partial(_table, rows)}
    snapshots = {"trades": trades.pinned.snapshot_id, "instruments": instruments.snapshot_id}
    return Result(
        trades.database, replace(planned, values=values.named_in(text), frames=frames), snapshots, list(COLUMNS)
    )


def _keys(by: str | Sequence[str]) -> list[str]:
    names = [by] if isinstance(by, str) else list(by)
    if not set(names) <= set(BY):
        raise InvalidParameter("by", by, "names something else than venue, symbol and session", "Leave the rest out")
    return names


def _symbols(selection: Selection) -> list[str] | None:
    return None if selection.instruments is None else [item.symbol for item in selection.instruments]


def _text(rows: str, counted: Counting, keys: Sequence[str]) -> str:
    price, inverse = digits("k2_row.price"), "coalesce(k2_inverse, false)"
    counting_rows = f"SELECT * FROM {rows} WHERE {counted.any or 'true'}"
    base = scaled("size", "(k2_n::HUGEINT * 100000000)", f"(k2_d::HUGEINT * nullif({price}, 0))", 8, 16)
    groups = (
        f"SELECT venue, symbol, session, k2_currency, {inverse} AS inverse, coalesce(k2_n, 1)::HUGEINT AS n, "
        f"coalesce(k2_d, 1)::HUGEINT AS d, sum(price::DECIMAL(27, 8) * size) FILTER (NOT {inverse}) AS money, "
        f"sum(sign(price) * {base}) FILTER ({inverse}) AS base, count(*) AS n_trades, "
        f"{counted.label} AS eligible FROM ({counting_rows}) k2_row LEFT JOIN {_FRAME} ON venue = k2_venue "
        "AND symbol = k2_symbol AND (k2_first IS NULL OR session >= k2_first) "
        "AND (k2_until IS NULL OR session < k2_until) GROUP BY ALL"
    )
    each = (
        f"SELECT *, CASE WHEN inverse THEN base ELSE {scaled('money', 'n', 'd', 16, 16)} END AS worth, "
        "CASE WHEN inverse THEN 'base' WHEN k2_currency IS NULL THEN 'raw' ELSE 'currency' END AS measure, "
        "CASE WHEN NOT inverse THEN k2_currency END AS currency "
        f"FROM (SELECT * REPLACE (money::DECIMAL(38, 16) AS money) FROM ({groups}))"
    )
    apart = {name: f"CASE WHEN measure <> 'currency' THEN {name} END" for name in ("venue", "symbol")}
    merged = {**apart, "session": "NULL::DATE"}
    kept = ", ".join(name if name in keys else f"{merged[name]} AS {name}" for name in BY)
    return (
        f"SELECT {', '.join(BY)}, currency, measure, sum(worth)::DECIMAL(38, 16) AS value, "
        "sum(n_trades)::BIGINT AS n_trades, eligible "
        f"FROM (SELECT {kept}, currency, measure, worth, n_trades, eligible FROM ({each})) GROUP BY ALL ORDER BY ALL"
    )


def _rows(known: Mapping[Instrument, Sequence[Spec]]) -> Iterator[dict[str, object]]:
    """What each instrument's rows say of each span of sessions, the one that was loaded last where several do."""
    for instrument, said in known.items():
        for first, until in _spans(said):
            day = first or (until or date.max) - timedelta(days=1)
            spec = next((each for each in said if each.holds(day)), None)
            if spec is not None:
                yield _row(instrument, first, until, spec)


def _row(instrument: Instrument, first: date | None, until: date | None, spec: Spec) -> dict[str, object]:
    where = {"k2_venue": instrument.venue, "k2_symbol": instrument.symbol, "k2_first": first, "k2_until": until}
    factor = spec.factor
    numbers = {"k2_n": factor.numerator, "k2_d": factor.denominator}
    return {**where, **numbers, "k2_currency": spec.currency, "k2_inverse": spec.inverse}


def _spans(said: Sequence[Spec]) -> Iterator[tuple[date | None, date | None]]:
    """[first, until) between the days on which a row begins or ends to hold."""
    cuts = {spec.start for spec in said if spec.start is not None}
    cuts |= {spec.end + timedelta(days=1) for spec in said if spec.end is not None}
    days = [None, *sorted(cuts), None]
    yield from pairwise(days)


def _table(rows: Sequence[dict[str, object]]) -> pa.Table:
    import pyarrow as pa

    texts, days = ("k2_venue", "k2_symbol", "k2_currency"), ("k2_first", "k2_until")
    fields = [(name, pa.string()) for name in texts] + [(name, pa.date32()) for name in days]
    fields += [("k2_n", pa.int64()), ("k2_d", pa.int64()), ("k2_inverse", pa.bool_())]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))
