"""`k2 run` and `k2 schedule`: notebooks as jobs that can be repeated, by hand and by the clock."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2kernel.cli.options import AsOf, Format
from k2kernel.cli.output import Output, records
from k2kernel.cli.shared import Home, say, workbench
from k2kernel.errors import InvalidParameter
from k2kernel.words import by_name

if TYPE_CHECKING:
    from k2kernel.runs import Run
    from k2kernel.workbench import Workbench

LIST = Path("list")


def run(
    notebook: Annotated[
        Path | None, typer.Argument(help="an .ipynb file with a cell tagged parameters; `list`: the runs so far")
    ] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE for a parameter of it")] = None,
    as_of: AsOf = None,
    folder: Annotated[Path | None, typer.Option(help="of the run; default: a new one in runs of the lake")] = None,
    verify: Annotated[
        Path | None, typer.Option(help="the folder of a run, or of evidence, to be made again at the same states")
    ] = None,
    again: Annotated[
        Path | None, typer.Option(help="the folder of a run that failed, to run at the same states")
    ] = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Run NOTEBOOK at one state of the lake, and print the folder with its output, report and run.json.

    The exit status is 1 where the run failed, or where what is verified is not the same.
    """
    from k2kernel import runs

    if sum(each is not None for each in (notebook, verify, again)) != 1:
        raise InvalidParameter("notebook", str(notebook), "--verify and --again are alternatives", "Give one of them")
    bench = workbench(home)
    found: list[str] = []
    if notebook == LIST:
        records([Line.of(each) for each in runs.history(bench)], output)
        return
    if verify is not None and (verify / "evidence.json").exists():
        raise typer.Exit(_checked(bench, verify))
    if verify is not None:
        done, found = runs.verify(bench, verify)
    elif again is not None:
        done = runs.again(bench, runs.Run.load(again))
    else:
        done = runs.run(bench, str(notebook), by_name("param", param), as_of, folder)
    for each in found:
        say(f"k2: {each}")
    typer.echo(done.folder)
    say(f"k2: {done}")
    raise typer.Exit(1 if found or done.error is not None else 0)


def _checked(bench: Workbench, folder: Path) -> int:
    """Hold evidence against its seal and its question."""
    from k2kernel.workbench import Evidence

    kept = Evidence.open(bench, folder)
    faults = kept.faults()
    for fault in faults:
        say(f"k2: {fault}")
    typer.echo(str(kept))
    return 1 if faults else 0


@dataclass(frozen=True)
class Line:
    """A run in the list of runs."""

    started_at: str
    notebook: str
    job: str | None
    due: str | None
    attempt: int
    status: str
    seconds: float
    error: str | None
    folder: str

    @classmethod
    def of(cls, done: Run) -> Line:
        """What the list says of a run."""
        said = {name: getattr(done, name) for name in cls.__dataclass_fields__}
        return cls(**{**said, "notebook": Path(done.notebook).name})


def schedule(
    file: Annotated[Path, typer.Argument(help="a table for each job")] = Path("schedules.toml"),
    once: Annotated[bool, typer.Option("--once", help="do what is due now, and end")] = False,
    show: Annotated[bool, typer.Option("--show", help="print the next three times of each job, and end")] = False,
    home: Home = None,
) -> None:
    """Run notebooks and maintenance when they are due, until interrupted; --once: exit status 1 where one failed."""
    from k2kernel import runs

    planned = runs.Schedule(workbench(home, long=not (once or show)), runs.load(file), lambda done: say(f"k2: {done}"))
    if show:
        for due, job in planned.coming(3):
            typer.echo(f"{due:%Y-%m-%d %H:%M:%S} UTC  {job.name}  {job.notebook or f'maintain {job.maintain}'}")
    elif once:
        last = {(done.job, done.due): done.error for done in planned.once()}
        raise typer.Exit(1 if any(last.values()) else 0)
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: planned.stop())
        planned.run()
