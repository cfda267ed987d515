"""The shapes of answers, for OpenAPI: rows as JSON has them, the envelope, and a problem."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from k2kernel.schemas import TABLES, Table
from panel_apps.api.formats import MEDIA_TYPES
from panel_apps.api.problems import MEDIA_TYPE
from panel_apps.api.words import Format

_TYPES: dict[str, Any] = {"int64": int, "int32": int, "bool": bool, "list<string>": list[str]}
"""Types of columns that are no text in JSON."""


class Meta(BaseModel):
    """What is true of an answer."""

    snapshot_ids: dict[str, str | None] = Field(description="the snapshot of each table that answers")
    row_count: int = Field(description="rows in this answer")
    truncated: bool = Field(description="whether other rows follow")


class Envelope(BaseModel):
    """A page of rows."""

    data: list[dict[str, Any]]
    meta: Meta
    next_cursor: str | None = Field(description="give it as cursor, with the same words, for the next page")
    next_url: str | None = Field(description="the next page, of a GET")


class InvalidWord(BaseModel):
    """One parameter of a request that is not valid."""

    parameter: str
    problem: str


class Problem(BaseModel):
    """What is wrong, and what to do (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")
    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = None
    errors: list[InvalidWord] | None = None


def _row(table: Table) -> type[BaseModel]:
    """A row of a table; `fields` may leave columns out."""
    columns: dict[str, Any] = {
        column.name: (_TYPES.get(column.type, str) | None, Field(None, description=column.doc or None))
        for column in table.columns
    }
    return create_model(f"{table.name.title()[:-1]}Row", **columns)


def envelope_of(table: str) -> type[BaseModel]:
    """The envelope with rows of a table."""
    row = _row(TABLES[table])
    return create_model(f"{table.title()}Page", __base__=Envelope, data=(list[row], ...))  # type: ignore[valid-type]


_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_REFUSALS = {
    400: "a word is not valid, or the statement failed",
    401: "no valid key",
    403: "the key may not",
    404: "something was named that does not exist",
    406: "no such format",
    410: "a snapshot that is not kept any more",
    413: "the body is too large",
    422: "the request is not of this shape",
    429: "too many requests",
    503: "no lake, or too busy",
    504: "the query took too long and was interrupted",
}


def problems() -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, as OpenAPI has them."""
    return {status: {"description": text, **_PROBLEM} for status, text in _REFUSALS.items()}


def answers(model: type[BaseModel] = Envelope) -> dict[str, Any]:
    """The `responses` of a route that answers with rows."""
    text = {"schema": {"type": "string"}}
    other = {media_type.partition(";")[0]: text for form, media_type in MEDIA_TYPES.items() if form is not Format.json}
    rows = {"description": "rows", "model": model, "content": other}
    return {"responses": {200: rows, 304: {"description": "not changed since the ETag"}, **problems()}}
