"""What there is: symbols, sessions, tables and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from k2kernel.sinks import records_table
from panel_apps.api.answers import Ask, answer
from panel_apps.api.context import context_of
from panel_apps.api.reads import LaterRead, ResultRead
from panel_apps.api.shapes import answers
from panel_apps.api.words import Paged, SnapshotWords, Words

router = APIRouter(prefix="/v1", tags=["what there is"])
_KEY = (str, str)


@router.get("/symbols", **answers())
async def get_symbols(request: Request, words: Annotated[Paged, Query()]) -> Response:
    """The instruments, with rows and sessions of each."""
    return await _listed(request, "symbols", words)


@router.get("/sessions", **answers())
async def get_sessions(request: Request, words: Annotated[Paged, Query()]) -> Response:
    """The sessions of each venue, with rows of each."""
    return await _listed(request, "sessions", words)


async def _listed(request: Request, verb: str, words: Paged) -> Response:
    read = getattr(context_of(request).workbench, verb)
    ask = Ask(
        verb,
        words,
        lambda place: ResultRead(read(place.as_of, **words.when), place.query, place.key, words.fields),
        _KEY,
    )
    return await answer(request, ask)


@router.get("/stats", **answers())
async def get_stats(request: Request, words: Annotated[Words, Query()]) -> Response:
    """One row a table: rows, bytes, files, range, snapshot."""
    bench = context_of(request).workbench
    return await answer(request, Ask("stats", words, lambda place: ResultRead(bench.stats(place.as_of), place.query)))


@router.get("/snapshots", **answers())
async def get_snapshots(request: Request, words: Annotated[SnapshotWords, Query()]) -> Response:
    """The kept states of a table, newest first."""
    bench = context_of(request).workbench

    def plan(_: object) -> LaterRead:
        found = bench.snapshots(words.table) if words.as_of is None else bench.at(words.as_of).snapshots(words.table)
        named = [replace(each, source=PurePath(each.source).name) for each in found]
        return LaterRead(lambda: records_table(named), {words.table: found[0].id if found else None})

    return await answer(request, Ask("snapshots", words, plan))
