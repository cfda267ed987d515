"""The dashboard: a Panel application in the process of the server. State, store, pages, and the shell around them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from panel_apps.api.login import HOME


def mount(app: FastAPI) -> None:
    """Serve the dashboard, behind the key or a login, with its scripts from this server."""
    import panel as pn
    from panel.io.fastapi import add_applications

    from panel_apps.dashboard.open import open_dashboard

    pn.extension("tabulator", raw_css=[], inline=False)
    before = len(app.routes)
    application: dict[str, Any] = {HOME: lambda: open_dashboard(app)}
    given: dict[str, Any] = {"include_headers": [], "include_cookies": []}
    add_applications(application, app=app, title="k2kernel", **given)
    for route in app.routes[before:]:
        if hasattr(route, "include_in_schema"):
            route.include_in_schema = False
