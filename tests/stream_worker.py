"""A sink in a process of its own that meets a fault at a step of the commit protocol, for tests that need one.

Nothing of the code under test knows of this: the step's function is wrapped here, in the process that is to die.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.streams import Services

STEPS = ("before write", "after files", "before commit", "after commit", "before acknowledge")
"""Where a sink is killed: each is met once a batch, commits once a table."""

LOST_REPLY = "lost reply"
FENCED = 3
"""The exit code of a sink that another writer has fenced."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.stream_worker", "k2kernel.ingest.stream", "pyiceberg.catalog.sql", "duckdb"])


def sink(  # noqa: PLR0917 - what the sink needs to know
    home: Path,
    services: Services,
    topics: list[str],
    rows: int,
    fault: tuple[str, int] | None,
    group: str | None = None,
) -> BaseProcess:
    """Start a sink that reads until the end of the topics, or as a member of `group` until it is killed, in batches of
    `rows`.
    """
    process = _FORKS.Process(target=_work, args=(home, services, topics, rows, fault, group))
    process.start()
    return process


def _work(  # noqa: PLR0917 - as sink
    home: Path, services: Services, topics: list[str], rows: int, fault: tuple[str, int] | None, group: str | None
) -> None:
    from k2kernel.errors import WriterFenced
    from k2kernel.ingest.stream import How, Stream
    from k2kernel.lake import Lake

    lake = Lake.open(services.settings(home), create=True)
    if fault is not None:
        _prepare(*fault)
    try:
        how = How(rows=rows) if group is None else How(rows=rows, seconds=0.5)
        stream = Stream(lake, services.bootstrap, services.registry_url, topics, group=group, how=how)
        stream.run(until_end=group is None)
    except WriterFenced:
        os._exit(FENCED)
    os._exit(0)


def _prepare(step: str, number: int) -> None:
    """Make the `number`th call of a step the last thing that this process does."""
    from k2kernel.ingest.deliver import Delivery
    from k2kernel.lake import Lake, commit
    from k2kernel.sources.kafka import KafkaSource

    places: dict[str, tuple[Any, str, bool]] = {
        "before write": (Lake, "write", False),
        "after files": (Delivery, "_write", True),
        "before commit": (commit, "commit", False),
        "after commit": (commit, "commit", True),
        "before acknowledge": (KafkaSource, "acknowledge", False),
        LOST_REPLY: (commit, "commit", True),
    }
    owner, name, after = places[step]
    act = _lose if step == LOST_REPLY else _die
    setattr(owner, name, _wrapped(getattr(owner, name), number, act, after=after))


def _wrapped(real: Callable[..., Any], number: int, act: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    calls = 0

    def step(*words: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            act()
        result = real(*words, **named)
        if calls == number and after:
            act()
        return result

    return step


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lose() -> None:
    raise OSError("the answer was lost")
