"""A producer of events: Avro in Confluent framing, keyed by symbol, each row delivered or told.

A topic is `market.<asset class>.<kind>.<venue>`. Rows of one symbol stay in their order: the key decides the
partition, and an idempotent producer keeps the order inside it and repeats nothing.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from k2kernel.errors import InvalidParameter, StreamFault, extra
from k2kernel.schemas import RECEIVED, TABLES
from k2kernel.sinks.files import ParquetSink
from k2kernel.wire import Registry, Topic, encode

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

COMPRESSIONS = ("lz4", "zstd")
EVENT_HEADER, RECV_HEADER = "k2.ts_event_ns", "k2.ts_recv_ns"
"""Headers with the instants at which a replayed event happened and was captured, as digits."""

_ROWS = 10_000
"""Rows that are encoded at once."""

_MOST_ROWS, _MOST_BYTES = 200_000, 128 * 1024 * 1024
"""How much may be under way before the producer waits."""

_POLL_S = 0.1
_ADMIN_S = 30.0
_LOG = logging.getLogger("k2kernel.kafka")
_LOG.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Published:
    """What became of the rows: `delivered` by topic, and how many `failed`, which are in the file `undelivered`."""

    delivered: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    undelivered: str | None = None

    def __str__(self) -> str:
        told = [f"{topic}: {rows:,} rows delivered" for topic, rows in sorted(self.delivered.items())]
        told += [f"{self.failed:,} rows not delivered, kept in {self.undelivered}"] if self.failed else []
        return "; ".join(told) or "no rows"


class Producer:
    """Publishes rows of event tables. Use it as a context: leaving it waits until every row is delivered or told, and
    closes the registry's connections.

    `partitions` is how many a new topic gets; a topic that has another number is an error where it was stated.
    `register` is whether new schemas may be registered. Rows that cannot be delivered within `timeout` seconds end in a
    Parquet file in the folder `undelivered` (topic, key, value, reason), which `resend` publishes again.
    """

    def __init__(
        self,
        bootstrap: str,
        registry: Registry,
        *,
        asset_class: str | Callable[[str], str],
        partitions: int | None = None,
        compression: str = "lz4",
        register: bool = True,
        undelivered: Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise InvalidParameter("compression", compression, "is not lz4 or zstd")
        self._asset_class, self._partitions, self._register = asset_class, partitions, register
        self._registry, self._folder = registry, undelivered or Path()
        self._bootstrap = bootstrap
        self._ids: dict[str, int] = {}
        self._sent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._lost: ParquetSink | None = None
        self._producer = _client(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": compression,
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": _MOST_ROWS + _ROWS,
                "queue.buffering.max.kbytes": 2_000_000,
                "message.timeout.ms": int(timeout * 1_000),
                # Success is counted by what is no longer under way: a call for each delivered row would halve the pace.
                "delivery.report.only.error": True,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.flush()
        self._registry.close()

    @property
    def sent(self) -> int:
        """Rows taken so far."""
        return self._sent.total()

    @property
    def waiting(self) -> int:
        """Rows that are neither delivered nor failed yet."""
        return len(self._producer)

    def send(self, kind: str, frame: pl.DataFrame, *, original_times: bool = False) -> None:
        """Take rows of a table, with the columns of its messages; wait while too many are under way.

        With `original_times` each message has its event's instants in its headers, as a replay does it.
        """
        names = [name for name in TABLES[kind].names if name not in RECEIVED]
        for (venue,), part in frame.partition_by("venue", as_dict=True, maintain_order=True).items():
            topic = self._topic(kind, str(venue))
            for rows in part.iter_slices(_ROWS):
                values = encode(TABLES[kind].avro, rows.select(names), self._ids[topic])
                headers = _headers(rows) if original_times else None
                self._produce(topic, rows["symbol"].cast(pl.Binary).to_list(), values, headers)

    def resend(self, path: Path) -> None:
        """Publish the rows of an `undelivered` file again, byte for byte."""
        for (topic,), part in pl.read_parquet(path).partition_by("topic", as_dict=True, maintain_order=True).items():
            self._produce(str(topic), part["key"].to_list(), part["value"].to_list(), None)

    def flush(self, progress: Callable[[int], object] | None = None) -> Published:
        """Wait until every row is delivered or has failed; `progress` is told how many are done."""
        while self.waiting:
            self._producer.flush(_POLL_S)
            if progress is not None:
                progress(self.sent - self.waiting)
        lost = None if self._lost is None else str(self._lost.path)
        if self._lost is not None:
            self._lost.close()
            self._lost = None
        found = Published(dict(self._sent - self._failed), self._failed.total(), lost)
        self._sent.clear()
        self._failed.clear()
        return found

    def _produce(self, topic: str, keys: list[bytes], values: list[bytes], headers: Iterable[Any] | None) -> None:
        """Hand rows over in their order. A batch goes where there is room for all of it: one that was cut short would
        let later rows of a symbol pass earlier ones.
        """
        if headers is None:
            self._make_room(len(values), sum(map(len, values)))
            batch = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
            if self._producer.produce_batch(topic, batch, on_delivery=self._report) != len(batch):
                raise StreamFault(
                    topic, f"rows were refused: {next(row['_error'] for row in batch if '_error' in row)!r}"
                )
        else:
            for key, value, header in zip(keys, values, headers, strict=True):
                self._insist(topic, value, key, headers=header)
        self._sent[topic] += len(values)
        self._producer.poll(0)

    def _make_room(self, rows: int, nbytes: int) -> None:
        """Wait until `rows` more of this size are no more than may be under way."""
        most = min(_MOST_ROWS, _MOST_BYTES * rows // max(1, nbytes))
        while self.waiting and self.waiting + rows > most:
            self._producer.poll(_POLL_S)

    def _insist(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
        """Take a row as soon as there is room for it."""
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._report, **more)
            except BufferError:
                self._producer.poll(_POLL_S)
            else:
                return

    def _report(self, error: Any, message: Message) -> None:
        """Keep a row that was not delivered."""
        import pyarrow as pa

        if error is None:
            return
        row = {"topic": message.topic(), "key": message.key(), "value": message.value(), "reason": str(error)}
        schema = pa.schema(
            [("topic", pa.string()), ("key", pa.binary()), ("value", pa.binary()), ("reason", pa.string())]
        )
        if self._lost is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lost = ParquetSink(self._folder / f"undelivered-{uuid.uuid4().hex[:12]}.parquet", schema)
        self._lost.write(pa.RecordBatch.from_pylist([row], schema=schema))
        self._failed[str(message.topic())] += 1

    def _topic(self, kind: str, venue: str) -> str:
        """The topic of a kind and venue, which exists and whose schema is known."""
        given = self._asset_class
        topic = str(Topic(given if isinstance(given, str) else given(venue), kind, venue))
        if topic not in self._ids:
            Topic.parse(topic)
            self._ensure(topic)
            self._ids[topic] = self._schema_id(topic, TABLES[kind].avro)
        return topic

    def _schema_id(self, topic: str, schema: Mapping[str, Any]) -> int:
        if self._register:
            return self._registry.register(topic, schema)
        known = self._registry.lookup(topic, schema)
        if known is None:
            raise StreamFault(topic, "its schema is not registered", "Register it first, or set K2_SCHEMA_REGISTER")
        return known

    def _ensure(self, topic: str) -> None:
        """Make the topic where it is missing."""
        from confluent_kafka import KafkaException
        from confluent_kafka.cimpl import NewTopic

        admin = _admin(self._bootstrap)
        try:
            known = admin.list_topics(topic, timeout=_ADMIN_S).topics[topic]
            if known.error is None:
                self._check_partitions(topic, len(known.partitions))
                return
            wanted = NewTopic(topic, self._partitions or 4)
            admin.create_topics([wanted], operation_timeout=_ADMIN_S)[topic].result(_ADMIN_S)
        except KafkaException as exc:
            if exc.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise StreamFault(
                    f"topic {topic}", f"cannot be made: {exc.args[0].str()}", "Is the broker up?"
                ) from exc

    def _check_partitions(self, topic: str, count: int) -> None:
        if self._partitions is not None and count != self._partitions:
            raise InvalidParameter("partitions", self._partitions, f"{topic} has {count}", "Leave it out")


class KafkaSink:
    """Where a replay publishes: a `Sink` over a producer. Batches have a column `kind`."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.published = Published()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; each event carries its original times in headers."""
        found = pl.DataFrame(pl.from_arrow(batch))
        for (kind,), part in found.partition_by("kind", as_dict=True, maintain_order=True).items():
            self.producer.send(str(kind), part, original_times=True)

    def close(self) -> None:
        """Wait until every event is delivered or told."""
        self.published = self.producer.flush()

    def discard(self) -> None:
        """Events that were sent stay sent."""
        self.close()


def _headers(rows: pl.DataFrame) -> list[list[tuple[str, bytes]]]:
    """The headers of each row."""
    event = rows.select(pl.coalesce("ts_event_ns", pl.col("ts_event").dt.epoch("ns")).cast(pl.String)).to_series()
    recv = rows.select(pl.coalesce("ts_recv_ns", pl.col("ts_recv").dt.epoch("ns")).cast(pl.String)).to_series()
    pairs = zip(event.to_list(), recv.to_list(), strict=True)
    return [
        [(EVENT_HEADER, at.encode()), *([] if recv_at is None else [(RECV_HEADER, recv_at.encode())])]
        for at, recv_at in pairs
    ]


def _client(config: dict[str, Any]) -> Any:
    with extra("kafka", "confluent-kafka"):
        from confluent_kafka import Producer as Client
    return Client(config, logger=_LOG)


def _admin(bootstrap: str) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap}, logger=_LOG)
