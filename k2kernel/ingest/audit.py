"""The proof that streams were taken in exactly once: ranges of offsets out of the commits, rows out of the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

import polars as pl

from k2kernel.errors import counted
from k2kernel.html import Listing
from k2kernel.ingest.letters import retried
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.schemas import DEAD_LETTER, GAPS, KINDS

TABLES = (DEAD_LETTER.name, GAPS.name, *KINDS)


@dataclass(frozen=True)
class Finding:
    """One partition in one table: the offsets from `start` (inclusive) to `end` (exclusive) came in `commits` commits.

    `rows` are in the table, `rejected` were kept apart or skipped; `faults` says what is wrong, and is empty where all
    is well.
    """

    table: str
    source: str
    start: int
    end: int
    commits: int
    rows: int
    rejected: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What an audit found, partition by partition."""

    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def faults(self) -> list[str]:
        """Every violation, as a sentence."""
        return [f"{each.table}, {each.source}: {fault}" for each in self.findings for fault in each.faults]

    @property
    def ok(self) -> bool:
        """True where no row is lost or doubled."""
        return not self.faults

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>{Listing(self.findings)._repr_html_() if self.findings else ''}"

    def __str__(self) -> str:
        if not self.findings:
            return "no stream was taken in yet"
        rows, sources = sum(each.rows for each in self.findings), {each.source for each in self.findings}
        what = f"{counted(rows, 'row')} of {counted(len(sources), 'partition')}"
        if self.ok:
            return f"exactly once: {what}, no gap and no overlap"
        return f"VIOLATED ({len(self.faults)}): {what}; the first: {self.faults[0]}"


def audit(lake: Lake) -> Audit:
    """Hold every partition's committed ranges against each other, the carried totals and the rows that are there."""
    return Audit(tuple(finding for table in TABLES for finding in _of_table(lake, table)))


def _of_table(lake: Lake, table: str) -> Iterator[Finding]:
    history = lake.provenance(table)
    ranges, again = _ranges(history), retried(history)
    held = lake.offsets(table)
    offsets = _offsets(lake, table, {*ranges, *held})
    for source in sorted({*ranges, *held, *offsets}):
        records = ranges.get(source, [])
        there = offsets.get(source, pl.Series(dtype=pl.Int64))
        late = pl.Series(again.get(source, []), dtype=pl.Int64)
        faults = [*_chain(records), *_rows(records, there, late, complete=table in KINDS)]
        claim = held.get(source)
        span = (records[0].first, records[-1].last) if records else (0, 0)
        if claim is None or (claim.start, claim.end) != span:
            carried = "nothing" if claim is None else f"{claim.start} to {claim.end}"
            faults.append(f"its commits are of {span[0]} to {span[1]}, and the last one carries {carried}")
        rejected = sum(record.rejected for record in records)
        yield Finding(table, source, *span, len(records), len(there), rejected, tuple(faults))


def _ranges(history: Iterable[Provenance]) -> dict[str, list[SourceRecord]]:
    """The commits of each partition, oldest first; files have digests, without a slash, retries a colon."""
    found: dict[str, list[SourceRecord]] = {}
    for ingest in history:
        for record in ingest.sources:
            if "/" in record.digest and ":" not in record.digest:
                found.setdefault(record.digest, []).append(record)
    return found


def _chain(records: Sequence[SourceRecord]) -> Iterator[str]:
    """Each commit must begin where the one before it ends."""
    for before, after in pairwise(records):
        if after.first > before.last:
            yield f"a gap: offsets {before.last} to {after.first} are in no commit"
        elif after.first < before.last:
            yield f"an overlap: offsets {after.first} to {before.last} are in two commits"


def _rows(records: Sequence[SourceRecord], there: pl.Series, late: pl.Series, *, complete: bool) -> Iterator[str]:
    """Rows must be as many as their commit says, each offset once; `complete`: every offset is a row or a reject.

    The `late` ones came by a retry of dead letters.
    """
    if not late.is_in(there.implode()).all():
        yield "rows that a retry restored are not there"
    ordered = there.sort()
    if ordered.n_unique() != len(ordered):
        doubled = ordered.filter(ordered.is_duplicated()).unique()
        yield f"{len(doubled):,} offsets have more than one row, such as {doubled[0]}"
    at = ordered.search_sorted(pl.Series([record.first for record in records], dtype=pl.Int64), "left")
    upto = ordered.search_sorted(pl.Series([record.last for record in records], dtype=pl.Int64), "left")
    for record, first, last in zip(records, at.to_list(), upto.to_list(), strict=True):
        restored = late.is_between(record.first, record.last, "left").sum()
        if last - first != record.rows + restored:
            found = f"{last - first:,} rows, and were committed with {record.rows + restored:,}"
            yield f"offsets {record.first} to {record.last} have {found}"
        missing = record.last - record.first - record.rows - record.rejected
        if complete and missing:
            yield f"offsets {record.first} to {record.last} are {missing:,} more than their rows and rejects"
    inside = sum(upto.to_list()) - sum(at.to_list())
    if inside != len(ordered) and ordered.n_unique() == len(ordered):
        yield f"{len(ordered) - inside:,} rows are of offsets that no commit is of"


def _offsets(lake: Lake, table: str, sources: Iterable[str]) -> Mapping[str, pl.Series]:
    """The offsets of the rows that are in the table, by source; eight bytes a row are held."""
    if not sources:
        return {}
    parts: dict[str, list[pl.Series]] = {}
    scan = lake.table(table).scan(selected_fields=("source", "source_offset"))
    for batch in scan.to_arrow_batch_reader():
        frame = pl.DataFrame(pl.from_arrow(batch)).filter(pl.col("source").str.contains("/", literal=True))
        for (source,), part in frame.partition_by("source", as_dict=True).items():
            parts.setdefault(str(source), []).append(part["source_offset"])
    return {source: pl.concat(found) for source, found in parts.items()}
