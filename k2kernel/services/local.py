"""The servers of one folder, which outlive the program that starts them: up, down, status."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from k2kernel.services.process import Process
from k2kernel.services.servers import Kafka, Registry


@dataclass(frozen=True)
class Running:
    """Servers that were started: their addresses and processes."""

    bootstrap: str
    registry_url: str
    processes: tuple[Process, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead to them."""
        return {"K2_KAFKA_BOOTSTRAP": self.bootstrap, "K2_SCHEMA_REGISTRY_URL": self.registry_url}


class LocalServices:
    """The servers under `folder` (by convention `services` in the lake's home). Their data goes when they stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._state = self.folder / "state.json"

    def status(self) -> Running | None:
        """What was started and not stopped, or None. A process of it may have ended by itself."""
        if not self._state.exists():
            return None
        known = json.loads(self._state.read_text())
        processes = tuple(Process(**each) for each in known.pop("processes"))
        return Running(**known, processes=processes)

    def up(self, brokers: int = 1) -> Running:
        """Start Kafka and the registry, or say what runs already."""
        known = self.status()
        if known is not None and all(process.alive for process in known.processes):
            return known
        self.down()
        kafka, registry = Kafka(self.folder / "kafka", brokers), Registry(self.folder / "registry")
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), (kafka, registry)))
        except BaseException:
            kafka.stop()
            registry.stop()
            raise
        running = Running(kafka.bootstrap, registry.url, (*kafka.processes, *registry.processes))
        self._state.write_text(json.dumps(asdict(running)))
        return running

    def down(self) -> bool:
        """Stop what runs and delete its data; False where nothing was started."""
        known = self.status()
        for process in () if known is None else known.processes:
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        return known is not None
