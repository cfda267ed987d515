"""Trades and quotes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from k2kernel.errors import UnknownReference
from panel_apps.api.answers import Ask, Place, answer
from panel_apps.api.context import context_of
from panel_apps.api.reads import Read, ResultRead
from panel_apps.api.shapes import Envelope, answers, envelope_of
from panel_apps.api.words import EventWords, SnapshotQuery, TradeWords

router = APIRouter(prefix="/v1", tags=["events"])
_TRADES, _QUOTES = envelope_of("trades"), envelope_of("quotes")


@router.get("/trades", **answers(_TRADES))
async def get_trades(request: Request, words: Annotated[TradeWords, Query()]) -> Response:
    """Trades that stand, in total order."""
    return await _events(request, "trades", words)


@router.post("/trades/query", **answers(_TRADES))
async def post_trades(request: Request, words: TradeWords) -> Response:
    """Trades, with the words in the body."""
    return await _events(request, "trades", words)


@router.get("/quotes", **answers(_QUOTES))
async def get_quotes(request: Request, words: Annotated[EventWords, Query()]) -> Response:
    """Quotes in total order."""
    return await _events(request, "quotes", words)


@router.post("/quotes/query", **answers(_QUOTES))
async def post_quotes(request: Request, words: EventWords) -> Response:
    """Quotes, with the words in the body."""
    return await _events(request, "quotes", words)


@router.post("/snapshots/{snapshot_id}/query", **answers(Envelope))
async def post_snapshot(
    request: Request, snapshot_id: Annotated[str, Path(pattern="^[0-9]{1,19}$")], words: SnapshotQuery
) -> Response:
    """Rows of one snapshot of trades or quotes."""
    bench = context_of(request).workbench

    def plan(place: Place) -> Read:
        states = bench.at(snapshot_id).states
        verb = next((verb for verb in ("trades", "quotes") if verb in states), None)
        if verb is None:
            known = "Its rows are read by SQL: FROM a table FOR VERSION AS OF this id"
            raise UnknownReference("trades", snapshot_id, known, f"{snapshot_id} is no snapshot of trades or quotes")
        return _read(request, verb, words, place, snapshot_id)

    return await answer(request, Ask(f"snapshot {snapshot_id}", words, plan))


async def _events(request: Request, verb: str, words: EventWords) -> Response:
    return await answer(request, Ask(verb, words, lambda place: _read(request, verb, words, place, place.as_of)))


def _read(request: Request, verb: str, words: EventWords, place: Place, as_of: object) -> Read:
    read = getattr(context_of(request).workbench, verb)
    adjusted = {"adjustment": words.adjustment} if isinstance(words, TradeWords) else {}
    result = read(
        words.symbols,
        **words.selection,
        as_of=as_of,
        raw=words.raw,
        columns=words.fields,
        descending=words.sort.startswith("-"),
        **adjusted,
    )
    return ResultRead(result, place.query, place.key)
