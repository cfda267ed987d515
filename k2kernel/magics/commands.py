"""`%k2`: the verbs of the workbench as one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from k2kernel import words
from k2kernel.errors import QueryError, listed, meant, one_of
from k2kernel.html import Listing, record
from k2kernel.magics.notebook import Notebook
from k2kernel.magics.options import WHEN, Option, among

Words = tuple[Any, ...]
Options = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A sub-command: the words it takes (`at_least` of them), what they are completed from, and what it does."""

    name: str
    words: str
    help: str
    run: Callable[[Notebook, Words, Options], object]
    options: tuple[Option, ...] = ()
    at_least: int = 0
    at_most: int = 1
    completes: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """As it is written."""
        options = (f"[{option.usage}]" for option in self.options)
        return " ".join(each for each in ("%k2", self.name, self.words, *options) if each)


@dataclass(frozen=True)
class Status:
    """What the magics stand on."""

    lake: str
    reading: str
    saved: tuple[str, ...]
    tables: Any
    version: str

    def __repr__(self) -> str:
        return f"{self.lake}: {self.reading}; saved queries: {listed(self.saved)}\n{self.tables!r}"

    def _repr_html_(self) -> str:
        facts = {"lake": self.lake, "reading": self.reading, "saved queries": listed(self.saved)}
        return record(facts, f"k2kernel {self.version}") + str(self.tables._repr_html_())


def _connect(notebook: Notebook, given: Words, _: Options) -> object:
    return notebook.connect(*given[:1] or [None])


def _status(notebook: Notebook, _: Words, __: Options) -> Status:
    from k2kernel import __version__

    bench, view = notebook.bench, notebook.view
    reading = "the current state" if view is None else repr(view)
    return Status(str(bench.settings.home), reading, tuple(notebook.saved), notebook.reader(None).stats(), __version__)


def _ingest(notebook: Notebook, given: Words, options: Options) -> object:
    if "profile" not in options:
        raise QueryError(
            "ingest has no --profile", f"Name one; {notebook.bench.guess(given[0]) or 'none'} fits this file"
        )
    values = words.by_name("option", options.pop("option", ()))
    from k2kernel.widgets import IngestProgress

    with IngestProgress() as bar:
        return notebook.bench.ingest(list(given), options=values, progress=bar, **options)


def _at(notebook: Notebook, given: Words, _: Options) -> object:
    notebook.view = None if given[0] == "now" else notebook.bench.at(given[0])
    return notebook.view or notebook.bench


def _tag(notebook: Notebook, given: Words, options: Options) -> object:
    return notebook.bench.tag(*given, **options)


def _pin(notebook: Notebook, given: Words, options: Options) -> object:
    return notebook.bench.pin(given[0], options.pop("table", None), **options)


def _replay(notebook: Notebook, given: Words, options: Options) -> object:
    out, kinds = options.pop("out", None), options.pop("kind", ("trades", "quotes"))
    found: Any = notebook.reader(options.get("as_of")).replay(list(given) or None, kinds=kinds, **options)
    if out is None:
        return found.run()
    notebook.shell.user_ns[out] = found
    return None


def _stream(notebook: Notebook, given: Words, options: Options) -> object:
    what, *topics = given
    return STREAM[one_of("stream", what, STREAM)](notebook, topics, options)


def _committed(notebook: Notebook, topics: list[str], _: Options) -> object:
    """How far each table has each partition."""
    found = notebook.bench.streams()
    return Listing(each for each in found if not topics or each.source.rpartition("/")[0] in topics)


def _sink(notebook: Notebook, topics: list[str], options: Options) -> object:
    """Until interrupted, or so many messages, or the end: what is not committed by then is left to the next start."""
    most, until_end = options.pop("max_messages", None), options.pop("until_end", False)
    if "bytes" in options:
        options["nbytes"] = options.pop("bytes")
    stream = notebook.bench.stream(topics or None, **options)
    try:
        return stream.run(most, until_end=until_end)
    except KeyboardInterrupt:
        return stream.done


STREAM = {"status": _committed, "audit": lambda notebook, _, __: notebook.bench.audit(), "sink": _sink}
"""What `%k2 stream` does by its verb."""


_AS_OF = WHEN[0]
_MOVE = Option("move", "", words.MOVE)

