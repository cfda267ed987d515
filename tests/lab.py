"""JupyterLab as people see it: a server on a loopback port, a notebook, and Debian's Chromium in front of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from tests.support import missing_service

if TYPE_CHECKING:
    from playwright.sync_api import Page

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
_WAIT_S = 60


def browser() -> str:
    """Chromium's path; the test is skipped, or fails in CI, where there is none."""
    return shutil.which("chromium") or missing_service("chromium", "apt-get install chromium")


def write(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=kernel), str(path))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """JupyterLab over a folder: the address of its page, token included."""
    token, log = secrets.token_hex(16), folder / "lab.log"
    overrides = folder / "settings" / "overrides.json"
    overrides.parent.mkdir()
    overrides.write_text(json.dumps(_QUIET))
    words = ["--no-browser", "--ip=127.0.0.1", "--port=0", f"--IdentityProvider.token={token}", "--allow-root"]
    words += [f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    words += [f"--LabApp.app_settings_dir={overrides.parent}"]
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_DATA_DIR": str(folder / "data")}
    with log.open("w") as told:
        running = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words], cwd=folder, env=environment, stdout=told, stderr=told
        )
        try:
            yield _address(log) + f"/lab/tree/book.ipynb?token={token}"
        finally:
            running.terminate()
            running.wait(_WAIT_S)


def _address(log: Path) -> str:
    """What the server says it listens at."""
    until = time.monotonic() + _WAIT_S
    while time.monotonic() < until:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def run_all(page: Page) -> None:
    """Run the notebook that is open, and wait for its last cell."""
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=_WAIT_S * 1000)
    page.wait_for_function(_READY, timeout=_WAIT_S * 1000)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


_READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget
  return panel?.sessionContext?.session?.kernel?.status === 'idle'
}"""
