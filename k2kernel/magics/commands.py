"""`%k2`: the verbs of the workbench as one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from k2kernel.errors import InvalidParameter, QueryError, listed, meant
from k2kernel.html import Listing, record
from k2kernel.magics.notebook import Notebook
from k2kernel.magics.options import Option, among

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


def _connect(notebook: Notebook, words: Words, _: Options) -> object:
    return notebook.connect(*words[:1] or [None])


def _status(notebook: Notebook, _: Words, __: Options) -> Status:
    from k2kernel import __version__

    bench, view = notebook.bench, notebook.view
    reading = "the current state" if view is None else repr(view)
    return Status(str(bench.settings.home), reading, tuple(notebook.saved), notebook.reader(None).stats(), __version__)


def _ingest(notebook: Notebook, words: Words, options: Options) -> object:
    if "profile" not in options:
        raise QueryError(
            "ingest has no --profile", f"Name one; {notebook.bench.guess(words[0]) or 'none'} fits this file"
        )
    given = (each.partition("=") for each in options.pop("option", []))
    values = {name: text for name, _, text in given}
    from k2kernel.widgets import IngestProgress

    with IngestProgress() as bar:
        return notebook.bench.ingest(list(words), options=values, progress=bar, **options)


def _at(notebook: Notebook, words: Words, _: Options) -> object:
    notebook.view = None if words[0] == "now" else notebook.bench.at(words[0])
    return notebook.view or notebook.bench


def _tag(notebook: Notebook, words: Words, options: Options) -> object:
    return notebook.bench.tag(words[0], words[1], **options)


def _pin(notebook: Notebook, words: Words, options: Options) -> object:
    return notebook.bench.pin(words[0], options.pop("table", None), **options)


def _replay(notebook: Notebook, words: Words, options: Options) -> object:
    out, kinds = options.pop("out", None), options.pop("kind", ("trades", "quotes"))
    numbers = {name: float(options.pop(name)) for name in ("speed",) if name in options}
    found = notebook.reader(options.get("as_of")).replay(list(words) or None, kinds=kinds, **numbers, **options)
    if out is None:
        return found.run()
    notebook.shell.user_ns[out] = found
    return None


def _stream(notebook: Notebook, words: Words, options: Options) -> object:
    what, *topics = words
    if what not in _STREAM:
        raise InvalidParameter("stream", what, "is none of its verbs", f"Write one of: {listed(_STREAM)}")
    return _STREAM[what](notebook, topics, options)


def _committed(notebook: Notebook, topics: list[str], _: Options) -> object:
    """How far each table has each partition."""
    found = notebook.bench.streams()
    return Listing(each for each in found if not topics or each.source.rpartition("/")[0] in topics)


def _audit(notebook: Notebook, _: list[str], __: Options) -> object:
    return notebook.bench.audit()


def _sink(notebook: Notebook, topics: list[str], options: Options) -> object:
    """Until interrupted, or so many messages, or the end: what is not committed by then is left to the next start."""
    most = options.get("max_messages")
    if most is not None and not (most.isdigit() and int(most)):
        raise InvalidParameter("max-messages", most, "is no number of messages", "Give a whole number from 1")
    stream = notebook.bench.stream(topics or None, group=options.get("group"))
    try:
        return stream.run(None if most is None else int(most), until_end="until_end" in options)
    except KeyboardInterrupt:
        return stream.done


_STREAM = {"status": _committed, "audit": _audit, "sink": _sink}


def _diff(notebook: Notebook, words: Words, _: Options) -> object:
    return notebook.bench.diff(*words)


_AS_OF = Option("as-of", "STATE", "the state to read", completes="states")
_MOVE = Option("move", "", "the name may stand elsewhere already")
_VENUE = Option("venue", "CODE", "MIC or declared code")

COMMANDS = {
    command.name: command
    for command in (
        Command("connect", "[FOLDER]", "use the lake in a folder, also as the variable `wb`", _connect),
        Command("status", "", "the lake, the state that is read, saved queries, tables", _status, at_most=0),
        Command(
            "ingest",
            "FILE…",
            "load files by a profile",
            _ingest,
            (
                Option("profile", "NAME", "the vendor format", completes="profiles"),
                Option("symbol", "NAME", "the symbol, where the files do not say it"),
                _VENUE,
                Option("option", "NAME=TEXT", "what else the profile asks for", many=True),
                Option("replace", "", "take an earlier load of the same content out"),
                Option("append-grown", "", "load what a file has grown by"),
            ),
            1,
            1_000,
        ),
        Command(
            "symbols",
            "",
            "the instruments, with rows and sessions of each",
            lambda notebook, _, options: notebook.reader(options.get("as_of")).symbols(**options),
            (_AS_OF,),
            0,
            0,
        ),
        Command(
            "sessions",
            "",
            "the sessions of each venue",
            lambda notebook, _, options: notebook.reader(options.get("as_of")).sessions(**options),
            (_AS_OF,),
            0,
            0,
        ),
        Command(
            "snapshots",
            "[TABLE]",
            "the kept states of a table (trades), newest first",
            lambda notebook, words, _: notebook.reader(None).snapshots(*words),
            completes=("tables",),
        ),
        Command("tag", "TABLE NAME", "name a state of a table", _tag, (_AS_OF, _MOVE), 2, 2, ("tables", "states")),
        Command(
            "pin",
            "NAME",
            "name a state of several tables",
            _pin,
            (
                Option("table", "TABLE", "one of the tables; default: all", many=True, completes="tables"),
                _AS_OF,
                Option("hold-until", "DATE", "the last day (UTC) on which the pin cannot be removed"),
                _MOVE,
            ),
            1,
        ),
        Command("at", "STATE", "read this state from now on; `now` goes back", _at, (), 1, 1, ("states",)),
        Command(
            "diff",
            "TABLE A [B]",
            "what differs between two states of a table",
            _diff,
            (),
            2,
            3,
            ("tables", "states", "states"),
        ),
        Command(
            "replay",
            "[SYMBOL…]",
            "run history as one stream and say what was delivered",
            _replay,
            (
                Option("out", "NAME", "put the replay into a variable instead of running it"),
                Option("kind", "TABLE", "trades or quotes; default: both", ("trades", "quotes"), many=True),
                _VENUE,
                Option("session", "DATE", "YYYY-MM-DD, or FIRST..LAST"),
                Option("start", "TIME", "inclusive, with zone; a bare date is the start of that session"),
                Option("end", "TIME", "exclusive, with zone; a bare date is the start of that session"),
                _AS_OF,
                Option("speed", "TIMES", "times the pace of history; 0: as fast as it goes"),
                Option("digest", "", "say the digest of the events"),
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
                Option("max-messages", "COUNT", "sink exactly so many"),
                Option("until-end", "", "sink what the topics hold now"),
                Option("group", "NAME", "share the partitions with other sinks of this group"),
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
