"""Which trades count, as SQL: the policies of venues turned into conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2kernel.eligibility import FIELDS, Policy, Rule
from k2kernel.query.scan import Values


@dataclass(frozen=True)
class Counting:
    """Which trades count, in SQL: `any` is the condition (empty: all) for counting at all, and `label` the name of the
    policy, as an expression.

    Among those, `fields` has a condition for each field, empty where it is that of all of them; the others look at the
    column `k2_out`, which `excluded` makes: bits of the fields that a trade does not count for, found once a row.
    """

    fields: Mapping[str, str]
    any: str
    label: str
    excluded: str = ""


EVERY_QUOTE = Counting(dict.fromkeys(FIELDS, ""), "", "'all'")
"""Every quote counts, whatever its conditions."""


def counting(policies: Mapping[str, Policy], values: Values, fields: Sequence[str] = FIELDS) -> Counting:
    """The policies of venues as conditions on trades, for `fields`."""
    bits = {field: 1 << at for at, field in enumerate(fields)}
    every, found = sum(bits.values()), _excluded(policies, bits, values)
    label, same = _label(policies, values), dict.fromkeys(fields, "")
    if set(found) <= {every}:
        return Counting(same, f"NOT {found[every]}" if found else "", label)
    masks = " | ".join(f"CASE WHEN {condition} THEN {mask} ELSE 0 END" for mask, condition in found.items())
    excluded = f"CASE WHEN len(conditions) > 0 THEN {masks} ELSE 0 END"
    some = {field for field, bit in bits.items() if any(mask & bit for mask in found)}
    conditions = {field: f"k2_out & {bit} = 0" if field in some else "" for field, bit in bits.items()}
    return Counting(conditions, f"{excluded} <> {every}" if len(some) == len(bits) else "", label, excluded)


def _label(policies: Mapping[str, Policy], values: Values) -> str:
    names = {venue: values.bind(policy.name) for venue, policy in policies.items()}
    if len(set(names.values())) == 1:
        return f"{next(iter(names.values()))}::VARCHAR"
    cases = (f"WHEN {values.bind(venue)} THEN {name}" for venue, name in names.items())
    return f"CASE venue {' '.join(cases)} ELSE 'all' END"


def _excluded(policies: Mapping[str, Policy], bits: Mapping[str, int], values: Values) -> dict[int, str]:
    """By bits of fields, a condition that holds for the trades which do not count for just these by one of their codes:
    codes of one venue and time in one list.
    """
    found: dict[int, dict[tuple[str, object, object], list[Rule]]] = {}
    for venue, policy in policies.items():
        for rule in policy.rules:
            mask = sum(bit for field, bit in bits.items() if field in rule.excluded)
            if mask:
                found.setdefault(mask, {}).setdefault((venue, rule.start, rule.until), []).append(rule)
    several = len(policies) > 1
    texts = {
        mask: [_any_code(venue, rules, values, several) for (venue, _, _), rules in groups.items()]
        for mask, groups in found.items()
    }
    return {mask: f"({' OR '.join(conditions)})" for mask, conditions in texts.items()}


def _any_code(venue: str, rules: Sequence[Rule], values: Values, several: bool) -> str:
    """True for trades that carry one of the codes; false, not null, for those without conditions.

    Codes are looked for one by one: list_contains takes a tenth of the time of list_has_any.
    """
    parts = [f"venue = {values.bind(venue)}"] if several else []
    if rules[0].start is not None:
        parts.append(f"session >= {values.bind(rules[0].start)}")
    if rules[0].until is not None:
        parts.append(f"session < {values.bind(rules[0].until)}")
    carries = " OR ".join(f"list_contains(conditions, {values.bind(rule.code)})" for rule in rules)
    parts.append(f"coalesce({carries}, false)")
    return f"({' AND '.join(parts)})"
