"""What the footers of data files say: where in time their row groups are, and which columns never change.

A column that has one value in a whole file is neither read nor sorted: it is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from k2kernel.query.connection import Database, Query
from k2kernel.query.scan import local_path
from k2kernel.times import from_ns

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile

_TEXTS = ("venue", "exec_venue", "clock", "symbol", "trade_id", "side", "status", "corrects", "extra", "source")
_NULLABLE = ("ts_event_ns", "ts_recv", "ts_recv_ns", "price", "size", "bid_px", "ask_px", "bid_sz", "ask_sz")
_BOUNDED = ("ts_event", "ts_recv", "symbol")

_CONSTANT = """
SELECT file_name AS path, path_in_schema AS name,
    sum(stats_null_count) = sum(num_values) AS empty,
    min(stats_min_value) AS value,
    epoch_us(try_cast(min(stats_min_value) AS TIMESTAMPTZ)) AS us
FROM parquet_metadata($paths) WHERE path_in_schema IN $names GROUP BY ALL
HAVING coalesce(sum(stats_null_count) = sum(num_values), false) OR (count(stats_min_value) = count(*)
    AND count(stats_max_value) = count(*) AND sum(stats_null_count) = 0 AND min(stats_min_value) = max(stats_max_value))
"""
_GROUPS = """
SELECT file_name AS path, row_group_id AS id, any_value(row_group_num_rows) AS rows, path_in_schema AS name,
    any_value(stats_min_value) AS low, any_value(stats_max_value) AS high, any_value(stats_null_count) AS nulls,
    epoch_us(try_cast(any_value(stats_min_value) AS TIMESTAMPTZ)) AS low_us,
    epoch_us(try_cast(any_value(stats_max_value) AS TIMESTAMPTZ)) AS high_us
FROM parquet_metadata($paths) WHERE path_in_schema IN $names GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class RowGroup:
    """Rows of a file: how many, and between which µs (both inclusive) and symbols; None where it is not known.

    `complete` says for each time column whether no row lacks it.
    """

    rows: int
    times: Mapping[str, tuple[int, int] | None]
    symbols: tuple[str, str] | None
    complete: Mapping[str, bool]


@dataclass(frozen=True)
class Footer:
    """The row groups of a file, and the value of each column that has one value only (None: it is null)."""

    groups: tuple[RowGroup, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)

    def span(self, column: str) -> tuple[int, int] | None:
        """µs between which `column` lies in the whole file, both inclusive."""
        spans = [group.times.get(column) for group in self.groups]
        known = [span for span in spans if span is not None]
        if not known or len(known) < len(spans):
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def complete(self, column: str) -> bool:
        """True where statistics prove that no row lacks the time `column`."""
        return bool(self.groups) and all(group.complete.get(column, False) for group in self.groups)


class Footers:
    """Footers by path, each read once: a data file never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Footer] = {}

    def of(self, files: Sequence[LakeFile]) -> list[Footer]:
        """The footers of data files, in their order."""
        paths = [local_path(file.path) for file in files]
        missing = sorted({path for path in paths if path not in self._known})
        if missing:
            self._known |= self._read(missing)
        found = (self._known[path] for path in paths)
        return [_with_session(file, footer) for file, footer in zip(files, found, strict=True)]

    def _read(self, paths: list[str]) -> dict[str, Footer]:
        names = [*_TEXTS, *_NULLABLE, "ts_ingest"]
        constants = self._database.arrow(Query(_CONSTANT, {"paths": paths, "names": names})).to_pylist()
        groups = self._database.arrow(Query(_GROUPS, {"paths": paths, "names": list(_BOUNDED)})).to_pylist()
        return {
            path: Footer(
                _row_groups([row for row in groups if row["path"] == path]),
                dict(pair for row in constants if row["path"] == path for pair in _constant(row)),
            )
            for path in paths
        }


def _with_session(file: LakeFile, footer: Footer) -> Footer:
    session: date | None = file.session
    if session is None:
        return footer
    return Footer(footer.groups, {**footer.constants, "session": session})


def _constant(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    name = row["name"]
    if row["empty"]:
        return [(name, None)]
    if name == "ts_ingest" and row["us"] is not None:
        return [(name, from_ns(row["us"] * 1_000))]
    return [(name, row["value"])] if name in _TEXTS else []


def _row_groups(rows: Sequence[Mapping[str, Any]]) -> tuple[RowGroup, ...]:
    by_group: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_group.setdefault(row["id"], {})[row["name"]] = row
    return tuple(_row_group(columns) for columns in by_group.values())


def _row_group(columns: Mapping[str, Mapping[str, Any]]) -> RowGroup:
    times = {name: row for name, row in columns.items() if name != "symbol"}
    symbol = columns.get("symbol")
    return RowGroup(
        rows=next(iter(columns.values()))["rows"],
        times={name: _pair(row["low_us"], row["high_us"]) for name, row in times.items()},
        symbols=None if symbol is None else _pair(symbol["low"], symbol["high"]),
        complete={name: row["nulls"] == 0 for name, row in times.items()},
    )


def _pair(low: Any, high: Any) -> tuple[Any, Any] | None:
    return None if low is None or high is None else (low, high)
