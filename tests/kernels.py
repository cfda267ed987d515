"""A real kernel, spoken to as a notebook does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient

WAIT_S = 60


@dataclass
class Ran:
    """What a cell did: status, error, texts of its streams, and its outputs."""

    status: str
    error: str = ""
    traceback: list[str] = field(default_factory=list)
    stream: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def html(self) -> str:
        return "".join(output["data"].get("text/html", "") for output in self.outputs)

    @property
    def plain(self) -> str:
        return "".join(output["data"].get("text/plain", "") for output in self.outputs)


class Kernel:
    """A kernel in a folder."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self._client = manager, client

    def start(self, code: str) -> str:
        """Begin a cell."""
        return str(self._client.execute(code))

    def finish(self, message: str) -> Ran:
        """Wait for the end of a cell."""
        ran = Ran("")
        while True:
            found = self._client.get_iopub_msg(timeout=WAIT_S)
            if found["parent_header"].get("msg_id") != message:
                continue
            kind, content = found["msg_type"], found["content"]
            if kind == "stream":
                ran.stream += content["text"]
            elif kind in {"display_data", "execute_result", "update_display_data"}:
                ran.outputs.append(content)
            elif kind == "error":
                ran.error, ran.traceback = f"{content['ename']}: {content['evalue']}", content["traceback"]
            elif kind == "status" and content["execution_state"] == "idle":
                break
        ran.status = self._reply(message)
        return ran

    def _reply(self, message: str) -> str:
        while True:
            reply = self._client.get_shell_msg(timeout=WAIT_S)
            if reply["parent_header"].get("msg_id") == message:
                return str(reply["content"]["status"])

    def run(self, code: str) -> Ran:
        """Run a cell."""
        return self.finish(self.start(code))

    def completions(self, code: str) -> list[str]:
        """What Tab offers at the end of `code`."""
        reply = self._client.complete(code, reply=True, timeout=WAIT_S)
        return list(reply["content"]["matches"])

    def interrupt(self) -> float:
        """What the stop button does; returns when."""
        self.manager.interrupt_kernel()
        return time.monotonic()


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel that works in `folder`."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=WAIT_S)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
