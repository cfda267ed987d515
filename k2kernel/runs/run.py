"""Running a notebook through papermill at a settled state of the lake."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from k2kernel.errors import FileFault, InvalidParameter, extra, listed, meant
from k2kernel.html import Listing
from k2kernel.metrics import METRICS
from k2kernel.runs.record import RECORD, Run, digest, packages, said

if TYPE_CHECKING:
    from k2kernel.times import AsOfLike
    from k2kernel.workbench import Workbench

_AS_OF = "as_of"
OUTPUT, REPORT = "notebook.ipynb", "report.html"


def run(
    bench: Workbench,
    notebook: str | Path,
    parameters: Mapping[str, Any] | None = None,
    as_of: AsOfLike = None,
    folder: str | Path | None = None,
    **marks: Any,
) -> Run:
    """Run a notebook with parameters, and keep its output, a report and `run.json` in a folder of its own.

    `as_of` (None: now) is settled once, for every table, and given to the notebook as its parameter `as_of`, a mapping
    of tables to snapshot ids; what is loaded meanwhile changes nothing. The lake is K2_HOME to the notebook. `folder`
    is by default a new one in `runs` of the lake's home. A cell that fails ends the run: its `status` says so. `marks`
    are the `job`, `due` and `attempt` of a scheduled one.

    FileFault where the file is no notebook; InvalidParameter for a parameter that it does not declare.
    """
    path = Path(notebook).resolve()
    declared = _declared(path)
    if _AS_OF not in declared:
        raise FileFault(
            str(path), f"declares no parameter {_AS_OF}", f"Add `{_AS_OF} = None` to the cell tagged parameters"
        )
    given = {name: _value(name, value, declared) for name, value in (parameters or {}).items()}
    place = new_folder(bench, path.stem) if folder is None else Path(folder).absolute()
    return _run(bench, path, given, dict(bench.at(as_of).states), place, marks)


def again(bench: Workbench, first: Run, **marks: Any) -> Run:
    """Run a notebook again with the parameters of a run and at its states, such as one that failed."""
    path = Path(first.notebook)
    if not first.digest or not path.is_file():
        raise FileFault(first.notebook, "is no notebook that can be run again", "Give the folder of a notebook's run")
    states = {table: None if found is None else int(found) for table, found in first.snapshots.items()}
    return _run(bench, path, dict(first.parameters), states, new_folder(bench, path.stem), marks)


def history(bench: Workbench) -> list[Run]:
    """Every run that is kept in `runs` of the lake's home, newest first."""
    folder = bench.settings.home / "runs"
    found = (Run.load(path.parent) for path in folder.glob(f"*/{RECORD}"))
    return Listing(sorted(found, key=lambda done: (done.started_at, done.folder), reverse=True))


def verify(bench: Workbench, folder: str | Path) -> tuple[Run, list[str]]:
    """Run again what is kept in a folder, at the same states, and say what differs, a sentence each (none: equal)."""
    first = Run.load(Path(folder))
    second = again(bench, first)
    return second, differences(first, second)


def differences(first: Run, again: Run) -> list[str]:
    """What differs between two runs."""
    found = [] if first.digest == again.digest else [f"{first.notebook} was changed since"]
    found += [] if first.status == again.status else [f"it was {first.status}, and is {again.status} now"]
    pairs = zip(first.cells, again.cells, strict=False)
    found += [f"code cell {number} says something else" for number, (a, b) in enumerate(pairs, start=1) if a != b]
    if len(first.cells) != len(again.cells):
        found.append(f"there were {len(first.cells)} code cells, and are {len(again.cells)} now")
    return found


def _run(  # noqa: PLR0917 - what a run is of
    bench: Workbench,
    path: Path,
    given: dict[str, Any],
    states: dict[str, int | None],
    folder: Path,
    marks: Mapping[str, Any],
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    content, started, began = path.read_bytes(), datetime.now(UTC), perf_counter()
    error = _papermill(path, folder / OUTPUT, given | {_AS_OF: states}, bench.settings.home)
    made = _report(folder)
    cells = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    injected = ("injected-parameters", "papermill-error-cell-tag")
    own = [cell for cell in cells if not set(injected) & set(cell["metadata"].get("tags", ()))]
    done = Run(
        folder=str(folder),
        notebook=str(path),
        digest=digest(content),
        parameters=given,
        snapshots={table: None if found is None else str(found) for table, found in states.items()},
        packages=packages(),
        started_at=started.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        status="ok" if error is None else "failed",
        error=error,
        cells=tuple(digest(said(cell)) for cell in own),
        **marks,
    )
    done.save()
    METRICS.runs.labels(done.status).inc()
    METRICS.run_seconds.observe(done.seconds)
    if error is None:
        METRICS.run_last.set(time())
    return done


def _papermill(path: Path, output: Path, parameters: dict[str, Any], home: Path) -> str | None:
    """Execute a notebook in a process of its own; the last line of what went wrong, or None."""
    words = [str(path), str(output), "--cwd", str(path.parent), "--no-progress-bar", "-y", json.dumps(parameters)]
    environment = os.environ | {"K2_HOME": str(home)}
    done = subprocess.run(  # noqa: S603 - our own interpreter, with a list of words
        [sys.executable, "-m", "papermill", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    if not output.exists():
        raise FileFault(str(path), f"cannot be run: {done.stderr.strip().splitlines()[-1]}")
    return done.stderr.strip().splitlines()[-1]


def _report(folder: Path) -> Any:
    """The output notebook, after it was written as a page as well."""
    import nbformat
    from nbconvert import HTMLExporter

    made = nbformat.read(str(folder / OUTPUT), 4)
    made.metadata.pop("widgets", None)  # without a kernel they say no more than their text
    for cell in made["cells"]:  # a display that was taken back has no data, which the exporter complains of
        if "outputs" in cell:
            cell["outputs"] = [each for each in cell["outputs"] if each.get("data", each)]
    page, _ = HTMLExporter().from_notebook_node(made)
    (folder / REPORT).write_text(page, encoding="utf-8")
    return made


def _declared(path: Path) -> dict[str, Any]:
    """The parameters that a notebook declares, with their defaults as Python text."""
    with extra("notebook", "papermill"):
        from papermill import inspect_notebook
    if not path.is_file() or path.suffix != ".ipynb":
        raise FileFault(str(path), "is no notebook", "Give the path of an .ipynb file")
    return {name: facts["default"] for name, facts in inspect_notebook(str(path)).items()}


def _value(name: str, value: Any, declared: Mapping[str, Any]) -> Any:
    """A parameter's value; a text becomes what the default is, such as a number."""
    if name not in declared or name == _AS_OF:
        raise InvalidParameter(
            name, value, "is no parameter of the notebook", f"{meant(name, declared)}It has: {listed(declared)}"
        )
    default = _literal(declared[name])
    if not isinstance(value, str) or isinstance(default, str):
        return value
    return _literal(value)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def new_folder(bench: Workbench, name: str) -> Path:
    """A new folder for a run of a notebook or a job."""
    now = datetime.now(UTC)
    return bench.settings.home / "runs" / f"{name}-{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z"
