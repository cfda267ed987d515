"""`bars(…)` in the FROM of an SQL text: each call is taken out by position, and a name stands in its place.

Arguments are those of `wb.bars`, by place or as `name => value`: a text, a number, `$name`, NULL, TRUE, FALSE, a text
behind DATE, TIMESTAMP or TIMESTAMPTZ, or a list of these in brackets. The rest of the text is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from k2kernel.errors import SqlRefused, listed
from k2kernel.query.references import Token, edited, tokens

FUNCTION = "bars"
_HINT = re.compile(rf"\b{FUNCTION}\s*\(", re.IGNORECASE)
"""Text without a match holds no call, and is not taken apart."""

_BEFORE = ("from", "join", ",")
_WORDS = {"null": None, "true": True, "false": False}
_TIMES = ("date", "timestamp", "timestamptz")
_PLACES = ("symbol", "interval")
_LIKE = f"Write it like {FUNCTION}('BHP', '1m', session => '2014-03-10')"


@dataclass(frozen=True)
class Call:
    """One call: `relation` is the name that stands in the text now, `words` are its arguments by name."""

    relation: str
    words: Mapping[str, object] = field(default_factory=dict)


def calls(text: str, params: Mapping[str, object], names: Collection[str]) -> tuple[str, list[Call]]:
    """The text with a name for every call of `bars`, and what each asks for.

    `names` are the arguments that there are; SqlRefused says what is wrong with one.
    """
    if not _HINT.search(text):
        return text, []
    found = tokens(text)
    edits: list[tuple[int, int, str]] = []
    made: list[Call] = []
    for at in range(len(found)):
        end = _end(found, at)
        if end is None:
            continue
        relation = f"{FUNCTION}@{len(made) + 1}"
        made.append(Call(relation, _words(found[at + 2 : end], params, names)))
        alias = "" if _has_alias(found, end + 1) else f" AS {FUNCTION}"
        edits.append((found[at].start, found[end].end, f'"{relation}"{alias}'))
    return edited(text, edits), made


def _end(found: Sequence[Token], at: int) -> int | None:
    """The position of the bracket that closes the call at a position; None where no call stands there."""
    is_call = at > 0 and found[at].word == FUNCTION and found[at - 1].word in _BEFORE
    if not is_call or at + 1 >= len(found) or found[at + 1].text != "(":
        return None
    depth = 0
    for end in range(at + 1, len(found)):
        depth += (found[end].text in {"(", "["}) - (found[end].text in {")", "]"})
        if depth == 0:
            columns = [token.word for token in found[end + 1 : end + 3]] == ["as", "("]  # WITH bars(a) AS (…)
            return None if columns else end
    raise SqlRefused(f"A bracket of {FUNCTION}( is not closed", _LIKE)


def _has_alias(found: Sequence[Token], at: int) -> bool:
    follows = found[at] if at < len(found) else None
    return follows is not None and (follows.kind == "identifier" or follows.word == "as")


def _words(inner: Sequence[Token], params: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    words: dict[str, object] = {}
    for place, argument in enumerate(_split(inner)):
        named = len(argument) > 1 and argument[1].text in {"=>", ":="}
        if not named and (place >= len(_PLACES) or place < len(words) - 1 or place != len(words)):
            raise SqlRefused(f"{FUNCTION} has no argument without a name after the second", _LIKE)
        name = argument[0].word if named else _PLACES[place]
        if name not in names:
            raise SqlRefused(f"{FUNCTION} has no argument {name!r}", f"Arguments: {listed(sorted(names), most=40)}")
        if name in words:
            raise SqlRefused(f"{FUNCTION} is given {name!r} twice", "Give it once")
        words[name] = _value(argument[2:] if named else argument, params)
    return words


def _split(inner: Sequence[Token]) -> list[Sequence[Token]]:
    """The parts between the commas that stand in no brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in inner:
        depth += (token.text in {"(", "["}) - (token.text in {")", "]"})
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if parts == [[]]:
        return []
    if not all(parts):
        raise SqlRefused(f"An argument of {FUNCTION} is empty", _LIKE)
    return list(parts)


def _value(argument: Sequence[Token], params: Mapping[str, object]) -> object:
    words = [token.word for token in argument]
    if len(words) >= 2 and words[0] == "[" and words[-1] == "]":
        return [_value(item, params) for item in _split(argument[1:-1])]
    if len(words) == 2 and words[0] == "$":
        if words[1] not in params and argument[1].text not in params:
            raise SqlRefused(f"The statement uses ${argument[1].text}, which params does not give", "Give it in params")
        return params.get(argument[1].text, params.get(words[1]))
    if len(words) == 2 and words[0] in _TIMES and words[1].startswith("'"):
        return _text(argument[1].text)
    if len(words) == 1 and words[0].startswith("'"):
        return _text(argument[0].text)
    if len(words) == 1 and words[0].isdigit():
        return int(words[0])
    if len(words) == 1 and words[0] in _WORDS:
        return _WORDS[words[0]]
    shown = " ".join(token.text for token in argument)
    raise SqlRefused(f"{shown!r} is no constant that {FUNCTION} takes", f"{_LIKE}; $name stands for a value of params")


def _text(quoted: str) -> str:
    return quoted[1:-1].replace("''", "'")
