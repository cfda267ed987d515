"""The packages that we ask for are those that the code imports, in the extra that it says."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support import ROOT
from tests.test_architecture import foreign_imports, modules

COMES_WITH = {"pydantic": "pydantic_settings", "sqlalchemy": "pyiceberg"}
"""Libraries that are imported but come with a declared one."""

EXTRAS = {
    "IPython": "notebook",
    "apscheduler": "notebook",
    "bokeh": "notebook",
    "confluent_kafka": "kafka",
    "fastapi": "app",
    "fastapi_offline": "app",
    "fastavro": "kafka",
    "fsspec": "s3",
    "holoviews": "notebook",
    "httpx": "kafka",
    "hvplot": "notebook",
    "ipywidgets": "notebook",
    "nbconvert": "notebook",
    "nbformat": "notebook",
    "pandas": "notebook",
    "panel": "app",
    "papermill": "notebook",
    "param": "app",
    "pyspark": "spark",
    "sqlglot": "spark",
    "starlette": "app",
    "uvicorn": "app",
}
"""Libraries of an extra: their absence is a MissingExtra, not an ImportError."""

INSTALLED_AS = {"pyspark": "pyspark_client"}
"""Libraries whose package has another name."""

NOT_IMPORTED = {
    "tzdata": "the zone database where the system has none",
}
"""Dependencies that no module imports, and why they are there."""


def requirements(extra: str | None = None) -> set[str]:
    """Names of the declared dependencies, of a plain install or of an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {_named(requirement) for requirement in declared}


def _named(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0].replace("-", "_").lower()


def test_a_plain_install_has_every_library_that_is_imported() -> None:
    used = {library for module in modules().values() for library in foreign_imports(module)}
    assert used - set(EXTRAS) <= requirements() | set(COMES_WITH)
    assert set(COMES_WITH.values()) <= requirements()
    assert all(INSTALLED_AS.get(library, library).lower() in requirements(extra) for library, extra in EXTRAS.items())


def test_every_dependency_is_imported_or_says_why_not() -> None:
    used = {library for module in modules().values() for library in foreign_imports(module)}
    assert requirements() - used == set(NOT_IMPORTED)


def test_the_lock_file_is_of_these_dependencies() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    own = next(package for package in packages if package["name"] == "k2kernel")
    plain = [one for one in own["metadata"]["requires-dist"] if "extra ==" not in one.get("marker", "")]
    assert {_named(one["name"]) for one in plain} == requirements(), "run `make lock`"


def test_the_tests_of_a_file_share_a_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist says so in their ids; a version of pytest under which it cannot starts every server twice."""
    spread = request.config.getoption("loadgroup", default=False)
    assert not spread or request.node.nodeid.endswith("@test_packages")
