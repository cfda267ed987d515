"""What a snapshot holds: (venue, symbol, session) with rows and times, from one scan of four columns per snapshot."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from k2kernel.errors import AmbiguousSymbol, UnknownSymbol, listed
from k2kernel.query.connection import Database, Query
from k2kernel.query.incomplete import Place, incomplete
from k2kernel.query.order import Bounds
from k2kernel.query.scan import Pinned, Scan, Values, local_path, query
from k2kernel.times import to_ns

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.lake import LakeFile

T = TypeVar("T")

_KEPT = 32
"""Snapshots whose catalogue is kept."""

_KEPT_LOOKUPS = 50_000
"""Symbol look-ups and file footers that are kept."""


class _Recent:
    """The last `most` answers, by key. Two threads that ask for the same thing at once may both compute it."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[object, object] = OrderedDict()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The kept answer, or a new one."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]
        made = make()
        self.put(key, made)
        return made

    def put(self, key: object, value: object) -> None:
        """Keep an answer, and forget the oldest one where there are too many."""
        with self._lock:
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def __contains__(self, key: object) -> bool:
        return key in self._kept


class Catalogue:
    """Answers about snapshots, kept in memory: a snapshot never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries = _Recent(_KEPT)
        self._rows = _Recent(_KEPT_LOOKUPS)
        self._venues = _Recent(_KEPT_LOOKUPS)
        self._bounds = _Recent(_KEPT_LOOKUPS)
        self._lasts, self._incomplete = _Recent(_KEPT), _Recent(_KEPT)

    def entries(self, pinned: Pinned) -> pa.Table:
        """venue, symbol, session, rows (as received), first and last ts_event, one row for each (venue, symbol,
        session). The first call for a snapshot scans it.
        """
        return self._entries.get((pinned.name, pinned.snapshot_id, pinned.known), lambda: self._scan(pinned))

    def _scan(self, pinned: Pinned) -> pa.Table:
        values = Values()
        scan = Scan(pinned, pinned.files.files)
        text = (
            "SELECT venue, symbol, session, count(*) AS rows, min(ts_event) AS first, max(ts_event) AS last "
            f"FROM {scan.of().relation(True, values.bind)} GROUP BY ALL"
        )
        return self._database.arrow(query(text, values, scan))

    def rows(self, pinned: Pinned) -> int:
        """The rows of a snapshot: by the manifests, or counted where rows were deleted."""
        if pinned.known is None and not any(file.has_deletes for file in pinned.files):
            return pinned.files.rows
        return self._rows.get((pinned.name, pinned.snapshot_id, pinned.known), lambda: self._count(pinned))

    def _count(self, pinned: Pinned) -> int:
        values, scan = Values(), Scan(pinned, pinned.files.files)
        text = f"SELECT count(*) AS n FROM {scan.of().relation(True, values.bind)}"
        return int(self._database.arrow(query(text, values, scan))["n"][0].as_py())

    def lasts(self, pinned: Pinned) -> dict[str, int]:
        """The last event of each venue in µs since 1970; by statistics where they prove it."""
        key = (pinned.name, pinned.snapshot_id, pinned.known)
        return self._lasts.get(key, lambda: self._find_lasts(pinned.whole))

    def _find_lasts(self, pinned: Pinned) -> dict[str, int]:
        files = pinned.files.files
        found: dict[str, int] = {}
        if pinned.known is None and all(_bounded(file) for file in files):
            for file in files:
                found[str(file.venue)] = max(found.get(str(file.venue), 0), file.ts_event_max or 0)
            return found
        for row in self.entries(pinned).select(["venue", "last"]).to_pylist():
            found[row["venue"]] = max(found.get(row["venue"], 0), to_ns(row["last"]) // 1_000)
        return found

    def incomplete(self, pinned: Pinned) -> frozenset[Place]:
        """The sessions of a snapshot of which rows were rejected."""
        key = (pinned.name, pinned.snapshot_id)
        return self._incomplete.get(key, lambda: incomplete(self._database, pinned.whole))

    def venues(self, pinned: Pinned, symbol: str) -> tuple[str, ...]:
        """The venues where `symbol` has rows, sorted; by statistics alone where they prove it."""
        key = (pinned.name, pinned.snapshot_id, pinned.known)
        return self._venues.get((*key, symbol), lambda: self._look_up(pinned, symbol))

    def _look_up(self, pinned: Pinned, symbol: str) -> tuple[str, ...]:
        if (pinned.name, pinned.snapshot_id, pinned.known) in self._entries:
            return _distinct_venues(self.entries(pinned), symbol)
        files = pinned.files.prune(symbols=[symbol])
        proven = {file.venue for file in files if _proves(file, symbol)}
        if all(file.venue in proven for file in files):
            return tuple(sorted(map(str, proven)))
        values, scan = Values(), Scan(pinned, files)
        rows = scan.of().relation(True, values.bind)
        text = f"SELECT DISTINCT venue FROM {rows} WHERE symbol = {values.bind(symbol)}"
        return tuple(sorted(self._database.arrow(query(text, values, scan))["venue"].to_pylist()))

    def venue(self, pinned: Pinned, symbol: str, venue: str | None, elsewhere: Callable[[], Sequence[Pinned]]) -> str:
        """The one venue that `symbol` stands for in a table, or in the other ones where this one does not have it.

        AmbiguousSymbol where there are several and `venue` is None; UnknownSymbol, with near ones, where there is none.
        """
        found = self._one_venue(pinned, symbol, venue)
        others = () if found else elsewhere()
        for other in others:
            found = found or self._one_venue(other, symbol, venue)
        if found is None:
            raise self._unknown([pinned, *others], symbol, venue)
        return found

    def _unknown(self, tables: Sequence[Pinned], symbol: str, venue: str | None) -> UnknownSymbol:
        """The error that says which venues have the symbol, or what is spelled like it."""
        where = "the lake" if venue is None else f"the venue {venue}"
        known = {code for table in tables for code in self.venues(table, symbol)}
        if known:
            return UnknownSymbol(symbol, (), f"{where}, but on {listed(sorted(known))}")
        return UnknownSymbol(symbol, self._near(tables, symbol), where)

    def _one_venue(self, pinned: Pinned, symbol: str, venue: str | None) -> str | None:
        found = self.venues(pinned, symbol)
        if venue is not None:
            return venue if venue in found else None
        if len(found) > 1:
            raise AmbiguousSymbol(symbol, found)
        return found[0] if found else None

    def _near(self, pinned: Sequence[Pinned], symbol: str) -> list[str]:
        names = {name for table in pinned for name in self.entries(table)["symbol"].unique().to_pylist()}
        by_upper = {name.upper(): name for name in sorted(names)}
        return [by_upper[name] for name in get_close_matches(symbol.upper(), by_upper, n=5, cutoff=0.6)]

    def bounds(self, files: Sequence[LakeFile]) -> list[Bounds]:
        """What the footers of `files` say about their order columns; each footer is read once."""
        paths = [local_path(file.path) for file in files]
        missing = [path for path in paths if path not in self._bounds]
        if missing:
            for path, bound in _footers(self._database, missing).items():
                self._bounds.put(path, bound)
        return [self._bounds.get(path, Bounds) for path in paths]


def _distinct_venues(entries: pa.Table, symbol: str) -> tuple[str, ...]:
    import pyarrow.compute as pc

    found = entries.filter(pc.equal(entries["symbol"], symbol))
    return tuple(sorted(pc.unique(found["venue"]).to_pylist()))


def _proves(file: LakeFile, symbol: str) -> bool:
    """True where statistics prove that the file has rows of `symbol`, all on one venue."""
    return not file.has_deletes and file.venue is not None and symbol in (file.symbol_min, file.symbol_max)


def _bounded(file: LakeFile) -> bool:
    """True where statistics tell the last event of the one venue that the file has rows of."""
    return not file.has_deletes and file.venue is not None and file.ts_event_max is not None


def _footers(database: Database, paths: list[str]) -> dict[str, Bounds]:
    low, high = (f"{end}(try_cast(stats_{end}_value AS HUGEINT))" for end in ("min", "max"))
    text = (
        "SELECT file_name AS path, path_in_schema AS name, "
        f"CASE WHEN count(stats_min_value) = count(*) THEN {low} END::VARCHAR AS low, "
        f"CASE WHEN count(stats_max_value) = count(*) THEN {high} END::VARCHAR AS high, "
        "coalesce(sum(stats_null_count) = sum(num_values), false) AS empty FROM parquet_metadata($paths) "
        "WHERE path_in_schema IN ('sequence', 'source_offset', 'ts_event_ns') GROUP BY ALL"
    )
    found: dict[str, dict[str, tuple[str, str, bool]]] = {}
    for path, name, *facts in database.rows(Query(text, {"paths": paths})):
        found.setdefault(path, {})[name] = tuple(facts)
    return {path: _bounds(found.get(path, {})) for path in paths}


def _bounds(columns: dict[str, tuple[str, str, bool]]) -> Bounds:
    def pair(name: str) -> tuple[int, int] | None:
        low, high, _ = columns.get(name, (None, None, False))
        return None if low is None or high is None else (int(low), int(high))

    empty = "ts_event_ns" not in columns or columns["ts_event_ns"][2]
    return Bounds(pair("sequence"), pair("source_offset"), empty)
