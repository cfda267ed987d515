"""The README is the manual: its tables are held to the code, and its first example runs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

import k2kernel as k2
from k2kernel import plots, profiles, streaming
from k2kernel.cli.app import app
from k2kernel.config import Settings
from k2kernel.magics import sql
from k2kernel.magics.commands import COMMANDS
from k2kernel.metrics import Counter, Metrics
from k2kernel.query import Joins
from k2kernel.sinks.kafka import Producer
from panel_apps.api.cursors import Signer
from panel_apps.app import make_api
from tests.support import ROOT
from tests.test_words import ONE, VERBS, of_python

MORE = {
    "asof": inspect.signature(Joins.asof).parameters,
    "nbbo": inspect.signature(Joins.nbbo).parameters,
    "producer": {**inspect.signature(streaming.open_producer).parameters, **inspect.signature(Producer).parameters},
    "ingest": inspect.signature(k2.Workbench.ingest_each).parameters,
}
"""The words of verbs that stand for `**words`, where no other door has the verb."""

README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """The table of settings, as the README must have it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "see right" if field.default is None or field.default_factory else f"`{field.default}`"
        lines.append(f"| `K2_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def profiles_table() -> str:
    """The table of shipped profiles, as the README must have it."""
    lines = ["| profile | tables | tried | format |", "|---|---|---|---|"]
    for name in profiles.shipped():
        profile = profiles.load(name)
        tables = ", ".join(dict.fromkeys(route.table for route in profile.route))
        lines.append(f"| `{name}` | {tables} | {'real files' if profile.tried else 'documents'} | {profile.title} |")
    return "\n".join(lines)


def magics_table() -> str:
    """The table of the options of `%%k2sql`, as the README must have it."""
    lines = ["| option of `%%k2sql`, `%k2sql` | meaning |", "|---|---|"]
    lines += [f"| `{option.usage.replace('|', chr(92) + '|')}` | {option.help} |" for option in sql.OPTIONS]
    return "\n".join(lines)


def commands_table() -> str:
    """The table of the sub-commands of `%k2`, as the README must have it."""
    lines = ["| line | what it does |", "|---|---|"]
    for command in COMMANDS.values():
        options = ", ".join(f"`--{option.name}`" for option in command.options)
        shown = f"`{' '.join(filter(None, ('%k2', command.name, command.words)))}`"
        lines.append(f"| {shown} | {command.help}{f'; {options}' if options else ''} |")
    return "\n".join(lines)


def plots_table() -> str:
    """The table of the charts, as the README must have it."""
    lines = ["| chart | what it shows |", "|---|---|"]
    for name in plots.__all__:
        made = getattr(plots, name)
        summary = str(made.__doc__).partition("\n")[0].partition("; ")[0].rstrip(".")
        lines.append(f"| `plots.{name}({', '.join(_words(made))})` | {summary} |")
    return "\n".join(lines)


def _words(made: Any) -> list[str]:
    given = inspect.signature(made).parameters.values()
    return [
        f"{word.name}={word.default!r}".replace("'", '"') if word.default is not word.empty else word.name
        for word in given
        if word.kind is not word.VAR_KEYWORD
    ] + ["…"] * any(word.kind is word.VAR_KEYWORD for word in given)


def routes_table() -> str:
    """The table of routes, as the README must have it."""
    lines = ["| route | answer |", "|---|---|"]
    for path, methods in make_api(Settings(), Signer(Settings())).openapi()["paths"].items():
        for method, operation in methods.items():
            lines.append(f"| `{method.upper()} {path}` | {operation['description'].rstrip('.')} |")
    return "\n".join(lines)


def metrics_table() -> str:
    """The table of metrics, as the README must have it."""
    lines = ["| metric | labels | meaning |", "|---|---|---|"]
    for each in Metrics():
        name = f"{each.name}_total" if isinstance(each, Counter) else each.name
        labels = ", ".join(f"`{label}`" for label in each.label_names)
        lines.append(f"| `{name}` | {labels} | {type(each).__name__.lower()}: {each.meaning} |")
    return "\n".join(lines)


def commands(group: Any, name: str) -> list[str]:
    """Every command below `group`, by its full name."""
    inner = getattr(group, "commands", None)
    if not inner:
        return [name]
    return [each for key, command in inner.items() for each in commands(command, f"{name} {key}")]


def test_settings_and_profiles() -> None:
    assert settings_table() in README
    assert profiles_table() in README


def test_magics_and_plots() -> None:
    assert magics_table() in README
    assert commands_table() in README
    assert plots_table() in README


def test_metrics() -> None:
    assert metrics_table() in README


def test_routes() -> None:
    assert routes_table() in README


def test_every_word_of_http_is_named() -> None:
    paths = make_api(Settings(), Signer(Settings())).openapi()["paths"]
    words = {each["name"] for methods in paths.values() for each in methods.get("get", {}).get("parameters", ())}
    section = README.partition("- **Words** are")[2].partition("\n- ")[0]
    others = {"symbol", "date", "last-event-id", "Last-Event-ID", "If-None-Match"}
    assert words - others == set(re.findall(r"`(\w+)", section))


def test_every_command_is_named() -> None:
    missing = [name for name in commands(typer.main.get_command(app), "k2") if f"`{name}" not in README]
    assert not missing


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    table = README.partition(heading)[2].partition("\n\n")[0]
    return [line.strip("|").replace("\\|", "").split(" | ") for line in table.splitlines()[2:]]


def test_options_that_are_named_are_there() -> None:
    """Each in the row of its commands."""
    root = typer.main.get_command(app)
    known = {name: command.params for name, command in leaves(root, "k2")}
    for cells in rows_of("| command | what it does |"):
        names = re.findall(r"`(k2(?: [a-z-]+)+)", " ".join(cells))
        there = {option for name in names for each in known[_command(name, known)] for option in each.opts}
        named = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", " ".join(cells)))
        assert named <= there, (names, named - there)


def _command(name: str, known: dict[str, Any]) -> str:
    """The command that a text begins with: what follows may be a word of it, as in `k2 run list`."""
    return next(each for each in sorted(known, key=len, reverse=True) if f"{name} ".startswith(f"{each} "))


def leaves(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below `group` and itself, with its full name."""
    yield name, group
    for key, command in getattr(group, "commands", {}).items():
        yield from leaves(command, f"{name} {key}")


def test_words_of_calls_that_are_named_are_there() -> None:
    calls = [
        found for cells in rows_of("| call | answer |") for found in re.findall(r"`wb\.(\w+)\(([^`]*)\)`", cells[0])
    ]
    assert len(calls) > 40
    for verb, given in calls:
        outer = inspect.signature(getattr(k2.Workbench, verb)).parameters
        inner = of_python(VERBS[verb]).keys() if verb in VERBS else {ONE.get(name, name) for name in MORE.get(verb, ())}
        words = [word.partition("=")[0] for word in re.sub(r"\(.*?\)", "", given).split(", ") if word not in {"…", ""}]
        unknown = [word for word in words if word not in outer and ONE.get(word, word) not in inner]
        assert not unknown, (verb, unknown)


def test_every_verb_of_the_workbench_is_named() -> None:
    verbs = [name for name, _ in inspect.getmembers(k2.Workbench, inspect.isfunction) if name[0] != "_"]
    assert not [verb for verb in verbs if not re.search(rf"wb\.{verb}\b", README)]


def test_every_extra_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(
        r"^\| `(\w+)` \|", README.partition("| extra | for |")[2].partition("\n\n")[0], flags=re.MULTILINE
    )
    assert sorted(named) == sorted(project["optional-dependencies"].keys() - {"dev"})


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make ([a-z-]+)", README, flags=re.MULTILINE)
    assert named[:2] == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)


def test_files_that_are_named_exist() -> None:
    named = set(re.findall(r"`((?:k2kernel|panel_apps|tests|benchmarks|observability)/[\w./-]*)`", README))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_each_guarantee_has_its_test_and_its_module() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0].strip("| ")) for row in rows] == list(range(1, len(rows) + 1))
    for _, _, kept_in, proven_by, broken in rows:
        assert all((ROOT / path).exists() for path in re.findall(r"`([^`]+)`", kept_in)), kept_in
        for file, _, name in (test.partition("::") for test in re.findall(r"`(test_[^`]+)`", proven_by)):
            assert f"def {name or 'test_'}" in (ROOT / "tests" / file).read_text(), (file, name)
        assert broken.strip(" |")


def test_the_first_five_things_run(shared_data: Path, tmp_path: Path) -> None:
    """The README's first Python block, on the files it is about."""
    block = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert block
    folder = tmp_path / "trades"
    folder.mkdir()
    (folder / "7078.csv").symlink_to(shared_data / "asx-2014-03/raw/trades/7078.csv")
    words = [sys.executable, "-c", block.group(1)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(k2.connect(tmp_path / ".k2").sql("FROM trades").to_arrow()) == 91_631
