"""The record of use, kept only where settings ask for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.config import Settings
from tests.doors import lake_of_doors


def noted(path: Path) -> list[tuple[str, str, str]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line["at"] and line["user"] and line["lake"] for line in lines)
    return [(line["door"], line["what"], line["ended"]) for line in lines]


def ran(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["k2", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_line_and_the_magics_are_noted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake_of_doors(settings)
    log = tmp_path / "logs" / "use.jsonl"
    ran(monkeypatch, "query", "symbols")
    assert not log.exists()
    monkeypatch.setenv("K2_AUDIT_LOG", str(log))
    assert ran(monkeypatch, "query", "trades", "-s", "BHP") == 0
    assert ran(monkeypatch, "query", "trades", "-s", "BHQ") == 2
    shell = InteractiveShell()
    shell.user_ns["wb"] = k2.connect(settings=Settings(home=settings.home))
    shell.run_line_magic("load_ext", "k2kernel")
    shell.run_cell_magic("k2sql", "--as-of eod", "SELECT count(*) AS n FROM trades")
    shell.run_line_magic("k2", "snapshots")
    with pytest.raises(k2.K2Error):
        shell.run_line_magic("k2", "at nosuch")
    assert noted(log) == [
        ("cli", "k2 query trades -s BHP", "ok"),
        ("cli", "k2 query trades -s BHQ", "UnknownSymbol"),
        ("notebook", "%%k2sql --as-of eod\nSELECT count(*) AS n FROM trades", "ok"),
        ("notebook", "%k2 snapshots", "ok"),
        ("notebook", "%k2 at nosuch", "UnknownReference"),
    ]
