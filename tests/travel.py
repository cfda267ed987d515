"""What the tests of time travel do to a lake: write to it meanwhile, compact it, and expire its past."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
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
def writer_at_work(lake: Lake, row: Mapping[str, Any]) -> Iterator[None]:
    """Meanwhile a writer of its own appends rows like `row` to both kinds and compacts them, again and again."""
    stop, failures = threading.Event(), list[Exception]()

    def work() -> None:
        own = Lake.open(lake.settings)
        try:
            for number in range(1_000):
                for table in KINDS:
                    add(own, f"{table}-meanwhile-{number}", [dict(row)], table, minute=number)
                    compact(own, table, row["session"])
                if stop.is_set():
                    return
        except Exception as exc:  # noqa: BLE001 - raised below, in the test's own thread
            failures.append(exc)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
    assert not failures, failures


def expire_past(lake: Lake, table: str = "trades") -> None:
    """Expire every state but the current one and those that have names."""
    time.sleep(0.002)
    lake.maintenance.expire(table, {"last": 1, "every": "0s", "hourly": "0s", "daily": "0s"}, dry_run=False)
