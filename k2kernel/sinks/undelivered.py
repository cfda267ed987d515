"""Rows that were not delivered: kept in a file and published again, each once however often that is tried.

Whether a row has arrived whose acknowledgement did not come, only its topic can tell: it is looked up there from the
time on at which the row was first sent.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from k2kernel.errors import FileFault, StreamFault
from k2kernel.sinks.files import ParquetSink

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

Headers = Sequence[tuple[str, bytes]] | None

_SCHEMA = {
    "topic": pl.String(),
    "key": pl.Binary(),
    "value": pl.Binary(),
    "headers": pl.List(pl.Struct({"name": pl.String, "value": pl.Binary})),
    "sent_ms": pl.Int64(),
    "copies": pl.Int64(),
    "reason": pl.String(),
}
"""The columns of a file."""

_MESSAGE = ["topic", "key", "value"]
_AT_ONCE = 10_000
_ANSWER_S = 15.0


@dataclass(frozen=True)
class Origin:
    """What is known of a row beside its key and value: when it was first sent (ms since 1970), how many `copies` of it
    were sent together, and its headers.
    """

    sent_ms: int
    copies: int = 1
    headers: Headers = None


def origins(values: Sequence[bytes], headers: Sequence[Headers] | None = None) -> list[Origin]:
    """The origins of rows that are sent now."""
    now = time.time_ns() // 1_000_000
    copies = Counter(values) if len(set(values)) < len(values) else None
    if headers is None and copies is None:
        return [Origin(now)] * len(values)
    given = headers or [None] * len(values)
    return [Origin(now, copies[value] if copies else 1, each) for value, each in zip(values, given, strict=True)]


@dataclass
class Undelivered:
    """A file in `folder`, made with the first row that is kept; it has its name once it is closed."""

    folder: Path
    _sink: ParquetSink | None = None
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, message: Message, origin: Origin, reason: str) -> None:
        """One more row."""
        told = None if origin.headers is None else [{"name": name, "value": value} for name, value in origin.headers]
        row = (message.topic(), message.key(), message.value(), told, origin.sent_ms, origin.copies, reason)
        self._rows.append(dict(zip(_SCHEMA, row, strict=True)))
        if len(self._rows) >= _AT_ONCE:
            self._write()

    def close(self) -> str | None:
        """The path of the file, or None where no row was kept."""
        if self._rows:
            self._write()
        if self._sink is None:
            return None
        self._sink.close()
        return str(self._sink.path)

    def _write(self) -> None:
        table = pl.DataFrame(self._rows, schema=_SCHEMA).to_arrow()
        self._rows.clear()
        if self._sink is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder.absolute() / f"undelivered-{uuid.uuid4().hex[:12]}.parquet"
            self._sink = ParquetSink(path, table.schema)
        for batch in table.combine_chunks().to_batches():
            self._sink.write(batch)


def still_missing(bootstrap: str, path: Path) -> tuple[pl.DataFrame, int]:
    """The rows of a file that have not arrived (its columns, and `origin`), in their order, and how many have.

    FileFault where it is no such file; StreamFault where brokers do not answer.
    """
    try:
        rows = pl.read_parquet(path).select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())
    except (OSError, pl.exceptions.PolarsError) as exc:
        problem = f"is no file of undelivered rows ({str(exc).splitlines()[0]})"
        raise FileFault(str(path), problem, "Give one that k2 stream produce has named") from exc
    parts = [_arrived(bootstrap, part) for part in rows.partition_by("topic", maintain_order=True)]
    arrived = pl.concat([rows.select(_MESSAGE).clear(), *parts]).group_by(_MESSAGE).agg(arrived=pl.len())
    turn = pl.int_range(pl.len()).over(_MESSAGE)
    marked = rows.with_columns(turn=turn).join(arrived, on=_MESSAGE, how="left", maintain_order="left")
    left = marked.filter(pl.col("turn") < pl.col("copies") - pl.col("arrived").fill_null(0))
    return left.select(*_SCHEMA), len(rows) - len(left)


def origins_of(rows: pl.DataFrame) -> list[Origin]:
    """The origins of rows of a file."""
    found = []
    for sent, copies, headers in rows.select("sent_ms", "copies", "headers").iter_rows():
        found.append(Origin(sent, copies, headers and [(each["name"], each["value"]) for each in headers]))
    return found


def _arrived(bootstrap: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The messages of a topic that are some of these rows, and came since the first of them was sent."""
    topic, keys, values = rows["topic"][0], set(rows["key"]), set(rows["value"])
    found = (message for message in _since(bootstrap, topic, min(rows["sent_ms"].to_list())))
    places = [(topic, each.key(), each.value()) for each in found if each.value() in values and each.key() in keys]
    return pl.DataFrame(places, schema={name: _SCHEMA[name] for name in _MESSAGE}, orient="row")


def _since(bootstrap: str, topic: str, stamp: int) -> Iterator[Message]:
    """The messages that a topic holds now, from a time on."""
    from confluent_kafka import Consumer, KafkaException

    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "k2-no-group", "enable.auto.commit": False})
    try:
        places, ends = _places(client, topic, stamp)
        client.assign(places)
        while any(place.offset < ends[place.partition] for place in client.position(places)):
            messages = client.consume(_AT_ONCE, _ANSWER_S)
            failed = next((message.error() for message in messages if message.error() is not None), None)
            if failed is not None or not messages:
                raise StreamFault(f"topic {topic}", f"cannot be read: {failed or 'no broker answers'}")
            yield from messages
    except KafkaException as exc:
        raise StreamFault("Kafka", f"does not answer: {exc.args[0].str()}", "Check K2_KAFKA_BOOTSTRAP") from exc
    finally:
        client.close()


def _places(client: Any, topic: str, stamp: int) -> tuple[list[TopicPartition], dict[int, int]]:
    """Where to begin in each partition that has something since then, and where it ends now."""
    from confluent_kafka import TopicPartition

    numbers = client.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions
    asked = client.offsets_for_times([TopicPartition(topic, number, stamp) for number in numbers], timeout=_ANSWER_S)
    places = [place for place in asked if place.offset >= 0]
    return places, {place.partition: client.get_watermark_offsets(place, timeout=_ANSWER_S)[1] for place in places}
