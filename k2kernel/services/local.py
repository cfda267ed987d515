"""The servers of one folder, which outlive the program that starts them: up, down, status."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from k2kernel.errors import ServiceFault, counted
from k2kernel.services.process import Process, answers
from k2kernel.services.servers import Kafka, Registry


@dataclass(frozen=True)
class Running:
    """Servers that were started: their addresses, processes (none where they were stopped) and ports."""

    bootstrap: str
    registry_url: str
    processes: tuple[Process, ...]
    ports: tuple[int, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead to them."""
        return {"K2_KAFKA_BOOTSTRAP": self.bootstrap, "K2_SCHEMA_REGISTRY_URL": self.registry_url}

    @property
    def alive(self) -> bool:
        """True while all of them run."""
        return bool(self.processes) and all(process.alive for process in self.processes)


class LocalServices:
    """The servers under `folder` (by convention `services` in the lake's home). Their data and their addresses stay
    when they stop, as a lake remembers how far it has which topics.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._state = self.folder / "state.json"

    def status(self) -> Running | None:
        """What was started, or None. A process of it may have ended by itself."""
        if not self._state.exists():
            return None
        known = json.loads(self._state.read_text())
        processes = tuple(Process(**each) for each in known.pop("processes"))
        return Running(**known | {"ports": tuple(known.get("ports", ()))}, processes=processes)

    def up(self, brokers: int | None = None) -> Running:
        """Start Kafka (of one broker, or as many as before) and the registry, or say what runs already.

        ServiceFault where they were made with another number of `brokers`.
        """
        known = self.status()
        made = 0 if known is None else len(known.ports) // 2
        if made and brokers not in (None, made):
            remedy = "Delete them and their topics with `k2 services down --delete` first"
            raise ServiceFault("services", f"were made with {counted(made, 'broker')}", remedy)
        if known is not None and known.alive:
            return known
        self.down()
        ports = [] if known is None or any(map(answers, known.ports)) else list(known.ports)
        return self._start(made or brokers or 1, ports)

    def _start(self, brokers: int, ports: list[int]) -> Running:
        kafka = Kafka(self.folder / "kafka", brokers, ports=ports[:-1])
        registry = Registry(self.folder / "registry", port=ports[-1] if ports else 0)
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), (kafka, registry)))
        except BaseException:
            kafka.stop()
            registry.stop()
            raise
        processes = (*kafka.processes, *registry.processes)
        return self._note(Running(kafka.bootstrap, registry.url, processes, (*kafka.ports, registry.port)))

    def down(self, *, delete: bool = False) -> bool:
        """Stop what runs, and with `delete` delete its data; False where nothing was started."""
        known = self.status()
        for process in () if known is None else known.processes:
            process.stop()
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif known is not None:
            self._note(replace(known, processes=()))
        return known is not None

    def _note(self, state: Running) -> Running:
        self._state.write_text(json.dumps(asdict(state)))
        return state
