"""`CancelScope`: ends the queries that were made under it, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Self

from k2kernel.errors import QueryCancelled

_current: ContextVar[CancelScope | None] = ContextVar("k2_scope", default=None)


class CancelScope:
    """`with CancelScope() as scope:` puts the queries that this thread begins under it; `scope.cancel()`, from any
    thread, interrupts those that run, and no other one begins.

    An interrupt that comes before a statement runs is lost: who waits for the end calls `cancel` again now and then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Callable[[], object]] = set()
        self._cancelled = False
        self._tokens: list[Token[CancelScope | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._tokens.pop())

    def cancel(self) -> None:
        """Interrupt what runs; QueryCancelled is raised where it is waited for."""
        with self._lock:
            self._cancelled = True
            for interrupt in self._running:
                interrupt()

    def on_cancel(self, interrupt: Callable[[], object]) -> None:
        """Have `cancel` call `interrupt`, too, for as long as the scope lives."""
        with self._lock:
            self._running.add(interrupt)

    def check(self) -> None:
        """QueryCancelled where the scope was cancelled."""
        if self._cancelled:
            raise cancelled()

    @contextmanager
    def watching(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Have `cancel` call `interrupt` meanwhile."""
        with self._lock:
            self._running.add(interrupt)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._running.discard(interrupt)


def current_scope() -> CancelScope:
    """The scope of this thread; one that nobody cancels where there is none."""
    return _current.get() or CancelScope()


def cancelled() -> QueryCancelled:
    """The error of a query that was ended."""
    return QueryCancelled("The query was interrupted", "Ask for less, or allow it more time")
