"""The local servers: up, down, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from k2kernel.errors import ServiceFault
from k2kernel.services import LocalServices
from k2kernel.services.process import Process, answers
from tests.feeds import Feed
from tests.streams import Services, need_servers

K2 = str(Path(sys.executable).with_name("k2"))


def k2(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([K2, *words], capture_output=True, text=True, check=False)


def test_up_status_down(tmp_path: Path) -> None:
    """What was published is still there after a stop: a lake knows how far it has which topics."""
    need_servers()
    home = str(tmp_path / ".k2")
    servers = LocalServices(tmp_path / ".k2" / "services")
    assert k2("services", "status", "--home", home).returncode == 1
    up = k2("services", "up", "--home", home)
    assert up.returncode == 0, up.stderr
    first = servers.status()
    assert first is not None
    try:
        assert dict(line.split("=", 1) for line in up.stdout.splitlines()) == first.environment
        assert answers(int(first.bootstrap.rpartition(":")[2]))
        assert k2("services", "status", "--home", home).returncode == 0
        assert k2("services", "up", "--home", home).stdout == up.stdout
        feed = Feed(Services(first.bootstrap, first.registry_url), tmp_path / ".k2")
        feed.publish(30)
        feed.drain()
        down = k2("services", "down", "--home", home)
        assert down.returncode == 0, down.stderr
        assert not any(process.alive for process in first.processes)
        assert k2("services", "status", "--home", home).returncode == 1
        with pytest.raises(ServiceFault, match=r"were made with 1 broker. Delete them .* --delete"):
            servers.up(3)
        assert servers.up().environment == first.environment
        feed.publish(20)
        feed.drain()
        feed.check()
    finally:
        gone = k2("services", "down", "--delete", "--home", home)
    assert gone.returncode == 0, gone.stderr
    assert not servers.folder.exists()
    assert servers.status() is None


def test_a_server_that_ends_while_it_starts_is_told_with_its_log(tmp_path: Path) -> None:
    process = Process.start("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
    with pytest.raises(ServiceFault, match=r"broken: ended while it started\. See .*broken\.log"):
        process.ready(lambda: False, 30)
    assert "no such thing" in Path(process.log).read_text()
