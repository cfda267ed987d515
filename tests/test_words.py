"""One language: the words, defaults, meanings, values and errors of every door, derived from the code and compared.

`VERBS` says where each verb is asked for. What a door calls otherwise, adds or leaves out is data with its reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any

import pytest
import typer.main

from k2kernel import Workbench, streaming, words
from k2kernel.cli.app import app
from k2kernel.config import Settings
from k2kernel.magics import sql
from k2kernel.magics.commands import COMMANDS
from k2kernel.quality import quality
from k2kernel.query import Joins, QueryEngine
from k2kernel.query.asof import Prevailing
from k2kernel.query.money import turnover
from k2kernel.replay import ReplayEngine
from k2kernel.runs import run
from panel_apps.api.cursors import Signer
from panel_apps.app import make_api

REQUIRED = "required"


@dataclass(frozen=True)
class Word:
    """A word as one door takes it."""

    default: str | None
    meaning: str = ""


Words = Mapping[str, Word]


@dataclass(frozen=True)
class Verb:
    """Where a verb is asked for: in Python, as commands, as magics, and as routes (method and path)."""

    python: Callable[..., Any]
    cli: str
    magic: str = ""
    http: tuple[tuple[str, str], ...] = ()


VERBS = {
    "trades": Verb(QueryEngine.trades, "query trades", http=(("get", "/v1/trades"), ("post", "/v1/trades/query"))),
    "quotes": Verb(QueryEngine.quotes, "query quotes", http=(("get", "/v1/quotes"), ("post", "/v1/quotes/query"))),
    "bars": Verb(QueryEngine.bars, "query bars", http=(("get", "/v1/bars"), ("post", "/v1/aggregations"))),
    "summary": Verb(QueryEngine.summary, "query summary", http=(("get", "/v1/summary/{symbol}/{date}"),)),
    "symbols": Verb(QueryEngine.symbols, "query symbols", "symbols", (("get", "/v1/symbols"),)),
    "sessions": Verb(QueryEngine.sessions, "query sessions", "sessions", (("get", "/v1/sessions"),)),
    "stats": Verb(QueryEngine.stats, "query stats", http=(("get", "/v1/stats"),)),
    "snapshots": Verb(Workbench.snapshots, "query snapshots", "snapshots", (("get", "/v1/snapshots"),)),
    "sql": Verb(QueryEngine.sql, "query sql", "k2sql", (("post", "/v1/sql"),)),
    "replay": Verb(ReplayEngine.replay, "replay", "replay", (("post", "/v1/replay"), ("get", "/v1/replay/stream"))),
    "spreads": Verb(Joins.spreads, "query spreads"),
    "spread_summary": Verb(Joins.spread_summary, "query spread-summary"),
    "turnover": Verb(turnover, "query turnover"),
    "quality": Verb(quality, "table quality"),
    "hours": Verb(Workbench.hours, "query hours"),
    "ingest": Verb(Workbench.ingest_each, "ingest", "ingest"),
    "produce": Verb(streaming.produce, "stream produce"),
    "stream": Verb(streaming.open_stream, "stream sink", "stream"),
    "run": Verb(run, "run"),
    "restore": Verb(Workbench.restore, "table import"),
}

OF_TABLES = (
    *("tags", "tag", "untag", "pin", "unpin", "diff", "rollback", "publish", "compact", "expire", "orphans"),
    *("rewrite_manifests", "maintain", "export", "migrate_catalog"),
)
VERBS |= {
    name: Verb(getattr(Workbench, name), f"table {name.replace('_', '-')}", name if name in COMMANDS else "")
    for name in OF_TABLES
}

ONE = {"symbols": "symbol", "kinds": "kind", "options": "option", "params": "param", "tables": "table"}
"""A word that takes many has, as an option that is given again for each, the name of one."""

CALLED = {
    ("http", "fields"): ("columns", "the design's word"),
    ("http", "cursor"): ("position", "signed, and of the server only"),
    ("http", "date"): ("session", "the design's path"),
    ("http", "query"): ("text", "the design's word"),
    ("http", "sort"): ("descending", "the design's word: -ts_event is the latest first"),
    ("cli", "bytes"): ("nbytes", "bytes is a type in Python"),
    ("magic", "bytes"): ("nbytes", "bytes is a type in Python"),
    ("cli", "files"): ("paths", "a shell has found them by its own patterns"),
    ("python", "files"): ("paths", "wb.produce has found them by their patterns"),
    ("python", "parameters"): ("param", "a notebook's, as papermill calls them"),
    ("cli", "apply"): ("dry_run", "what deletes is asked for twice on the command line"),
    ("cli", "state"): ("as_of", "the argument, where there must be one"),
}
"""What a door calls otherwise, and why."""

OWN: dict[str, dict[str | tuple[str, str], str]] = {
    "cli": {
        "home": "which lake",
        "output": "how rows are written",
        "limit": "how many are written",
        ("ingest", "dry_run"): "wb.preview",
        ("replay", "to_kafka"): "replay.publish(KafkaSink(…))",
        ("diff", "show"): "methods of Diff",
        ("run", "verify"): "runs.verify",
        ("run", "again"): "runs.again",
        ("produce", "resend"): "producer.resend",
        ("stream", "max_messages"): "a word of Stream.run",
        ("stream", "until_end"): "a word of Stream.run",
        ("produce", "asset_class"): "a word of open_producer",
        ("replay", "asset_class"): "a word of open_producer",
        ("produce", "partitions"): "a word of open_producer",
        ("produce", "compression"): "a word of open_producer",
        ("produce", "symbol"): "among the options of a profile",
        ("produce", "venue"): "among the options of a profile",
        ("expire", "last"): "part of a policy",
        ("expire", "every"): "part of a policy",
        ("expire", "hourly"): "part of a policy",
        ("expire", "daily"): "part of a policy",
    },
    "magic": {
        "out": "a variable instead of an answer",
        "to": "methods of Result",
        "limit": "how many are kept",
        "explain": "Result.explain",
        "save": "named queries are the notebook's",
        "with": "named queries are the notebook's",
        "plot": "plots.chart",
        "tz": "Result.tz",
        ("stream", "max_messages"): "a word of Stream.run",
        ("stream", "until_end"): "a word of Stream.run",
    },
    "http": {
        "format": "how rows are written",
        "tz": "how times are written",
        "limit": "the rows of a page",
        "position": "pages of any answer",
        "columns": "of any answer",
        ("snapshots", "as_of"): "wb.at(as_of).snapshots()",
        "if-none-match": "a header",
        "last-event-id": "a header",
        "accept": "a header",
    },
}
"""Words of a door that are none of the verb, and what is the like in Python."""

LEFT_OUT: dict[str | tuple[str, str, str], str] = {
    "by_close": "the order in which replays take bars",
    "pace_clock": "a Python object",
    "gaps": "control records, which only Python hands out",
    "batch_rows": "how Python is handed rows",
    "progress": "doors always show it",
    "expected": "of a replay that goes on live, which only Python has",
    "marks": "of scheduled runs",
    "policy": "has its parts as options",
    ("cli", "quotes", "raw"): "changes nothing",
    ("magic", "sql", "text"): "the cell",
    ("http", "sql", "engine"): "the server's setting",
    ("cli", "spread_summary", "start"): "it would cut a session",
    ("cli", "spread_summary", "end"): "it would cut a session",
    ("http", "replay", "digest"): "a stream ends when its client has enough",
    ("http", "replay", "speed"): "pages have no pace",
}
"""Words of Python that doors leave out: everywhere, or at one door for one verb."""

WORDS_OF_LINES = {
    "ingest": {"paths"},
    "snapshots": {"table"},
    "tag": {"table", "name"},
    "pin": {"name"},
    "diff": {"table", "a", "b"},
    "replay": {"symbol"},
    "stream": {"topics"},
}
"""What stands on the line of a magic without an option."""

INNER = ("self", "bench", "engine", "settings", "lake")
"""Parameters that no caller of a workbench gives."""

WHEN = ("as_of", "known_at", "clock")
HOW = ("on", "inclusive", "tolerance", "sides", "book")

OTHER_DEFAULTS = {
    ("cli", "symbol"): "one instrument must be named where an argument follows it",
    ("cli", "dry_run"): "without --apply nothing is deleted",
    ("http", "descending"): "the order is a word, not a switch",
}
"""Defaults that are written otherwise at a door."""

DESCRIBED_OTHERWISE = {"replay": "in pages, or as events of a stream", "stream": "the magic has three verbs in one"}

MEANINGS = {name: text for name, text in vars(words).items() if name.isupper()}


@cache
def openapi() -> dict[str, Any]:
    return make_api(Settings(), Signer(Settings())).openapi()


def plain(value: object) -> str | None:
    """A default as it is compared."""
    if value is inspect.Parameter.empty:
        return REQUIRED
    if value in (None, (), {}, [], ""):
        return None
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(float(value)) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else str(value)


def of_python(verb: Verb) -> Words:
    given = inspect.signature(verb.python).parameters.values()
    found = {each.name: Word(plain(each.default)) for each in given if each.kind is not each.VAR_KEYWORD}
    inner = {name for name in INNER if name in found and found[name].default == REQUIRED}
    more = of_joins() if verb.python in {Joins.spreads, Joins.spread_summary} else {}
    return named("python", {name: word for name, word in {**more, **found}.items() if name not in inner})


def named(door: str, found: Words) -> Words:
    """Words by the names that they have in Python, of one."""
    python = {CALLED.get((door, name), (name, ""))[0]: word for name, word in found.items()}
    return {ONE.get(name, name): word for name, word in python.items()}


def of_joins() -> Words:
    """What `**words` of spreads stand for: the words that choose trades, and those that choose quotes."""
    trades, how = of_python(VERBS["trades"]), {each.name: Word(plain(each.default)) for each in fields(Prevailing)}
    chosen = {name: trades[name] for name in ("venue", "session", "start", "end", "hours", "limit", *WHEN)}
    return chosen | {name: how[name] for name in HOW if name in how} | {"sign": Word("side"), "lag": Word("0s")}


def of_cli(verb: Verb) -> Words:
    command: Any = typer.main.get_command(app)
    for name in verb.cli.split():
        command = command.commands[name]
    return dict(_options(command.params))


def _options(params: Iterable[Any]) -> Iterator[tuple[str, Word]]:
    for each in params:
        name = max(each.opts, key=len).lstrip("-").replace("-", "_")
        default = each.default.value if isinstance(each.default, Enum) else each.default
        yield name, Word(REQUIRED if each.required else plain(default), each.help or "")


def of_magic(verb: Verb) -> Words:
    known = sql.OPTIONS if verb.magic == "k2sql" else COMMANDS[verb.magic].options
    return {option.name.replace("-", "_"): Word(None, option.help) for option in known}


def of_http(method: str, path: str) -> Words:
    operation = openapi()["paths"][path][method]
    found = {
        each["name"]: Word(_default(each["schema"], each["required"]), each.get("description", ""))
        for each in operation.get("parameters", [])
    }
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        needed = body.get("required", [])
        found |= {
            name: Word(_default(each, name in needed), each.get("description", ""))
            for name, each in body["properties"].items()
        }
    return {name.lower(): word for name, word in found.items()}


def _default(schema: Mapping[str, Any], required: bool) -> str | None:
    return REQUIRED if required else plain(schema.get("default"))


def asked() -> Iterator[tuple[str, str, Words]]:
    """Each verb at each door: the door, the verb, and the words by their names in Python."""
    for name, verb in VERBS.items():
        found = [("cli", of_cli(verb)), *(("http", of_http(*route)) for route in verb.http)]
        found += [("magic", of_magic(verb))] if verb.magic else []
        for door, words_of in found:
            yield door, name, named(door, words_of)


ASKED = list(asked())
each_door = pytest.mark.parametrize(("door", "name", "taken"), ASKED, ids=[f"{door}-{name}" for door, name, _ in ASKED])


def its_own(door: str, name: str, word: str) -> bool:
    return word in OWN[door] or (name, word) in OWN[door]


@each_door
def test_a_word_of_a_door_is_a_word_of_python_with_its_default(door: str, name: str, taken: Words) -> None:
    python = of_python(VERBS[name])
    assert not {word for word in taken.keys() - python.keys() if not its_own(door, name, word)}
    for word in taken.keys() & python.keys():
        if (door, word) not in OTHER_DEFAULTS and taken[word].default is not None:
            assert taken[word].default == python[word].default, word


@each_door
def test_a_word_of_python_is_a_word_of_the_door(door: str, name: str, taken: Words) -> None:
    missing = {
        word
        for word in of_python(VERBS[name]).keys() - taken.keys()
        if word not in LEFT_OUT
        and (door, name, word) not in LEFT_OUT
        and not (door == "magic" and word in WORDS_OF_LINES.get(name, ()))
    }
    assert not missing


@pytest.mark.parametrize("name", VERBS)
def test_a_word_means_the_same_at_every_door(name: str) -> None:
    said: dict[str, set[str]] = {}
    for door, verb, taken in ASKED:
        for word, each in taken.items():
            if verb == name and not its_own(door, name, word) and (door, word) not in OTHER_DEFAULTS:
                said.setdefault(word, set()).add(meaning(each.meaning))
    assert not {word: texts for word, texts in said.items() if len(texts) > 1}


def meaning(text: str) -> str:
    """What a text has of what is said once; a door may add how it is written."""
    return max((known for known in MEANINGS.values() if known in text), key=len, default=text)


def test_a_letter_is_one_option() -> None:
    letters: dict[str, set[str]] = {}
    for command in leaves(typer.main.get_command(app)):
        for each in command.params:
            for letter in (text for text in each.opts if len(text) == 2):
                letters.setdefault(letter, set()).add(each.name)
    assert letters.pop("-p") == {"profile", "param"}  # as papermill has it
    assert not {letter: names for letter, names in letters.items() if len(names) > 1}


def leaves(command: Any) -> Iterator[Any]:
    inner = getattr(command, "commands", {})
    yield from (leaf for each in inner.values() for leaf in leaves(each)) if inner else (command,)


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.magic or verb.http])
def test_a_verb_is_described_alike(name: str) -> None:
    verb = VERBS[name]
    command: Any = typer.main.get_command(app)
    for each in verb.cli.split():
        command = command.commands[each]
    said = [command.help, *(openapi()["paths"][path][method]["description"] for method, path in verb.http)]
    said += [COMMANDS[verb.magic].help] if verb.magic in COMMANDS else []
    heads = {re.split(r"[;:.]", text)[0].lower() for text in said if "with the words in the body" not in text}
    assert len(heads) == 1 or name in DESCRIBED_OTHERWISE, heads
