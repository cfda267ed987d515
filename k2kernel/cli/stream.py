"""`k2 stream`: files to topics, topics into the lake, and the proof that it was exactly once."""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel import words
from k2kernel.cli.load import options_of
from k2kernel.cli.options import FileOption, FileSymbol, FileVenue, Format, Limit, MaxRejects
from k2kernel.cli.output import SHOWN, Output, records, rows, whole
from k2kernel.cli.shared import Home, say, workbench
from k2kernel.errors import InvalidParameter

if TYPE_CHECKING:
    from k2kernel.ingest.stream import Streamed

app = typer.Typer(
    help="Files to Kafka, and Kafka into the lake, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
letters = typer.Typer(help="Messages that were no rows.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(letters, name="dead-letter")

Source = Annotated[str | None, typer.Option("--source", help="topic/partition")]
Offset = Annotated[int | None, typer.Option("--offset", help="of one message")]
Fault = Annotated[str | None, typer.Option("--error", help="class of the fault: frame, schema, decode or value")]
AssetClass = Annotated[str | None, typer.Option(help="word of the topic's name; default: the venue's own")]
Partitions = Annotated[int | None, typer.Option(min=1, help="how many a topic has")]

_LETTER = ["source", "source_offset", "target", "error", "reason", "schema_id", "ts_ingest", "state"]


@app.command()
def produce(
    files: Annotated[list[Path], typer.Argument(help="as for k2 ingest; with --resend, of undelivered rows")],
    profile: Annotated[str | None, typer.Option("--profile", "-p", help=words.PROFILE)] = None,
    symbol: FileSymbol = None,
    venue: FileVenue = None,
    option: FileOption = None,
    asset_class: AssetClass = None,
    partitions: Partitions = None,
    compression: Annotated[str, typer.Option(help="lz4 or zstd")] = "lz4",
    max_rejects: MaxRejects = 0.01,
    resend: Annotated[bool, typer.Option("--resend", help="publish rows again that could not be delivered")] = False,
    home: Home = None,
) -> None:
    """Publish trades and quotes of files; exit status 1 where rows could not be delivered."""
    bench = workbench(home)
    if resend == (profile is not None):
        raise typer.BadParameter("give --profile, or --resend")
    if profile is None:
        told = bench.resend(files, progress=True)
        typer.echo(str(told))
        raise typer.Exit(1 if told.failed else 0)
    sent = bench.produce(
        files,
        profile,
        options=options_of(option, symbol, venue),
        max_rejects=max_rejects,
        progress=True,
        asset_class=asset_class,
        partitions=partitions,
        compression=compression,
    )
    for each in sent:
        typer.echo(str(each))
    raise typer.Exit(1 if any(each.published.failed for each in sent) else 0)


@app.command()
def register(
    topics: Annotated[list[str], typer.Argument(help="market.<asset class>.<kind>.<venue>")], home: Home = None
) -> None:
    """Register the schemas of topics, for producers that may not do it (K2_SCHEMA_REGISTER=false); prints their ids."""
    from k2kernel.streaming import register as do_it

    for topic, number in do_it(workbench(home).settings, topics).items():
        typer.echo(f"{topic}: schema id {number}")


@app.command()
def sink(
    topics: Annotated[list[str] | None, typer.Argument(help="default: every market.* topic")] = None,
    group: Annotated[str | None, typer.Option(help=words.GROUP)] = None,
    messages: Annotated[int, typer.Option("--rows", min=1, help=words.ROWS)] = 500_000,
    nbytes: Annotated[int, typer.Option("--bytes", min=1, help=words.NBYTES)] = 64 * 1024 * 1024,
    seconds: Annotated[float, typer.Option(min=0, help=words.SECONDS)] = 10.0,
    bad: Annotated[str, typer.Option(help=words.BAD)] = "dead_letter",
    gaps: Annotated[str | None, typer.Option(help=words.GAPS)] = None,
    max_messages: Annotated[int | None, typer.Option(min=1, help=words.MAX_MESSAGES)] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help=words.UNTIL_END)] = False,
    home: Home = None,
) -> None:
    """Stream topics into the lake until interrupted; a stop takes about a second and loses nothing.

    Standard error says how far it is: at the beginning, and at most every ten seconds, on a terminal every second.
    """
    how = {"rows": messages, "nbytes": nbytes, "seconds": seconds, "bad": bad, "gaps": gaps}
    stream = workbench(home, long=True).stream(topics or None, group=group, **how)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stream.stop()) for number in numbers]
    try:
        typer.echo(str(stream.run(max_messages, until_end=until_end, tell=_Teller())))
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@app.command()
def status(
    topics: Annotated[list[str] | None, typer.Argument(help="default: every one")] = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """How far the lake has each partition, and how far that is behind the brokers."""
    found = [each for each in workbench(home).streams() if not topics or each.source.rpartition("/")[0] in topics]
    records(found, output)
    if not found:
        say("nothing of these topics is in the lake or at the brokers")


@app.command()
def audit(output: Format = Output.table, home: Home = None) -> None:
    """Prove that no row was lost or doubled; exit status 1 where one was."""
    found = workbench(home).audit()
    records(list(found.findings), output)
    say(str(found))
    for fault in found.faults:
        say(f"  {fault}")
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def gaps(
    event: Annotated[str | None, typer.Option(help="gap, reorder, duplicate or reset; default: all")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", "-s", help="of the row that shows it")] = None,
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Sequence numbers that were missing, late or there twice, or began again, by streams that watch them."""
    wanted = "($event IS NULL OR event = $event) AND ($symbol IS NULL OR symbol = $symbol)"
    text = f"SELECT * FROM gaps WHERE {wanted} ORDER BY ts_ingest DESC, source, source_offset DESC"
    rows(workbench(home).sql(text, {"event": event, "symbol": symbol}), output, limit)


@letters.command("list")
def list_letters(
    every: Annotated[bool, typer.Option("--all", help="also those that were restored or dropped")] = False,
    source: Source = None,
    error: Fault = None,
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Messages that were no rows, and why."""
    chosen = workbench(home).dead_letters().chosen(source, None, error, None if every else "open")
    most = limit or (SHOWN if output is Output.table else len(chosen))
    whole(chosen.select(_LETTER).head(most).to_arrow(), output)
    if most < len(chosen):
        say(f"{most} of {len(chosen):,}; --limit N shows more, -o csv writes all")


@letters.command()
def show(
    source: Annotated[str, typer.Argument(help="topic/partition")],
    offset: Annotated[int, typer.Argument(help="of the message")],
    home: Home = None,
) -> None:
    """One message: what is known about it, its bytes in hexadecimal, and what of them is text."""
    found = workbench(home).dead_letters().chosen(source, offset)
    if found.is_empty():
        raise InvalidParameter(
            "offset", offset, f"is no dead letter of {source}", "See k2 stream dead-letter list --all"
        )
    for row in found.iter_rows(named=True):
        raw = row["raw"]
        told = row | {"raw": raw and raw.hex(" "), "text": raw and "".join(map(_legible, raw))}
        for name, value in told.items():
            typer.echo(f"{name:<13}  {'' if value is None else value}".rstrip())


def _legible(byte: int) -> str:
    return chr(byte) if chr(byte).isprintable() and byte < 0x7F else "."


@letters.command()
def retry(source: Source = None, offset: Offset = None, error: Fault = None, home: Home = None) -> None:
    """Read messages again; those that are rows now are restored, each once. Exit status 1 where some are still bad."""
    from k2kernel.streaming import services

    bench = workbench(home)
    letters = bench.dead_letters()
    found = letters.retry(services(bench.settings)[1], letters.open(source, offset, error))
    typer.echo(str(found))
    for reason, count in sorted(found.still["reason"].value_counts().iter_rows()):
        say(f"  {count:,} of them: {reason}")
    raise typer.Exit(1 if len(found.still) else 0)


@letters.command()
def drop(
    source: Source = None,
    offset: Offset = None,
    error: Fault = None,
    every: Annotated[bool, typer.Option("--all", help="all that are open")] = False,
    home: Home = None,
) -> None:
    """Let go of messages: they stay in the table and are not listed or tried any more."""
    if every == any(each is not None for each in (source, offset, error)):
        raise typer.BadParameter("say which: --source, --offset or --error, or --all")
    found = workbench(home).dead_letters()
    typer.echo(f"{found.drop(found.open(source, offset, error)):,} dropped")


class _Teller:
    """Says how far a stream is, now and then."""

    def __init__(self) -> None:
        self._next, self._seconds = 0.0, 1 if sys.stderr.isatty() else 10

    def __call__(self, done: Streamed) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._seconds
            say(f"{datetime.now(UTC):%H:%M:%S} UTC: {done}")
