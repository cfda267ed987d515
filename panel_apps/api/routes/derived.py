"""What is made of events: bars and summaries."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from k2kernel import Workbench
from k2kernel import words as meanings
from k2kernel.sinks import records_table
from panel_apps.api.answers import Ask, Place, answer
from panel_apps.api.context import context_of, key_of
from panel_apps.api.keys import Key
from panel_apps.api.reads import LaterRead, Read, ResultRead
from panel_apps.api.shapes import answers
from panel_apps.api.words import BarWords, SummaryWords

router = APIRouter(prefix="/v1", tags=["bars"])
_KEY = (int,)
"""The key of a bar: how many there are before it."""


@router.get("/bars", **answers())
async def get_bars(request: Request, words: Annotated[BarWords, Query()]) -> Response:
    """Open, high, low, close, volume and VWAP by time, by session, or by amount."""
    return await _bars(request, words)


@router.post("/aggregations", **answers())
async def post_aggregations(request: Request, words: BarWords) -> Response:
    """Bars, with the words in the body."""
    return await _bars(request, words)


async def _bars(request: Request, words: BarWords) -> Response:
    bench = context_of(request).workbench

    def plan(place: Place) -> Read:
        result = bench.bars(words.symbols, words.interval, as_of=place.as_of, **words.selection, **words.made)
        return ResultRead(result, place.query, place.key)

    return await answer(request, Ask("bars", words, plan, _KEY))


@router.get("/summary/{symbol:path}/{date}", **answers())
async def get_summary(
    request: Request,
    symbol: Annotated[str, Path(max_length=200, description=meanings.INSTRUMENT)],
    date: Annotated[
        str, Path(pattern=r"^\d{4}-\d{2}-\d{2}$", description=meanings.ONE_SESSION, examples=["2014-03-10"])
    ],
    words: Annotated[SummaryWords, Query()],
) -> Response:
    """One session of one instrument."""
    bench = context_of(request).workbench

    def plan(place: Place) -> Read:
        states = _states(bench, place.as_of, key_of(request), words.adjustment)
        chosen = {**words.chosen, **words.when}
        return LaterRead(lambda: records_table([bench.summary(symbol, date, as_of=states, **chosen)]), states)

    return await answer(request, Ask(f"summary {symbol} {date}", words, plan))


def _states(bench: Workbench, as_of: Any, key: Key, adjustment: str) -> dict[str, int]:
    """The snapshots that a summary may be of: trades, or where there are none quotes, if the key may read them; and of
    the corporate actions that it is adjusted for.
    """
    kinds = [kind for kind in ("trades", "quotes") if key.tables is None or kind in key.tables] or ["trades"]
    kinds += ["corporate_actions"] * (adjustment != "raw")
    found = {kind: bench.lake.head(kind) for kind in kinds} if as_of is None else bench.at(as_of).states
    return {kind: pin for kind in kinds if (pin := found.get(kind)) is not None}
