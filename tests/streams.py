"""Real services for tests of streams: one broker and one registry a test session, and clusters for failure tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from k2kernel.config import Settings
from k2kernel.services import Kafka, Registry, missing
from tests.support import missing_service

GIVEN = {name: os.environ.get(name) for name in ("K2_KAFKA_BOOTSTRAP", "K2_SCHEMA_REGISTRY_URL")}
"""The services that the environment names, kept before tests forget its settings."""


@dataclass(frozen=True)
class Services:
    """Addresses of a broker and a registry."""

    bootstrap: str
    registry_url: str

    def settings(self, home: Path) -> Settings:
        """The settings of a lake at `home` that knows them."""
        return Settings(home=home, kafka_bootstrap=self.bootstrap, schema_registry_url=self.registry_url)

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead to them."""
        return {"K2_KAFKA_BOOTSTRAP": self.bootstrap, "K2_SCHEMA_REGISTRY_URL": self.registry_url}


def need_servers() -> None:
    """Skip, or fail in CI, where the servers cannot be started here."""
    lack = missing()
    if lack is not None:
        missing_service(lack, "install Java 17 and Maven, and run `make .services`")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A broker and a registry: those of the environment, else local ones that stop with the session."""
    bootstrap, url = GIVEN.values()
    if bootstrap and url:
        yield Services(bootstrap, url)
        return
    need_servers()
    folder = tmp_path_factory.mktemp("services")
    kafka, registry = Kafka(folder / "kafka"), Registry(folder / "registry")
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), (kafka, registry)))
        yield Services(kafka.bootstrap, registry.url)
    finally:
        registry.stop()
        kafka.stop()


def fresh_class(prefix: str = "t") -> str:
    """An asset class that no other test uses, so that its topics are its own."""
    return f"{prefix}{uuid.uuid4().hex[:8]}"


__all__ = ["Kafka", "Registry", "Services", "fresh_class", "need_servers", "services"]
