"""What brokers say of their topics: which there are, how many partitions they have, and from where to where."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, StreamFault, extra
from k2kernel.wire import REPLAYED, Topic

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition

_LOG = logging.getLogger("k2kernel.kafka")
_LOG.addHandler(logging.NullHandler())

METADATA_S = 15.0
"""How long brokers are waited for that do not answer a question."""

_MOVING = {"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION"}
"""Answers of brokers that have just come back or not heard of what is new yet; the last is the client's own."""

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""


def watermarks(client: Any, partition: TopicPartition) -> tuple[int, int]:
    """The oldest offset and the next one to come; asked again while a partition is between two leaders."""
    from confluent_kafka import KafkaException

    until = time.monotonic() + METADATA_S
    while True:
        try:
            found: tuple[int, int] = client.get_watermark_offsets(partition, timeout=METADATA_S)
        except KafkaException as exc:
            if exc.args[0].name() not in _MOVING or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return found


@contextmanager
def answering() -> Iterator[None]:
    """StreamFault where the brokers do not answer a question."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as exc:
        raise StreamFault("Kafka", f"does not answer: {exc.args[0].str()}", "Check K2_KAFKA_BOOTSTRAP") from exc


def is_ours(name: str) -> bool:
    """Whether a topic is named as those of streams are."""
    try:
        Topic.parse(name)
    except InvalidParameter:
        return False
    return True


def is_read(name: str) -> bool:
    """Whether a stream reads a topic without being told to."""
    return is_ours(name) and Topic.parse(name).asset_class != REPLAYED


def all_topics(client: Any, seconds: float = METADATA_S) -> dict[str, list[int]]:
    """The partitions of every topic there is; StreamFault where no broker says so within `seconds`."""
    with answering():
        known = client.list_topics(timeout=seconds).topics
    return {name: sorted(known[name].partitions) for name in known}


def topic_ids(bootstrap: str, topics: Sequence[str]) -> dict[str, str]:
    """What the brokers know topics by; none where they are too old to."""
    from confluent_kafka import TopicCollection
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_LOG)
    with answering():
        asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=METADATA_S)
        ids = {topic: str(found.result().topic_id) for topic, found in asked.items()}
    return {topic: number for topic, number in ids.items() if number.strip("A=")}


def held(bootstrap: str, topics: Iterable[str]) -> dict[Partition, tuple[int, int]]:
    """The oldest offset that the brokers hold and the next one to come, of each partition of these topics and of those
    that streams read without being told to. StreamFault where brokers do not answer.
    """
    from confluent_kafka import TopicPartition

    client = open_consumer({"bootstrap.servers": bootstrap, "group.id": "k2-no-group"})
    try:
        known, named = all_topics(client), {*topics}
        places = [(name, number) for name in known if name in named or is_read(name) for number in known[name]]
        with answering():
            return {at: watermarks(client, TopicPartition(*at)) for at in places}
    finally:
        client.close()


def open_consumer(config: dict[str, Any]) -> Any:
    """The client of brokers; MissingExtra where it is not installed."""
    with extra("kafka", "confluent-kafka"):
        from confluent_kafka import Consumer
    return Consumer(config, logger=_LOG)
