"""Turns: writers of one home commit in the order in which they came, instead of racing each other.

Nothing depends on them: the catalog decides which commit stands. A race costs the loser an attempt, and eight writers
without turns lose seven attempts of eight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from threading import Thread

PATIENCE_S = 2.0
"""Seconds until a writer goes on without its turn: who has it may be stopped, or wait for a catalog."""


class Turns:
    """Turns at the tables of a lake, by locks on files in `folder`, which the system drops with their process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def at(self, table: str) -> Iterator[None]:
        """While the block runs, no other writer of this home has its turn at the table; see `PATIENCE_S`."""
        with ExitStack() as stack:
            with suppress(OSError):  # a home that cannot be written has no turns
                self._folder.mkdir(parents=True, exist_ok=True)
                _take(stack.enter_context((self._folder / f"{table}.lock").open("w")).fileno())
            yield


def _take(lock: int) -> None:
    """Wait for the lock in line. A wait that is given up ends by itself: closing the file drops what it gets."""
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        waiting = Thread(target=flock, args=(lock, LOCK_EX), daemon=True)
        waiting.start()
        waiting.join(PATIENCE_S)
