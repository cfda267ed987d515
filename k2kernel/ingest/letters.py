"""Dead letters of streams: what there is, another try at it, and letting go of it.

A letter stays in its table for ever. That it was restored or dropped is told by the commit that did it, in the same
way as a commit tells which offsets it brings: so a second try finds the first, and restores nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from k2kernel import schemas
from k2kernel.ingest.known import REJECTED
from k2kernel.ingest.messages import as_stored, read
from k2kernel.ingest.runs import Runs
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.wire import Registry

RETRIED, DROPPED = "retried:", "dropped:"
"""Before `topic/partition`, the source of a commit that restored letters, or let go of them."""


@dataclass(frozen=True)
class Retried:
    """What another try did: `restored` rows by table, and the letters that are `still` none, with the reason of now."""

    restored: Mapping[str, int]
    still: pl.DataFrame

    def __str__(self) -> str:
        told = [f"{rows:,} restored to {table}" for table, rows in self.restored.items()] or ["nothing restored"]
        return "; ".join([*told, f"{len(self.still):,} still bad"])


@dataclass(frozen=True)
class Letters:
    """The dead letters of a lake's streams; those of files are not among them, as a file is loaded again whole.

    A selection is by `source` (`topic/partition`), `offset` and `error` (the class of the fault); None: all.
    """

    lake: Lake

    def all(self) -> pl.DataFrame:
        """Every letter: the columns of `dead_letter`, and `state`: open, retried or dropped."""
        found = pl.DataFrame(pl.from_arrow(self.lake.table(REJECTED).scan().to_arrow()))
        found = found.filter(pl.col("source").str.contains("/", literal=True)).sort("source", "source_offset")
        state = pl.lit("open")
        for mark, told in ((RETRIED, "retried"), (DROPPED, "dropped")):
            done = _offsets(self._marks(mark), mark).with_columns(pl.lit(told).alias("__state"))
            found = found.join(done, on=["source", "source_offset"], how="left").rename({"__state": told})
            state = pl.coalesce(told, state)
        return found.select(*schemas.DEAD_LETTER.names, state.alias("state"))

    def chosen(
        self,
        source: str | None = None,
        offset: int | None = None,
        error: str | None = None,
        state: str | None = None,
    ) -> pl.DataFrame:
        """The letters of a selection, which may be of one `state`."""
        wanted = {"source": source, "source_offset": offset, "error": error, "state": state}
        return self.all().filter(*(pl.col(name) == value for name, value in wanted.items() if value is not None))

    def open(self, source: str | None = None, offset: int | None = None, error: str | None = None) -> pl.DataFrame:
        """The letters of a selection that were neither restored nor dropped."""
        return self.chosen(source, offset, error, "open")

    def retry(self, registry_url: str, chosen: pl.DataFrame) -> Retried:
        """Read letters again: those that are rows now go to their table, each once whoever else tries."""
        with Registry(registry_url) as registry:
            return self._retry(registry, chosen)

    def _retry(self, registry: Registry, chosen: pl.DataFrame) -> Retried:
        restored: dict[str, int] = {}
        still = []
        for (table,), part in chosen.partition_by("target", as_dict=True, maintain_order=True).items():
            found = read(str(table), part.select("source", "source_offset", "raw"), registry)
            still.append(found.rejected)
            if len(found.rows):
                self._append(str(table), RETRIED, found.rows)
                restored[str(table)] = len(found.rows)
        return Retried(restored, pl.concat(still) if still else chosen.clear())

    def drop(self, chosen: pl.DataFrame) -> int:
        """Let go of letters; how many there were."""
        if len(chosen):
            self._append(REJECTED, DROPPED, chosen.clear().drop("state"), chosen)
        return len(chosen)

    def _append(self, table: str, mark: str, rows: pl.DataFrame, about: pl.DataFrame | None = None) -> None:
        """Commit rows, and which letters it is about: CommitConflict where another commit is about them already."""
        stamp = datetime.now(UTC)
        with Runs(self.lake) as runs:
            runs.add(table, as_stored(self.lake, table, rows, stamp))
            runs.finish()
        records = tuple(_records(rows if about is None else about, mark))
        files = [file.path for file in runs.hand_over(table)]
        self.lake.append(table, files, Provenance(records, "", "", stamp))

    def _marks(self, mark: str) -> Iterator[SourceRecord]:
        """The records of commits that restored or dropped letters."""
        for table in (REJECTED,) if mark == DROPPED else schemas.KINDS:
            for ingest in self.lake.provenance(table):
                yield from (record for record in ingest.sources if record.digest.startswith(mark))


def retried(history: Iterable[Provenance]) -> dict[str, list[int]]:
    """The offsets that were restored, by `topic/partition`."""
    records = (record for ingest in history for record in ingest.sources if record.digest.startswith(RETRIED))
    found = _offsets(records, RETRIED).group_by("source").agg("source_offset")
    return dict(zip(found["source"], found["source_offset"].to_list(), strict=True))


def _records(letters: pl.DataFrame, mark: str) -> Iterator[SourceRecord]:
    """One record for each run of adjacent offsets."""
    ordered = letters.select("source", "source_offset").sort("source", "source_offset")
    run = (pl.col("source_offset") - pl.int_range(pl.len())).over("source")
    runs = ordered.group_by("source", run.alias("run"), maintain_order=True).agg(
        pl.min("source_offset").alias("first"), pl.max("source_offset").alias("last"), pl.len().alias("rows")
    )
    for source, first, last, rows in runs.select("source", "first", "last", "rows").iter_rows():
        yield SourceRecord(mark + source, mark + source, 0, first, last + 1, rows if mark == RETRIED else 0)


def _offsets(records: Iterable[SourceRecord], mark: str) -> pl.DataFrame:
    """Each offset of some records, with its source."""
    spans = [(record.digest.removeprefix(mark), record.first, record.last) for record in records]
    frame = pl.DataFrame(spans, schema={"source": pl.String, "first": pl.Int64, "last": pl.Int64}, orient="row")
    every = pl.int_ranges("first", "last").alias("source_offset")
    return frame.select("source", every).explode("source_offset").unique()
