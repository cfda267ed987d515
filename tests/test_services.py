"""The local servers: up, down, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from k2kernel.errors import ServiceFault
from k2kernel.services import LocalServices
from k2kernel.services.process import Process, answers
from tests.streams import need_servers

K2 = str(Path(sys.executable).with_name("k2"))


def k2(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([K2, *words], capture_output=True, text=True, check=False)


def test_up_status_down(tmp_path: Path) -> None:
    need_servers()
    home = str(tmp_path / ".k2")
    assert k2("services", "status", "--home", home).returncode == 1
    up = k2("services", "up", "--home", home)
    assert up.returncode == 0, up.stderr
    running = LocalServices(tmp_path / ".k2" / "services").status()
    assert running is not None
    try:
        assert dict(line.split("=", 1) for line in up.stdout.splitlines()) == running.environment
        assert all(process.alive for process in running.processes)
        assert answers(int(running.bootstrap.rpartition(":")[2]))
        assert k2("services", "status", "--home", home).returncode == 0
        assert k2("services", "up", "--home", home).stdout == up.stdout
    finally:
        down = k2("services", "down", "--home", home)
    assert down.returncode == 0, down.stderr
    assert not any(process.alive for process in running.processes)
    assert not (tmp_path / ".k2" / "services").exists()


def test_a_server_that_ends_while_it_starts_is_told_with_its_log(tmp_path: Path) -> None:
    process = Process.start("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
    with pytest.raises(ServiceFault, match=r"broken: ended while it started\. See .*broken\.log"):
        process.ready(lambda: False, 30)
    assert "no such thing" in Path(process.log).read_text()
