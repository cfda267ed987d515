"""Replay: trades and quotes in one order, in pages or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from k2kernel import Replay
from k2kernel.sinks import ndjson
from panel_apps.api.answers import Ask, Place, answer
from panel_apps.api.context import Context, Facts, context_of, facts_of, key_of, most_rows, rows_of
from panel_apps.api.reads import ReplayRead
from panel_apps.api.shapes import answers, problems
from panel_apps.api.streaming import Stream
from panel_apps.api.words import USUAL_PAGE, ReplayWords, StreamWords

router = APIRouter(prefix="/v1", tags=["replay"])
_EVENTS = "text/event-stream"
_AT_ONCE = 256
"""Events that are sent together, where so many are due."""


@router.post("/replay", **answers())
async def post_replay(request: Request, words: ReplayWords) -> Response:
    """Trades and quotes of several symbols in one order; in pages."""

    def plan(place: Place) -> ReplayRead:
        limit = rows_of(request, words.limit, USUAL_PAGE)
        return ReplayRead(_replay(context_of(request), words, place.token, limit=limit + 1, batch_rows=limit))

    return await answer(request, Ask("replay", words, plan, None))


@router.get(
    "/replay/stream",
    responses={200: {"description": "events", "content": {_EVENTS: {"schema": {"type": "string"}}}}, **problems()},
    response_class=Response,
)
async def get_stream(
    request: Request,
    words: Annotated[StreamWords, Query()],
    last_event_id: Annotated[str | None, Header(max_length=4_000)] = None,
) -> Response:
    """Trades and quotes as server-sent events, at the pace of history times speed."""
    context, facts, key = context_of(request), facts_of(request), key_of(request)
    cursor, limit = last_event_id or words.cursor, rows_of(request, words.limit, most_rows(request))

    def begin() -> Replay:
        token = None if cursor is None else context.signer.open(cursor)
        found = _replay(context, words, token, limit=limit, batch_rows=_AT_ONCE, speed=words.speed)
        key.check(found.snapshots)
        facts.snapshots = dict(found.snapshots)
        return found

    async with AsyncExitStack() as stack:
        turn = await stack.enter_async_context(context.streams.turn(request.receive))
        replay = await turn.step(begin, turn.seconds)
        turn.scope.on_cancel(replay.stop)
        pieces = _pieces(context, facts, replay)
        turn.on_end = pieces.close
        return Stream(turn, stack.pop_all(), pieces, _EVENTS, {"Cache-Control": "no-store"}, beat=b": waiting\n\n")


def _replay(context: Context, words: ReplayWords, token: str | None, **how: Any) -> Replay:
    found: Replay = context.workbench.replay(
        words.symbols,
        words.kinds,
        **words.selection,
        as_of=words.as_of,
        raw=words.raw,
        order_by=words.order_by,
        ties=words.ties,
        position=token,
        **how,
    )
    return found


def _pieces(context: Context, facts: Facts, replay: Replay) -> Generator[bytes, None, None]:
    """Each event with the cursor of the place after it as its id, and at the end what was delivered."""
    for batch, tokens in replay.marked():
        lines = ndjson(batch).splitlines()
        kinds = batch.column("kind").to_pylist()
        facts.rows += len(lines)
        yield "".join(
            f"event: {kind}\nid: {context.signer.sign(token)}\ndata: {line}\n\n"
            for kind, token, line in zip(kinds, tokens, lines, strict=True)
        ).encode()
    ran = replay.ran()
    told = {"events": ran.events, "state": ran.state, "cursor": context.signer.sign(ran.position)}
    yield f"event: {'completed' if ran.state == 'completed' else 'end'}\ndata: {json.dumps(told)}\n\n".encode()
