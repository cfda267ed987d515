"""What every request of a server shares."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request

from k2kernel import Settings, Workbench
from panel_apps.api.cursors import Signer
from panel_apps.api.keys import Key
from panel_apps.api.problems import Refused
from panel_apps.api.work import Workers

_KEPT_BYTES = 32_000_000
"""Bodies that are kept, all together."""

_SMALL = 256_000
"""Bytes of a body that is kept."""


class Kept:
    """Small bodies by their ETag, which names snapshots: an answer never changes."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[str, tuple[bytes, dict[str, str]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._made: dict[str, threading.Event] = {}

    @contextmanager
    def once(self, etag: str, seconds: float) -> Iterator[None]:
        """Of several that are to make one body, let one through; the others wait for it, at most so many seconds."""
        with self._lock:
            other = self._made.get(etag)
            mine = self._made.setdefault(etag, threading.Event())
        if other is not None:
            other.wait(seconds)
            yield
            return
        try:
            yield
        finally:
            with self._lock:
                del self._made[etag]
            mine.set()

    def get(self, etag: str) -> tuple[bytes, dict[str, str]] | None:
        """A body and its headers."""
        with self._lock:
            found = self._bodies.get(etag)
            if found is not None:
                self._bodies.move_to_end(etag)
            return found

    def put(self, etag: str, body: bytes, headers: dict[str, str]) -> None:
        """Keep a body where it is small, and forget the oldest ones where there are too many."""
        if len(body) > _SMALL:
            return
        with self._lock:
            if etag not in self._bodies:
                self._bodies[etag] = (body, headers)
                self._bytes += len(body)
            while self._bytes > _KEPT_BYTES:
                _, (old, _) = self._bodies.popitem(last=False)
                self._bytes -= len(old)


@dataclass(frozen=True)
class Context:
    """A server: its workbench, its threads for pages and for streams, its cursors, and the answers that it keeps."""

    settings: Settings
    workbench: Workbench
    pages: Workers
    streams: Workers
    signer: Signer
    kept: Kept = field(default_factory=Kept)


@dataclass
class Facts:
    """What is known of one request, for its audit line."""

    correlation_id: str
    key: Key | None = None
    snapshots: dict[str, int | None] = field(default_factory=dict)
    rows: int = 0


def context_of(request: Request) -> Context:
    """The server that the request came to."""
    found: Context = request.app.state.context
    return found


def facts_of(request: Request) -> Facts:
    """What is known of the request."""
    found: Facts = request.scope["k2.facts"]
    return found


def most_rows(request: Request) -> int:
    """The rows that an answer to the request may have, by the settings and by its key."""
    most, of_key = context_of(request).settings.http_max_rows, key_of(request).rows
    return most if of_key is None else min(most, of_key)


def rows_of(request: Request, asked: int | None, usual: int) -> int:
    """The rows to answer with, `usual` unless told; Refused where that many are not allowed."""
    most = most_rows(request)
    if asked is not None and asked > most:
        raise Refused(403, "row-limit", f"An answer to this key may have {most} rows; ask for pages of so many.")
    return min(asked or usual, most)


def key_of(request: Request) -> Key:
    """The key that the request came with."""
    found = facts_of(request).key
    assert found is not None  # noqa: S101 - no other request reaches a route
    return found
