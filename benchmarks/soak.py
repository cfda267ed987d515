"""`python -m benchmarks.soak`: a sink at full load for as long as wanted, whose memory must not grow.

One process publishes, another is `k2 stream sink`, which is killed three times in the first third and started again.
Beside them the table is maintained, asked and replayed; now and then the broker crashes and the registry goes away.
What the lake has is deleted from the topic, so that disks do not fill up. In the end every row must be in the lake, and
the audit must say so.

Under load the sink's memory goes up and down by some hundred MB with every batch, and by more than it could grow. So
the producer rests now and then, until the sink has nothing left to do: what it holds then must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

import k2kernel as k2
from benchmarks.beside import Beside
from benchmarks.streams import PARTITIONS, trades_of
from k2kernel.config import Settings
from k2kernel.services import Kafka, Registry

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.sinks.kafka import Producer

ROWS, LEAD, SAMPLE_S = 200_000, 1_000_000, 1.0
"""Rows that are published again and again, how many may be ahead of the lake, and the pause between samples."""

_KILLS, _OUTAGES = 3, 6
"""How often the sink is killed, in the first tenths of the time; how many outages of servers the time has room for."""

_RESTS, _WARM, _REST_S = 14, 6, 6.0
"""How often the last sink comes to rest, in the rest of the time; how many of those are for warming up, as allocators
get what they will keep with the first dozens of batches; and how long each is.
"""

GROWTH = 1.05
"""How much more the sink may hold at its last rest than at the first one that counts."""


@dataclass
class Soak:
    """What was measured: seconds of load, rows, what was kept and done beside; MB of the last sink, a sample a second
    under load and one for each rest.
    """

    seconds: float = 0
    rows: int = 0
    verdict: str = ""
    kills: int = 0
    files: int = 0
    snapshots: int = 0
    beside: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MB that the sink holds more at its last rest than at the first that counts, by the median of the slopes
        between all pairs of rests: a single odd one changes nothing.
        """
        warm = list(enumerate(self.rests[_WARM:]))
        slopes = [(b - a) / (at - since) for (since, a), (at, b) in combinations(warm, 2)]
        return statistics.median(slopes) * (len(warm) - 1)

    @property
    def steady(self) -> bool:
        """True where memory does not grow."""
        return self.growth <= (GROWTH - 1) * statistics.median(self.rests[_WARM:])

    def __str__(self) -> str:
        pace = f"{self.rows:,} rows in {self.seconds:,.0f} s, {self.rows / max(self.seconds, 1):,.0f} rows/s"
        held = f"{self.rests[_WARM]:,.0f} to {self.rests[-1]:,.0f} MB at rest ({self.growth:+,.0f} MB by the slope)"
        memory = f"{held}, {max(self.samples):,.0f} MB at most"
        kept = f"{self.files:,} files and {self.snapshots:,} snapshots kept, {self.kills} kills"
        spent = [f"{name} {len(of):,} times, p50 {_ms(of, 50)}, p95 {_ms(of, 95)}" for name, of in self.beside.items()]
        told = [pace, f"{memory}: {'steady' if self.steady else 'GROWS'}", kept, *spent, *self.faults, self.verdict]
        return "; ".join(told)


@dataclass(frozen=True)
class Servers:
    """A broker and a registry of its own."""

    kafka: Kafka
    registry: Registry

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead to them."""
        return {"K2_KAFKA_BOOTSTRAP": self.kafka.bootstrap, "K2_SCHEMA_REGISTRY_URL": self.registry.url}

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs."""
        try:
            self.kafka.start()
            self.registry.start()
            yield
        finally:
            self.registry.stop()
            self.kafka.stop()

    def outage(self) -> None:
        """The broker crashes and the registry goes away; both come back."""
        self.registry.stop()
        self.kafka.restart(crash=True)
        self.registry.start()


def soak(folder: Path, seconds: float) -> Soak:
    """Run services, sink and producer for so long, and see that every row arrived."""
    home = folder / "soak"
    shutil.rmtree(home, ignore_errors=True)
    servers = Servers(Kafka(home / "services" / "kafka"), Registry(home / "services" / "registry"))
    with servers.running():
        return _under_load(folder, home / "lake", servers, seconds)


