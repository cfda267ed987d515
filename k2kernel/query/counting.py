"""Which trades count, as SQL: the policies of venues turned into conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2kernel.eligibility import FIELDS, Policy, Rule
from k2kernel.query.scan import Values


@dataclass(frozen=True)
class Counting:
    """Which trades count, in SQL: `fields` has a condition (empty: all) for each of `FIELDS`, `any` for counting at
    all; `label` is the name of the policy, as an expression.
    """

    fields: Mapping[str, str]
    any: str
    label: str

    @property
    def uniform(self) -> bool:
        """True where a trade counts for all fields or for none."""
        return len(set(self.fields.values())) == 1


EVERY_QUOTE = Counting(dict.fromkeys(FIELDS, ""), "", "'all'")
"""Every quote counts, whatever its conditions."""


def counting(policies: Mapping[str, Policy], values: Values) -> Counting:
    """The policies of venues as conditions on trades."""
    rules = {field: _excluded(policies, field, values) for field in FIELDS}
    fields = {field: f"NOT ({' OR '.join(texts)})" if texts else "" for field, texts in rules.items()}
    different = sorted(dict.fromkeys(fields.values()), key=len)  # the shortest holds for most, and spares the others
    return Counting(fields, "" if "" in different else f"({' OR '.join(different)})", _label(policies, values))


def _label(policies: Mapping[str, Policy], values: Values) -> str:
    names = {venue: values.bind(policy.name) for venue, policy in policies.items()}
    if len(set(names.values())) == 1:
        return f"{next(iter(names.values()))}::VARCHAR"
    cases = (f"WHEN {values.bind(venue)} THEN {name}" for venue, name in names.items())
    return f"CASE venue {' '.join(cases)} ELSE 'all' END"


def _excluded(policies: Mapping[str, Policy], field: str, values: Values) -> list[str]:
    """Conditions that hold for the trades which do not count for `field`: codes of one venue and time in one list."""
    found: dict[tuple[str, object, object], list[Rule]] = {}
    for venue, policy in policies.items():
        for rule in policy.excluding(field):
            found.setdefault((venue, rule.start, rule.until), []).append(rule)
    return [_any_code(venue, rules, values, len(policies) > 1) for (venue, _, _), rules in found.items()]


def _any_code(venue: str, rules: Sequence[Rule], values: Values, several: bool) -> str:
    """True for trades that carry one of the codes; false, not null, for those without conditions.

    Codes are looked for one by one: list_contains takes a tenth of the time of list_has_any, and is done once for all
    fields.
    """
    parts = [f"venue = {values.bind(venue)}"] if several else []
    if rules[0].start is not None:
        parts.append(f"session >= {values.bind(rules[0].start)}")
    if rules[0].until is not None:
        parts.append(f"session < {values.bind(rules[0].until)}")
    carries = " OR ".join(f"list_contains(conditions, {values.bind(rule.code)})" for rule in rules)
    parts.append(f"coalesce({carries}, false)")
    return f"({' AND '.join(parts)})"
