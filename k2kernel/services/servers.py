"""Apache Kafka (KRaft) and a schema registry that speaks the Confluent API, from jars in a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from k2kernel.errors import ServiceFault
from k2kernel.services.process import Process, answers, free_ports

_START_S = 120.0
_QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_REGISTRY_API = "/apis/ccompat/v7"


def cache() -> Path:
    """The folder that `make .services` copies the servers into."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k2kernel" / "services"


def missing() -> str | None:
    """What a local server needs and this machine lacks, or None."""
    if shutil.which("java") is None:
        return "Java 17 or newer is not installed"
    found = [*(cache() / "kafka").glob("kafka_*.jar"), *(cache() / "registry").glob("*-runner.jar")]
    return None if len(found) == 2 else f"{cache()} holds no servers"


def _java(*words: str, heap: str) -> list[str]:
    lack = missing()
    if lack is not None:
        raise ServiceFault("services", lack, "Install a Java runtime and Maven, and run `make .services` in a clone")
    return ["java", f"-Xmx{heap}", *_QUICK, *words]


@dataclass
class Kafka:
    """One cluster of `brokers` brokers on the loopback address, which keep their data under `folder`."""

    folder: Path
    brokers: int = 1
    heap: str = "384m"
    cluster_id: str = field(default_factory=lambda: urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
    processes: list[Process] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """Those of the brokers, then those of their controllers; free ones where none are given."""

    @property
    def bootstrap(self) -> str:
        """`host:port` of each broker, comma between."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports[: self.brokers])

    def start(self) -> Kafka:
        """Format the brokers' folders where they are new, start them, and wait until they answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = self.ports or free_ports(2 * self.brokers)
        for number in range(self.brokers):
            (self.folder / f"broker-{number}.properties").write_text(self._properties(number))
        with ThreadPoolExecutor(self.brokers) as pool:
            list(pool.map(self._format, range(self.brokers)))
        self.processes = [self._run(number) for number in range(self.brokers)]
        for number in range(self.brokers):
            self._wait(number)
        return self

    def stop(self) -> None:
        """Stop every broker."""
        for process in reversed(self.processes):
            process.stop()

    def restart(self, number: int = 0, *, crash: bool = False) -> None:
        """Stop a broker (with `crash` as a crash does) and start it again on its port and its data."""
        self.take_down(number, crash=crash)
        self.bring_up(number)

    def take_down(self, number: int = 0, *, crash: bool = False) -> None:
        """Stop a broker, with `crash` as a crash does."""
        if crash:
            self.processes[number].kill()
        else:
            self.processes[number].stop()

    def bring_up(self, number: int = 0) -> None:
        """Start a broker again that was taken down."""
        self.processes[number] = self._run(number)
        self._wait(number)

    def _run(self, number: int) -> Process:
        name = f"broker-{number}"
        command = self._command("kafka.Kafka", str(self.folder / f"{name}.properties"))
        return Process.start(name, command, self.folder)

    def _wait(self, number: int) -> None:
        self.processes[number].ready(lambda: answers(self.ports[number]), _START_S)

    def _format(self, number: int) -> None:
        if (self.folder / f"broker-{number}" / "meta.properties").exists():
            return
        config = str(self.folder / f"broker-{number}.properties")
        # Joined by "=", as an id may begin with a dash.
        words = ("format", f"--cluster-id={self.cluster_id}", "-c", config)
        command = self._command("kafka.tools.StorageTool", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)  # noqa: S603
        if done.returncode:
            raise ServiceFault(f"broker-{number}", f"its folder cannot be formatted: {done.stderr[-500:]}", "")

    def _command(self, main: str, *words: str) -> list[str]:
        return _java("-cp", f"{cache() / 'kafka'}/*", main, *words, heap=self.heap)

    def _properties(self, number: int) -> str:
        controllers = self.ports[self.brokers :]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers))
        copies = min(3, self.brokers)
        lines: Sequence[tuple[str, object]] = (
            ("process.roles", "broker,controller"),
            ("node.id", number),
            ("controller.quorum.voters", voters),
            ("controller.listener.names", "CONTROLLER"),
            ("listeners", f"PLAINTEXT://127.0.0.1:{self.ports[number]},CONTROLLER://127.0.0.1:{controllers[number]}"),
            ("log.dirs", self.folder / f"broker-{number}"),
            ("default.replication.factor", copies),
            ("min.insync.replicas", max(1, copies - 1)),
            ("offsets.topic.replication.factor", copies),
            ("offsets.topic.num.partitions", 8),
            ("transaction.state.log.replication.factor", copies),
            ("transaction.state.log.min.isr", 1),
            ("group.initial.rebalance.delay.ms", 0),
            ("auto.create.topics.enable", "false"),
            ("log.segment.bytes", 64 * 1024 * 1024),
        )
        return "".join(f"{name}={value}\n" for name, value in lines)


@dataclass
class Registry:
    """A schema registry on the loopback address that keeps its schemas under `folder`."""

    folder: Path
    heap: str = "320m"
    processes: list[Process] = field(default_factory=list)
    port: int = 0
    """A free one where none is given."""

    @property
    def url(self) -> str:
        """The address of its Confluent API."""
        return f"http://127.0.0.1:{self.port}{_REGISTRY_API}"

    def start(self) -> Registry:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_ports(1)[0]
        command = _java(
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self.port}",
            f"-Dquarkus.management.port={free_ports(1)[0]}",
            f"-Dquarkus.datasource.jdbc.url=jdbc:h2:file:{self.folder}/schemas",
            "-jar",
            str(next((cache() / "registry").glob("*-runner.jar"))),
            heap=self.heap,
        )
        self.processes = [Process.start("registry", command, self.folder)]
        self.processes[0].ready(self._answers, _START_S)
        return self

    def stop(self) -> None:
        """Stop it."""
        for process in self.processes:
            process.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as reply:  # noqa: S310 - its own address
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False
