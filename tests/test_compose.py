"""docker-compose.yml without Docker: its shape, that nothing is left open, and that it runs what the tests run."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal
from xml.etree import ElementTree as ET

import pytest
import typer.main
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from k2kernel import runs
from k2kernel.cli.app import app
from k2kernel.config import Settings
from k2kernel.services.servers import cache
from tests.support import ROOT, missing_service

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
EXAMPLE = (ROOT / "docker.env.example").read_text()
Duration = Annotated[str, StringConstraints(pattern=r"^\d+(s|m)$")]
Pinned = Annotated[str, StringConstraints(pattern=r"^[a-z0-9./-]+:v?\d+(\.\d+)+[A-Za-z0-9.-]*$")]
Volume = Annotated[str, StringConstraints(pattern=r"^(\./)?[\w./-]+:/[\w./-]+(:ro)?$")]
Port = Annotated[str, StringConstraints(pattern=r"^127\.0\.0\.1:\d+:\d+$")]


class Shape(BaseModel):
    """A part of the compose specification; what it does not name is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Health(Shape):
    test: Annotated[list[str], Field(min_length=2)]
    interval: Duration
    timeout: Duration
    retries: int
    start_period: Duration


class Limits(Shape):
    cpus: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]
    memory: Annotated[str, StringConstraints(pattern=r"^\d+[MG]$")]


class Resources(Shape):
    limits: Limits


class Deploy(Shape):
    resources: Resources


class Dependency(Shape):
    condition: Literal["service_healthy", "service_completed_successfully", "service_started"]


class Service(Shape):
    image: Pinned
    build: str | None = None
    profiles: Annotated[list[Literal["core", "stream", "full"]], Field(min_length=1)]
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    environment: dict[str, str] = {}
    volumes: list[Volume] = []
    ports: list[Port] = []
    restart: Literal["unless-stopped", "no"]
    depends_on: dict[str, Dependency] = {}
    healthcheck: Health | None = None
    deploy: Deploy


class Compose(Shape):
    name: str
    services: dict[str, Service]
    volumes: dict[str, dict[str, Any]]


FOUND = Compose.model_validate({name: part for name, part in COMPOSE.items() if not name.startswith("x-")})
each_service = pytest.mark.parametrize("name", FOUND.services)


def test_the_file_is_of_the_schema_of_compose() -> None:
    file = cache() / "compose-spec.json"
    if not file.exists():
        missing_service("the schema of compose files", "install Go and run `make .services`")
    schema = Draft202012Validator(json.loads(file.read_text()))
    assert [error.message for error in schema.iter_errors(COMPOSE)] == []
    assert not schema.is_valid({"services": {"s3": {"image": "s3", "restrat": "no"}}})


def test_every_part_of_the_platform_is_there_and_of_use() -> None:
    wanted = {"kafka", "registry", "s3", "postgres", "catalog", "prometheus", "grafana", "kafka-ui"}
    assert wanted | {"k2-server", "k2-sink", "k2-schedule", "jupyter"} <= set(FOUND.services)
    told = " ".join(value for service in FOUND.services.values() for value in service.environment.values())
    for name in wanted:
        assert FOUND.services[name].ports or re.search(rf"(//|^| ){name}:\d", told), f"nobody reaches {name}"


@each_service
def test_a_service_is_healthy_and_stands_on_what_its_profiles_start(name: str) -> None:
    service = FOUND.services[name]
    assert service.healthcheck is not None or service.restart == "no"
    for other, how in service.depends_on.items():
        assert set(service.profiles) <= set(FOUND.services[other].profiles), f"{name} needs {other}"
        assert how.condition != "service_healthy" or FOUND.services[other].healthcheck is not None
    for volume in service.volumes:
        place = volume.partition(":")[0]
        assert (ROOT / place).exists() if place.startswith(".") else place in FOUND.volumes, place


def test_no_secret_is_in_the_file_and_every_one_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?see docker\.env\.example\}", text))
    assert asked == set(re.findall(r"\$\{(\w+)", text))
    assert asked == set(re.findall(r"^(\w+)=$", EXAMPLE, flags=re.MULTILINE))
    for service in FOUND.services.values():
        for key, value in service.environment.items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|API_KEYS|ACCESS_?_KEY", key)
            assert not secret or value.startswith("${"), key


@each_service
def test_what_k2_runs_are_its_commands_and_settings(name: str) -> None:
    service = FOUND.services[name]
    if not service.image.startswith("k2kernel:"):
        return
    assert set(service.environment) - {"JUPYTER_TOKEN"} <= {f"K2_{field.upper()}" for field in Settings.model_fields}
    Settings.model_validate({key[3:].lower(): value for key, value in service.environment.items() if key[:3] == "K2_"})
    command: Any = typer.main.get_command(app)
    for word in service.command or ():
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]


def test_the_configurations_that_are_mounted_are_those_that_tests_run() -> None:
    targets = yaml.safe_load((ROOT / "observability/prometheus/targets.yml").read_text())
    for target in targets:
        host, _, port = target["targets"][0].partition(":")
        service = FOUND.services[host]
        assert port in {service.environment.get("K2_METRICS_PORT"), *(service.command or ())}
    source = yaml.safe_load((ROOT / "observability/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert [job.name for job in runs.load(ROOT / "observability/schedules.toml")] == ["upkeep"]


def test_servers_are_of_the_versions_that_tests_run() -> None:
    versions: dict[str, str] = {}
    for file in ("pom.xml", "catalog.xml"):
        space = "{http://maven.apache.org/POM/4.0.0}"
        properties = ET.parse(ROOT / "tests/services" / file).getroot().find(f"{space}properties")
        assert properties is not None
        versions |= {each.tag.removeprefix(space): str(each.text) for each in properties}
    images = {name: service.image.rpartition(":")[2] for name, service in FOUND.services.items()}
    assert images["kafka"] == versions["kafka"]
    assert images["registry"] == versions["apicurio"]
    assert images["catalog"] == versions["iceberg"]
    assert f"versitygw@{images['s3']}" in (ROOT / "Makefile").read_text()


def test_the_image_has_what_a_locked_install_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?:--chown=\w+ )?([^-].*)", lines, flags=re.MULTILINE)
    copied = {word for line in copies for word in line.split()[:-1]}
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"^USER (?!root)", lines, flags=re.MULTILINE)
    assert all(re.search(r":\d", image) for image in re.findall(r"^FROM (\S+)", lines, flags=re.MULTILINE))
