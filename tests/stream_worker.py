"""A sink in a process of its own that meets a fault at a step of the commit protocol, for tests that need one.

Nothing of the code under test knows of this: the step's function is wrapped here, in the process that is to die.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.streams import Services

STEPS = ("before write", "after files", "before commit", "after commit", "before acknowledge")
"""Places in the commit protocol: each is met once a batch, commits once a table."""

FENCED = 3
"""The exit code of a sink that another writer has fenced."""


@dataclass(frozen=True)
class Fault:
    """What happens to a sink where it meets a step for the `number`th time: it is killed (`die`), stands still until it
    is woken up (`sleep`), or hears of a failure although the step was done (`lose`).
    """

    step: str
    number: int = 1
    what: str = "die"


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.stream_worker", "k2kernel.ingest.stream", "pyiceberg.catalog.sql", "duckdb"])


def sink(  # noqa: PLR0917 - what the sink needs to know
    home: Path,
    services: Services,
    topics: list[str],
    rows: int,
    fault: Fault | None = None,
    group: str | None = None,
) -> BaseProcess:
    """Start a sink that reads until the end of the topics, or as a member of `group` until it is killed, in batches of
    `rows`.
    """
    process = _FORKS.Process(target=_work, args=(home, services, topics, rows, fault, group))
    process.start()
    return process


def _work(  # noqa: PLR0917 - as sink
    home: Path, services: Services, topics: list[str], rows: int, fault: Fault | None, group: str | None
) -> None:
    from k2kernel.errors import WriterFenced
    from k2kernel.ingest.stream import How, Stream
    from k2kernel.lake import Lake

    lake = Lake.open(services.settings(home), create=True)
    if fault is not None:
        _prepare(fault)
    try:
        how = How(rows=rows) if group is None else How(rows=rows, seconds=0.5)
        stream = Stream(lake, services.bootstrap, services.registry_url, topics, group=group, how=how)
        stream.run(until_end=group is None)
    except WriterFenced:
        os._exit(FENCED)
    os._exit(0)


def _prepare(fault: Fault) -> None:
    """Let the fault happen at its step."""
    from k2kernel.ingest.deliver import Delivery
    from k2kernel.lake import Lake, commit
    from k2kernel.sources.kafka import KafkaSource

    places: dict[str, tuple[Any, str]] = {
        "before write": (Lake, "write"),
        "after files": (Delivery, "_write"),
        "before commit": (commit, "commit"),
        "after commit": (commit, "commit"),
        "before acknowledge": (KafkaSource, "acknowledge"),
    }
    owner, name = places[fault.step]
    setattr(owner, name, _wrapped(getattr(owner, name), fault))


def _wrapped(real: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    calls, before = 0, fault.step.startswith("before")

    def step(*words: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fault.number and before:
            _happen(fault.what)
        result = real(*words, **named)
        if calls == fault.number and not before:
            _happen(fault.what)
        return result

    return step


def _happen(what: str) -> None:
    if what == "lose":
        raise OSError("the answer was lost")
    os.kill(os.getpid(), signal.SIGKILL if what == "die" else signal.SIGSTOP)
    time.sleep(1)  # a stop takes hold a moment later, and this thread would be past the step by then


def asleep(pid: int | None) -> bool:
    """Whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
