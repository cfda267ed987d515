"""What the tests of time travel do to a lake: write to it meanwhile, compact it, and expire its past."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from itertools import count
from typing import Any

from k2kernel.lake import Lake
from k2kernel.schemas import KINDS
from tests.query_lake import add


def compact(lake: Lake, table: str = "trades", session: date | None = None) -> int:
    """Compact a table, wholly or all of a session, and return the id of the current snapshot."""
    lake.maintenance.compact(table, session)
    head = lake.head(table)
    assert head is not None
    return head


@contextmanager
def meanwhile(work: Callable[[int], None]) -> Iterator[None]:
    """Call `work(0)`, `work(1)`, … in a thread of its own meanwhile, once at least; what it raises is raised here."""
    stop, failures = threading.Event(), list[Exception]()

    def repeat() -> None:
        try:
            for number in count():
                work(number)
                if stop.is_set():
                    return
        except Exception as exc:  # noqa: BLE001 - raised below, in the test's own thread
            failures.append(exc)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


@contextmanager
def writer_at_work(lake: Lake, row: Mapping[str, Any]) -> Iterator[None]:
    """Meanwhile a writer of its own appends rows like `row` to both kinds and compacts them, again and again."""
    own = Lake.open(lake.settings)

    def work(number: int) -> None:
        for table in KINDS:
            add(own, f"{table}-meanwhile-{number}", [dict(row)], table, minute=number)
            compact(own, table, row["session"])

    with meanwhile(work):
        yield


def expire_past(lake: Lake, table: str = "trades") -> None:
    """Expire every state but the current one and those that have names."""
    time.sleep(0.002)
    lake.maintenance.expire(table, {"last": 1, "every": "0s", "hourly": "0s", "daily": "0s"}, dry_run=False)
