"""How far a table has each partition of a stream: carried in every snapshot's summary, checked by every commit.

`k2.offsets` is `{topic: {partition: [start, end]}}`, half-open and merged over all commits, `k2.writers` the writer and
the epoch of the last commit of each, and `k2.topics` the brokers' id of each topic. A commit must begin where the table
ends: whatever a second writer, one that slept or one whose answer was lost does, no offset is taken twice and none left
out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from k2kernel.errors import CommitConflict, WriterFenced
from k2kernel.lake.provenance import summary_of

if TYPE_CHECKING:
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

_OFFSETS_KEY, _WRITERS_KEY, _TOPICS_KEY = "k2.offsets", "k2.writers", "k2.topics"


@dataclass(frozen=True)
class Claim:
    """Offsets from `start` (inclusive) to `end` (exclusive) of `source`, `topic/partition`, and who brings them.

    `topic_id` is what the brokers know the topic by, which another one of its name has not; None: not known.
    """

    source: str
    start: int
    end: int
    writer: str
    epoch: int
    topic_id: str | None = None

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.source.rpartition("/")[0]


def held(line: Iterable[IcebergSnapshot]) -> dict[str, Claim]:
    """What a table has of each source, by a line of ancestors, newest first: the newest that says is right."""
    for snapshot in line:
        summary = summary_of(snapshot)
        if _OFFSETS_KEY in summary:
            return _parse(summary)
    return {}


def _parse(summary: Mapping[str, str]) -> dict[str, Claim]:
    writers = json.loads(summary[_WRITERS_KEY])
    ids = json.loads(summary.get(_TOPICS_KEY, "{}"))
    found = {}
    for topic, by_number in json.loads(summary[_OFFSETS_KEY]).items():
        for number, (start, end) in by_number.items():
            writer, epoch = writers[f"{topic}/{number}"]
            found[f"{topic}/{number}"] = Claim(f"{topic}/{number}", start, end, writer, epoch, ids.get(topic))
    return found


def check(name: str, there: Mapping[str, Claim], claims: Sequence[Claim]) -> None:
    """WriterFenced where a later writer has taken a source over; CommitConflict where the table does not end at our
    beginning.
    """
    for claim in claims:
        known = there.get(claim.source)
        if known is None:
            continue
        if known.epoch > claim.epoch or (known.epoch == claim.epoch and known.writer != claim.writer):
            by = f"writer {known.writer} (epoch {known.epoch}) writes it to {name} now; this is epoch {claim.epoch}"
            raise WriterFenced(claim.source, by, "Run one writer a partition, or let them share a group")
        if known.end != claim.start:
            problem = f"{claim.source} is in it up to {known.end}, and these rows begin at {claim.start}"
            raise CommitConflict(name, problem, "Nothing was added; go on from where the table ends")


def summary(there: Mapping[str, Claim], claims: Sequence[Claim]) -> dict[str, str]:
    """The keys of a commit: what the table had, with the claims at its end."""
    merged = {**there}
    for claim in claims:
        first = there[claim.source].start if claim.source in there else claim.start
        merged[claim.source] = replace(claim, start=first)
    if not merged:
        return {}
    ranges: dict[str, dict[str, list[int]]] = {}
    for source, each in sorted(merged.items()):
        ranges.setdefault(each.topic, {})[source.rpartition("/")[2]] = [each.start, each.end]
    ids = {each.topic: each.topic_id for each in merged.values() if each.topic_id is not None}
    writers = {source: [each.writer, each.epoch] for source, each in sorted(merged.items())}
    compact = (",", ":")
    return {
        _OFFSETS_KEY: json.dumps(ranges, separators=compact),
        _WRITERS_KEY: json.dumps(writers, separators=compact),
        _TOPICS_KEY: json.dumps(ids, separators=compact),
    }
