"""`Diff`: what two states of a table have that differs, found in the files that only one of them has.

A row is the same one where (source, source_offset) is the same, wherever its file is; it has changed where any other
column but `ts_ingest` has. So a compaction makes no difference, and neither does loading the same rows again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from k2kernel.cached import cached_property
from k2kernel.errors import InvalidParameter, counted
from k2kernel.query.connection import Database, Query, identifier
from k2kernel.query.intervals import Interval, parse_interval
from k2kernel.query.order import TOTAL_ORDER
from k2kernel.query.result import Result
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Instrument, Selection
from k2kernel.schemas import KINDS, TABLES
from k2kernel.times import Range, Sessions

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.lake import LakeFile

BarsOf = Callable[[Pinned, Selection, Interval, str, str], Query]
"""The statement of bars of a selection of a pinned table, by an interval, what they are of, and a policy."""

_IDENTITY = ("source", "source_offset")
_WHERE = ("symbol", "venue", "session")
_BAR_KEY = ("symbol", "venue", "session", "ts_open")
_BAR_VALUES = ("open", "high", "low", "close", "volume", "vwap", "n_trades")
_BARS_SHOWN = 10
_TOUCHED, _BARS_A, _BARS_B = "k2_touched", "k2_bars_a", "k2_bars_b"


@dataclass(frozen=True)
class DiffSummary:
    """How many rows of `table` are `added` at snapshot `b_id`, `removed` since `a_id`, or `changed`.

    They are of so many `symbols` and `sessions`. `files_compared` were read, `files_shared` are in both states and were
    not.
    """

    table: str
    a_id: int | None
    b_id: int | None
    added: int
    removed: int
    changed: int
    symbols: int
    sessions: int
    files_compared: int
    files_shared: int

    def __str__(self) -> str:
        rows = f"{counted(self.added, 'row')} added, {self.removed:,} removed, {self.changed:,} changed"
        files = f"{counted(self.files_compared, 'file')} compared, {self.files_shared:,} in both"
        where = f" in {counted(self.symbols, 'symbol')} and {counted(self.sessions, 'session')}" if self.symbols else ""
        return f"{self.table} from {self.a_id} to {self.b_id}: {rows}{where} ({files})"


class Diff:
    """What is in one state of a table and not so in another. Nothing is read before it is asked for.

    Rows are those received (of trades also cancels, and the fills they undo); bars are of what stands.
    """

    def __init__(self, database: Database, before: Pinned, after: Pinned, bars: BarsOf) -> None:
        if not all(column in TABLES[before.name] for column in _IDENTITY):
            raise InvalidParameter(
                "table", before.name, "has no row identity", "Compare a table that has source_offset"
            )
        self._database, self._bars = database, bars
        shared = set(before.files) & set(after.files)
        self._shared = len(shared)
        self.table = before.name
        self.a, self.b = _without(before, shared), _without(after, shared)
        self._of = before, after

    @property
    def _snapshots(self) -> dict[str, int | None]:
        return {f"{self.table} {side}": pinned.snapshot_id for side, pinned in (("a", self.a), ("b", self.b))}

    @cached_property
    def summary(self) -> DiffSummary:
        """The counts; the first call compares the rows."""
        counts = self._touched.select(["added", "removed", "k2_changed"]).to_pydict()
        names = [name for name in _WHERE if name in self._touched.column_names]
        places = self._touched.select(names).to_pylist()
        return DiffSummary(
            self.table,
            self.a.snapshot_id,
            self.b.snapshot_id,
            added=sum(counts["added"]),
            removed=sum(counts["removed"]),
            changed=sum(counts["k2_changed"]),
            symbols=len({(place["symbol"], place["venue"]) for place in places}) if "symbol" in names else 0,
            sessions=len({place["session"] for place in places}) if "session" in names else 0,
            files_compared=len(self.a.files) + len(self.b.files),
            files_shared=self._shared,
        )

    def rows(self) -> Result:
        """The rows that differ: change (added, removed or changed), version (a or b: a changed row is there in both),
        changed_columns (of a changed row), and the columns of the table; in the total order, a before b.
        """
        names = [field.name for field in self.b.fields]
        order = TOTAL_ORDER if self.table in KINDS else _IDENTITY
        values = Values()
        text = f"{self._versions(names, values)} ORDER BY {', '.join(order)}, version"
        columns = ["change", "version", "changed_columns", *names]
        text = f"SELECT {', '.join(map(identifier, columns))} FROM ({text})"
        return Result(self._database, query(text, values, *self._scans), self._snapshots, columns)

    def symbols(self) -> Result:
        """The instruments that differ: symbol, venue, added, removed, changed (rows), and where the table has them
        sessions, first and last (ts_event, UTC, of the rows that differ).
        """
        self._require("symbol")
        counts = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("added", "removed", "changed"))
        times = ", count(DISTINCT session) AS sessions, min(first) AS first, max(last) AS last"
        times = times if self.table in KINDS else ""
        text = f"SELECT symbol, venue, {counts}{times} FROM {_TOUCHED} GROUP BY symbol, venue ORDER BY symbol, venue"
        return Result(self._database, Query(text, frames={_TOUCHED: lambda: self._touched}), self._snapshots)

    def bars(self, interval: str = "1m", *, of: str | None = None, eligible: str = "venue") -> Result:
        """The bars that differ, of trades or (of the table quotes) of mid, unless `of` says otherwise.

        Columns: symbol, venue, session, ts_open, change (added, removed or changed), and of each of open, high, low,
        close, volume, vwap, n_trades the value at a (`open_a`), at b (`open_b`) and b less a (`open_change`).
        """
        if self.table not in KINDS:
            raise InvalidParameter("table", self.table, "has no bars", "Compare trades or quotes")
        parsed = parse_interval(interval)
        if not parsed.within_session or parsed.is_threshold:
            raise InvalidParameter(
                "interval", interval, "is more than a session, or an amount", "Compare bars of a time"
            )
        of = of or ("trades" if self.table == "trades" else "mid")
        if (of == "trades") != (self.table == "trades"):
            raise InvalidParameter("of", of, f"is not in {self.table}", "Bars of quotes are of bid, ask or mid")
        sides = zip((_BARS_A, _BARS_B), self._of, strict=True)
        frames = {name: partial(self._bars_at, pinned, parsed, of, eligible) for name, pinned in sides}
        return Result(
            self._database, Query(_bars_that_differ(), frames={**frames, _TOUCHED: self._places}), self._snapshots
        )

    def _require(self, column: str) -> None:
        if column not in TABLES[self.table]:
            raise InvalidParameter("table", self.table, f"has no {column}", "Use rows or summary")

    def _bars_at(self, pinned: Pinned, interval: Interval, of: str, eligible: str) -> pa.Table:
        """The bars of the instruments and sessions that differ, at one state."""
        places = self._places().to_pylist()
        sessions = {place["session"] for place in places}
        instruments = sorted({(place["symbol"], place["venue"]) for place in places})
        first, last = min(sessions, default=date.min), max(sessions, default=date.min)
        selection = Selection(Range(Sessions(first, last)), tuple(Instrument(*key) for key in instruments))
        files = [file for file in pinned.files if file.session is None or file.session in sessions]
        found = self._database.arrow(self._bars(pinned.only(files), selection, interval, of, eligible))
        return found.select([*_BAR_KEY, *_BAR_VALUES])

    def _places(self) -> pa.Table:
        return self._touched.select(list(_WHERE))

    @cached_property
    def _touched(self) -> pa.Table:
        """Of each instrument and session how many rows differ, and from when to when."""
        known = TABLES[self.table]
        places = [name for name in _WHERE if name in known]
        names = [name for name in (*places, "ts_event") if name in known]
        counts = [f"count(*) FILTER (WHERE change = '{change}') AS {change}" for change in ("added", "removed")]
        changed = "count(*) FILTER (WHERE change = 'changed' AND (version = 'b'"
        counts += [f"{changed} OR k2_moved)) AS changed", f"{changed})) AS k2_changed"]
        counts += ["min(ts_event) AS first, max(ts_event) AS last"] if "ts_event" in names else []
        values = Values()
        text = f"SELECT {', '.join([*places, *counts])} FROM ({self._versions(names, values)}) GROUP BY ALL"
        return self._database.arrow(query(text, values, *self._scans))

    @cached_property
    def _scans(self) -> tuple[Scan, Scan]:
        return Scan(self.a, self.a.files.files), Scan(self.b, self.b.files.files)

    def _versions(self, names: Sequence[str], values: Values) -> str:
        """The rows that differ, of both states: change, version, changed_columns, k2_moved and the columns `names`."""
        common = "change, changed_columns, k2_moved"
        sides = (("a", "added"), ("b", "removed"))
        columns = {side: _renamed(side, names) for side, _ in sides}
        parts = (
            f"SELECT '{side}' AS version, {common}, {columns[side]} FROM k2_pairs WHERE change <> '{absent}'"
            for side, absent in sides
        )
        return f"WITH k2_pairs AS ({self._pairs(names, values)}) {' UNION ALL '.join(parts)}"

    def _pairs(self, names: Sequence[str], values: Values) -> str:
        """One row for each row identity that differs, with the columns `names` of both sides."""
        same = {*_IDENTITY, "ts_ingest"}
        compared = [identifier(field.name) for field in self.b.fields if field.name not in same]
        unequal = {name: f"k2_a.{name} IS DISTINCT FROM k2_b.{name}" for name in compared}
        changes = ", ".join(f"CASE WHEN {test} THEN '{name[1:-1]}' END" for name, test in unequal.items())
        moved = " OR ".join(
            f"k2_a.{name} IS DISTINCT FROM k2_b.{name}" for name in _WHERE if name in TABLES[self.table]
        )
        a, b = (scan.relation(True, values.bind) for scan in self._scans)
        outputs = ", ".join(
            f"k2_{side}.{identifier(name)} AS {identifier(f'{side}_{name}')}" for name in names for side in "ab"
        )
        alone = "k2_a.source IS NULL OR k2_b.source IS NULL"
        return (
            "SELECT CASE WHEN k2_a.source IS NULL THEN 'added' WHEN k2_b.source IS NULL THEN 'removed' "
            f"ELSE 'changed' END AS change, {moved or 'false'} AS k2_moved, CASE WHEN NOT ({alone}) "
            f"THEN list_filter([{changes}], lambda name: name IS NOT NULL) END AS changed_columns, {outputs} "
            f"FROM {a} k2_a FULL JOIN {b} k2_b ON k2_a.source = k2_b.source "
            f"AND k2_a.source_offset = k2_b.source_offset WHERE {alone} OR {' OR '.join(unequal.values())}"
        )

    def __str__(self) -> str:
        return str(self.summary)

    def __repr__(self) -> str:
        return f"{self.summary}\n{self.symbols()!r}" if "symbol" in TABLES[self.table] else str(self.summary)

    def _repr_html_(self) -> str:
        heading = f"<p>{escape(str(self.summary))}</p>"
        if "symbol" not in TABLES[self.table]:
            return heading
        if self.table not in KINDS:
            return f"{heading}{self.symbols()._repr_html_()}"
        bars = self.bars().shown(_BARS_SHOWN)
        first = "Bars of 1m that differ" + (f", the first {_BARS_SHOWN}" if bars.more else "")
        return f"{heading}{self.symbols()._repr_html_()}{bars.html(first)}"


def _renamed(side: str, names: Sequence[str]) -> str:
    """The columns of one side of a pair under their own names."""
    return ", ".join(f"{identifier(side + '_' + name)} AS {identifier(name)}" for name in names)


def _without(pinned: Pinned, shared: set[LakeFile]) -> Pinned:
    return pinned.only(file for file in pinned.files if file not in shared)


def _bars_that_differ() -> str:
    columns = ", ".join(
        f"k2_a.{name} AS {name}_a, k2_b.{name} AS {name}_b, {_difference(name)} AS {name}_change"
        for name in _BAR_VALUES
    )
    unequal = " OR ".join(f"k2_a.{name} IS DISTINCT FROM k2_b.{name}" for name in _BAR_VALUES)
    return (
        f"SELECT {', '.join(_BAR_KEY)}, CASE WHEN k2_a.k2_is IS NULL THEN 'added' "
        f"WHEN k2_b.k2_is IS NULL THEN 'removed' ELSE 'changed' END AS change, {columns} "
        f"FROM (SELECT *, true AS k2_is FROM {_BARS_A}) k2_a "
        f"FULL JOIN (SELECT *, true AS k2_is FROM {_BARS_B}) k2_b USING ({', '.join(_BAR_KEY)}) "
        f"SEMI JOIN {_TOUCHED} USING (symbol, venue, session) WHERE {unequal} ORDER BY ts_open, venue, symbol"
    )


def _difference(name: str) -> str:
    """B less a; what is summed counts as nothing where there is no bar."""
    if name in ("volume", "n_trades"):
        return f"coalesce(k2_b.{name}, 0) - coalesce(k2_a.{name}, 0)"
    return f"k2_b.{name} - k2_a.{name}"
