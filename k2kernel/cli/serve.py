"""`k2 serve`: the HTTP server, which is a program of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from k2kernel.cli.shared import Home


def serve(
    host: Annotated[str | None, typer.Option(help="address to listen at; default: K2_HTTP_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen at; default: K2_HTTP_PORT")] = None,
    new_key: Annotated[str | None, typer.Option(help="print a new key of this name, and its lines for a file")] = None,
    home: Home = None,
) -> None:
    """Serve the lake over HTTP until interrupted."""
    given = {"--home": home, "--host": host, "--port": port, "--new-key": new_key}
    words = [text for name, value in given.items() if value is not None for text in (name, str(value))]
    os.execv(sys.executable, [sys.executable, "-m", "panel_apps", *words])  # noqa: S606 - our own program
