"""Who asked what at the doors of people, where settings ask for a record of it: a JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from getpass import getuser
from time import perf_counter

from k2kernel.config import Settings


@contextmanager
def noted(settings: Settings, door: str, what: str) -> Iterator[None]:
    """Note the use of a `door` (cli, notebook) in the file of K2_AUDIT_LOG: when (UTC), who, what, for how long, and
    how it ended (`ok`, or the error's name). A file that cannot be written is the caller's error.
    """
    if settings.audit_log is None:
        yield
        return
    at, began, ended = datetime.now(UTC), perf_counter(), "ok"
    try:
        yield
    except BaseException as exc:
        ended = "ok" if isinstance(exc, SystemExit) and not exc.code else type(exc).__name__
        raise
    finally:
        line = {
            "at": at.isoformat(timespec="milliseconds"),
            "user": getuser(),
            "pid": os.getpid(),
            "door": door,
            "lake": str(settings.home),
            "what": what,
            "seconds": round(perf_counter() - began, 3),
            "ended": ended,
        }
        settings.audit_log.parent.mkdir(parents=True, exist_ok=True)
        with settings.audit_log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
