"""A producer of events: Avro in Confluent framing, keyed by symbol, each row delivered or told.

A topic is `market.<asset class>.<kind>.<venue>`. Rows of one symbol stay in their order: the key decides the
partition, and an idempotent producer keeps the order inside it and repeats nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from k2kernel.errors import InvalidParameter, StreamFault, counted, extra, one_of
from k2kernel.schemas import RECEIVED, TABLES
from k2kernel.sinks.undelivered import Headers, Origin, Undelivered, origins, origins_of, still_missing
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
    """What became of the rows: `delivered` by topic, how many `failed`, which are in the file `undelivered`, and how
    many of those sent again had `arrived` before.
    """

    delivered: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    undelivered: str | None = None
    arrived: int = 0

    def __str__(self) -> str:
        told = [f"{topic}: {counted(rows, 'row')} delivered" for topic, rows in sorted(self.delivered.items())]
        told += [f"{counted(self.arrived, 'row')} had arrived before"] if self.arrived else []
        told += [f"{counted(self.failed, 'row')} not delivered, kept in {self.undelivered}"] if self.failed else []
        return "; ".join(told) or "no rows"


class Producer:
    """Publishes rows of event tables. Use it as a context: leaving it waits until every row is delivered or told, and
    closes the registry's connections.

    `partitions` is how many a new topic gets; a topic that has another number is an error where it was stated.
    `register` is whether new schemas may be registered. Rows that cannot be delivered within `timeout` seconds end in a
    Parquet file in the folder `undelivered`, which `resend` publishes again.
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
        one_of("compression", compression, COMPRESSIONS)
        self._asset_class, self._partitions, self._register = asset_class, partitions, register
        self._registry, self._folder = registry, undelivered or Path()
        self._bootstrap = bootstrap
        self._ids: dict[str, int] = {}
        self._sent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._arrived = 0
        self._lost = Undelivered(self._folder)
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
                self._produce(topic, rows["symbol"].cast(pl.Binary).to_list(), values, origins(values, headers))

    def resend(self, path: Path) -> None:
        """Publish the rows of an `undelivered` file again, byte for byte, apart from those that have arrived after all.

        FileFault where it is no such file.
        """
        rows, arrived = still_missing(self._bootstrap, path)
        for (topic,), part in rows.partition_by("topic", as_dict=True, maintain_order=True).items():
            for some in part.iter_slices(_ROWS):
                self._produce(str(topic), some["key"].to_list(), some["value"].to_list(), origins_of(some))
        self._arrived += arrived

    def flush(self, progress: Callable[[int], object] | None = None) -> Published:
        """Wait until every row is delivered or has failed; `progress` is told how many are done."""
        while self.waiting:
            self._producer.flush(_POLL_S)
            if progress is not None:
                progress(self.sent - self.waiting)
        lost, self._lost = self._lost.close(), Undelivered(self._folder)
        found = Published(dict(self._sent - self._failed), self._failed.total(), lost, self._arrived)
        self._sent.clear()
        self._failed.clear()
        self._arrived = 0
        return found

    def _produce(self, topic: str, keys: list[bytes], values: list[bytes], given: Sequence[Origin]) -> None:
        """Hand rows over in their order. A batch goes where there is room for all of it: one that was cut short would
        let later rows of a symbol pass earlier ones.
        """
        if any(origin.headers for origin in given):
            for key, value, origin in zip(keys, values, given, strict=True):
                self._insist(topic, value, key, headers=origin.headers, on_delivery=partial(self._report, origin))
        else:
            self._make_room(len(values), sum(map(len, values)))
            self._produce_batch(topic, keys, values, given)
        self._sent[topic] += len(values)
        self._producer.poll(0)

    def _produce_batch(self, topic: str, keys: list[bytes], values: list[bytes], given: Sequence[Origin]) -> None:
        batch: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        if any(origin is not given[0] for origin in given):
            for row, origin in zip(batch, given, strict=True):
                row["callback"] = partial(self._report, origin)
        report = partial(self._report, given[0])
        if self._producer.produce_batch(topic, batch, on_delivery=report) != len(batch):
            refused = next(row["_error"] for row in batch if "_error" in row)
            raise StreamFault(topic, f"rows were refused: {refused!r}")

    def _make_room(self, rows: int, nbytes: int) -> None:
        """Wait until `rows` more of this size are no more than may be under way."""
        most = min(_MOST_ROWS, _MOST_BYTES * rows // max(1, nbytes))
        while self.waiting and self.waiting + rows > most:
            self._producer.poll(_POLL_S)

    def _insist(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
        """Take a row as soon as there is room for it."""
        while True:
            try:
                self._producer.produce(topic, value, key, **more)
            except BufferError:
                self._producer.poll(_POLL_S)
            else:
                return

    def _report(self, origin: Origin, error: Any, message: Message) -> None:
        """Keep a row that was not delivered."""
        if error is not None:
            self._lost.keep(message, origin, error.str())
            self._failed[str(message.topic())] += 1

    def _topic(self, kind: str, venue: str) -> str:
        """The topic of a kind and venue, which exists and whose schema is known."""
        given = self._asset_class
        topic = str(Topic(given if isinstance(given, str) else given(venue), kind, venue))
        if topic not in self._ids:
            Topic.parse(topic)
            known = self._schema_id(topic, TABLES[kind].avro)
            self._ensure(topic)
            self._ids[topic] = known
        return topic

    def _schema_id(self, topic: str, schema: Mapping[str, Any]) -> int:
        if self._register:
            return self._registry.register(topic, schema)
        known = self._registry.lookup(topic, schema)
        if known is None:
            raise StreamFault(topic, "its schema is not registered", f"Register it with `k2 stream register {topic}`")
        return known

    def _ensure(self, topic: str) -> None:
        """Make the topic where it is missing."""
        from confluent_kafka import KafkaException
        from confluent_kafka.cimpl import NewTopic

        admin = _admin(self._bootstrap)
        try:
            known = admin.list_topics(topic, timeout=_ADMIN_S).topics[topic]
        except KafkaException as exc:
            raise StreamFault("Kafka", f"does not answer: {exc.args[0].str()}", "Check K2_KAFKA_BOOTSTRAP") from exc
        if known.error is None:
            self._check_partitions(topic, len(known.partitions))
            return
        try:
            wanted = NewTopic(topic, self._partitions or 4)
            admin.create_topics([wanted], operation_timeout=_ADMIN_S)[topic].result(_ADMIN_S)
        except KafkaException as exc:
            if exc.args[0].name() != "TOPIC_ALREADY_EXISTS":
                problem = f"cannot be made: {exc.args[0].str()}"
                raise StreamFault(f"topic {topic}", problem, "Make it by hand, or see the broker's log") from exc

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


def _headers(rows: pl.DataFrame) -> list[Headers]:
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
