"""Threads that queries run in, so that the event loop stays free; a time limit or a client that leaves ends them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from k2kernel import CancelScope
from k2kernel.errors import QueryCancelled
from panel_apps.api.problems import Refused

T = TypeVar("T")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_WAITING = 64
"""Requests that may wait for a thread; more are refused."""

_AGAIN_S = 0.05
"""Between two interrupts: one that comes before a statement has begun is lost."""

_PATIENCE_S = 2.0
"""How long an interrupted query may take to end before its request is answered without it."""


class Workers:
    """`most` threads. Work is given up after `seconds` (None: never), and requests that wait as long are refused."""

    def __init__(self, name: str, most: int, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(most, f"k2-{name}")
        self._free, self._waiting = asyncio.Semaphore(most), 0
        self._seconds = seconds
        self._scopes: weakref.WeakSet[CancelScope] = weakref.WeakSet()

    def close(self) -> None:
        """Interrupt everything."""
        for scope in list(self._scopes):
            scope.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, receive: Receive, function: Callable[[], T]) -> T:
        """What `function` returns, in a thread of its own. QueryCancelled at the time limit or when nobody waits."""
        async with self.turn(receive) as turn:
            return await turn.step(function, self._seconds)

    @asynccontextmanager
    async def turn(self, receive: Receive) -> AsyncIterator[Turn]:
        """A thread's turn for one request, which may do several steps; at its end nothing of it runs any more."""
        await self._take()
        turn = Turn(self._pool, receive, self._seconds)
        self._scopes.add(turn.scope)
        try:
            yield turn
        finally:
            turn.end(self._free.release)

    async def _take(self) -> None:
        busy = Refused(503, "busy", "The server runs as many queries as it may; try again soon.", {"Retry-After": "1"})
        if self._free.locked() and self._waiting >= _WAITING:
            raise busy
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise busy from None
        finally:
            self._waiting -= 1


class Turn:
    """The work of one request, a step after another."""

    def __init__(self, pool: ThreadPoolExecutor, receive: Receive, seconds: float) -> None:
        self.scope, self._pool, self.seconds = CancelScope(), pool, seconds
        self._gone = asyncio.ensure_future(_gone(receive))
        self._step: asyncio.Future[Any] | None = None
        self.on_end: Callable[[], object] | None = None

    @property
    def gone(self) -> bool:
        """True where the client has left."""
        return self._gone.done()

    def begin(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Start a step; only one runs at a time."""
        loop = asyncio.get_running_loop()
        self._step = loop.run_in_executor(self._pool, partial(_under, self.scope, function))
        return self._step

    async def step(self, function: Callable[[], T], seconds: float) -> T:
        """What a step returns."""
        return await self.result(self.begin(function), seconds)

    async def result(self, step: asyncio.Future[T], seconds: float) -> T:
        """What a step that was begun returns. QueryCancelled where it takes too long; Refused where nobody waits."""
        await self.wait(step, seconds)
        if not step.done():
            await self._interrupt(step, _PATIENCE_S)
        if self.gone:
            raise Refused(499, "client-left", "The client left before there was an answer.")
        if not step.done():
            raise QueryCancelled("The query was interrupted")
        return step.result()

    async def wait(self, step: asyncio.Future[Any], seconds: float) -> bool:
        """Wait for a step, or the client to leave: true where either came within `seconds`."""
        await asyncio.wait({step, self._gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return step.done() or self.gone

    async def _interrupt(self, step: asyncio.Future[Any], patience: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while not step.done() and loop.time() < until:
            self.scope.cancel()
            await asyncio.wait({step}, timeout=_AGAIN_S)

    def end(self, release: Callable[[], object]) -> None:
        """Interrupt what still runs, call `on_end` in a thread, and give the turn to another request after that."""
        self._gone.cancel()
        if self.on_end is None and (self._step is None or self._step.done()):
            release()
            return
        ending = asyncio.ensure_future(self._finish(release))
        _ENDING.add(ending)
        ending.add_done_callback(_ENDING.discard)

    async def _finish(self, release: Callable[[], object]) -> None:
        try:
            if self._step is not None:
                await self._interrupt(self._step, float("inf"))
                self._step.cancelled() or self._step.exception()
            if self.on_end is not None:
                await asyncio.get_running_loop().run_in_executor(self._pool, self.on_end)
        finally:
            release()


_ENDING: set[asyncio.Future[None]] = set()
"""Tasks that interrupt what nobody waits for any more: the loop itself does not hold them."""


def _under(scope: CancelScope, function: Callable[[], T]) -> T:
    with scope:
        scope.check()
        return function()


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
