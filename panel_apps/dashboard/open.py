"""Opening the dashboard for one visitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import panel as pn
from fastapi import FastAPI

from panel_apps.api.gate import ASKING
from panel_apps.dashboard import looks
from panel_apps.dashboard.shell import Dashboard
from panel_apps.dashboard.state import State
from panel_apps.dashboard.store import Store

if TYPE_CHECKING:
    from panel_apps.api.context import Context

_PAGE = """
{% extends base %}
{% block title %}k2kernel{% endblock %}
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>THE_STYLE</style>
<script>document.documentElement.dataset.theme = "THE_THEME"</script>
{% endblock %}
{% block contents %}{% for root in roots %}{{ embed(root) }}{% endfor %}{% endblock %}
"""


def open_dashboard(app: FastAPI) -> pn.viewable.Viewable | pn.Template:
    """The dashboard as the address says, for the key that asks."""
    context: Context = app.state.context
    if not hasattr(app.state, "store"):
        app.state.store = Store(context.workbench)
    words = {name: values[0].decode("utf-8", "replace") for name, values in pn.state.session_args.items() if values}
    state = State.of_address(words)
    board = Dashboard(app.state.store, context.pages, ASKING.get(), state)
    page = _PAGE.replace("THE_STYLE", looks.style("desk")).replace("THE_THEME", state.theme)
    template = pn.Template(page, location=True)
    template.add_panel("root", board.root)
    pn.state.onload(board.open)
    pn.state.on_session_destroyed(lambda _: board.close())
    return template
