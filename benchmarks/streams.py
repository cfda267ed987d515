"""Rows through a broker on this machine, beside loops that do the least: consume, and encode-and-produce by row."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import fastavro
import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

import k2kernel as k2
from benchmarks import data
from benchmarks.report import OURS, Measure, Report
from k2kernel.config import Settings
from k2kernel.schemas import RECEIVED, TRADES
from k2kernel.services import LocalServices, Running
from k2kernel.sinks.kafka import Published

ROWS, PARTITIONS, BY_ROW = 2_000_000, 4, 200_000
SHARE = 0.6


def measure(report: Report, folder: Path, rows: int = ROWS) -> None:
    """Publish trades, stream them into a lake, and do both barely on the same topic."""
    home = folder / "streams"
    shutil.rmtree(home, ignore_errors=True)
    servers = LocalServices(home / "services")
    running = servers.up()
    try:
        settings = Settings(
            home=home / "lake", kafka_bootstrap=running.bootstrap, schema_registry_url=running.registry_url
        )
        bench = k2.connect(settings=settings).init()
        frame = trades_of(folder, rows)
        sent, pace = _publish(bench, frame)
        (topic,) = sent.delivered
        _against(report, "publish trades", pace, _bare_produce(running, bench, frame.head(BY_ROW)))
        bare, ours = _in_turns(partial(_consume, running, topic, rows), partial(_sink, running, topic, rows, home))
        _against(report, "topic into the lake", ours, bare, 200_000)
    finally:
        servers.down(delete=True)


def _against(report: Report, name: str, ours: float, bare: float, least: float = 0) -> None:
    """Ours must reach 60 % of the bare loop, and `least`."""
    report.add(Measure(f"  {name}, a bare loop", "rows/s", {OURS: bare}))
    report.add(Measure(name, "rows/s", {OURS: ours}, least=round(max(least, SHARE * bare))))


def trades_of(folder: Path, rows: int) -> pl.DataFrame:
    """The rows of the benchmark's file as a load makes them, on one venue."""
    home = folder / f"streams-rows-{rows}"
    bench = k2.connect(home)
    if not home.exists():
        bench.ingest(data.csv(folder, rows), profile=data.PROFILE)
    found = bench.sql("SELECT * FROM trades_raw ORDER BY ts_event, sequence").to_polars()
    names = [name for name in TRADES.names if name not in RECEIVED]
    return found.select(names).with_columns(venue=pl.lit(found["venue"][0]))


def _publish(bench: k2.Workbench, frame: pl.DataFrame) -> tuple[Published, float]:
    with bench.producer(asset_class="bench", partitions=PARTITIONS) as producer:
        producer.send("trades", frame.head(1_000))
        producer.flush()
        begun = time.perf_counter()
        producer.send("trades", frame.slice(1_000))
        sent = producer.flush()
        return sent, (len(frame) - 1_000) / (time.perf_counter() - begun)


def _bare_produce(running: Running, bench: k2.Workbench, frame: pl.DataFrame) -> float:
    """Encode with fastavro and produce, row by row; the rows are made before the clock starts."""
    with bench.producer(asset_class="bare", partitions=PARTITIONS) as ours:
        ours.send("trades", frame.head(1))
        (topic,) = ours.flush().delivered
    schema, rows = fastavro.parse_schema(dict(TRADES.avro)), frame.to_dicts()
    producer = Producer(
        {"bootstrap.servers": running.bootstrap, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 50}
    )
    begun = time.perf_counter()
    for row in rows:
        out = io.BytesIO()
        out.write(b"\0\0\0\0\1")
        fastavro.schemaless_writer(out, schema, row)
        while True:
            try:
                producer.produce(topic, out.getvalue(), row["symbol"].encode())
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()
    return len(rows) / (time.perf_counter() - begun)


def _in_turns(*paces: Callable[[], float]) -> list[float]:
    """The best of three runs of each, in turns; the first ones warm the broker and the process."""
    rounds = [[pace() for pace in paces] for _ in range(3)]
    return [max(each) for each in zip(*rounds, strict=True)]


def _sink(running: Running, topic: str, rows: int, home: Path) -> float:
    """Into a new lake; SystemExit where its audit finds that not every message is there once."""
    with TemporaryDirectory(dir=home) as lake:
        settings = Settings(
            home=Path(lake), kafka_bootstrap=running.bootstrap, schema_registry_url=running.registry_url
        )
        bench = k2.connect(settings=settings).init()
        begun = time.perf_counter()
        done = bench.stream([topic]).run(max_messages=rows)
        spent = time.perf_counter() - begun
        verdict = bench.audit()
        if not verdict.ok:
            raise SystemExit(str(verdict))
        return done.messages / spent


def _consume(running: Running, topic: str, rows: int) -> float:
    """A loop that discards what it reads, as quick as the client's settings make it."""
    settings: dict[str, str | int | bool] = {
        "bootstrap.servers": running.bootstrap,
        "group.id": "bench",
        "enable.auto.commit": False,
        "queued.min.messages": 1_000_000,
        "fetch.max.bytes": 32 * 1024 * 1024,
        "max.partition.fetch.bytes": 16 * 1024 * 1024,
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    seen, begun = 0, time.perf_counter()
    while seen < rows:
        seen += len(consumer.consume(20_000, 1.0))
    spent = time.perf_counter() - begun
    consumer.close()
    return rows / spent
