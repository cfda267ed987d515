"""The shape of the code, held as data: levels, homes of third-party libraries, and house numbers.

The syntax trees are walked whole, so an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import k2kernel
from tests.support import ROOT

LEVELS = {
    "errors": -1,
    "config": 0,
    "cached": 0,
    "schemas": 0,
    "words": 0,
    "wire": 1,
    "times": 1,
    "html": 1,
    "metrics": 1,
    "calendars": 2,
    "eligibility": 2,
    "usage": 2,
    "profiles": 2,
    "sources": 2,
    "sinks": 2,
    "decode": 3,
    "lake": 3,
    "ingest": 4,
    "query": 4,
    "replay": 5,
    "quality": 5,
    "streaming": 5,
    "workbench": 6,
    "": 7,  # the package root: what `import k2kernel` offers
    "plots": 7,
    "runs": 7,
    "sample": 7,
    "services": 7,
    "widgets": 8,
    "magics": 9,
    "cli": 9,
    "__main__": 10,
    "panel_apps": 10,
}
"""A module (a file or a folder of k2kernel) imports strictly lower levels only; a folder also imports itself."""

HOMES = {
    "apscheduler": {"runs"},
    "IPython": {"magics", "widgets"},
    "confluent_kafka": {"sinks.kafka", "sinks.undelivered", "sources"},
    "duckdb": {"decode.sql", "lake.history", "lake.write", "query"},
    "exchange_calendars": {"calendars"},
    "fastapi": {"panel_apps"},
    "fastavro": {"wire.decode"},
    "fsspec": {"lake.object_store"},
    "httpx": {"wire.registry"},
    "bokeh": {"panel_apps.dashboard", "plots"},
    "fastapi_offline": {"panel_apps.api.docs"},
    "holoviews": {"panel_apps.dashboard", "plots"},
    "hvplot": {"plots"},
    "ipywidgets": {"widgets"},
    "numpy": {"decode", "sample", "wire"},
    "pandas": {"query.result"},
    "panel": {"panel_apps.dashboard"},
    "param": {"panel_apps.dashboard"},
    "nbconvert": {"runs"},
    "nbformat": {"runs"},
    "papermill": {"runs"},
    "polars": {
        "calendars",
        "decode",
        "ingest",
        "lake",
        "plots",
        "quality",
        "query",
        "replay.follow",
        "sample",
        "schemas",
        "sinks",
        "sources.kafka",
        "wire",
        "workbench",
    },
    "prometheus_client": {"metrics.exposition"},
    "pyarrow": {
        "cli",
        "decode",
        "lake.encoding",
        "lake.object_store",
        "lake.write",
        "magics",
        "panel_apps",
        "quality",
        "query",
        "replay",
        "schemas",
        "sinks",
        "sources",
        "workbench",
    },
    "pydantic": {
        "config",
        "lake.expiry",
        "panel_apps",
        "profiles",
    },  # lake.expiry: requirements of PyIceberg
    "pydantic_settings": {"config"},
    "pyiceberg": {"lake", "query.scan", "schemas"},  # query.scan: rows under deletion vectors
    "rich": {"ingest.progress"},
    "sqlalchemy": {"lake"},
    "pyspark": {"query.spark"},
    "sqlglot": {"query.dialect"},
    "starlette": {"panel_apps"},
    "typer": {"cli"},
    "uvicorn": {"panel_apps"},
}
"""The only modules that import each third-party library. A library that is not here has no home yet."""

_OFFERED = (
    "",
    ".cached",
    ".errors",
    ".metrics",
    ".plots",
    ".quality",
    ".query",
    ".runs",
    ".schemas",
    ".sinks",
    ".words",
)
PUBLIC = {f"k2kernel{name}" for name in _OFFERED}
"""What panel_apps may import: the root, and the modules beside it whose own names are public."""

LIGHT = {"pydantic", "pydantic_settings"}
"""Libraries that `import k2kernel` may load."""

LONGEST_FUNCTION, LONGEST_FILE, MEDIAN_FUNCTION = 50, 400, 8
NO_HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|proxy\.golang\.org|repo1?\.maven\.|maven\.org|deb\.debian\.org"
)
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{36}|xox[abpr]-[A-Za-z0-9-]{10}"
    r"|(?i:password|secret|api_key|token)\s*[:=]\s*[\"'][A-Za-z0-9+/_-]{16,}[\"']"
)


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, and what it is a part of in `LEVELS`."""

    name: str
    path: Path

    @property
    def part(self) -> str:
        """The key of `LEVELS`: the file or folder directly under k2kernel, or panel_apps."""
        top, _, rest = self.name.partition(".")
        return rest.partition(".")[0] if top == "k2kernel" else top

    @property
    def home(self) -> str:
        """The dotted name inside k2kernel."""
        return self.name.removeprefix("k2kernel").removeprefix(".")

    @property
    def tree(self) -> ast.Module:
        return parsed(self.path)

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted([*(ROOT / "k2kernel").rglob("*.py"), *(ROOT / "panel_apps").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path)
    return found


def imported(module: Module) -> Iterator[str]:
    """Dotted names that a module imports, wherever the statement stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(module, node)


def _imported_from(module: Module, node: ast.ImportFrom) -> Iterator[str]:
    package = module.package.split(".")
    above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
    source = ".".join(part for part in (above, node.module) if part)
    for alias in node.names:
        inside = f"{source}.{alias.name}"
        yield inside if inside in modules() else source


def own_imports(module: Module) -> Iterator[Module]:
    for name in imported(module):
        if name.partition(".")[0] in {"k2kernel", "panel_apps"}:
            assert name in modules(), f"{module.name} imports {name}, which does not exist"
            yield modules()[name]


def foreign_imports(module: Module) -> set[str]:
    roots = {name.partition(".")[0] for name in imported(module)}
    return roots - {"k2kernel", "panel_apps", "__future__"} - sys.stdlib_module_names


def each_module(found: Iterable[Module]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", found, ids=lambda module: module.name)


@each_module(modules().values())
def test_every_module_has_a_level(module: Module) -> None:
    assert module.part in LEVELS, f"give {module.part} a level"


@each_module(modules().values())
def test_a_module_imports_strictly_lower_levels(module: Module) -> None:
    for other in own_imports(module):
        if other.part != module.part:
            assert LEVELS[other.part] < LEVELS[module.part], f"{module.name} imports {other.name}"


def test_panel_apps_use_only_the_public_package() -> None:
    for module in modules().values():
        if module.part == "panel_apps":
            others = {other.name for other in own_imports(module) if other.part != "panel_apps"}
            assert others <= PUBLIC, module.name


def test_there_is_no_import_cycle() -> None:
    arrows = {name: {other.name for other in own_imports(module)} for name, module in modules().items()}
    while free := {name for name, targets in arrows.items() if not targets}:
        arrows = {name: targets - free for name, targets in arrows.items() if name not in free}
    assert not arrows, f"each of these imports another of them: {arrows}"


@each_module(modules().values())
def test_a_library_is_imported_at_home_only(module: Module) -> None:
    for library in foreign_imports(module):
        homes = HOMES.get(library, set())
        at_home = any(module.home == home or module.home.startswith(f"{home}.") for home in homes)
        assert at_home or module.part in homes, f"{module.name} imports {library}, whose homes are {sorted(homes)}"


def test_every_home_that_exists_imports_its_library() -> None:
    used = {(library, module.home) for module in modules().values() for library in foreign_imports(module)}
    for library, homes in HOMES.items():
        for home in homes:
            exists = any(home in {module.home, module.part} for module in modules().values())
            needs = any(name == library and (place == home or place.startswith(f"{home}.")) for name, place in used)
            assert needs or not exists, f"{home} does not import {library}: take it out of HOMES"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in sys.modules after `statement` in a fresh interpreter."""
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_import_k2kernel_loads_no_heavy_library() -> None:
    assert not loaded_by("import k2kernel") & (set(HOMES) - LIGHT)


def test_the_root_exports_what_it_says_sorted() -> None:
    exported = list(vars(k2kernel)["__all__"])
    assert exported == sorted(exported)
    assert all(hasattr(k2kernel, name) for name in exported)
    public = {name for name in dir(k2kernel) if not name.startswith("_") and not _is_module(name)}
    assert public - {"annotations", "TYPE_CHECKING"} <= set(exported)


def _is_module(name: str) -> bool:
    return f"k2kernel.{name}" in modules() or isinstance(getattr(k2kernel, name), type(sys))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, its docstring apart."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@each_module(modules().values())
def test_house_numbers(module: Module) -> None:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{module.path} has {lines} lines"
    for function in functions(module):
        where = f"{module.path}:{function.lineno} {function.name}"
        assert body_lines(function) <= LONGEST_FUNCTION, f"{where} has {body_lines(function)} lines"
        assert function.returns is not None, f"{where} has no return type"


def test_house_numbers_of_tests_and_benchmarks() -> None:
    """How long files and functions are; what tests return is checked by mypy."""
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        for function in functions(Module(path.stem, path)):
            assert body_lines(function) <= LONGEST_FUNCTION, f"{path}:{function.lineno}"


def test_the_median_function_is_short() -> None:
    lengths = [body_lines(function) for module in modules().values() for function in functions(module)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def tracked_files() -> list[Path]:
    """What git would commit: tracked files, and new ones that are not ignored."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git clone")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_name_no_registry_and_hold_no_secret() -> None:
    for path in tracked_files():
        if path.name == "uv.lock" or path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for pattern in (NO_HOST, SECRETS):
            found = pattern.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "text",
    ["AKIAABCDEFGHIJKLMNOP", 'password = "correcthorsebattery1"', "-----BEGIN RSA PRIVATE KEY", "ghp_" + "a" * 36],
)
def test_the_search_for_secrets_finds_one(text: str) -> None:
    assert SECRETS.search(text)
