"""A server as a process group of its own: started, waited for, stopped with everything that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from k2kernel.errors import ServiceFault

_POLL_S = 0.1
_STOP_S = 20.0
_ARGUMENTS = ("ps", "-ww", "-o", "args=", "-p")


@dataclass(frozen=True)
class Process:
    """A running server: its `name`, the id of its process group, and the file that it logs to."""

    name: str
    pid: int
    log: str

    @classmethod
    def start(cls, name: str, command: Sequence[str], folder: Path) -> Process:
        """Start `command` in `folder`, logging to `<name>.log` there."""
        log = folder / f"{name}.log"
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: S603 - the commands are our own
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        _CHILDREN[child.pid] = child
        return cls(name, child.pid, str(log))

    @property
    def alive(self) -> bool:
        """True while the server runs; an id that another program got meanwhile does not count."""
        child = _CHILDREN.get(self.pid)
        if child is not None:
            return child.poll() is None
        asked = subprocess.run([*_ARGUMENTS, str(self.pid)], capture_output=True, text=True, check=False)  # noqa: S603
        return str(Path(self.log).parent) in asked.stdout

    def ready(self, check: Callable[[], bool], seconds: float) -> None:
        """Wait until `check` holds; ServiceFault where the server ends before, or `seconds` pass."""
        end = time.monotonic() + seconds
        while not check():
            if not self.alive or time.monotonic() > end:
                what = f"is not ready after {seconds:.0f} s" if self.alive else "ended while it started"
                raise ServiceFault(self.name, what, f"See {self.log}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the process group, by force where it does not end by itself."""
        for number, seconds in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            self._signal(number)
            end = time.monotonic() + seconds
            while self.alive and time.monotonic() < end:
                time.sleep(_POLL_S)
            if not self.alive:
                break
        _CHILDREN.pop(self.pid, None)

    def kill(self) -> None:
        """End the process group at once, as a crash does."""
        self._signal(signal.SIGKILL)
        self.stop()

    def _signal(self, number: int) -> None:
        if self.alive:
            os.killpg(self.pid, number)


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""What this program started itself: only a parent learns that a child has ended."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(port: int) -> bool:
    """True where something listens on the port of the loopback address."""
    with socket.socket() as each:
        each.settimeout(1)
        return each.connect_ex(("127.0.0.1", port)) == 0
