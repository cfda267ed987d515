"""One shape for every error: `application/problem+json`, without internals."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from k2kernel import errors

_LOG = logging.getLogger("k2.http")

MEDIA_TYPE = "application/problem+json"
_LONGEST = 1_000
"""Characters of a detail: what it quotes may be long."""

_NAMES = {"symbol": "symbols", "columns": "fields", "position": "cursor"}
"""What HTTP calls the parameters of the workbench."""

_TITLES = {
    303: "See other",
    400: "Bad request",
    401: "No valid API key",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "No such format",
    410: "Not kept any more",
    413: "Too large",
    415: "Not JSON",
    422: "Not a valid request",
    499: "Client left",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
    504: "Took too long",
}

_STATUS: list[tuple[type[errors.K2Error], int, str]] = [
    (errors.ExpiredReference, 410, "expired"),
    (errors.LakeNotFound, 503, "no-lake"),
    (errors.InvalidPosition, 400, "invalid-cursor"),
    (errors.InvalidParameter, 400, "invalid-parameter"),
    (errors.NotFound, 404, "not-found"),
    (errors.QueryCancelled, 504, "time-limit"),
    (errors.QueryTooLarge, 503, "memory-limit"),
    (errors.UnreadableData, 500, "internal"),
    (errors.SqlRefused, 400, "sql-refused"),
    (errors.QueryError, 400, "query-failed"),
    (errors.CatalogUnreachable, 503, "no-catalog"),
    (errors.K2Error, 500, "internal"),
]
"""Status and code of an error, the most special first."""

_OWN_WORDS = {
    "no-lake": "The server has no lake yet; load a file first.",
    "no-catalog": "The catalog does not answer; try again later.",
    "internal": "The server could not answer; its log has more under this correlation id.",
    "time-limit": "The query took longer than the server allows; ask for less.",
    "memory-limit": "The query needs more memory than the server allows; ask for less.",
}
"""Details of errors whose own sentence names files or settings of the server."""


class Refused(HTTPException):
    """A request that is answered with `status`, the problem `code`, a sentence and perhaps headers."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.code = code
        super().__init__(status, detail, headers)

    @property
    def answer(self) -> JSONResponse:
        """The answer to such a request."""
        return problem(self.status_code, self.code, self.detail, self.headers)


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The answer that says what is wrong and what to do."""
    plain = detail.encode("utf-8", "replace").decode()
    body = {"type": f"urn:k2:{code}", "title": _TITLES[status], "status": status, "detail": plain[:_LONGEST], **more}
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def of_error(exc: errors.K2Error) -> JSONResponse:
    """The answer to an error of the workbench."""
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(exc, kind))
    if status >= 500:
        _LOG.error("%s: %s", type(exc).__name__, exc)
    if isinstance(exc, errors.InvalidParameter):
        name = _NAMES.get(exc.parameter, exc.parameter)
        detail = name + str(exc).removeprefix(exc.parameter)
        return problem(status, code, detail, parameter=name)
    return problem(status, code, _OWN_WORDS.get(code, str(exc)))


async def _k2_error(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, errors.K2Error)  # noqa: S101 - that is what it is registered for
    return of_error(exc)


async def _refused(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, Refused)  # noqa: S101
    return exc.answer


async def _http_error(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101
    status = exc.status_code if exc.status_code in _TITLES else 400
    allowed = (exc.headers or {}).get("Allow")
    detail = "There is no such route; /docs lists them." if exc.detail == "Not Found" else str(exc.detail)
    detail = detail if allowed is None else f"This route takes {allowed}; /docs lists what there is."
    return problem(status, _TITLES[status].lower().replace(" ", "-"), detail, exc.headers)


async def _invalid(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)  # noqa: S101
    found = [_told(request, each) for each in exc.errors()[:20]]
    detail = "; ".join(f"{each['parameter']}: {each['problem']}" for each in found)
    return problem(422, "invalid-request", detail, errors=found)


def _told(request: Request, error: Mapping[str, Any]) -> dict[str, str]:
    """One thing that is wrong with a request."""
    name = ".".join(map(str, error["loc"][1:]))
    if error["type"] == "json_invalid":
        return {"parameter": "body", "problem": f"is no JSON from character {name} on: {error['ctx']['error']}"}
    if not name:
        return {"parameter": "body", "problem": "is not a JSON object of words, with Content-Type: application/json"}
    if error["type"] != "extra_forbidden":
        return {"parameter": name, "problem": error["msg"]}
    near = errors.meant(name, _words(request))
    return {"parameter": name, "problem": f"is no word of this route. {near}/docs lists them"}


def _words(request: Request) -> set[str]:
    """The words that the route of a request takes, in its URL or its body."""
    dependant = request.scope["route"].dependant
    fields = [*dependant.query_params, *dependant.body_params]
    return {word for field in fields for word in field.field_info.annotation.model_fields}


async def _unexpected(_: Request, exc: Exception) -> JSONResponse:
    _LOG.error("unexpected error", exc_info=exc)
    return problem(500, "internal", _OWN_WORDS["internal"])


def install(app: FastAPI) -> None:
    """Have every error of the app answered in the one shape."""
    app.add_exception_handler(errors.K2Error, _k2_error)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
