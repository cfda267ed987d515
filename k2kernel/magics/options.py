"""What the magics take: options as data, from which they are read, documented and completed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2kernel import words
from k2kernel.errors import InvalidParameter, QueryError, listed, meant, one_of

_OPTION = re.compile(r"\s*--([A-Za-z][A-Za-z-]*)")
_WORD = re.compile(r"""[ \t]*=?[ \t]*("[^"]*"|'[^']*'|\{.*?\}(?=\s|$)|\[.*?\](?=\s|$)|\S+)""")
_NAME = re.compile(r"[A-Za-z_]\w*")
_VARIABLE = re.compile(rf"\${_NAME.pattern}")


@dataclass(frozen=True)
class Option:
    """One option. Without a `metavar` it is a switch; `many` may be given again. `kind` is what its text is read as.

    `completes` says what its value is completed from where `choices` do not.
    """

    name: str
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False
    completes: str = ""
    kind: type[str | int | float] = str

    @property
    def usage(self) -> str:
        """As it is written, such as `--to polars|pandas`."""
        return f"--{self.name} {'|'.join(self.choices) or self.metavar}".strip()


WHEN = (
    Option("as-of", "STATE", words.AS_OF, completes="states"),
    Option("known-at", "TIME", words.KNOWN_AT),
    Option("clock", "CLOCK", words.CLOCK, ("ingest", "recv", "event")),
)
"""At which state."""


@dataclass(frozen=True)
class Given:
    """What stood on a line: the values of options by name, the other words, and the text after the options."""

    options: Mapping[str, Any]
    words: tuple[str, ...] = ()
    rest: str = ""


def leading(text: str, known: Sequence[Option]) -> Given:
    """The options that a text begins with, and the rest of it as it is."""
    values: dict[str, Any] = {}
    at = 0
    while found := _OPTION.match(text, at):
        at = _take(text, found, known, values)
    return Given(values, rest=text[at:].strip())


def among(text: str, known: Sequence[Option], scope: Mapping[str, Any]) -> Given:
    """Options and words in any order; the word `$name` is the variable of that name."""
    values: dict[str, Any] = {}
    others: list[Any] = []
    at = 0
    while text[at:].strip():
        if found := _OPTION.match(text, at):
            at = _take(text, found, known, values)
        elif word := _WORD.match(text, at):
            others.append(variable(_unquoted(word[1]), scope))
            at = word.end()
    return Given({name: _variables(value, scope) for name, value in values.items()}, tuple(others))


def _read(option: Option, text: str) -> str | int | float:
    """The value of an option; the word `$name` is read where it is known what it stands for."""
    if option.choices:
        one_of(option.name.replace("-", "_"), text, option.choices)
    try:
        return text if text.startswith("$") else option.kind(text)
    except ValueError:
        what = "whole number" if option.kind is int else "number"
        raise InvalidParameter(option.name.replace("-", "_"), text, f"is no {what}", f"Write {option.usage}") from None


def _take(text: str, found: re.Match[str], known: Sequence[Option], values: dict[str, Any]) -> int:
    """Put the option at `found` into `values`, and say where it ends."""
    option = named(found[1], known)
    if not option.metavar:
        values[option.name] = True
        return found.end()
    word = _WORD.match(text, found.end())
    if word is None or _OPTION.match(word[1]):
        raise QueryError(f"--{option.name} has no value", f"Write {option.usage}")
    value = _read(option, _unquoted(word[1]))
    values[option.name] = [*values.get(option.name, []), value] if option.many else value
    return word.end()


def named(name: str, known: Sequence[Option]) -> Option:
    """The option `name`; QueryError with what is like it where there is none."""
    by_name = {option.name: option for option in known}
    if name not in by_name:
        near = meant(name, by_name).replace("mean ", "mean --")
        raise QueryError(f"There is no option --{name}", f"{near}Options: {listed(f'--{each}' for each in by_name)}")
    return by_name[name]


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def variable(word: Any, scope: Mapping[str, Any]) -> Any:
    """The variable that `$name` stands for; any other value is itself."""
    if not isinstance(word, str) or not word.startswith("$"):
        return word
    name = word[1:]
    if name not in scope:
        raise QueryError(f"There is no variable {name!r}", f"{near_variables(name, scope)}Set it in a cell first")
    return scope[name]


def _variables(value: Any, scope: Mapping[str, Any]) -> Any:
    return [variable(each, scope) for each in value] if isinstance(value, list) else variable(value, scope)


def near_variables(name: str, scope: Mapping[str, Any]) -> str:
    """Variables of the notebook that are spelled like `name`."""
    return meant(name, [each for each in scope if not each.startswith("_")])


def identifier(option: str, name: str) -> str:
    """A name that Python and SQL can use; InvalidParameter for any other."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(option, name, "is not a name", "Use letters, digits and _, a letter first")
    return name


def mapping(text: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as `--params` gives them: a JSON object, NAME=TEXT, NAME=$name, or the name of a mapping in the
    notebook.
    """
    if text.startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as exc:
            raise InvalidParameter("params", text, f"is not JSON: {exc}", 'Write it like {"s": "BHP"}') from exc
    name, mark, value = text.partition("=")
    if mark and _NAME.fullmatch(name):
        return {name: variable(value, scope) if _VARIABLE.fullmatch(value) else _unquoted(value)}
    found = variable(text if text.startswith("$") else f"${text}", scope)
    if not isinstance(found, Mapping):
        raise InvalidParameter("params", text, "is no mapping", "Name a dict, or write NAME=TEXT or a JSON object")
    return dict(found)
