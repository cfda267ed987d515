"""`k2 table`: the states of a table, its upkeep, and its copies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel import words
from k2kernel.cli.options import AsOf, End, Format, KnownAt, Limit, Session, Start, Symbols, Table, Venue
from k2kernel.cli.output import Output, record, records, rows, whole
from k2kernel.cli.query import snapshots
from k2kernel.cli.shared import Home, say, workbench

if TYPE_CHECKING:
    from k2kernel.lake import Pin, Upkeep

app = typer.Typer(
    help="Tables: name their states, compare them, go back to one; keep them small and quick; copy them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_STATES, _UPKEEP, _COPIES = "States", "Upkeep", "Copies"
app.command(rich_help_panel=_STATES)(snapshots)

Name = Annotated[str, typer.Argument(help="a-z, 0-9, . _ -, a letter first")]
State = Annotated[str, typer.Argument(help=words.AS_OF)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done")]
Apply = Annotated[bool, typer.Option("--apply", help="do it; without, only say what would be done")]
_APPLY = "with --apply"
Move = Annotated[bool, typer.Option("--move", help=words.MOVE)]


class What(StrEnum):
    """What of a diff to show."""

    summary = "summary"
    symbols = "symbols"
    bars = "bars"
    rows = "rows"


@app.command(rich_help_panel=_STATES)
def diff(
    table: Table,
    a: State,
    b: Annotated[str | None, typer.Argument(help="as A; default: now")] = None,
    what: Annotated[What, typer.Option("--show", help="summary, symbols, bars (of a minute) or rows")] = What.symbols,
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """What differs between two states of a table: rows added, removed and changed, by symbol, bar or row."""
    found = workbench(home).diff(table, a, b)
    if what is What.summary and output is not Output.table:
        record(found.summary, output)
        return
    if output is Output.table:
        typer.echo(str(found.summary))
    if what is not What.summary:
        rows({What.symbols: found.symbols, What.bars: found.bars, What.rows: found.rows}[what](), output, limit)


@app.command(rich_help_panel=_STATES)
def quality(
    symbol: Symbols = None,
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    quiet: Annotated[str, typer.Option(help="a pause longer than this is a gap")] = "10m",
    stale: Annotated[str, typer.Option(help="a quote older than this at a trade is stale")] = "10m",
    outside: Annotated[str, typer.Option(help="share of the price that a trade may be beyond the book")] = "0.01",
    outlier: Annotated[float, typer.Option(help="robust standard deviations from the median price")] = 10.0,
    gaps: Annotated[str, typer.Option(help="what sequence numbers count: auto, instrument or source")] = "auto",
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """What is missing, out of order or out of line in trades and quotes: totals, or with -o a row by session."""
    which = {"venue": venue, "session": session, "start": start, "end": end, "as_of": as_of, "known_at": known_at}
    limits = {"quiet": quiet, "stale": stale, "outside": outside, "outlier": outlier, "gaps": gaps}
    found = workbench(home).quality(symbol, **which, **limits)
    if output is Output.table:
        typer.echo(repr(found))
    else:
        whole(found.to_arrow(), output)


@app.command(rich_help_panel=_STATES)
def tag(table: Table, name: Name, as_of: AsOf = None, move: Move = False, home: Home = None) -> None:
    """Name a state of a table: the current one unless told, whose id is printed."""
    typer.echo(workbench(home).tag(table, name, as_of, move=move))


@app.command(rich_help_panel=_STATES)
def untag(table: Table, name: Name, home: Home = None) -> None:
    """Take a tag away; its snapshot stays until it expires."""
    workbench(home).untag(table, name)


@app.command(rich_help_panel=_STATES)
def tags(table: Table = "trades", output: Format = Output.table, home: Home = None) -> None:
    """The names that states of TABLE have: tags, branches and pins."""
    records(workbench(home).tags(table), output)


@app.command(rich_help_panel=_STATES)
def pin(
    name: Name,
    table: Annotated[list[str] | None, typer.Option("--table", "-t", help=words.PINNED)] = None,
    as_of: AsOf = None,
    hold_until: Annotated[str | None, typer.Option(help=words.HOLD_UNTIL)] = None,
    move: Move = False,
    home: Home = None,
) -> None:
    """Name a state of several tables: each in a commit of its own, with the ids recorded in all of them."""
    made = workbench(home).pin(name, table, as_of, hold_until=hold_until, move=move)
    records(_of_tables(made), Output.table)


@app.command(rich_help_panel=_STATES)
def unpin(name: Name, home: Home = None) -> None:
    """Take a pin away from every table, unless it is held."""
    workbench(home).unpin(name)


@app.command(rich_help_panel=_STATES)
def pins(output: Format = Output.table, home: Home = None) -> None:
    """Every pin, a row for each of its tables."""
    records([row for made in workbench(home).pins() for row in _of_tables(made)], output)


@app.command(rich_help_panel=_STATES)
def rollback(table: Table, state: State, home: Home = None) -> None:
    """Make an earlier state of TABLE the current one; the state before gets a tag to go forward to again."""
    done = workbench(home).rollback(table, state)
    typer.echo(str(done))
    if done.undo is not None:
        say(f"k2: k2 table rollback {table} {done.undo} undoes it")


@app.command(rich_help_panel=_STATES)
def publish(table: Table, branch: Name, home: Home = None) -> None:
    """Make the head of a branch the current state of TABLE, unless that would drop rows, and print its id."""
    typer.echo(workbench(home).publish(table, branch))


@app.command(rich_help_panel=_UPKEEP)
def maintain(
    table: Annotated[str | None, typer.Argument(help="default: each")] = None,
    dry_run: DryRun = False,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Compact, expire and remove orphans, by the policy of the settings; fit for a schedule."""
    _told(workbench(home).maintain(table, dry_run=dry_run), output)


