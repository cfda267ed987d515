"""What Tab offers in a line or cell of the magics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from k2kernel.errors import K2Error
from k2kernel.magics import commands, sql
from k2kernel.magics.notebook import Notebook
from k2kernel.magics.options import Option
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, Matcher, SimpleMatcherResult

IDENTIFIER = "k2kernel"
_VALUE = re.compile(r"--([a-z-]+)[ =][\"']?$")
_QUOTED = re.compile(r"(\w+)\W+(?:\([^()]*)?'$")
"""A text that has begun, and the word before it: `symbol = '`, `symbol IN ('A', '`, `AS OF '`."""
_IN_LINE = re.compile(r"%(k2(?:sql)?) (.*)$")


def complete(notebook: Notebook) -> Matcher:
    """The matcher to register with IPython's completer."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier=IDENTIFIER)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        found = offered(notebook, before(context))
        return {"completions": [SimpleCompletion(text) for text in found], "suppress": bool(found)}

    return cast("Matcher", matcher)


def before(context: CompletionContext) -> str:
    """The cell up to the cursor."""
    lines = context.full_text.split("\n")
    return "\n".join([*lines[: context.cursor_line], lines[context.cursor_line][: context.cursor_position]])


def offered(notebook: Notebook, text: str) -> list[str]:
    """What may stand where `text` ends, in place of its last word."""
    token = re.split(r"[\s`!@#$^&*()=+\[{\]}\\|;:'\",<>?]", text)[-1]
    left = text[: len(text) - len(token)]
    try:
        known = _known(notebook, left, token)
    except K2Error:  # no lake yet, or no such table: nothing to offer
        return []
    stem, dot, part = token.rpartition(".") if "." in token else ("", "", token)
    whole = [f"{stem}{dot}{name}" for name in known if name.lower().startswith(part.lower())]
    return sorted(dict.fromkeys(whole or [name for name in known if name.lower().startswith(token.lower())]))


def _known(notebook: Notebook, left: str, token: str) -> Iterable[str]:
    head, newline, cell = left.partition("\n")
    if head.lstrip().startswith("%%k2sql"):
        return _in_sql(notebook, cell) if newline else _in_options(notebook, head, token, sql.OPTIONS)
    found = _IN_LINE.search(left.rpartition("\n")[2])
    if found is None:
        return ()
    if found[1] == "k2":
        return _in_command(notebook, found[2], token)
    options = _in_options(notebook, found[2], token, sql.OPTIONS)
    return options or _in_sql(notebook, found[2])


def _in_options(notebook: Notebook, left: str, token: str, known: Sequence[Option]) -> Sequence[str]:
    value = _VALUE.search(left)
    for option in known:
        if value is not None and option.name == value[1] and option.metavar:
            return option.choices or list(_SOURCES[option.completes](notebook))
    return [f"--{option.name}" for option in known] if token.startswith("-") else []


def _in_command(notebook: Notebook, left: str, token: str) -> Sequence[str]:
    words = left.split()
    if not words:
        return list(commands.COMMANDS)
    command = commands.COMMANDS.get(words[0])
    if command is None:
        return []
    options = _in_options(notebook, left, token, command.options)
    if options or not command.completes or token.startswith("-"):
        return options
    source = command.completes[min(len(words), len(command.completes)) - 1]
    return list(_SOURCES[source](notebook))


def _in_sql(notebook: Notebook, left: str) -> Iterable[str]:
    from k2kernel.query.sql import NAMES

    if left.endswith("$"):
        return [name for name in notebook.shell.user_ns if name not in notebook.shell.user_ns_hidden]
    if left.count("'") % 2:
        word = _QUOTED.search(left)
        return _SOURCES[_TEXTS.get(word[1].lower(), "")](notebook) if word else []
    named = [table for table in TABLES if re.search(rf"\b{table}", left)]
    columns = [column for table in named or TABLES for column in TABLES[table].names]
    return [*NAMES, *notebook.saved, *columns]


def _symbols(notebook: Notebook) -> Iterable[str]:
    return map(str, notebook.reader(None).symbols().to_arrow()["symbol"].to_pylist())


def _states(notebook: Notebook) -> Iterable[str]:
    names = {reference.name for table in TABLES for reference in notebook.bench.tags(table)}
    return [*names, *(pin.name for pin in notebook.bench.pins())]


def _profiles(_: Notebook) -> Iterable[str]:
    from k2kernel import profiles

    return profiles.shipped()


_SOURCES: dict[str, Callable[[Notebook], Iterable[str]]] = {
    "": lambda _: (),
    "profiles": _profiles,
    "saved": lambda notebook: notebook.saved,
    "states": _states,
    "stream": lambda _: commands.STREAM,
    "symbols": _symbols,
    "tables": lambda _: TABLES,
}
_TEXTS = {"symbol": "symbols", "in": "symbols", "of": "states"}
"""What a text after a word in a statement is completed from."""
