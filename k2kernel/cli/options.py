"""The options that several commands have: declared once, and given to a command by `takes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from k2kernel import words
from k2kernel.cli.output import Output
from k2kernel.cli.shared import Home

Symbols = Annotated[list[str] | None, typer.Option("--symbol", "-s", help=words.SYMBOLS)]
Instrument = Annotated[str, typer.Argument(help=words.INSTRUMENT)]
Venue = Annotated[str | None, typer.Option("--venue", "-v", help=words.VENUE)]
Session = Annotated[str | None, typer.Option(help=words.SESSION)]
OneSession = Annotated[str, typer.Argument(help=words.ONE_SESSION)]
Start = Annotated[str | None, typer.Option(help=words.START)]
End = Annotated[str | None, typer.Option(help=words.END)]
AsOf = Annotated[str | None, typer.Option(help=words.AS_OF)]
KnownAt = Annotated[str | None, typer.Option(help=words.KNOWN_AT)]
Clock = Annotated[str, typer.Option(help=words.CLOCK)]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", callback=words.parse_limit, help="first rows only; a table shows 20 unless told"),
]
Format = Annotated[Output, typer.Option("--output", "-o", help="how rows are written")]
Eligible = Annotated[str, typer.Option(help=words.ELIGIBLE)]
Adjustment = Annotated[str, typer.Option(help=words.ADJUSTMENT)]
Hours = Annotated[str, typer.Option(help=words.HOURS)]
Raw = Annotated[bool, typer.Option("--raw", help=words.RAW)]
Columns = Annotated[str | None, typer.Option(help=words.COLUMNS)]
Descending = Annotated[bool, typer.Option("--descending", help=words.DESCENDING)]
Sides = Annotated[str, typer.Option(help=words.SIDES)]
Table = Annotated[str, typer.Argument(help=words.TABLE)]
Profile = Annotated[str, typer.Option("--profile", "-p", help=words.PROFILE)]
FileSymbol = Annotated[str | None, typer.Option("--symbol", "-s", help=words.WHERE_FILES_DO_NOT_SAY)]
FileVenue = Annotated[str | None, typer.Option("--venue", "-v", help=words.WHERE_FILES_DO_NOT_SAY)]
FileOption = Annotated[list[str] | None, typer.Option("--option", help=words.OPTION)]
MaxRejects = Annotated[float, typer.Option(help=words.MAX_REJECTS)]


def where(venue: Venue = None, session: Session = None, start: Start = None, end: End = None) -> None:
    """Which rows."""


def when(as_of: AsOf = None, known_at: KnownAt = None, clock: Clock = "ingest") -> None:
    """At which state."""


def prevailing(
    sign: Annotated[str, typer.Option(help=words.SIGN)] = "side",
    horizon: Annotated[str, typer.Option(help=words.HORIZON)] = "5m",
    book: Annotated[str | None, typer.Option(help=words.BOOK)] = None,
    on: Annotated[str, typer.Option(help=words.ON)] = "ts_event",
    inclusive: Annotated[bool, typer.Option(help=words.INCLUSIVE)] = True,
    tolerance: Annotated[str | None, typer.Option(help=words.TOLERANCE)] = None,
    lag: Annotated[str, typer.Option(help=words.LAG)] = "0s",
) -> None:
    """Which quote goes beside a trade."""


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
        def run(**given: Any) -> None:
            command(**given)

        run.__annotations__ = {each.name: each.annotation for each in every}
        run.__signature__ = Signature(every)  # type: ignore[attr-defined]  # what typer looks at
        return run

    return give


def _declared(of: Callable[..., None]) -> Sequence[Parameter]:
    """The parameters with names, by keyword, their annotations evaluated."""
    hints = get_type_hints(of, include_extras=True)
    named = [each for each in signature(of).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    return [each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY) for each in named]
