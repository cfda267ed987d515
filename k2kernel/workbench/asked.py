"""What a result was asked by: the verb and its words, kept so that it can be asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from k2kernel.errors import InvalidParameter

P = ParamSpec("P")
R = TypeVar("R")

_KINDS: dict[str, tuple[type, Callable[[str], Any]]] = {
    "datetime": (datetime, datetime.fromisoformat),
    "date": (date, date.fromisoformat),
    "decimal": (Decimal, Decimal),
}
"""Values that JSON has no word for: what they are, and how their text is read. A datetime is a date, so it is first."""


def asked(verb: Callable[P, R]) -> Callable[P, R]:
    """Have the result of a read verb remember the verb and its words."""
    takes = signature(verb)

    @wraps(verb)
    def ask(*given: P.args, **words: P.kwargs) -> R:
        found = verb(*given, **words)
        bound = dict(takes.bind(*given, **words).arguments)
        bound.pop("self")
        found.asked = (verb.__name__, bound.pop("words", {}) | bound)  # type: ignore[attr-defined]
        return found

    return ask


def to_json(words: Mapping[str, Any]) -> str:
    """Words as JSON that `from_json` reads back; InvalidParameter for a value that is no plain one."""
    return json.dumps(words, default=_marked, indent=1, sort_keys=True)


def _marked(value: Any) -> Any:
    for name, (kind, _) in _KINDS.items():
        if isinstance(value, kind):
            return {f"${name}": value.isoformat() if isinstance(value, date) else str(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidParameter("result", type(value).__name__, "was asked by a value that cannot be written down")


def from_json(text: str) -> dict[str, Any]:
    """The words."""
    return dict(json.loads(text, object_hook=_unmarked))


def _unmarked(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        name, text = next(iter(found.items()))
        if name[:1] == "$" and name[1:] in _KINDS:
            return _KINDS[name[1:]][1](text)
    return found
