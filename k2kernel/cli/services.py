"""`k2 services`: a broker and a schema registry on this machine, for development."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel.cli.shared import Home, say, workbench

if TYPE_CHECKING:
    from pathlib import Path

    from k2kernel.services import LocalServices, Running

app = typer.Typer(
    help="A broker and a schema registry on this machine, for development.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def up(
    brokers: Annotated[int | None, typer.Option(min=1, max=5, help="brokers of the cluster; default: one")] = None,
    home: Home = None,
) -> None:
    """Start them and print the settings that lead to them, for the shell or for `.env`."""
    _print(_services(home).up(brokers))


@app.command()
def down(
    delete: Annotated[bool, typer.Option("--delete", help="delete their topics and schemas, too")] = False,
    home: Home = None,
) -> None:
    """Stop them; topics, schemas and addresses stay for the next start."""
    done = "stopped, and their data deleted" if delete else "stopped; k2 services up goes on with their data"
    say(done if _services(home).down(delete=delete) else "nothing was started")


@app.command()
def status(home: Home = None) -> None:
    """What runs; exit status 1 where something does not."""
    running = _services(home).status()
    if running is None or not running.processes:
        say("nothing runs; k2 services up starts a broker and a registry")
        raise typer.Exit(1)
    for process in running.processes:
        say(f"{process.name}: {'runs' if process.alive else 'ended'}, process {process.pid}, log {process.log}")
    _print(running)
    raise typer.Exit(0 if running.alive else 1)


def _services(home: Path | None) -> LocalServices:
    from k2kernel.services import LocalServices

    return LocalServices(workbench(home).settings.home / "services")


def _print(running: Running) -> None:
    for name, value in running.environment.items():
        typer.echo(f"{name}={value}")
