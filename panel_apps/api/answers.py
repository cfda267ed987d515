"""From a read to an answer: one page in an envelope, or everything as a stream; with ETag, cursor and limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from k2kernel import Position, __version__
from k2kernel.errors import ExpiredReference, InvalidPosition, UnknownReference
from k2kernel.metrics import METRICS
from k2kernel.query import EVENT_KEY, digest_of
from k2kernel.sinks import batches_of, encode, parse_zone
from panel_apps.api.context import context_of, facts_of, key_of, most_rows, rows_of
from panel_apps.api.formats import MEDIA_TYPES, wanted
from panel_apps.api.problems import Refused
from panel_apps.api.reads import Piece, Read, Whole
from panel_apps.api.streaming import Pieces, Stream, begun
from panel_apps.api.words import USUAL_PAGE, Format, Words
from panel_apps.api.work import Turn


@dataclass(frozen=True)
class Place:
    """Where a read begins: at the state `as_of`, after the row with `key` (None: at its beginning).

    `query` is the digest of the words; `token` is the position as it was given out.
    """

    query: str
    as_of: Any
    key: tuple[Any, ...] | None = None
    token: str | None = None


@dataclass(frozen=True)
class Ask:
    """Rows that are asked for: the verb, its words, how it is pinned and planned, and the types of its keys.

    Without those it is read in pages only, and the plan reads the token of a place itself.
    """

    verb: str
    words: Words
    plan: Callable[[Place], Read]
    shape: Sequence[type] | None = EVENT_KEY


async def answer(request: Request, ask: Ask) -> Response:
    """The answer to a request for rows."""
    if ask.words.tz is not None:
        parse_zone(ask.words.tz)
    job = _Job(request, ask)
    if job.paged:
        return await job.context.pages.run(request.receive, job.page)
    async with AsyncExitStack() as stack:
        turn = await stack.enter_async_context(job.context.streams.turn(request.receive))
        found = await turn.step(partial(job.begin_stream, turn), turn.seconds)
        if isinstance(found, Response):
            return found
        return Stream(turn, stack.pop_all(), found, MEDIA_TYPES[job.form], job.headers)


class _Job:
    """One request on its way to an answer."""

    def __init__(self, request: Request, ask: Ask) -> None:
        self.request, self.ask = request, ask
        self.context, self.facts, self.key = context_of(request), facts_of(request), key_of(request)
        self.most = most_rows(request)
        self.headers: dict[str, str] = {}
        self.form = wanted(ask.words.format, request.headers.get("accept"))

    @property
    def paged(self) -> bool:
        """True where the answer is a page, not everything."""
        return (
            self.form is Format.json or self.ask.shape is None or any(word is not None for word in self.ask.words.page)
        )

    def page(self) -> Response:
        """One page, in a thread."""
        read, etag = self._pinned()
        if self._is_known(etag):
            return self._not_modified(etag)
        with self.context.kept.once(etag, self.context.settings.http_timeout):
            kept = self.context.kept.get(etag)
            if kept is None:
                body, headers = self._body(read.page(rows_of(self.request, self.ask.words.page[0], USUAL_PAGE)))
                kept = body, headers | self._headers(read, etag)
                self.context.kept.put(etag, *kept)
            else:
                METRICS.http_cached.labels("kept").inc()
        self.facts.rows = int(kept[1]["X-Row-Count"])
        return Response(kept[0], 200, kept[1], MEDIA_TYPES[self.form])

    def begin_stream(self, turn: Turn) -> Response | Iterator[bytes]:
        """Pin, plan and count everything, and make the first piece, in a thread: what can go wrong goes wrong here."""
        read, etag = self._pinned()
        if self._is_known(etag):
            return self._not_modified(etag)
        assert isinstance(read, Whole)  # noqa: S101 - the others are paged
        self.facts.rows = read.count()
        if self.facts.rows > self.most:
            detail = f"That is {self.facts.rows} rows, and one answer may have {self.most}; ask for less, or for pages."
            raise Refused(403, "row-limit", detail)
        self.headers = {**self._headers(read, etag), "X-Row-Count": str(self.facts.rows)}
        return begun(self._pieces(read), turn)

    def _pieces(self, read: Whole) -> Pieces:
        """Everything in the format of the answer."""
        yield from encode(read.batches(), self.form.value, self.ask.words.tz)

    def _pinned(self) -> tuple[Read, str]:
        """The read, and the ETag of its answer: snapshots, words, format and version decide it."""
        read = self._planned()
        self.key.check(read.snapshots)
        self.facts.snapshots = dict(read.snapshots)
        words = self.ask.words.model_dump(mode="json", exclude={"format"})
        parts = [__version__, self.request.method, self.ask.verb, words, self.form, self.most, _ids(read.snapshots)]
        return read, f'"{sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"'

    def _planned(self) -> Read:
        place = self._place()
        try:
            return self.ask.plan(place)
        except UnknownReference as exc:
            if place.token is None:
                raise
            problem = "a snapshot that the cursor is of is no longer kept; begin again"
            raise ExpiredReference(exc.table, exc.reference, exc.known, problem) from exc

    def _place(self) -> Place:
        """Where the cursor says, or the beginning."""
        query = digest_of({"verb": self.ask.verb, **self.ask.words.asked})
        cursor = self.ask.words.page[1]
        if cursor is None:
            return Place(query, self.ask.words.as_of)
        token = self.context.signer.open(cursor)
        if self.ask.shape is None:
            return Place(query, self.ask.words.as_of, token=token)
        found = Position.decode(token, self.ask.shape)
        if found.query != query:
            raise InvalidPosition("is of another query", "Repeat the words of the request that it came from")
        return Place(query, found.snapshots, found.key, token)

    def _body(self, piece: Piece) -> tuple[bytes, dict[str, str]]:
        """A page as bytes, and the headers that tell of it."""
        count = piece.rows.num_rows
        headers = {"X-Row-Count": str(count), "X-Truncated": str(piece.more).lower()}
        cursor = None if piece.position is None else self.context.signer.sign(piece.position)
        next_url = None if cursor is None or self.request.method != "GET" else self._next_url(cursor)
        if next_url is not None:
            headers["Link"] = f'<{next_url}>; rel="next"'
        if cursor is not None:
            headers["X-Next-Cursor"] = cursor
        rows = b"".join(encode(batches_of(piece.rows), self.form.value, self.ask.words.tz))
        if self.form is not Format.json:
            return rows, headers
        meta = {"snapshot_ids": _ids(self.facts.snapshots), "row_count": count, "truncated": piece.more}
        rest = json.dumps({"meta": meta, "next_cursor": cursor, "next_url": next_url})
        return b'{"data":' + rows.rstrip() + b"," + rest[1:].encode(), headers

    def _next_url(self, cursor: str) -> str:
        words = [(name, value) for name, value in self.request.query_params.multi_items() if name != "cursor"]
        return f"{self.request.url.path}?{urlencode([*words, ('cursor', cursor)])}"

    def _headers(self, read: Read, etag: str) -> dict[str, str]:
        pins = ", ".join(f"{name}={found}" for name, found in _ids(read.snapshots).items())
        return {"X-Snapshot-Ids": pins, **_cache_headers(etag)}

    def _is_known(self, etag: str) -> bool:
        known = self.request.headers.get("if-none-match", "")
        return etag in {item.strip().removeprefix("W/") for item in known.split(",")} or known.strip() == "*"

    def _not_modified(self, etag: str) -> Response:
        METRICS.http_cached.labels("not_modified").inc()
        return Response(status_code=304, headers=_cache_headers(etag))


def _cache_headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept, X-API-Key, Authorization"}


def _ids(snapshots: Mapping[str, int | None]) -> dict[str, str | None]:
    """Snapshot ids as texts: they do not fit the numbers of JavaScript."""
    return {name: None if found is None else str(found) for name, found in snapshots.items()}