@app.command(rich_help_panel=_UPKEEP)
def compact(
    table: Table,
    session: Annotated[str | None, typer.Option(help="YYYY-MM-DD: write all files of this session again")] = None,
    dry_run: DryRun = False,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Write the small files of each session as few sorted ones, in one snapshot that changes no row."""
    _told([workbench(home).compact(table, session, dry_run=dry_run)], output)


@app.command(rich_help_panel=_UPKEEP)
def expire(
    table: Table,
    last: Annotated[int | None, typer.Option(help="keep the newest states")] = None,
    every: Annotated[str | None, typer.Option(help="keep every state so long, such as 1h")] = None,
    hourly: Annotated[str | None, typer.Option(help="keep the last state of each hour so long")] = None,
    daily: Annotated[str | None, typer.Option(help="keep the last state of each day so long")] = None,
    apply: Apply = False,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Take away old states without a name, and their files; what is not said is as in the settings. See --apply."""
    given = {"last": last, "every": every, "hourly": hourly, "daily": daily}
    policy = {name: word for name, word in given.items() if word is not None}
    _told([workbench(home).expire(table, policy, dry_run=not apply)], output, _APPLY)


@app.command(rich_help_panel=_UPKEEP)
def orphans(
    table: Table,
    older_than: Annotated[
        str | None, typer.Option(help="such as 3d; younger ones may be a commit's on its way")
    ] = None,
    apply: Apply = False,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Delete files that nothing refers to, such as those of a load that was killed. See --apply."""
    _told([workbench(home).orphans(table, older_than, dry_run=not apply)], output, _APPLY)


@app.command(rich_help_panel=_UPKEEP)
def rewrite_manifests(table: Table, dry_run: DryRun = False, output: Format = Output.table, home: Home = None) -> None:
    """Merge the manifests of the current state, which are read to plan a query."""
    _told([workbench(home).rewrite_manifests(table, dry_run=dry_run)], output)


@app.command(rich_help_panel=_COPIES)
def export(
    table: Table,
    folder: Annotated[Path, typer.Argument(help="a new one")],
    as_of: AsOf = None,
    home: Home = None,
) -> None:
    """Copy a state of TABLE to FOLDER: its rows, what they came from, and how far streams are."""
    typer.echo(str(workbench(home).export(table, folder, as_of)))


@app.command("import", rich_help_panel=_COPIES)
def restore(folder: Annotated[Path, typer.Argument(help="of k2 table export")], home: Home = None) -> None:
    """Bring an exported state back, into a lake whose table is empty, under a new snapshot id."""
    typer.echo(str(workbench(home).restore(folder)))


@app.command(rich_help_panel=_COPIES)
def migrate_catalog(
    uri: Annotated[str, typer.Argument(help="as postgresql+psycopg://…, or the http URL of a REST catalog")],
    home: Home = None,
) -> None:
    """Move the embedded catalog to another one, with the tables in place and their history, and retire it."""
    typer.echo(str(workbench(home).migrate_catalog(uri)))


def _told(done: list[Upkeep], output: Output, how: str = "without --dry-run") -> None:
    """A sentence for each step that did something, or a row each for machines."""
    if output is not Output.table:
        records(done, output)
        return
    busy = [each for each in done if not each.idle]
    for each in busy or done if len(done) == 1 else busy:
        typer.echo(str(each))
    idle = dict.fromkeys(each.table for each in done if each.table not in {other.table for other in busy})
    if idle and len(done) > 1:
        typer.echo(f"nothing to do: {', '.join(idle)}")
    if busy and not all(each.applied for each in busy):
        say(f"k2: nothing was changed; {how} it is")


@dataclass(frozen=True)
class _PinnedTable:
    """One table of a pin, as it is shown."""

    name: str
    table: str
    snapshot_id: int | None
    created_at: datetime
    hold_until: date | None
    complete: bool


def _of_tables(made: Pin) -> list[_PinnedTable]:
    return [
        _PinnedTable(made.name, table, state, made.created_at, made.hold_until, made.complete)
        for table, state in made.snapshots.items()
    ]
