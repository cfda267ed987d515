"""Topics as a source: messages by partition, from where a table ends.

The consumer group only shares partitions out; where to read from is the table's word, not the group's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from k2kernel.errors import StreamFault, meant
from k2kernel.sources.brokers import (
    METADATA_S,
    Partition,
    all_topics,
    answering,
    is_ours,
    is_read,
    open_consumer,
    topic_ids,
    watermarks,
)
from k2kernel.wire import Topic

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

_LOG = logging.getLogger("k2kernel.kafka")
_TOLD = logging.getLogger("k2kernel.stream")
"""What a stream's owner should know; the client's own log says each thing a hundred times."""

_NAMES = "market.<asset class>.<trades|quotes>.<venue>"

_LOOK_S, _LOOK_WAIT_S = 10.0, 0.5
"""How often a source that follows topics asks which there are, and how long it waits for the answer."""

_AT_ONCE, _AT_A_TIME = 20_000, 250
"""Messages that one fetch returns at most, and that are asked of the client at a time: Python looks for garbage in the
whole process whenever some hundreds of objects have come and not gone, which took more time than all else here.
"""

_AHEAD = 200_000
"""Messages that the client keeps ready; each takes some hundreds of bytes beside its own there."""

_TRANSIENT = {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "_MAX_POLL_EXCEEDED"}
"""Errors that the client recovers from by itself."""


@dataclass
class _Run:
    """Messages of one partition that came one after another."""

    at: Partition
    values: list[bytes | None]
    offsets: range | list[int]

    def frame(self) -> pl.DataFrame:
        offsets = pl.Series("source_offset", self.offsets, pl.Int64)
        return pl.DataFrame([offsets, pl.Series("raw", self.values, pl.Binary)])

    def extend(self, later: _Run) -> None:
        """Take in the messages that came next."""
        self.values += later.values
        ours, theirs = self.offsets, later.offsets
        if isinstance(ours, range) and isinstance(theirs, range) and ours.stop == theirs.start:
            self.offsets = range(ours.start, theirs.stop)
        else:
            self.offsets = [*ours, *theirs]


def _runs(messages: list[Message], one_topic: bool) -> Iterator[_Run]:
    """Messages as runs of one partition; by mapped methods, as this is done for millions of them."""
    from confluent_kafka import Message

    numbers = list(map(Message.partition, messages))
    names = numbers if one_topic else list(map(Message.topic, messages))
    if len({*numbers}) == 1 == len({*names}):
        yield _run(messages)
        return
    start = 0
    for _, same in groupby(zip(names, numbers, strict=True)):
        part = messages[start : start + sum(1 for _ in same)]
        start += len(part)
        yield _run(part)


def _run(part: list[Message]) -> _Run:
    """Messages of one partition. Offsets rise: where the last is as far on as there are messages, none is missing."""
    from confluent_kafka import Message

    first, last = part[0].offset() or 0, part[-1].offset() or 0
    whole = last - first == len(part) - 1
    offsets = range(first, last + 1) if whole else [each.offset() or 0 for each in part]
    return _Run(_partition_of(part[0]), list(map(Message.value, part)), offsets)


class KafkaSource:
    """Reads `topics` (None: every event topic there is, replays apart). Use it as a context; one thread at a time.
    Where it `follows`, it takes in topics and partitions that are made later, too, and waits for the first topic.

    `starts` is asked for the first offset of each partition that this consumer gets (None: the oldest there is).
    With a `group` the partitions are shared with its other members, and `lost` is told of those that go elsewhere;
    without one, this consumer reads them all.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str] | None,
        starts: Callable[[Sequence[Partition]], Mapping[Partition, int | None]],
        lost: Callable[[Sequence[Partition]], object],
        *,
        group: str | None = None,
    ) -> None:
        self._given, self._starts, self._lost, self._group = topics, starts, lost, group
        self._bootstrap = bootstrap
        self.follows = False
        self._look_at = 0.0
        self.partitions: list[Partition] = []
        self.topic_ids: dict[str, str] = {}
        """What the brokers know each topic by, which another one of its name has not."""
        self._ends: dict[Partition, int] = {}
        self._seen: dict[Partition, int] = {}
        self._known: dict[str, list[int]] = {}
        self._alone = self._one_topic = False
        self._client = open_consumer(
            {
                "bootstrap.servers": bootstrap,
                "error_cb": self._on_error,
                "group.id": group or "k2-no-group",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "topic.metadata.refresh.interval.ms": int(_LOOK_S * 1000),
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 10_000,
                "queued.max.messages.kbytes": 64 * 1024,
                "queued.min.messages": _AHEAD,
                "fetch.queue.backoff.ms": 10,
                "fetch.max.bytes": 32 * 1024 * 1024,
                "max.partition.fetch.bytes": 4 * 1024 * 1024,
                "fetch.wait.max.ms": 100,
            }
        )

    def __enter__(self) -> Self:
        self._take_in(self._find())
        if not self._known:
            _TOLD.warning("waiting: there is no topic %s yet", _NAMES)
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()

    def fetch(self, most: int, seconds: float) -> list[tuple[Partition, pl.DataFrame]]:
        """What came within `seconds`, at most `most` messages: runs of one partition in their order, as frames of
        `source_offset` and `raw`, the value (null where there is none). StreamFault where a partition cannot be read
        on.
        """
        if self.follows and time.monotonic() >= self._look_at:
            self._look()
        runs: list[_Run] = []
        left = min(most, _AT_ONCE)
        while left and (messages := self._client.consume(min(left, _AT_A_TIME), 0 if runs else seconds)):
            left -= len(messages)
            for run in _runs(self._without_events(messages), self._one_topic):
                if runs and runs[-1].at == run.at:
                    runs[-1].extend(run)
                else:
                    runs.append(run)
        return [(run.at, run.frame()) for run in runs if run.at in self._ends]

    def _without_events(self, messages: list[Message]) -> list[Message]:
        from confluent_kafka import Message

        if self._alone:
            self._alone = False
            _TOLD.warning("going on: brokers answer again")
        if not any(map(Message.error, messages)):
            return messages
        for message in messages:
            if message.error() is not None:
                self._note(message.error(), message)
        return [message for message in messages if message.error() is None]

    def _note(self, error: Any, message: Message) -> None:
        """The end of a partition is remembered, what passes by itself is passed over."""
        if error.name() == "_PARTITION_EOF":
            self._seen[_partition_of(message)] = message.offset() or 0
        elif error.name() not in _TRANSIENT and not error.retriable():
            where = "Kafka" if message.topic() is None else f"{message.topic()}/{message.partition()}"
            raise StreamFault(where, f"cannot be read on: {error.str()}", "See the broker's log")

    def _on_error(self, error: Any) -> None:
        """The client goes on by itself as soon as it can."""
        if error.name() == "_ALL_BROKERS_DOWN" and not self._alone:
            self._alone = True
            _TOLD.warning("waiting: no broker answers")

    def at_end(self, *reached: Mapping[Partition, int | None]) -> bool:
        """True where everything was read that was there when the partitions were assigned."""
        known = (self._seen, *reached)
        return bool(self.partitions) and all(
            max(where.get(at) or 0 for where in known) >= self._ends[at] for at in self.partitions
        )

    def behind(self, reached: Mapping[Partition, int | None]) -> int:
        """How many messages the brokers hold after what was `reached`, as far as they have said so."""
        from confluent_kafka import TopicPartition

        total = 0
        for at in self.partitions:
            low, high = self._client.get_watermark_offsets(TopicPartition(*at), cached=True)
            total += max(
                0, max(high, self._ends.get(at, 0)) - (max(0, low) if reached.get(at) is None else reached[at] or 0)
            )
        return total

    def seek(self, starts: Mapping[Partition, int | None]) -> None:
        """Go to other offsets; what was fetched ahead of them, and that it ended there, is forgotten."""
        for partition in starts:
            self._seen.pop(partition, None)
        placed = [self._place(partition, start) for partition, start in starts.items()]
        if self._group is None:
            self._client.assign(placed)
        else:
            for place in placed:
                self._client.seek(place)

    def pause(self) -> None:
        """Fetch nothing; `fetch` still keeps the membership of the group alive."""
        self._look_at = math.inf
        self._client.pause(_places(self.partitions))

    def resume(self) -> None:
        """Fetch again."""
        self._look_at = 0.0
        self._client.resume(_places(self.partitions))

    def acknowledge(self, ends: Mapping[Partition, int]) -> None:
        """Tell the group how far the table is, for those who watch its lag; nothing depends on it."""
        if self._group is not None and ends:
            from confluent_kafka import TopicPartition

            self._client.commit(offsets=[TopicPartition(*at, end) for at, end in ends.items()], asynchronous=True)

    def _look(self) -> None:
        """Take in what was made since; brokers that do not answer, or have not all heard of it, are asked again."""
        self._look_at = time.monotonic() + _LOOK_S
        try:
            found = self._find(_LOOK_WAIT_S)
        except StreamFault as exc:
            _LOG.info("topics are looked for again: %s", exc)
        else:
            self._take_in(found)

    def _find(self, seconds: float = METADATA_S) -> dict[str, list[int]]:
        """The topics to read and their partitions; InvalidParameter and StreamFault where a topic is none of ours, or
        is missing.
        """
        for name in self._given or ():
            Topic.parse(name)
        known = all_topics(self._client, seconds)
        found = sorted(filter(is_read, known)) if self._given is None else self._given
        for name in found:
            if name not in known:
                near = meant(name, filter(is_ours, known))
                raise StreamFault(f"topic {name}", "does not exist", f"{near}Produce to it first")
        if not found and not self.follows:
            raise StreamFault("Kafka", f"has no topic {_NAMES}", "Produce to one first")
        new = [name for name in found if name not in self._known]
        self.topic_ids |= topic_ids(self._bootstrap, new) if new else {}
        return {name: known[name] for name in found}

    def _take_in(self, found: Mapping[str, list[int]]) -> None:
        """Read topics that are not read yet. New partitions of the others are given to a group by its brokers."""
        before, self._known = self._known, {**self._known, **found}
        self._one_topic = len(self._known) == 1
        self._look_at = time.monotonic() + _LOOK_S
        if self._group is None:
            new = [(name, each) for name in found for each in found[name] if each not in before.get(name, ())]
            if new:
                self._client.incremental_assign(self._assigned(new))
        elif found.keys() - before.keys():
            self._client.subscribe(
                [*found], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )

    def _on_assign(self, _: object, places: Sequence[TopicPartition]) -> None:
        if places:
            self._client.incremental_assign(self._assigned([(each.topic, each.partition) for each in places]))

    def _on_revoke(self, _: object, places: Sequence[TopicPartition]) -> None:
        gone = [(each.topic, each.partition) for each in places]
        self.partitions = [each for each in self.partitions if each not in gone]
        for each in gone:
            self._ends.pop(each, None)
            self._seen.pop(each, None)
        self._lost(gone)
        self._client.incremental_unassign(list(places))

    def _assigned(self, partitions: Sequence[Partition]) -> list[TopicPartition]:
        starts = self._starts(partitions)
        self.partitions += partitions
        return [self._place(partition, starts[partition]) for partition in partitions]

    def _place(self, partition: Partition, start: int | None) -> TopicPartition:
        """Where to read a partition from; StreamFault where the broker has not got that offset (any more)."""
        from confluent_kafka import TopicPartition

        with answering():
            low, high = watermarks(self._client, TopicPartition(*partition))
        self._ends[partition] = high
        offset = low if start is None else start
        if not low <= offset <= high:
            where = f"{partition[0]}/{partition[1]}"
            if offset < low:
                problem = f"offsets {offset} to {low} were deleted by the broker before they were read"
            else:
                problem = f"ends at {high}, but the table has it up to {offset}: it was made anew or truncated"
            raise StreamFault(where, problem, "Nothing was read; publish to a new topic, or roll the table back")
        return TopicPartition(*partition, offset)


def _partition_of(message: Message) -> Partition:
    return str(message.topic()), int(message.partition() or 0)


def _places(partitions: Iterable[Partition]) -> list[TopicPartition]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(*each) for each in partitions]