COMMANDS = {
    command.name: command
    for command in (
        Command("connect", "[FOLDER]", "use the lake in a folder, also as the variable `wb`", _connect),
        Command("status", "", "the lake, the state that is read, saved queries, tables", _status, at_most=0),
        Command(
            "ingest",
            "FILE…",
            "load files into the lake by a profile",
            _ingest,
            (
                Option("profile", "NAME", words.PROFILE, completes="profiles"),
                Option("symbol", "NAME", words.WHERE_FILES_DO_NOT_SAY),
                Option("venue", "CODE", words.WHERE_FILES_DO_NOT_SAY),
                Option("option", "NAME=TEXT", words.OPTION, many=True),
                Option("replace", "", words.REPLACE),
                Option("append-grown", "", words.APPEND_GROWN),
                Option("max-rejects", "SHARE", words.MAX_REJECTS, kind=float),
                Option("on-duplicate", "WORD", words.ON_DUPLICATE),
                Option("workers", "NUMBER", words.WORKERS, kind=int),
            ),
            1,
            1_000,
        ),
        Command(
            "symbols",
            "",
            "the instruments, with rows and sessions of each",
            lambda notebook, _, options: notebook.reader(options.get("as_of")).symbols(**options),
            WHEN,
            0,
            0,
        ),
        Command(
            "sessions",
            "",
            "the sessions of each venue, with rows of each",
            lambda notebook, _, options: notebook.reader(options.get("as_of")).sessions(**options),
            WHEN,
            0,
            0,
        ),
        Command(
            "snapshots",
            "[TABLE]",
            "the kept states of a table, newest first; default: trades",
            lambda notebook, given, _: notebook.reader(None).snapshots(*given),
            completes=("tables",),
        ),
        Command("tag", "TABLE NAME", "name a state of a table", _tag, (_AS_OF, _MOVE), 2, 2, ("tables", "states")),
        Command(
            "pin",
            "NAME",
            "name a state of several tables",
            _pin,
            (
                Option("table", "TABLE", words.PINNED, many=True, completes="tables"),
                _AS_OF,
                Option("hold-until", "DATE", words.HOLD_UNTIL),
                _MOVE,
            ),
            1,
        ),
        Command("at", "STATE", "read this state from now on; `now` goes back", _at, (), 1, 1, ("states",)),
        Command(
            "diff",
            "TABLE A [B]",
            "what differs between two states of a table",
            lambda notebook, given, _: notebook.bench.diff(*given),
            (),
            2,
            3,
            ("tables", "states", "states"),
        ),
        Command(
            "replay",
            "[SYMBOL…]",
            "trades and quotes of several symbols in one order; says what was delivered",
            _replay,
            (
                Option("out", "NAME", "put the replay into a variable instead of running it"),
                Option("kind", "TABLE", words.KINDS, ("trades", "quotes"), many=True),
                Option("venue", "CODE", words.VENUE),
                Option("session", "DATE", words.SESSION),
                Option("start", "TIME", words.START),
                Option("end", "TIME", words.END),
                *WHEN,
                Option("raw", "", words.RAW),
                Option("hours", "WORD", words.HOURS),
                Option("speed", "TIMES", words.SPEED, kind=float),
                Option("order-by", "CLOCK", words.ORDER_BY),
                Option("ties", "WORD", words.TIES),
                Option("limit", "EVENTS", "first events only", kind=int),
                Option("position", "TOKEN", words.POSITION),
                Option("digest", "", words.DIGEST),
            ),
            at_most=1_000,
            completes=("symbols",),
        ),
        Command(
            "stream",
            "VERB [TOPIC…]",
            "status: how far topics are in the lake; audit: that it was exactly once; sink: take them in",
            _stream,
            (
                Option("group", "NAME", words.GROUP),
                Option("rows", "COUNT", words.ROWS, kind=int),
                Option("bytes", "COUNT", words.NBYTES, kind=int),
                Option("seconds", "TIME", words.SECONDS, kind=float),
                Option("bad", "WORD", words.BAD),
                Option("gaps", "WORD", words.GAPS),
                Option("max-messages", "COUNT", words.MAX_MESSAGES, kind=int),
                Option("until-end", "", words.UNTIL_END),
            ),
            1,
            1_000,
            ("stream",),
        ),
    )
}


def run(notebook: Notebook, line: str, scope: Mapping[str, Any]) -> object:
    """Do what a line says, and return what the cell shows."""
    name, _, rest = line.strip().partition(" ")
    if name not in COMMANDS:
        problem = f"There is no %k2 {name}" if name else "%k2 has no sub-command"
        raise QueryError(problem, f"{meant(name, COMMANDS)}Sub-commands: {listed(COMMANDS)}")
    command = COMMANDS[name]
    given = among(rest, command.options, scope)
    if not command.at_least <= len(given.words) <= command.at_most:
        raise QueryError(f"%k2 {name} takes {command.words or 'no words'}", f"Write {command.usage}")
    return command.run(notebook, given.words, {key.replace("-", "_"): value for key, value in given.options.items()})
