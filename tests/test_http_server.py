"""`k2 serve` as a process: when it answers, where it cannot listen, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT


def serve(home: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "panel_apps", "--home", str(home), *words]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_from_the_moment_that_it_says_so_until_it_is_interrupted(host: str, tmp_path: Path) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with serve(tmp_path / ".k2", "--host", host, "--port", "0") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            (address,) = re.findall(r" at (http://\S+:\d+),", said)
            assert httpx.get(f"{address}/health", timeout=60).json()["status"] == "ok"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()


def test_where_it_cannot_listen_is_said_in_a_sentence(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        serve(tmp_path / ".k2", "--port", port := str(taken.getsockname()[1])) as process,
    ):
        _, said = process.communicate(timeout=60)
    advice = "Choose another --host or --port, or end what listens there."
    assert said == f"k2: the server: cannot listen at 127.0.0.1:{port}: Address already in use. {advice}\n"
    assert process.returncode == 2
