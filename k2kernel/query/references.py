"""Time travel in SQL text: finds `trades FOR VERSION AS OF 'eod'` and its like, and takes the clause out by position.

Spellings, after a table's name or its alias: `FOR VERSION | SYSTEM_VERSION | TIMESTAMP | SYSTEM_TIME AS OF value`,
`VERSION | TIMESTAMP AS OF value`, `AT (VERSION | TIMESTAMP | TAG => value)`. The value is a text, a number, `$name`, or
a text after TIMESTAMP or TIMESTAMPTZ. The rest of the text is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2kernel.errors import InvalidParameter, SqlRefused
from k2kernel.times import AsOf, parse_as_of

_HINT = re.compile(r"\bas\s+of\b|\bat\s*\(", re.IGNORECASE)
"""Text without a match holds no time travel, and is not taken apart."""

_TIMES = ("timestamp", "timestamptz", "system_time")
_VERSIONS = ("version", "system_version", "tag")


@dataclass(frozen=True)
class Token:
    """A piece of SQL text: its bytes from `start` to `end`, and the kind that DuckDB gives it."""

    text: str
    kind: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The text in lower case, as keywords compare."""
        return self.text.lower()


@dataclass(frozen=True)
class Travel:
    """One reference to a past state: `relation` is the name that stands in the text now, for `table` as of `as_of`."""

    relation: str
    table: str
    as_of: AsOf | None


@dataclass(frozen=True)
class _Clause:
    """Tokens `first` to `last` (exclusive) are a clause with this unit and value tokens."""

    first: int
    last: int
    unit: str
    value: Sequence[Token]


def tokens(text: str) -> list[Token]:
    """The tokens of an SQL text by DuckDB's own tokenizer, without comments. Positions count UTF-8 bytes."""
    import duckdb

    raw = text.encode()
    starts = duckdb.tokenize(text)
    ends = [start for start, _ in starts[1:]] + [len(raw)]
    found = []
    for (start, kind), end in zip(starts, ends, strict=True):
        piece = raw[start:end].rstrip()
        found.append(Token(piece.decode(errors="replace"), kind.name, start, start + len(piece)))
    return [token for token in found if token.kind != "comment" and token.text]


def travel(text: str, params: Mapping[str, object], name_of: Mapping[str, str]) -> tuple[str, list[Travel]]:
    """The text with every time-travel clause taken out, and what each stood for.

    A table that had a clause is called by a name of its own; `name_of` says which table a lower-case name is.
    """
    if not _HINT.search(text):
        return text, []
    found = tokens(text)
    clauses = [clause for at in range(len(found)) if (clause := _clause(found, at)) is not None]
    edits: list[tuple[int, int, str]] = []
    travels: list[Travel] = []
    for number, clause in enumerate(clauses, start=1):
        changes, table, relation = _take_out(found, clause, name_of, number)
        edits += changes
        travels.append(Travel(relation, table, _as_of(clause, params)))
    return edited(text, edits), travels


def _clause(found: Sequence[Token], at: int) -> _Clause | None:
    words = [token.word for token in found[at : at + 5]] + [""] * 5
    if words[0] == "at" and words[1] == "(" and words[2] in (*_TIMES, *_VERSIONS) and words[3] == "=>":
        value = _value(found, at + 4)
        closed = at + 4 + len(value) < len(found) and found[at + 4 + len(value)].text == ")"
        return _Clause(at, at + 5 + len(value), words[2], value) if value and closed else None
    offset = 1 if words[0] == "for" else 0
    if offset == 0 and at > 0 and found[at - 1].word == "for":
        return None  # a part of the clause that starts at FOR
    if words[offset] in (*_TIMES, *_VERSIONS[:2]) and words[offset + 1 : offset + 3] == ["as", "of"]:
        value = _value(found, at + offset + 3)
        return _Clause(at, at + offset + 3 + len(value), words[offset], value) if value else None
    return None


def _value(found: Sequence[Token], at: int) -> Sequence[Token]:
    """The tokens of the value at a position: none where no such value stands there."""
    words = [token.word for token in found[at : at + 2]] + [""] * 2
    if words[0] == "$":
        return found[at : at + 2]
    if words[0] in ("timestamp", "timestamptz") and words[1].startswith("'"):
        return found[at : at + 2]
    is_constant = words[0].startswith("'") or words[0].isdigit()
    return found[at : at + 1] if is_constant else ()


def _take_out(
    found: Sequence[Token], clause: _Clause, name_of: Mapping[str, str], number: int
) -> tuple[list[tuple[int, int, str]], str, str]:
    """The edits that take a clause out, the table it is about, and the name that the table has then.

    The table's name becomes one of its own, and an alias keeps the old one for columns such as trades.price.
    """
    start, end, has_alias = _table_before(found, clause.first)
    name = _unquoted(found[end - 1].text)
    table = name_of.get(name.lower())
    if table is None:
        raise SqlRefused(f"{name!r} has no past states", f"Tables that have: {', '.join(sorted(name_of))}")
    relation = f"{name}@{number}"
    follows = found[clause.last] if clause.last < len(found) else None
    has_alias = has_alias or (follows is not None and (follows.kind == "identifier" or follows.word == "as"))
    edits = [
        (found[start].start, found[end - 1].end, f'"{relation}"'),
        (found[clause.first].start, found[clause.last - 1].end, "" if has_alias else f'AS "{name}"'),
    ]
    return edits, table, relation


def _table_before(found: Sequence[Token], at: int) -> tuple[int, int, bool]:
    """The tokens (first, end) of the table's name before a clause, and whether an alias stands between."""
    end = at
    has_alias = end >= 2 and _is_name(found[end - 1]) and (found[end - 2].word == "as" or _is_name(found[end - 2]))
    if has_alias:
        end -= 2 if found[end - 2].word == "as" else 1
    if end < 1 or not _is_name(found[end - 1]):
        raise SqlRefused("A time-travel clause follows no table", "Write it after a table's name, as trades AT (…)")
    start = end - 1
    while start >= 2 and found[start - 1].text == "." and _is_name(found[start - 2]):
        start -= 2
    return start, end, has_alias


def _is_name(token: Token) -> bool:
    return token.kind == "identifier" or token.text.startswith('"')


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _as_of(clause: _Clause, params: Mapping[str, object]) -> AsOf | None:
    value = _constant(clause.value, params)
    as_of = parse_as_of(value, "AS OF")  # type: ignore[arg-type]
    if clause.unit in _TIMES and (as_of is None or as_of.instant is None):
        raise InvalidParameter("AS OF", value, "is not a time with a zone", "Use VERSION for a snapshot, tag or pin")
    return as_of


def _constant(value: Sequence[Token], params: Mapping[str, object]) -> object:
    if value[0].text == "$":
        name = value[1].text
        if name not in params:
            raise SqlRefused(f"The statement uses ${name}, which params does not give", f'Add "{name}" to params')
        return params[name]
    text = value[-1].text
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """The text with its bytes from start to end replaced, for each edit."""
    raw = text.encode()
    for start, end, replacement in sorted(edits, reverse=True):
        raw = raw[:start] + replacement.encode() + raw[end:]
    return raw.decode()
