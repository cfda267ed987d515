"""`k2 stream`: files to topics, topics into the lake, and the proof that it was exactly once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel.cli.load import options_of
from k2kernel.cli.options import Format, Limit
from k2kernel.cli.output import Output, frame, records, rows, write
from k2kernel.cli.shared import Home, say, workbench

if TYPE_CHECKING:
    import pyarrow as pa

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

_SHOWN = 20
_LETTER = ["source", "source_offset", "target", "error", "reason", "schema_id", "ts_ingest", "state"]


@app.command()
def produce(
    files: Annotated[list[Path], typer.Argument(help="as for k2 ingest; with --resend, of undelivered rows")],
    profile: Annotated[str | None, typer.Option("--profile", "-p", help="a shipped profile or a .toml file")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", "-s", help="where the file does not say")] = None,
    venue: Annotated[str | None, typer.Option("--venue", "-v", help="where the file does not say")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=TEXT, where the profile reads it")] = None,
    asset_class: AssetClass = None,
    partitions: Partitions = None,
    compression: Annotated[str, typer.Option(help="lz4 or zstd")] = "lz4",
    max_rejects: Annotated[float, typer.Option(help="share of lines that may be bad, 0 to 1")] = 0.01,
    resend: Annotated[bool, typer.Option("--resend", help="publish rows again that could not be delivered")] = False,
    home: Home = None,
) -> None:
    """Publish trades and quotes of files; exit status 1 where rows could not be delivered."""
    bench = workbench(home)
    if resend == (profile is not None):
        raise typer.BadParameter("give --profile, or --resend")
    with bench.producer(asset_class=asset_class, partitions=partitions, compression=compression) as producer:
        if profile is None:
            for path in files:
                producer.resend(path)
            told = producer.flush()
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
def sink(
    topics: Annotated[list[str] | None, typer.Argument(help="default: every market.* topic")] = None,
    group: Annotated[str | None, typer.Option(help="share the partitions with other sinks of this group")] = None,
    messages: Annotated[int, typer.Option("--rows", min=1, help="commit after so many messages")] = 500_000,
    nbytes: Annotated[int, typer.Option("--bytes", min=1, help="or so many bytes of them")] = 64 * 1024 * 1024,
    seconds: Annotated[float, typer.Option(min=0, help="or so long after the first")] = 10.0,
    bad: Annotated[str, typer.Option(help="what to do with messages that are no rows: dead_letter, skip, suspend")] = (
        "dead_letter"
    ),
    gaps: Annotated[
        str | None, typer.Option(help="watch sequence numbers, which count the rows of an instrument, or of a source")
    ] = None,
    max_messages: Annotated[int | None, typer.Option(min=1, help="stop after exactly so many")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="stop where the topics end now")] = False,
    home: Home = None,
) -> None:
    """Stream topics into the lake until interrupted; a stop takes about a second and loses nothing."""
    words = {"rows": messages, "nbytes": nbytes, "seconds": seconds, "bad": bad, "gaps": gaps}
    stream = workbench(home, long=True).stream(topics or None, group=group, **words)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stream.stop()) for number in numbers]
    try:
        typer.echo(str(stream.run(max_messages, until_end=until_end)))
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


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
    words = {"event": event, "symbol": symbol}
    rows(workbench(home).sql(text, words), output, limit)


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
    found = workbench(home).dead_letters()
    chosen = found.all() if every else found.open(source, None, error)
    shown = limit or (_SHOWN if output is Output.table else len(chosen))
    _print(chosen.select(_LETTER).head(shown).to_arrow(), output)


@letters.command()
def show(
    source: Annotated[str, typer.Argument(help="topic/partition")],
    offset: Annotated[int, typer.Argument(help="of the message")],
    home: Home = None,
) -> None:
    """One message: what is known about it, and its bytes in hexadecimal."""
    for row in workbench(home).dead_letters().open(source, offset).iter_rows(named=True):
        for name, value in row.items():
            typer.echo(f"{name}: {value.hex(' ') if isinstance(value, bytes) else value}")


@letters.command()
def retry(source: Source = None, offset: Offset = None, error: Fault = None, home: Home = None) -> None:
    """Read messages again; those that are rows now are restored, each once. Exit status 1 where some are still bad."""
    from k2kernel.streaming import services

    bench = workbench(home)
    letters = bench.dead_letters()
    found = letters.retry(services(bench.settings)[1], letters.open(source, offset, error))
    typer.echo(str(found))
    raise typer.Exit(1 if len(found.still) else 0)


@letters.command()
def drop(source: Source = None, offset: Offset = None, error: Fault = None, home: Home = None) -> None:
    """Let go of messages: they stay in the table and are not listed or tried any more."""
    found = workbench(home).dead_letters()
    typer.echo(f"{found.drop(found.open(source, offset, error)):,} dropped")


def _print(table: pa.Table, output: Output) -> None:
    if output is Output.table:
        frame(table)
    else:
        write(table.to_batches() or [table.schema.empty_table().to_batches()[0]], output)
