"""Runs: notebooks that were run, by hand or on a schedule, as their folders tell."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import panel as pn

from k2kernel.errors import K2Error
from k2kernel.runs import Run, history
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
        right = pn.Column(looks.card(self._told, title="Run"), width=460)
        self.body = looks.columns(pn.Column(left, self._none, sizing_mode="stretch_width"), right)

    def read(self, desk: Desk) -> Any:
        """The newest runs."""
        desk.key.check(desk.states)
        return attempt(lambda: history(desk.store.bench)[:_MOST])

    def show(self, desk: Desk, found: list[Run] | K2Error) -> None:  # noqa: ARG002 - a page is given it
        """Fill the table."""
        made = [] if isinstance(found, K2Error) else found
        nothing = looks.none("No run yet: k2 run NOTEBOOK makes one, k2 schedule makes them when they are due.")
        self._none.object = looks.problem(str(found)) if isinstance(found, K2Error) else "" if made else nothing
        shown = {
            "started (UTC)": [_time(run.started_at) for run in made],
            "job": [run.job or "by hand" for run in made],
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
        facts += [("job", f"{run.job}, due {run.due}, attempt {run.attempt}")] if run.job else []
        facts += [("parameters", looks.text(run.parameters)), ("digest", run.digest)]
        facts += [(f"{table} at", pin) for table, pin in run.snapshots.items() if pin]
        facts += [(name, number) for name, number in run.packages.items()]
        self._told.object = looks.table(["", ""], facts, ["quiet", "m"])


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return text
