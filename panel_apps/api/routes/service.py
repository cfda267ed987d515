"""The server itself: whether it lives, whether it can answer, and its metrics. No key is needed."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from k2kernel import __version__
from k2kernel.metrics import METRICS
from panel_apps.api.context import context_of
from panel_apps.api.shapes import problems

router = APIRouter(tags=["service"])


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the process answers; reads nothing."""
    return {"status": "ok", "version": __version__}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: problems()[503]})
async def ready(request: Request) -> dict[str, str]:
    """Whether the lake can be read."""
    context = context_of(request)
    await context.pages.run(request.receive, lambda: context.workbench.lake.head("trades"))
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
def metrics() -> Response:
    """Metrics in Prometheus' text format."""
    return Response(METRICS.text(), media_type=METRICS.content_type)
