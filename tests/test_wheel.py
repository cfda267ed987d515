"""The wheel as a stranger has it: in empty environments outside the clone, with no extra, and with each extra alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from pathlib import Path

import httpx
import pytest

from tests import stores
from tests.servers import KEY, free_port
from tests.sparks import spark_server
from tests.streams import Services, fresh_class
from tests.support import ROOT, missing_service

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"].keys() - {"dev"})
OTHER_PYTHONS = ("3.12", "3.13")
COUNT = "SELECT count(*) AS n FROM trades_raw"

NEEDS = {
    "serve --port 1": "app",
    "serve --new-key ana": "app",
    "run story.ipynb": "notebook",
    "schedule schedules.toml --show": "notebook",
    "stream produce s/trades-XASX.csv -p k2-trades": "kafka",
    "stream sink --until-end": "kafka",
    "replay --to-kafka -n 1": "kafka",
    "table migrate-catalog postgresql+psycopg://a:b@127.0.0.1:1/c": "postgres",
    f"query sql --engine spark {COUNT}": "spark",
}
"""The extra that each command needs."""

STORY = """\
%load_ext k2kernel
%k2sql --out found --to polars SELECT count(*) AS n FROM trades_raw
import k2kernel as k2
from k2kernel import plots, widgets
wb = k2.connect()
chart = plots.candles(wb, "BHP", "5m", venue="XASX")
print(found["n"][0], type(chart).__module__, widgets.Explorer(wb))
"""


@dataclass(frozen=True)
class Place:
    """An environment with our wheel, and the folder beside it in which its programs are called."""

    environment: Path
    folder: Path

    def call(self, program: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A program with these settings, and nothing of this clone, its environment or other settings."""
        ours = ("K2_", "PYTHON", "VIRTUAL_ENV", "UV_", "PATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        kept["PATH"] = f"{self.environment / 'bin'}:{os.environ['PATH']}"
        command = [str(self.environment / "bin" / program), *words]
        return subprocess.run(
            command, cwd=self.folder, env=kept | settings, capture_output=True, text=True, check=False, timeout=300
        )

    def k2(self, line: str, *words: str, **settings: str) -> str:
        """What a command that succeeds says on standard output."""
        done = self.call("k2", *line.split(), *words, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def loaded(self) -> Place:
        """This place, with a small sample in its lake."""
        self.k2("sample s --rows 2000")
        for kind in ("trades", "quotes"):
            files = sorted(str(path) for path in (self.folder / "s").glob(f"{kind}-*.csv"))
            self.k2(f"ingest -p k2-{kind}", *files)
        return self


def uv() -> str:
    found = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
    if not Path(found).exists():
        missing_service("uv", "`make .venv/.dev` installs it")
    return found


def run_uv(*words: str, **settings: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "UV_COMPILE_BYTECODE"}}
    done = subprocess.run(
        [uv(), "-q", *words], cwd=ROOT, env=kept | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("wheel")
    run_uv("build", "--wheel", "--out-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


def place(wheel: Path, folder: Path, extra: str | None = None, python: str = sys.executable) -> Place:
    """An environment with the wheel, the packages of the lock file that it asks for, and no other.

    That the second step finds nothing to fetch shows that the wheel asks for what the lock file has.
    """
    environment = folder / "environment"
    asked = ["--extra", extra] if extra else []
    words = ["sync", "--frozen", "--no-install-project", "--python", python, *asked]
    run_uv(*words, UV_PROJECT_ENVIRONMENT=str(environment))
    named = f"k2kernel[{extra}]" if extra else "k2kernel"
    run_uv("pip", "install", "--offline", "--python", str(environment), f"{named} @ {wheel.as_uri()}")
    (folder / "work").mkdir()
    return Place(environment, folder / "work")


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The wheel with no extra."""
    return place(wheel, tmp_path_factory.mktemp("core")).loaded()


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_it_says_what_it_is(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["Summary"] == PROJECT["description"]
    assert (said["License-Expression"], said["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert said.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(said["Keywords"].split(",")) == set(PROJECT["keywords"])
    assert said.get_all("Classifier") == sorted(PROJECT["classifiers"])
    assert set(said.get_all("Provides-Extra") or []) == {*EXTRAS, "dev"}


def test_it_has_what_the_clone_has_of_its_parts(wheel: Path) -> None:
    """Profiles, policies, venues, styles and notebooks among it, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = [re.sub(r"^[^/]*\.data/data/share/k2kernel/", "", name) for name in archive.namelist()]
    here = [path for part in ("k2kernel", "panel_apps", "notebooks") for path in (ROOT / part).rglob("*.*")]
    kept = [path.relative_to(ROOT) for path in here if path.is_file() and path.suffix != ".pyc"]
    ours = {str(path) for path in kept if ".ipynb_checkpoints" not in path.parts}
    assert {name for name in names if ".dist-info/" not in name} == ours


def test_the_version_is_one(core: Place, wheel: Path) -> None:
    assert core.k2("--version") == core.k2("version") == f"{metadata(wheel)['Version']}\n"


def test_the_main_job_with_no_extra(core: Place) -> None:
    assert core.k2("query sql -o csv", COUNT) == "n\n2000\n"
    assert len(core.k2("query bars BHP session -v XASX -o csv").splitlines()) == 4
    script = "import k2kernel as k2; print(len(k2.connect().trades('BHP', venue='XASX').to_polars()))"
    assert int(core.call("python", "-c", script).stdout) > 0


def test_the_demonstration_names_commands_that_run(core: Place, tmp_path: Path) -> None:
    told = Place(core.environment, tmp_path).k2(f"demo --data {core.folder / 's'}").partition("\nNext\n")[2]
    assert "k2 query bars" in told
    for line in told.strip().splitlines()[:3]:
        done = subprocess.run(["sh", "-c", f"PATH={core.environment}/bin:$PATH; {line}"], cwd=tmp_path, check=False)
        assert done.returncode == 0, line


@pytest.mark.parametrize("line", NEEDS)
def test_what_needs_an_extra_says_how_to_install_it(core: Place, line: str) -> None:
    (core.folder / "story.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (core.folder / "schedules.toml").write_text('[nightly]\nwhen = "0 3 * * *"\nmaintain = "all"\n')
    kafka = {"K2_KAFKA_BOOTSTRAP": "127.0.0.1:1", "K2_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
    words, mark, statement = line.partition(" SELECT")
    done = core.call("k2", *words.split(), *([f"SELECT{statement}"] if mark else []), **kafka)
    assert done.returncode == 2
    assert done.stderr.endswith(f'is not installed. Install it with: pip install "k2kernel[{NEEDS[line]}]".\n'), (
        done.stderr
    )


def test_python_says_which_extra_it_needs(core: Place) -> None:
    script = (
        "import k2kernel as k2\nfrom k2kernel import plots, widgets\nwb = k2.connect()\n"
        "for part in (lambda: plots.candles(wb, 'BHP', venue='XASX'), lambda: widgets.Explorer(wb)):\n"
        "    try:\n        part()\n    except k2.errors.MissingExtra as error:\n        print(error.extra)\n"
    )
    assert core.call("python", "-c", script).stdout.split() == ["notebook", "notebook"]


def test_the_doctor_lists_every_extra(core: Place) -> None:
    told = core.k2("doctor")
    missing = re.findall(r'extra (\w+) .* missing: pip install "k2kernel\[\1\]"', told)
    assert sorted([*missing, *re.findall(r"extra (\w+) +installed", told)]) == EXTRAS


@pytest.mark.long
@pytest.mark.timeout(600)
def test_notebook_alone(wheel: Path, tmp_path: Path) -> None:
    """The magics, charts and widgets in an IPython without a server, and a notebook of the wheel that is run."""
    alone = place(wheel, tmp_path, "notebook").loaded()
    (alone.folder / "story.ipy").write_text(STORY)
    told = alone.call("ipython", "--no-banner", "story.ipy").stdout
    assert "2000 holoviews.core.layout " in told
    assert "BHP on XASX" in told
    report = alone.environment / "share/k2kernel/notebooks/daily_report.ipynb"
    assert Path(alone.k2(f"run {report}").strip(), "report.html").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_app_alone(wheel: Path, tmp_path: Path) -> None:
    """The server answers, and its dashboard is behind the key."""
    alone, port = place(wheel, tmp_path, "app").loaded(), free_port()
    command = [str(alone.environment / "bin/k2"), "serve", "--port", str(port)]
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60)
    with stores.running("serve", command, alone.folder, {"K2_API_KEYS": KEY}, port), client:
        assert client.get("/health").status_code == 200
        assert 'id="key"' in client.get("/").text
        client.headers["X-API-Key"] = KEY
        shown = client.get("/")
        assert (shown.status_code, shown.url.path) == (200, "/dashboard")
        answer = client.get("/v1/symbols").json()
    assert sum(row["trades"] for row in answer["data"]) == 2000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_kafka_alone(wheel: Path, tmp_path: Path, services: Services) -> None:
    """Files to topics and topics into the lake, once."""
    alone = place(wheel, tmp_path, "kafka")
    alone.k2("sample s --rows 2000")
    produce = f"stream produce s/trades-XASX.csv -p k2-trades --asset-class {fresh_class()}"
    sent = alone.k2(produce, **services.environment)
    topic = re.search(r"market\.\S+\.trades\.\w+", sent)
    assert topic, sent
    alone.k2(f"stream sink {topic[0]} --until-end", **services.environment)
    assert alone.k2("query sql -o csv", COUNT) == "n\n900\n"
    alone.k2("stream audit", **services.environment)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_postgres_alone(wheel: Path, tmp_path: Path) -> None:
    alone = place(wheel, tmp_path, "postgres")
    alone.k2("sample s --rows 2000")
    with stores.postgres(tmp_path) as store:
        settings = {f"K2_{name.upper()}": value for name, value in store.items()}
        alone.k2("ingest -p k2-trades s/trades-XASX.csv", **settings)
        assert alone.k2("query sql -o csv", COUNT, **settings) == "n\n900\n"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_s3_alone(wheel: Path, tmp_path: Path) -> None:
    alone = place(wheel, tmp_path, "s3")
    alone.k2("sample s --rows 2000")
    with stores.s3(tmp_path / "buckets") as store:
        settings = {f"K2_{name.upper()}": value for name, value in store.items()}
        settings["K2_WAREHOUSE"] = f"s3://{stores.BUCKET}/warehouse"
        alone.k2("ingest -p k2-trades s/trades-XASX.csv", **settings)
        assert alone.k2("query sql -o csv", COUNT, **settings) == "n\n900\n"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_spark_alone(wheel: Path, tmp_path: Path) -> None:
    alone = place(wheel, tmp_path, "spark").loaded()
    with spark_server(tmp_path, alone.folder / ".k2") as url:
        assert alone.k2("query sql --engine spark -o csv", COUNT, K2_SPARK_URL=url) == "n\n2000\n"


def test_each_extra_is_tried_alone() -> None:
    assert [extra for extra in EXTRAS if f"test_{extra}_alone" in globals()] == EXTRAS


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_the_main_job_on_a_later_python(wheel: Path, tmp_path: Path, version: str) -> None:
    later = place(wheel, tmp_path, python=interpreter(version)).loaded()
    assert later.call("python", "--version").stdout.startswith(f"Python {version}.")
    assert later.k2("query sql -o csv", COUNT) == "n\n2000\n"
    told = later.call(
        "python", "-X", "dev", "-W", "error", "-c", f"import k2kernel as k2; k2.connect().sql({COUNT!r}).to_arrow()"
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "minute by minute" in later.k2("demo --home another/.k2")


def interpreter(version: str) -> str:
    """A Python of this version on the PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    known = [shutil.which(f"python{version}") or "", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    runs = (each for each in known if each and _runs(each))
    return next(runs, None) or missing_service(f"Python {version}", "install it, also with pyenv")


def _runs(python: str) -> bool:
    """False for a shim of pyenv that leads nowhere."""
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0
