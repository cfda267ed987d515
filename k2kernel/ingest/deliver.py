"""The commit protocol of streams: from a batch of messages to rows that are in the lake exactly once.

Rows are written to data files that nobody sees yet. Then the tables are committed, dead letters and gaps first, each
with the offsets that its rows are of; `Lake.append` refuses a commit that does not begin where its table ends. That
commit is the only acknowledgement: a start, a conflict and a crash all go on from where the tables end.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from k2kernel.errors import CommitConflict, StreamFault, WriterFenced
from k2kernel.ingest.known import REJECTED
from k2kernel.ingest.messages import Read, as_stored, joined, read
from k2kernel.ingest.runs import Runs
from k2kernel.ingest.watch import COLUMNS as GAP_COLUMNS
from k2kernel.ingest.watch import Watch
from k2kernel.lake import Claim, Lake, Provenance, SourceRecord
from k2kernel.schemas import GAPS
from k2kernel.sources.brokers import Partition
from k2kernel.wire import Registry, Topic

BESIDE = (REJECTED, GAPS.name)
"""The tables with rows about messages, which are committed before the messages' own."""

BATCH = "batch"
"""The key of a commit's extra facts: batch id, schema ids, event-time watermark."""

Parts = dict[Partition, list[pl.DataFrame]]
"""Runs of messages (source_offset, raw) by partition."""


@dataclass
class Batch:
    """What was fetched and is not committed: its messages, since when, how many and how long they are; and which of
    them are being decoded already, `fresh` ones not.
    """

    parts: Parts = field(default_factory=dict)
    since: float = 0.0
    rows: int = 0
    nbytes: int = 0
    fresh: Parts = field(default_factory=dict)
    reading: list[Future[dict[str, Read]]] = field(default_factory=list)

    @property
    def starts(self) -> dict[Partition, int]:
        """The offset of the first message of each partition."""
        return {at: runs[0]["source_offset"][0] for at, runs in self.parts.items()}

    @property
    def ends(self) -> dict[Partition, int]:
        """The offset after the last message of each partition."""
        return {at: runs[-1]["source_offset"][-1] + 1 for at, runs in self.parts.items()}

    def add(self, at: Partition, run: pl.DataFrame) -> None:
        """More messages of a partition."""
        self.parts.setdefault(at, []).append(run)
        self.fresh.setdefault(at, []).append(run)
        self.rows += len(run)
        self.nbytes += _nbytes(run)

    def read_ahead(self, read: Callable[[Parts], Future[dict[str, Read]]], least: int = 1) -> None:
        """Have the fresh messages decoded, where there are at least so many."""
        if self.fresh and sum(len(run) for runs in self.fresh.values() for run in runs) >= least:
            self.reading.append(read(self.fresh))
            self.fresh = {}

    def found(self) -> dict[str, Read]:
        """What the messages became, by table, once all are decoded; RegistryDown where that cannot be told now."""
        return joined([future.result() for future in self.reading])

    def unread(self) -> None:
        """Have every message decoded anew."""
        self.fresh, self.reading = {at: [*runs] for at, runs in self.parts.items()}, []

    def drop(self, at: Partition) -> int:
        """Forget a partition; how many messages of it there were."""
        runs = self.parts.pop(at, [])
        rows = sum(map(len, runs))
        self.rows -= rows
        self.nbytes -= sum(map(_nbytes, runs))
        if rows:
            self.unread()
        return rows


