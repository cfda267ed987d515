"""`k2 doctor`: what is configured, reachable and installed."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import typer

from k2kernel.errors import K2Error, LakeNotFound, counted

if TYPE_CHECKING:
    from k2kernel.workbench import Workbench

_REQUIREMENT = re.compile(r"([\w.-]+).*?(?:; extra == ['\"](\w+)['\"])?")
_FOR_DEVELOPERS = "dev"

_Finding = tuple[str, str, str]
"""A mark, what was looked at, and what was found."""


def run(bench: Workbench) -> int:
    """Print one line a finding; 1 where something that was configured does not work, else 0."""
    from k2kernel import __version__

    ours = "ok", "k2kernel", f"{__version__} on Python {platform.python_version()}, {platform.system()}"
    findings = [ours, *_settings(bench), *_lake(bench), *_packages()]
    width = max(len(what) for _, what, _ in findings)
    for mark, what, detail in findings:
        typer.echo(f"{mark:<4}  {what:<{width}}  {detail}")
    return 1 if any(mark == "FAIL" for mark, _, _ in findings) else 0


def _settings(bench: Workbench) -> Iterator[_Finding]:
    for name in type(bench.settings).model_fields:
        given = "set" if name in bench.settings.model_fields_set else "default"
        yield "ok", f"K2_{name.upper()}", f"{getattr(bench.settings, name)} ({given})"


def _lake(bench: Workbench) -> Iterator[_Finding]:
    try:
        lake = bench.lake
        for row in bench.stats().to_arrow().to_pylist():
            held = f"{counted(row['rows'], 'row')} in {counted(row['files'], 'file')}"
            yield "ok", f"table {row['table']}", f"{held}, snapshot {row['snapshot_id'] or 'none'}"
        yield "ok", "warehouse", lake.settings.warehouse_path
    except LakeNotFound as exc:
        yield "--", "lake", str(exc)
    except K2Error as exc:
        yield "FAIL", "lake", str(exc)


def _packages() -> Iterator[_Finding]:
    """The versions of what is always there, and whether each extra is."""
    for extra, names in _declared().items():
        missing = [name for name in names if not _installed(name)]
        if not extra:
            yield from (("ok", name, version(name)) for name in names)
        elif missing:
            yield "--", f"extra {extra}", f'{", ".join(missing)} missing: pip install "k2kernel[{extra}]"'
        else:
            yield "ok", f"extra {extra}", "installed"


def _declared() -> dict[str, list[str]]:
    """The packages that ours asks for by the extra, `""` for those that every installation has."""
    found: dict[str, list[str]] = {}
    for each in requires("k2kernel") or []:
        declared = _REQUIREMENT.fullmatch(each)
        if declared and declared[2] != _FOR_DEVELOPERS:
            found.setdefault(declared[2] or "", []).append(declared[1])
    return found


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
