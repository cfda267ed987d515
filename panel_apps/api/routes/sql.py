"""SQL, where the settings allow it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from panel_apps.api.answers import Ask, Place, answer
from panel_apps.api.context import context_of
from panel_apps.api.problems import Refused
from panel_apps.api.reads import ResultRead
from panel_apps.api.shapes import answers
from panel_apps.api.words import SqlWords

router = APIRouter(prefix="/v1", tags=["sql"])


@router.post("/sql", **answers())
async def post_sql(request: Request, words: SqlWords) -> Response:
    """One read-only statement over the lake's tables; off unless K2_HTTP_SQL is set."""
    context = context_of(request)
    if not context.settings.http_sql:
        raise Refused(403, "sql-off", "This server runs no SQL; its settings would have to say K2_HTTP_SQL=true.")

    def plan(place: Place) -> ResultRead:
        result = context.workbench.sql(words.query, words.params, place.as_of, **words.when)
        return ResultRead(result, place.query)

    return await answer(request, Ask("sql", words, plan))
