"""Real servers for tests, asked over real sockets: `python -m panel_apps` in a process of its own, or the same app in a
thread, which is quicker to start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from k2kernel.config import Settings
from k2kernel.services.process import free_ports
from tests.support import ROOT

KEY = "a key for tests"
_READY_S = 60


@dataclass
class Server:
    """A server at a URL."""

    url: str
    closing: ExitStack

    def client(self, key: str | None = KEY, **how: Any) -> httpx.Client:
        """A client with a key, closed with the server at the latest."""
        headers = {} if key is None else {"X-API-Key": key}
        found = httpx.Client(base_url=self.url, headers=headers, **{"timeout": 60, **how})
        self.closing.callback(found.close)
        return found

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def wait_for(self, name: str, value: float, seconds: float = 20) -> None:
        """Wait until a metric has a value."""
        until = time.monotonic() + seconds
        while (found := self.metric(name)) != value:
            assert time.monotonic() < until, f"{name} is {found}, not {value}"
            time.sleep(0.05)


@dataclass
class ServerProcess(Server):
    """A server that is a process, and what it says on standard error."""

    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(home: Path, **settings: Any) -> Iterator[Server]:
    """A server in a thread, of the lake at `home`, with settings such as http_rate=1000."""
    import uvicorn

    from panel_apps.api import keys
    from panel_apps.app import make

    given = Settings(home=home, _env_file=None, **{"api_keys": KEY, "http_rate": 1_000_000, **settings})
    port = free_port()
    config = uvicorn.Config(make(given, keys.load(given)[0]), port=port, log_level="error", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        with ExitStack() as closing:
            yield Server(f"http://127.0.0.1:{port}", closing)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def started(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """A server process in `folder`, killed at the end, with these environment variables and no other K2_ ones."""
    port, log = free_port(), folder / f"server-{time.monotonic_ns()}.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    words = [sys.executable, "-m", "panel_apps", "--port", str(port), *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=folder, env={**kept, "PYTHONPATH": str(ROOT), **environment}, stdout=out, stderr=out
        )
    try:
        with ExitStack() as closing:
            server = ServerProcess(f"http://127.0.0.1:{port}", closing, process, log)
            _wait(server)
            yield server
    finally:
        process.kill()
        process.wait()


def _wait(server: ServerProcess) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            httpx.get(f"{server.url}/health").raise_for_status()
        except httpx.HTTPError:
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < until, server.log.read_text()
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """A port that nobody listens at."""
    return free_ports(1)[0]


def pages(client: httpx.Client, path: str, **words: Any) -> Iterator[dict[str, Any]]:
    """The pages of a GET, by next_url."""
    url: str | None = str(httpx.URL(path, params=words))
    while url is not None:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page
        url = page["next_url"]