@dataclass(frozen=True)
class Delivered:
    """What became of a batch: rows by table, how many messages were no rows, the latest event time of the rows, and
    events of sequence numbers by name.
    """

    rows: Mapping[str, int]
    rejected: int
    watermark: datetime | None = None
    gaps: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Delivery:
    """One writer of streams into the lake, and how far it has each partition. `gaps` says what sequence numbers count,
    where they are to be watched.
    """

    lake: Lake
    registry: Registry
    keep_letters: bool = True
    gaps: str | None = None
    writer: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    next: dict[Partition, int | None] = field(default_factory=dict)
    _beside: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in BESIDE})
    _watches: dict[str, Watch] = field(default_factory=dict)
    _epochs: dict[str, int] = field(default_factory=dict)
    _topic_ids: dict[str, str] = field(default_factory=dict)

    def begin(
        self, partitions: Sequence[Partition], topic_ids: Mapping[str, str], *, again: bool = False
    ) -> dict[Partition, int | None]:
        """Where the tables end, which is where to read from; None: they have nothing of the partition.

        Each begin is a new epoch of its partitions, which fences their earlier writer, unless it is `again`.
        StreamFault where a topic is another one than the tables have rows of.
        """
        self._topic_ids |= topic_ids
        held = {name: self.lake.offsets(name) for name in {*BESIDE, *map(table_of, partitions)}}
        for at in partitions:
            source, table = source_of(at), table_of(at)
            claims = {name: held[name][source] for name in (*BESIDE, table) if source in held[name]}
            refuse_others(claims.values(), topic_ids)
            if not again:
                self._epochs[source] = 1 + max((each.epoch for each in claims.values()), default=0)
            self.next[at] = claims[table].end if table in claims else None
            for name in BESIDE:
                self._beside[name][source] = claims[name].end if name in claims else 0
            if self.gaps is not None:
                self._watches.setdefault(table, Watch(table, self.gaps)).begin(self.lake, source, self.next[at])
        return {at: self.next[at] for at in partitions}

    def forget(self, at: Partition) -> None:
        """Another writer has the partition now."""
        self.next.pop(at, None)
        for watch in self._watches.values():
            watch.forget(source_of(at))

    def read(self, parts: Parts) -> dict[str, Read]:
        """The rows and dead letters of messages by table; RegistryDown where that cannot be told now."""
        return read_parts(parts, self.registry)

    def commit(self, batch: Batch, found: Mapping[str, Read]) -> Delivered:
        """Write every data file, then commit table by table: what is about the messages first, then rows.

        CommitConflict where a table does not end where the batch begins (go on with `begin(again=True)`), WriterFenced
        where another writer has taken over. What was committed before that stays, and is skipped by the next attempt.
        """
        rejected = pl.concat([each.rejected for each in found.values()])
        seen = {table: watch.see(found[table].rows) for table, watch in self._watches.items() if table in found}
        gaps = pl.concat([pl.DataFrame(schema=GAP_COLUMNS), *(events for events, _ in seen.values())])
        beside = {REJECTED: rejected if self.keep_letters else rejected.clear(), GAPS.name: gaps}
        new = {name: self._new(name, rows) for name, rows in beside.items()}
        rows = {name: each for name, each in new.items() if len(each)}
        rows |= {table: each.rows for table, each in found.items()}
        self._commit(batch, rows, rejected, _facts(found))
        self.next.update(batch.ends)
        for table, (_, state) in seen.items():
            self._watches[table].state = state
        counts = dict(gaps["event"].value_counts().iter_rows())
        return Delivered(
            {table: len(each.rows) for table, each in found.items()}, len(rejected), _watermark(found), counts
        )

    def _commit(self, batch: Batch, rows: Mapping[str, pl.DataFrame], rejected: pl.DataFrame, facts: str) -> None:
        claims = {table: self._claims(batch, table, frame) for table, frame in rows.items()}
        stamp = datetime.now(UTC)
        files = self._write(rows, stamp)
        try:
            for table, frame in rows.items():
                bad = rejected.clear() if table == GAPS.name else rejected
                provenance = _provenance(claims[table], frame, bad, stamp, {BATCH: facts})
                self.lake.append(table, files[table], provenance, claims=claims[table])
                files[table] = []
                if table in BESIDE:
                    self._beside[table] |= {claim.source: claim.end for claim in claims[table]}
        except (CommitConflict, WriterFenced):
            # Nothing of this table was committed. After any other error that is not sure, and orphans do no harm.
            self.lake.discard(path for paths in files.values() for path in paths)
            raise

    def _write(self, rows: Mapping[str, pl.DataFrame], stamp: datetime) -> dict[str, list[str]]:
        """The data files of each table; nobody sees them yet."""
        with Runs(self.lake) as runs:
            for table, frame in rows.items():
                runs.add(table, as_stored(self.lake, table, frame, stamp))
            runs.finish()
        return {table: [file.path for file in runs.hand_over(table)] for table in rows}

    def _new(self, name: str, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that an earlier attempt, which did not come to commit the batch, has not kept already."""
        durable = rows["source"].replace_strict(self._beside[name], default=0, return_dtype=pl.Int64)
        return rows.filter(rows["source_offset"] >= durable)

    def _claims(self, batch: Batch, table: str, rows: pl.DataFrame) -> list[Claim]:
        """The offsets that the batch brings to a table: of a stream's own table, or of the sources that have rows for
        one beside it.
        """
        wanted = set(rows["source"]) if table in BESIDE else None
        claims, starts = [], batch.starts
        for at, end in batch.ends.items():
            source, known = source_of(at), self.next[at]
            start = starts[at] if known is None else known
            if wanted is None and table_of(at) == table:
                claims.append(self._claim(source, start, end))
            elif wanted is not None and source in wanted:
                first = self._beside[table][source] or start
                claims.append(self._claim(source, first, end))
        return claims

    def _claim(self, source: str, start: int, end: int) -> Claim:
        topic_id = self._topic_ids.get(source.rpartition("/")[0])
        return Claim(source, start, end, self.writer, self._epochs[source], topic_id)


def refuse_others(claims: Iterable[Claim], topic_ids: Mapping[str, str]) -> None:
    """StreamFault where a topic was deleted and made anew since rows of it were taken in: its offsets are of others."""
    for claim in claims:
        now = topic_ids.get(claim.topic)
        if now is not None and claim.topic_id not in (None, now):
            problem = f"is another one than that of which offsets {claim.start} to {claim.end} are in the lake"
            raise StreamFault(f"topic {claim.topic}", problem, "It was made anew; publish to a topic of another name")


def read_parts(parts: Parts, registry: Registry) -> dict[str, Read]:
    """The rows and dead letters of messages by table; RegistryDown where that cannot be told now."""
    by_table: dict[str, list[pl.DataFrame]] = {}
    for at, runs in parts.items():
        part = pl.concat(runs).with_columns(pl.lit(source_of(at)).alias("source"))
        by_table.setdefault(table_of(at), []).append(part)
    return {table: read(table, pl.concat(each), registry) for table, each in by_table.items()}


def source_of(at: Partition) -> str:
    """What rows of a partition have as their source."""
    return f"{at[0]}/{at[1]}"


def table_of(at: Partition) -> str:
    """The table that a partition's rows go to."""
    return Topic.parse(at[0]).kind


def _nbytes(run: pl.DataFrame) -> int:
    return int(run["raw"].bin.size().sum())


def _watermark(found: Mapping[str, Read]) -> datetime | None:
    latest: list[Any] = [each.rows["ts_event"].max() for each in found.values() if len(each.rows)]
    return max(latest, default=None)


def _facts(found: Mapping[str, Read]) -> str:
    latest = _watermark(found)
    facts = {
        "id": uuid.uuid4().hex,
        "schema_ids": sorted({number for each in found.values() for number in each.schema_ids}),
        "watermark": None if latest is None else latest.isoformat(),
    }
    return json.dumps(facts, separators=(",", ":"))


def _provenance(
    claims: Sequence[Claim], rows: pl.DataFrame, rejected: pl.DataFrame, stamp: datetime, extra: Mapping[str, str]
) -> Provenance:
    good, bad = (dict(frame["source"].value_counts().iter_rows()) for frame in (rows, rejected))
    records = []
    for each in claims:
        counts = good.get(each.source, 0), bad.get(each.source, 0)
        records.append(SourceRecord(each.source, each.source, 0, each.start, each.end, *counts))
    return Provenance(tuple(records), "", "", stamp, extra=extra)
