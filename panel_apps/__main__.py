"""`python -m panel_apps`, which is what `k2 serve` runs: the server, until it is interrupted."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from k2kernel import Settings
from k2kernel.errors import K2Error, ServiceFault, extra


def main(arguments: list[str] | None = None) -> int:
    """Serve, or print a new key."""
    parser = argparse.ArgumentParser("python -m panel_apps", description=__doc__)
    parser.add_argument("--home", type=Path, help="the lake's folder; default: K2_HOME, or the nearest .k2")
    parser.add_argument("--host", help="address to listen at; default: K2_HTTP_HOST")
    parser.add_argument("--port", type=int, help="port to listen at; default: K2_HTTP_PORT")
    parser.add_argument("--new-key", metavar="NAME", help="print a new key and its lines for K2_API_KEYS_FILE")
    chosen = parser.parse_args(arguments)
    given = {"home": chosen.home, "http_host": chosen.host, "http_port": chosen.port}
    try:
        if chosen.new_key is not None:
            _print_key(chosen.new_key)
        else:
            _serve(Settings(**{name: value for name, value in given.items() if value is not None}))
    except K2Error as exc:
        sys.stderr.write(f"k2: {exc}\n")
        return 2
    return 0


def _serve(settings: Settings) -> None:
    with extra("app", "The server"):
        import uvicorn

        from panel_apps.api import keys
        from panel_apps.app import make
    found, made = keys.load(settings)
    app = make(settings, found)
    with _listening(settings.http_host, settings.http_port) as place:
        host = f"[{settings.http_host}]" if place.family == socket.AF_INET6 else settings.http_host
        address = f"http://{host}:{place.getsockname()[1]}"
        _say(f"k2kernel serves {settings.home} at {address}, routes at {address}/docs")
        if made is not None:
            _say(f"No key is set (K2_API_KEYS), so this one holds until the server ends: {made}")
        _log()
        how: dict[str, Any] = {"access_log": False, "log_level": "warning", "timeout_graceful_shutdown": 5}
        config = uvicorn.Config(app, server_header=False, proxy_headers=False, **how)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[place])


def _listening(host: str, port: int) -> socket.socket:
    """The place where the server listens; requests that come before it answers wait there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        problem = f"cannot listen at {host}:{port}: {str(exc.strerror).partition(' (')[0]}"
        raise ServiceFault("the server", problem, "Choose another --host or --port, or end what listens there") from exc


def _print_key(name: str) -> None:
    with extra("app", "The server"):
        from panel_apps.api.keys import digest_of, new_key
    made = new_key()
    sys.stdout.write(f"{made}\n")
    _say(f'[{name}]\nsha256 = "{digest_of(made)}"\n# tables = ["trades"]\n# rows = 100000')


def _log() -> None:
    """Audit lines and errors of the server on standard error."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("k2.audit").setLevel(logging.INFO)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
