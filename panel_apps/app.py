"""The FastAPI app, its routes and the dashboard, behind its gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import ASGIApp

from k2kernel import Settings, Workbench, __version__, connect
from panel_apps import dashboard
from panel_apps.api import docs, login, problems
from panel_apps.api.context import Context
from panel_apps.api.cursors import Signer
from panel_apps.api.gate import Gate
from panel_apps.api.keys import Keys
from panel_apps.api.login import Logins
from panel_apps.api.routes import catalog, derived, events, replay, service, sql
from panel_apps.api.work import Workers

_HEADERS = ["ETag", "Link", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"]
_HEADERS += ["X-Correlation-ID", "X-Next-Cursor", "X-Row-Count", "X-Snapshot-Ids", "X-Truncated"]


def make(settings: Settings, keys: Keys) -> ASGIApp:
    """The whole server as one ASGI app. A page of another origin that may call it may also read why it was refused."""
    signer = Signer(settings)
    logins = Logins(keys, signer)
    app = make_api(settings, signer)
    app.include_router(login.router(logins))
    dashboard.mount(app)
    gate = Gate(app, keys, logins, settings)
    return _for_origins(gate, settings.http_cors) if settings.http_cors else gate


def make_api(settings: Settings, signer: Signer | None = None) -> FastAPI:
    """The routes of HTTP, without the gate."""
    app = FastAPI(
        title="k2kernel",
        version=__version__,
        summary="Trades and quotes of a lakehouse: pinned, exact, paged, replayed.",
        lifespan=lambda app: _lifespan(app, settings, signer or Signer(settings)),
        docs_url=None,
        redoc_url=None,
    )
    docs.install(app)
    problems.install(app)
    app.include_router(service.router)
    keyed = [Security(APIKeyHeader(name="X-API-Key", auto_error=False)), Security(HTTPBearer(auto_error=False))]
    for part in (events, derived, catalog, replay, sql):
        app.include_router(part.router, dependencies=keyed)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, signer: Signer) -> AsyncIterator[None]:
    """The context while the server runs; at its end every query is interrupted."""
    bench: Workbench = connect(settings=settings)
    pages = Workers("page", settings.http_queries, settings.http_timeout)
    streams = Workers("stream", settings.http_streams, settings.http_timeout)
    app.state.context = Context(settings, bench, pages, streams, signer)
    app.openapi()  # made once, before requests come
    with bench.metrics():
        yield
    pages.close()
    streams.close()


def _for_origins(app: ASGIApp, origins: str) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["GET", "POST"],
        allow_headers=["X-API-Key", "Authorization", "Content-Type", "If-None-Match", "X-Correlation-ID"],
        expose_headers=_HEADERS,
    )
