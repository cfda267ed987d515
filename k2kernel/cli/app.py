"""The root command and the small sub-commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from k2kernel.cli import load, notebooks, profiles, query, replay, serve, services, stream, table
from k2kernel.cli.shared import Home, say, workbench
from k2kernel.times import parse_date

app = typer.Typer(
    help="A research workbench for market data: files to Iceberg, SQL, time travel.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("ingest")(load.ingest)
app.command("replay")(replay.replay)
app.command("run")(notebooks.run)
app.command("schedule")(notebooks.schedule)
app.command("serve")(serve.serve)
app.add_typer(query.app, name="query", help="Trades, quotes, bars, summaries, SQL and what there is.")
app.add_typer(table.app, name="table")
app.add_typer(stream.app, name="stream", help="Files to Kafka, and Kafka into the lake, exactly once.")
app.add_typer(services.app, name="services", help="A broker and a schema registry on this machine.")
app.add_typer(profiles.app, name="profiles", help="Vendor formats: list, describe, draft.")


@app.command()
def init(home: Home = None) -> None:
    """Make an empty lake."""
    bench = workbench(home).init()
    say(f"The lake is at {bench.settings.home}")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="where the CSV files go")],
    rows: Annotated[int, typer.Option(help="about how many rows in all")] = 200_000,
    sessions: Annotated[int, typer.Option(help="trading days")] = 3,
    symbols: Annotated[int, typer.Option(help="instruments a venue")] = 12,
    seed: Annotated[int, typer.Option(help="the same seed gives the same bytes")] = 7,
    start: Annotated[str, typer.Option(help="first day")] = "2024-03-04",
) -> None:
    """Write invented trades and quotes as CSV files, for `k2 ingest --profile k2-trades` and `k2-quotes`."""
    from k2kernel.sample import generate

    for path in generate(
        folder, rows=rows, sessions=sessions, symbols=symbols, seed=seed, start=parse_date(start, "--start")
    ):
        typer.echo(path)


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="a folder of your own files; default: an invented sample")] = None,
    home: Home = None,
) -> None:
    """The main job on one page: load files, look at them, query them, travel back in time."""
    from k2kernel.cli.demo import run

    run(workbench(home), data)


@app.command()
def doctor(home: Home = None) -> None:
    """Say what is configured, reachable and installed."""
    from k2kernel.cli.doctor import run

    raise typer.Exit(run(workbench(home)))


@app.command()
def version() -> None:
    """Print the version."""
    from k2kernel import __version__

    typer.echo(__version__)


def _version_first(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version_first, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Take what may stand before a command."""
