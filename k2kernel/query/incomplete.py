"""Sessions that lack rows: those of sources of which rows were rejected, as the commits' provenance counts them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from k2kernel.query.scan import Pinned, Scan, Values, query

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile
    from k2kernel.query.connection import Database


@dataclass(frozen=True)
class Place:
    """A session of a venue and symbol; None: of all of them."""

    venue: str | None
    symbol: str | None
    session: date


def incomplete(database: Database, pinned: Pinned) -> frozenset[Place]:
    """The places of a snapshot of which rows were rejected.

    A rejected row names no session for sure, so every session is meant in which its source has rows; of one symbol only
    where the source has no other.
    """
    ingests = () if pinned.snapshot_id is None else pinned.lake.provenance(pinned.name, pinned.snapshot_id)
    sources = {source.digest for ingest in ingests for source in ingest.sources if source.rejected}
    return frozenset(place for source in sources for place in _places(database, pinned, source))


def _places(database: Database, pinned: Pinned, source: str) -> Iterable[Place]:
    files = [file for file in pinned.files if _may_hold(file, source)]
    if not all(file.source_min == file.source_max and file.session for file in files):
        return _scanned(database, pinned, files, source)
    symbol, venue = _only(files, "symbol"), _only(files, "venue")
    return [Place(venue, symbol, file.session) for file in files if file.session is not None]


def _may_hold(file: LakeFile, source: str) -> bool:
    return file.source_min is None or file.source_max is None or file.source_min <= source <= file.source_max


def _only(files: Iterable[LakeFile], column: str) -> str | None:
    """The one value that a column has in all files, by statistics."""
    found = {getattr(file, f"{column}_{end}") for file in files for end in ("min", "max")}
    return found.pop() if len(found) == 1 else None


def _scanned(database: Database, pinned: Pinned, files: list[LakeFile], source: str) -> Iterable[Place]:
    """The places of a source whose rows are in files with others."""
    values, scan = Values(), Scan(pinned, files)
    text = (
        f"SELECT DISTINCT venue, symbol, session FROM {scan.of().relation(True, values.bind)} "
        f"WHERE source = {values.bind(source)}"
    )
    rows = database.arrow(query(text, values, scan)).to_pylist()
    single = len({row["symbol"] for row in rows}) == 1
    return [Place(row["venue"], row["symbol"] if single else None, row["session"]) for row in rows]


def condition(places: Iterable[Place], values: Values) -> str:
    """SQL that holds for the rows at places; empty where there are none."""
    sessions: dict[tuple[str | None, str | None], list[date]] = {}
    for place in places:
        sessions.setdefault((place.venue, place.symbol), []).append(place.session)
    terms = []
    for (venue, symbol), days in sorted(sessions.items(), key=str):
        parts = [f"venue = {values.bind(venue)}"] if venue is not None else []
        parts += [f"symbol = {values.bind(symbol)}"] if symbol is not None else []
        terms.append(" AND ".join([*parts, f"list_contains({values.bind(sorted(set(days)))}, session)"]))
    return " OR ".join(f"({term})" for term in terms)
