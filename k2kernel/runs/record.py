"""`Run`: what a notebook run was of, and what came out, as `run.json` keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from k2kernel.errors import FileFault
from k2kernel.html import facts, record, states

RECORD = "run.json"
_PACKAGES = ("k2kernel", "duckdb", "pyiceberg", "polars", "pyarrow", "papermill", "ipykernel")
_PASSING = re.compile(r"in \d+\.\d+ s\b|0x[0-9a-f]{6,}|\bOut\[\d+\]")
"""What differs between two equal runs: times taken, and addresses."""


@dataclass(frozen=True)
class Run:
    """A run of `notebook` (its SHA-256 is `digest`), kept in `folder`.

    `snapshots` are the states (ids as texts, None: the table had none) that its parameter `as_of` was given. `cells`
    has for every code cell the SHA-256 of what it printed and showed as text, without times taken. `status` is `ok` or
    `failed`, and `error` then the last line of what went wrong. `started_at` is UTC. A scheduled run has its `job`, the
    time that it was `due` (UTC), and which `attempt` it was; one of maintenance, which has no notebook, the `steps`
    that changed something, a sentence each.
    """

    folder: str
    notebook: str
    digest: str
    parameters: Mapping[str, Any]
    snapshots: Mapping[str, str | None]
    packages: Mapping[str, str]
    started_at: str
    seconds: float
    status: str
    error: str | None
    cells: tuple[str, ...]
    job: str | None = None
    due: str | None = None
    attempt: int = 1
    steps: tuple[str, ...] | None = None

    def save(self) -> None:
        """Write `run.json`."""
        path = Path(self.folder) / RECORD
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a run folder; FileFault where it is none."""
        try:
            known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            lists = {name: tuple(known[name]) for name in ("cells", "steps") if known.get(name) is not None}
            return cls(**{**known, **lists, "folder": str(folder)})
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise FileFault(str(folder), f"is no run: {exc}", "Give the folder that `k2 run` named") from exc

    @property
    def row(self) -> dict[str, object]:
        """What a list of runs says of it."""
        kept = ("started_at", "job", "due", "attempt", "status", "seconds", "error", "folder")
        return {"notebook": Path(self.notebook).name, **{name: getattr(self, name) for name in kept}}

    def __str__(self) -> str:
        ended = "ok" if self.error is None else f"failed: {self.error}"
        done = f"{len(self.cells)} cells" if self.steps is None else f"{len(self.steps)} changes"
        return f"{Path(self.notebook).name} {ended} ({done} in {self.seconds:.1f} s), in {self.folder}"

    def _repr_html_(self) -> str:
        known = facts(self) | {
            "cells": len(self.cells),
            "packages": None,
            "snapshots": states(self.snapshots),
            "parameters": json.dumps(dict(self.parameters)),
        }
        return record(known, "notebook run")


def packages() -> dict[str, str]:
    """The versions that a run depends on."""
    return {name: version(name) for name in _PACKAGES}


def digest(content: bytes | str) -> str:
    """The SHA-256 of a content."""
    return sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()


def said(cell: Mapping[str, Any]) -> str:
    """What a code cell printed and showed, as text, without what differs between two equal runs."""
    texts = []
    for output in cell.get("outputs", ()):
        texts.append(output.get("text", "") if output.get("name") == "stdout" else "")
        texts.append(output.get("data", {}).get("text/plain", ""))
    return _PASSING.sub("", "\n".join("".join(text) for text in texts if text))
