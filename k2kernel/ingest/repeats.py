"""What becomes of fills whose venue's id another fill has: a feed that was delivered again, in part or as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2kernel.errors import FileFault
from k2kernel.ingest.known import Loads, Part
from k2kernel.ingest.runs import Runs
from k2kernel.lake import Lake, Repeat

KEEP_ALL, KEEP_FIRST, KEEP_LAST, ERROR = ON_DUPLICATE = ("keep_all", "keep_first", "keep_last", "error")
TABLE = "trades"


@dataclass(frozen=True)
class Dropped:
    """How many rows of each source (digest) were left out, checked against the snapshot `base` of the table."""

    rows: Mapping[str, int]
    base: int | None


def drop_repeats(lake: Lake, runs: Runs, parts: Sequence[Part], how: str) -> Dropped:
    """Leave the repeats out of the data files that were written and not committed yet.

    FileFault where there is one and `how` is `error`, or where it repeats a row of the table and `how` is `keep_last`:
    stored rows are never taken out one by one.
    """
    base, dropped = lake.head(TABLE), Counter[str]()
    files = {file.path: file for file in runs.written(TABLE)}
    sources = [part.digest.sha256 for part in parts]
    leaving = [digest for part in parts for digest in part.replaced]
    with lake.repeats(list(files), base, sources, leaving) as repeats:
        found = None if how == KEEP_FIRST else repeats.first(stored_only=how == KEEP_LAST)
        if found is not None:
            raise _refused(lake, parts, found, how)
        for path in repeats.files():
            rows, gone = repeats.kept(path, last=how == KEEP_LAST)
            dropped.update(gone["source"].to_list())
            if len(gone):
                session = None if rows.is_empty() else rows["session"][0]
                runs.swap(TABLE, files[path], None if rows.is_empty() else lake.write(TABLE, rows, session))
    return Dropped(dropped, base)


def _refused(lake: Lake, parts: Sequence[Part], repeat: Repeat, how: str) -> FileFault:
    names = {part.digest.sha256: part.member.name for part in parts}
    what = f"line {repeat.source_offset}: the trade_id {repeat.trade_id!r} of {repeat.symbol} on {repeat.venue}"
    where = f"session {repeat.session}, is {'in trades already, from' if repeat.stored else 'that of'}"
    first = names.get(repeat.first_source) or _name(lake, repeat.first_source)
    place = f"line {repeat.first_offset} of {first}"
    remedy = "--on-duplicate keep_first leaves such rows out, keep_all takes them"
    if how == KEEP_LAST:
        remedy = "keep_last chooses among the rows of one load only: " + remedy
    return FileFault(names[repeat.source], f"{what}, {where} {place}", remedy)


def _name(lake: Lake, digest: str) -> str:
    load = Loads(lake).of(digest).get(TABLE)
    return digest if load is None else load.source.name
