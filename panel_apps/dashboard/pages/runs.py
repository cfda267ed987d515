"""Runs: notebooks that were run, by hand or on a schedule, as their folders tell."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from k2kernel.runs import Run
from panel_apps.dashboard import looks
from panel_apps.dashboard.page import Grid, Shell, attempt
from panel_apps.dashboard.store import Desk, Row

_MOST = 200


class Runs:
    """What is in the folder `runs` of the lake's home, the newest first."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._told = looks.html(looks.none("Click a run to see what it was of."))
        self._grid = Grid(self._ask, ("cells", "seconds"), height=720)
        left = looks.card(self._grid.pane, title="Notebook runs")
        self._none = looks.html()
        self.body = pn.Row(
            pn.Column(left, self._none, sizing_mode="stretch_width"),
            pn.Column(looks.card(self._told, title="Run"), width=460), sizing_mode="stretch_width", margin=(8, 8, 0, 0),
        )  # fmt: skip

    def read(self, desk: Desk) -> list[Run]:
        """The runs that can be read."""
        desk.key.check(desk.states)
        return runs(desk.store.bench.settings.home / "runs")

    def show(self, desk: Desk, found: list[Run] | K2Error) -> None:  # noqa: ARG002 - a page is given it
        """Fill the table."""
        made = [] if isinstance(found, K2Error) else found
        self._none.object = "" if made else looks.none("No run yet: k2 run NOTEBOOK makes one.")
        shown = {
            "started (UTC)": [_time(run.started_at) for run in made],
            "notebook": [Path(run.notebook).name for run in made],
            "change": [f'<span class="{"up" if run.error is None else "down"}">{run.status}</span>' for run in made],
            "cells": [str(len(run.cells)) for run in made],
            "seconds": [f"{run.seconds:.1f}" for run in made],
            "parameters": [looks.text(run.parameters) for run in made],
        }
        self._grid.fill(shown, [{"run": run} for run in made])

    def _ask(self, row: Row) -> None:
        run: Run = row["run"]
        facts: list[tuple[str, Any]] = [("notebook", run.notebook), ("folder", run.folder), ("status", run.status)]
        facts += [("error", run.error)] if run.error else []
        facts += [("parameters", looks.text(run.parameters)), ("digest", run.digest)]
        facts += [(f"{table} at", pin) for table, pin in run.snapshots.items() if pin]
        facts += [(name, number) for name, number in run.packages.items()]
        self._told.object = looks.table(["", ""], facts, ["quiet", "m"])


def runs(folder: Path) -> list[Run]:
    """The runs kept under a folder, the newest first; what is no run is left out."""
    found = [attempt(lambda each=each: Run.load(each)) for each in folder.glob("*") if (each / "run.json").is_file()]  # type: ignore[misc]
    kept = [run for run in found if isinstance(run, Run)]
    return sorted(kept, key=lambda run: run.started_at, reverse=True)[:_MOST]


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return text
