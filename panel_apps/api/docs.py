"""`/docs`: Swagger UI over `/openapi.json`, with scripts and styles of this server."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_UNDER = "/static/docs"


def install(app: FastAPI) -> None:
    """Serve `/docs`."""
    import fastapi_offline

    app.mount(_UNDER, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url=f"{_UNDER}/swagger-ui-bundle.js",
            swagger_css_url=f"{_UNDER}/swagger-ui.css",
            swagger_favicon_url=f"{_UNDER}/favicon.png",
        )
