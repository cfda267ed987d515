"""`Trace`: from a row of a table back to the line, the file and the load that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.html import facts, record
from k2kernel.sources.files import Member, digest, members, text_blocks

if TYPE_CHECKING:
    from k2kernel.lake import Lake
    from k2kernel.lake.provenance import Provenance, SourceRecord


@dataclass(frozen=True)
class Trace:
    """Where the row `source_offset` of `source` came from.

    `file` is the path and zip member, or the topic and partition. `raw` is the line as it is in the file, None where
    there is none to show, and `why` says why then. `rows` and `rejected` are of the whole source in that load, which
    was committed at `committed_at` (UTC) as `snapshot_id`.
    """

    source: str
    source_offset: int
    file: str
    raw: str | None
    why: str
    profile: str
    rows: int
    rejected: int
    snapshot_id: int | None
    committed_at: datetime | None

    def _repr_html_(self) -> str:
        return record(facts(self), "trace")


def trace(lake: Lake, table: str, source: str, source_offset: int, snapshot_id: int | None = None) -> Trace:
    """The origin of a row; InvalidParameter where the state (None: main) has no rows of that source."""
    ingest, part = _load(lake, table, source, source_offset, snapshot_id)
    raw, why = _line(part, source_offset)
    when = ingest.snapshot_id, ingest.committed_at
    return Trace(source, source_offset, part.name, raw, why, ingest.profile, part.rows, part.rejected, *when)


def _load(lake: Lake, table: str, source: str, offset: int, snapshot_id: int | None) -> tuple[Provenance, SourceRecord]:
    found = [
        (ingest, part)
        for ingest in lake.provenance(table, snapshot_id)
        for part in ingest.sources
        if part.digest == source
    ]
    if not found:
        raise InvalidParameter("source", source, f"is of no load of {table}", "Take source and source_offset of a row")
    return next((each for each in found if each[1].first <= offset < each[1].last), found[0])


def _line(part: SourceRecord, number: int) -> tuple[str | None, str]:
    """The line of a file, or why there is none."""
    if "/" in part.digest:
        return None, "a message of a topic, not a line of a file"
    try:
        found = next(each for each in members(part.name.partition("!")[0]) if each.name == part.name)
        if digest(found).sha256 != part.digest:
            return None, "the file has changed since it was loaded"
        return _read(found, number)
    except (OSError, FileFault, StopIteration):
        return None, "the file is not there any more"


def _read(member: Member, number: int) -> tuple[str | None, str]:
    if member.packing == "parquet":
        return None, "a row of Parquet, not a line of text"
    for block in text_blocks(member):
        if number < block.first_line + block.lines:
            line = block.data.split(b"\n", number - block.first_line + 1)[number - block.first_line]
            return line.rstrip(b"\r").decode("utf-8", "replace"), ""
    return None, "the file has no such line"