def _under_load(folder: Path, home: Path, servers: Servers, seconds: float) -> Soak:
    kept = {"keep_last": 5, "keep_every": "30s", "keep_hourly": "0s", "keep_daily": "0s"}
    reached = {"kafka_bootstrap": servers.kafka.bootstrap, "schema_registry_url": servers.registry.url}
    settings = Settings.model_validate({"home": home, **reached, **kept})
    bench = k2.connect(settings=settings).init()
    frame, found = trades_of(folder, ROWS), Soak()
    with bench.producer(asset_class="soak", partitions=PARTITIONS) as producer:
        producer.send("trades", frame.head(1_000))
        (topic,) = producer.flush().delivered
        load = Load(bench, servers.kafka.bootstrap, topic, frame, producer, sent=1_000)
        _work(load, home, servers, seconds, found)
    found.rows, audit = load.sent, bench.audit()
    found.files = len(bench.lake.files("trades", bench.lake.head("trades")))
    found.snapshots = len(bench.snapshots("trades"))
    held = sum(claim.end - claim.start for claim in bench.lake.offsets("trades").values())
    found.verdict = str(audit) if held == load.sent else f"LOST: {load.sent:,} were sent, {held:,} are there"
    return found


def _work(load: Load, home: Path, servers: Servers, seconds: float, found: Soak) -> None:
    """Sinks that are killed, and then one that comes to rest now and then, with company."""
    begun = time.monotonic()
    for part in range(1, _KILLS + 1):
        with _sink(home, servers, load.topic) as process:
            load.until(begun + seconds * part / 10, process.pid, found)
            process.kill()
            found.kills += 1
    found.samples.clear()  # those of sinks that are gone
    company = Beside(load.bench, {servers.outage: seconds / _OUTAGES}, found.beside, found.faults)
    with _sink(home, servers, load.topic) as process, company.at_work():
        for _ in range(_RESTS):
            load.until(time.monotonic() + seconds * (1 - _KILLS / 10) / _RESTS, process.pid, found)
            load.drain(process)
            found.rests.append(at_rest(process.pid))
        found.seconds = time.monotonic() - begun - _RESTS * _REST_S


@contextmanager
def _sink(home: Path, servers: Servers, topic: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [str(Path(sys.executable).with_name("k2")), "stream", "sink", topic, "--home", str(home)]
    process = subprocess.Popen(words, env={**os.environ, **servers.environment})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


@dataclass
class Load:
    """A topic that is kept full of the rows of `frame`, again and again: `sent` so far."""

    bench: k2.Workbench
    bootstrap: str
    topic: str
    frame: pl.DataFrame
    producer: Producer
    sent: int

    def until(self, end: float, pid: int, found: Soak) -> None:
        """Publish, never more than `LEAD` rows ahead of the lake, and sample the sink."""
        sampled, committed = 0.0, 0
        while time.monotonic() < end:
            if time.monotonic() >= sampled + SAMPLE_S:
                found.samples.append(held_mb(pid))
                sampled, committed = time.monotonic(), self.forget()
            if self.sent - committed > LEAD:
                time.sleep(SAMPLE_S / 10)
                continue
            self.producer.send("trades", self.frame.slice(self.sent % (ROWS // 2), ROWS // 10))
            self.sent += ROWS // 10

    def forget(self) -> int:
        """Delete from the topic what the lake has; how many rows that is."""
        ends = {source: claim.end for source, claim in self.bench.lake.offsets("trades").items()}
        places = [TopicPartition(self.topic, int(source.rpartition("/")[2]), end) for source, end in ends.items()]
        if places:
            AdminClient({"bootstrap.servers": self.bootstrap}).delete_records(places)
        return sum(ends.values())

    def drain(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the lake has everything."""
        end = time.monotonic() + 300
        while sum(claim.end for claim in self.bench.lake.offsets("trades").values()) < self.sent:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the sink did not come to the end of the topic")
            time.sleep(SAMPLE_S)


def _ms(seconds: list[float], share: int) -> str:
    return f"{1_000 * statistics.quantiles([*seconds, *seconds[-1:]], n=100)[share - 1]:,.0f} ms"


def at_rest(pid: int) -> float:
    """The least memory that a process holds while it has nothing to do."""
    found = []
    for _ in range(int(_REST_S / SAMPLE_S)):
        time.sleep(SAMPLE_S)
        found.append(held_mb(pid))
    return min(found)


def held_mb(pid: int) -> float:
    """The resident memory of a process, less what it has given back and the system has not taken yet."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    resident, free = (int(told.partition(f"\n{name}:")[2].split()[0]) for name in ("Rss", "LazyFree"))
    return (resident - free) / 1024


def main() -> None:
    """Soak for as long as is said, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800, help="how long")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where files are made and kept")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    chosen = parser.parse_args()
    found = soak(chosen.folder.resolve(), chosen.seconds)
    print(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(found)), encoding="utf-8")
    if not found.steady or found.faults or not found.verdict.startswith("exactly once"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
