"""Splits and dividends out of `corporate_actions`, and the factors that they make of prices and sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Instrument, Selection
from k2kernel.query.units import Spec, unit

if TYPE_CHECKING:
    from k2kernel.query.connection import Database

_MOST = 10**18


@dataclass(frozen=True)
class Action:
    """A split (`ratio`) or dividend (`amount` in `currency`) of an instrument."""

    instrument: Instrument
    kind: str
    ex_date: date
    amount: Decimal | None = None
    ratio: Decimal | None = None
    currency: str | None = None

    def __str__(self) -> str:
        return f"the {self.kind} of {self.instrument.symbol} on {self.instrument.venue} of {self.ex_date}"


def read_actions(database: Database, actions: Pinned, selection: Selection, kind: str) -> list[Action]:
    """The actions that bear on prices of a selection, by ex-date; rows that say the same count once."""
    values, kinds = Values(), [kind] if kind != "all" else ["split", "dividend"]
    scan = Scan(actions, actions.files.files)
    conditions = [f"list_contains({values.bind(kinds)}, kind)"]
    if selection.instruments is not None:
        conditions.append(f"list_contains({values.bind([item.symbol for item in selection.instruments])}, symbol)")
    if (first := selection.first_session) is not None:
        conditions.append(f"(ex_date IS NULL OR ex_date > {values.bind(first)})")
    text = (
        "SELECT symbol, venue, kind, ex_date, coalesce(net_amount, gross_amount), ratio, currency FROM (SELECT "
        "DISTINCT symbol, venue, kind, declared_date, ex_date, record_date, pay_date, net_amount, gross_amount, ratio, "
        f"currency FROM {scan.relation(True, values.bind)} WHERE {' AND '.join(conditions)}) ORDER BY ALL"
    )
    found = (Action(Instrument(row[0], row[1]), *row[2:]) for row in database.rows(query(text, values, scan)))
    wanted = None if selection.instruments is None else set(selection.instruments)
    return [_checked(action) for action in found if wanted is None or action.instrument in wanted]


def _checked(action: Action) -> Action:
    missing = "ratio" if action.kind == "split" else "amount"
    number = action.ratio if action.kind == "split" else action.amount
    if action.ex_date is None or number is None:
        raise _unusable(action, f"has no {missing if number is None else 'ex_date'} in corporate_actions")
    if number <= 0:
        raise _unusable(action, f"has the {missing} {number}, which is not above 0")
    return action


def _unusable(action: Action, problem: str) -> InvalidParameter:
    remedy = "Correct that row, ask for sessions from its ex-date on, or for another adjustment"
    return InvalidParameter("adjustment", action.kind, f"{action} {problem}", remedy)


@dataclass(frozen=True)
class Factors:
    """What prices and sizes of an instrument are multiplied by in sessions of [`first`, `until`) (None: open)."""

    instrument: Instrument
    first: date | None
    until: date
    price: Fraction
    size: Fraction


def factors(
    actions: Sequence[Action],
    sessions: Mapping[Instrument, Sequence[date]],
    closes: Callable[[Collection[Action]], Mapping[Action, Decimal]],
    spec: Callable[[Action], Spec],
) -> Iterator[Factors]:
    """The factors of every instrument, from `actions` by ex-date.

    `sessions` are those that each instrument has, ascending. An action counts once there is a session from its ex-date
    on: the newest prices are never changed; one before all sessions changes nothing. InvalidParameter where a dividend
    is in another currency than its price, whether it counts or not, or where one that counts cannot be used.
    """
    for action in actions:
        if action.kind == "dividend":
            _check_currency(action, spec(action))
    counting = [action for action in actions if _straddled(action, sessions.get(action.instrument, ()))]
    before = closes([action for action in counting if action.kind == "dividend"])
    by_instrument: dict[Instrument, dict[date, list[Action]]] = {}
    for action in counting:
        by_instrument.setdefault(action.instrument, {}).setdefault(action.ex_date, []).append(action)
    for instrument, by_date in by_instrument.items():
        price = size = Fraction(1)
        days = sorted(by_date, reverse=True)
        for day, earlier in zip(days, [*days[1:], None], strict=True):
            of_day = by_date[day]
            price *= _price(of_day, before, spec)
            size *= _ratio(of_day)
            yield Factors(instrument, earlier, day, bounded(price), bounded(size))


def _straddled(action: Action, sessions: Sequence[date]) -> bool:
    return bool(sessions) and sessions[0] < action.ex_date <= sessions[-1]


def _ratio(actions: Sequence[Action]) -> Fraction:
    product = Fraction(1)
    for action in actions:
        product *= Fraction(action.ratio) if action.kind == "split" and action.ratio else 1
    return product


def _price(actions: Sequence[Action], before: Mapping[Action, Decimal], spec: Callable[[Action], Spec]) -> Fraction:
    """The factor of all actions of one ex-date."""
    paid = [action for action in actions if action.kind == "dividend"]
    share = sum((_yield(action, before, spec(action)) for action in paid), Fraction(0))
    if share >= 1:
        raise _unusable(paid[0], f"is not less than the close before it, {before[paid[0]].normalize():f}")
    return (1 - share) / _ratio(actions)


def _check_currency(action: Action, spec: Spec) -> None:
    if unit(action.currency or "")[0] != spec.currency:
        currencies = f"is in {action.currency or 'no currency'} and its price in {spec.currency}"
        raise _unusable(action, f"{currencies}, and amounts are not converted")


def _yield(action: Action, before: Mapping[Action, Decimal], spec: Spec) -> Fraction:
    """A dividend as a share of the close before it."""
    if action not in before:
        raise _unusable(action, "has no close before it: no trade that counts")
    if before[action] <= 0:
        raise _unusable(action, f"has the close {before[action].normalize():f} before it, which is not above 0")
    return Fraction(action.amount or 0) * unit(action.currency or "")[1] / (Fraction(before[action]) * spec.worth)


def bounded(factor: Fraction) -> Fraction:
    """The factor as a fraction of two numbers below 10^18."""
    return factor.limit_denominator(max(1, int(_MOST / max(Fraction(1), factor)) - 1))
