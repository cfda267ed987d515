"""What topics hold past the end of a table: read on from exactly there, never committed, and shown beside the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

import polars as pl

from k2kernel import schemas
from k2kernel.errors import InvalidParameter
from k2kernel.ingest.deliver import Batch, read_parts, refuse_others, source_of
from k2kernel.ingest.runs import Runs
from k2kernel.lake import FileSet, Lake, LakeFile
from k2kernel.sources.brokers import Partition
from k2kernel.sources.kafka import KafkaSource
from k2kernel.wire import Registry, Topic

_ROWS, _WAIT_S = 200_000, 0.2


class Tail:
    """Reads topics from where a state of the tables ends (`snapshots`: of each kind; None: it has none), as a context.

    `topics` are those that the tables have rows of, or the ones given. Messages that are no rows are left out: a stream
    makes dead letters of them. Where it `follows`, it takes in partitions that these topics get later, too.
    """

    def __init__(
        self,
        lake: Lake,
        bootstrap: str,
        registry_url: str,
        snapshots: Mapping[str, int | None],
        topics: Sequence[str] | None = None,
        *,
        follows: bool = False,
    ) -> None:
        claims = {
            source: claim
            for kind, snapshot_id in snapshots.items()
            for source, claim in (lake.offsets(kind, snapshot_id) if snapshot_id is not None else {}).items()
        }
        known = {claim.topic for claim in claims.values()}
        chosen = sorted(known) if topics is None else [each for each in topics if Topic.parse(each).kind in snapshots]
        if follows and not chosen:
            problem = f"finds no topic of {' and '.join(snapshots)} to go on with"
            raise InvalidParameter("follow", topics or True, problem, "Name one, such as market.equity.trades.xasx")
        self._registry = Registry(registry_url)
        self.offsets: dict[Partition, int | None] = {}
        """The offset that comes next in each partition; None: the oldest there is."""

        def begin(partitions: Sequence[Partition]) -> dict[Partition, int | None]:
            if self._source is not None:
                refuse_others(claims.values(), self._source.topic_ids)
            there = {at: claims.get(source_of(at)) for at in partitions}
            starts = {at: None if claim is None else claim.end for at, claim in there.items()}
            self.offsets |= starts
            return starts

        self._source = KafkaSource(bootstrap, chosen, begin, lambda _: None) if chosen else None
        if self._source is not None:
            self._source.follows = follows

    def __enter__(self) -> Self:
        if self._source is not None:
            self._source.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._source is not None:
            self._source.__exit__(*raised)
        self._registry.close()

    def poll(self) -> dict[str, pl.DataFrame]:
        """The rows that came within a moment, by table, in the order of their offsets in each partition."""
        batch = Batch()
        for at, run in self._source.fetch(_ROWS, _WAIT_S) if self._source is not None else ():
            batch.add(at, run)
        self.offsets |= batch.ends
        stamp = pl.lit(datetime.now(UTC), pl.Datetime("us", "UTC")).alias("ts_ingest")
        found = {table: read.rows for table, read in read_parts(batch.parts, self._registry).items()}
        return {table: rows.with_columns(stamp).select(schemas.TABLES[table].names) for table, rows in found.items()}

    def rest(self) -> Iterator[dict[str, pl.DataFrame]]:
        """What the topics held when this began."""
        while self._source is not None and not self._source.at_end(self.offsets):
            yield self.poll()


def merged(found: Mapping[str, pl.DataFrame], kinds: Sequence[str]) -> pl.DataFrame:
    """Rows of several tables in the total order, kinds in the order given, of which `k2_kind` and `k2_group` are the
    numbers.
    """
    rank = {kind: pl.lit(number, pl.Int16) for number, kind in enumerate(kinds)}
    frames = [rows.with_columns(k2_kind=rank[kind], k2_group=rank[kind]) for kind, rows in found.items() if len(rows)]
    if not frames:
        return pl.DataFrame()
    ns = pl.coalesce("ts_event_ns", pl.col("ts_event").dt.epoch("ns"))
    keys = ("k2_kind", "venue", "symbol", "sequence", "source", "source_offset")
    return pl.concat(frames, how="diagonal").sort(ns, *keys)


class FreshLake(Lake):
    """A lake at one state of a table, read together with rows that are in files but not committed."""

    def __init__(self, lake: Lake, table: str, snapshot_id: int | None, tail: Tail) -> None:
        super().__init__(lake.settings, lake.catalog)
        self._state = table, snapshot_id
        with tail, Runs(lake) as runs:
            for rows in tail.rest():
                runs.add(table, rows.get(table, pl.DataFrame(schema=schemas.TABLES[table].polars)))
            runs.finish()
        self._fresh = tuple(LakeFile(file.path, file.rows, file.nbytes) for file in runs.hand_over(table))

    def files(self, name: str, snapshot_id: int | None) -> FileSet:
        """As of any lake; at its state with the rows that are not committed."""
        found = super().files(name, snapshot_id)
        return FileSet(snapshot_id, found.files + self._fresh) if (name, snapshot_id) == self._state else found

    def close(self) -> None:
        """Delete the rows that are not committed, and let go of connections."""
        self.discard(file.path for file in self._fresh)
        super().close()
