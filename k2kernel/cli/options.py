"""The options that several commands have: declared once, and given to a command by `takes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from k2kernel.cli.output import Output
from k2kernel.cli.shared import Home

Symbols = Annotated[list[str] | None, typer.Option("--symbol", "-s", help="one or more; default: all")]
Instrument = Annotated[str, typer.Argument(help="the instrument")]
Venue = Annotated[str | None, typer.Option("--venue", "-v", help="MIC or declared code")]
Session = Annotated[str | None, typer.Option(help="YYYY-MM-DD, or FIRST..LAST, both inclusive")]
Start = Annotated[str | None, typer.Option(help="time with zone, inclusive; a bare date is the start of that session")]
End = Annotated[str | None, typer.Option(help="time with zone, exclusive; a bare date is the start of that session")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="snapshot id, tag, branch, pin, or time with zone")]
KnownAt = Annotated[str | None, typer.Option("--known-at", help="time with zone: only what was known by then")]
Clock = Annotated[str, typer.Option(help="with --known-at, by what time: ingest, recv or event")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="first rows only; a table shows 20 unless told")]
Format = Annotated[Output, typer.Option("--output", "-o", help="how rows are written")]
Eligible = Annotated[str, typer.Option(help="which trades count: venue (the venue's policy), all, or a policy")]
Adjustment = Annotated[str, typer.Option(help="prices across corporate actions: raw, split, dividend or all")]
Hours = Annotated[str, typer.Option(help="all, rth (open to close, breaks apart), or rth+auctions")]
Raw = Annotated[bool, typer.Option("--raw", help="every row received, also undone ones")]
Columns = Annotated[str | None, typer.Option(help="names joined by commas; default: all, or a few in a table")]


def where(venue: Venue = None, session: Session = None, start: Start = None, end: End = None) -> None:
    """Which rows."""


def when(as_of: AsOf = None, known_at: KnownAt = None, clock: Clock = "ingest") -> None:
    """At which state."""


def written(limit: Limit = None, output: Format = Output.table, home: Home = None) -> None:
    """How many of the answer, how, and from which lake."""


Group = Callable[..., None]


def takes(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that the parameters of `groups` declare, behind its own.

    It gets them by name: those that it does not name itself in its `**words`.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = _declared(command)
        given = [each for group in groups for each in _declared(group)]
        names = {each.name for each in given}
        every = [*(each for each in own if each.name not in names), *given]

        @wraps(command)
        def run(**words: Any) -> None:
            command(**words)

        run.__annotations__ = {each.name: each.annotation for each in every}
        run.__signature__ = Signature(every)  # type: ignore[attr-defined]  # what typer looks at
        return run

    return give


def _declared(of: Callable[..., None]) -> Sequence[Parameter]:
    """The parameters with names, by keyword, their annotations evaluated."""
    hints = get_type_hints(of, include_extras=True)
    named = [each for each in signature(of).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    return [each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY) for each in named]
