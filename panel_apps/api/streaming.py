"""Answers that are made while they are sent, a piece at a time: memory does not grow with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import chain

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from k2kernel.errors import K2Error
from panel_apps.api.problems import Refused
from panel_apps.api.work import Turn

_LOG = logging.getLogger("k2.http")

Pieces = Generator[bytes, None, None]


def begun(pieces: Pieces, turn: Turn) -> Iterator[bytes]:
    """Pieces of which the first is made; whatever becomes of them, they end with the turn."""
    turn.on_end = pieces.close
    return chain([next(pieces, b"")], pieces)


class Stream(Response):
    """Pieces of bytes that a turn makes one by one, the next one while one is sent.

    Each must come, and be taken by the client, within the turn's time limit; with `beat` a piece may take any time, and
    `beat` is sent meanwhile, every `beat_s` seconds. A stream that fails is broken off before its end, so that no
    client takes it for a whole one.
    """

    def __init__(  # noqa: PLR0917 - two places make it
        self,
        turn: Turn,
        holding: AsyncExitStack,
        pieces: Iterator[bytes],
        media_type: str,
        headers: Mapping[str, str],
        beat: bytes = b"",
        beat_s: float = 15.0,
    ) -> None:
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.body = b""
        self.init_headers(headers)
        del self.headers["content-length"]
        self._turn, self._holding, self._pieces, self._beat, self._beat_s = turn, holding, pieces, beat, beat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the turn listens
        """Send everything."""
        async with self._holding:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async for piece in self._made():
                    async with asyncio.timeout(self._turn.seconds):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            except (K2Error, Refused, TimeoutError) as exc:
                _LOG.warning("broken off: %s", str(exc) or "the client stopped reading")
                return
            await send({"type": "http.response.body", "body": b""})

    async def _made(self) -> AsyncIterator[bytes]:
        """The pieces, and beats between them."""
        turn, pieces = self._turn, self._pieces
        step = turn.begin(lambda: next(pieces, None))
        while True:
            if self._beat and not await turn.wait(step, self._beat_s):
                yield self._beat
                continue
            piece = await turn.result(step, turn.seconds)
            if piece is None:
                return
            step = turn.begin(lambda: next(pieces, None))
            if piece:
                yield piece
