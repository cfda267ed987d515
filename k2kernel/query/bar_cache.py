"""Kept bars: states of bars of trades in an Iceberg table, brought up to date session by session."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, K2Error, UnknownReference
from k2kernel.query.bar_engine import BarEngine, BarSpec, Plan
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Database, Query
from k2kernel.query.intervals import UNITS, Interval, parse_interval
from k2kernel.query.scan import Pinned, Scan, query
from k2kernel.query.selection import Selection
from k2kernel.query.within import venue_codes
from k2kernel.schemas import BARS
from k2kernel.times import Range, Sessions

if TYPE_CHECKING:
    from k2kernel.eligibility import Policy
    from k2kernel.lake import FileSet, Lake

_QUARTER = 15 * UNITS["m"]
_SNAPSHOT, _POLICIES = "k2.bars.snapshot", "k2.bars.policies"
_STORED = {
    "ts_open": "make_timestamptz(k2_bucket)",
    "priced_volume": "k2_priced",
    "first_ns": "k2_first",
    "last_ns": "k2_last",
    "weighted": "k2_weighted",
    "from_ns": "k2_from",
    "to_ns": "k2_to",
}
"""Columns of the table that a state calls otherwise."""


@dataclass(frozen=True)
class Materialised:
    """What was kept: the `table`, its `snapshot_id`, the snapshot of trades that it is `of`, how many `bars` it has,
    and which `sessions` were computed for that.
    """

    table: str
    snapshot_id: int
    of: int
    bars: int
    sessions: tuple[date, ...]


class BarCache:
    """Writes kept bars, and reads them where they are of the snapshot and the policies that are asked for."""

    def __init__(self, lake: Lake, database: Database, catalogue: Catalogue, engine: BarEngine) -> None:
        self._lake, self._database, self._catalogue, self._engine = lake, database, catalogue, engine

    def materialise(self, pinned: Pinned, text: str, eligible: str) -> Materialised:
        """Bring the table of an interval and a policy up to a snapshot of trades; see `QueryEngine`."""
        interval = _interval(text, "interval")
        if pinned.snapshot_id is None:
            raise InvalidParameter("interval", text, "has no trades to keep bars of", "Ingest some first")
        name = _table(interval, eligible)
        self._lake.make(name)
        policies = self._policies(pinned, eligible)
        notes = {_SNAPSHOT: str(pinned.snapshot_id), _POLICIES: json.dumps(policies, sort_keys=True)}
        base = self._lake.files(name, self._lake.head(name))
        stale = self._stale(name, base, pinned, policies)
        spec = BarSpec(interval, "trades", ("twap", "first", "last"), eligible)
        if stale or self._noted(name).get(_SNAPSHOT) != notes[_SNAPSHOT]:
            files: list[str] = []
            with self._discarded(files):
                for day in stale:
                    files += self._written(name, pinned, day, spec)
                base = self._lake.files(name, self._lake.rebuild(name, base, stale, files, notes))
        assert base.snapshot_id is not None  # noqa: S101 - it was just written, or is current
        return Materialised(name, base.snapshot_id, pinned.snapshot_id, base.rows, tuple(stale))

    @contextmanager
    def _discarded(self, files: list[str]) -> Iterator[None]:
        """Delete `files` where they are not committed."""
        try:
            yield
        except K2Error:
            self._lake.discard(files)
            raise

    def _noted(self, name: str) -> Mapping[str, str]:
        notes = self._lake.notes(name)
        return notes[0][1] if notes else {}

    def _stale(self, name: str, base: FileSet, pinned: Pinned, policies: Mapping[str, str]) -> list[date]:
        """The sessions to compute: those whose files are others than in the snapshot that is kept."""
        noted = self._noted(name)
        now, kept = set(pinned.files), json.loads(noted.get(_POLICIES, "{}"))
        try:
            before = set(self._lake.files("trades", int(noted[_SNAPSHOT])))
        except (KeyError, UnknownReference):
            before, kept = set(), {}
        if not all(kept.get(venue, digest) == digest for venue, digest in policies.items()) or not kept:
            before = set()
        changed = now ^ before if before else {*now, *base}
        return sorted({file.session for file in changed if file.session is not None})

    def _written(self, name: str, pinned: Pinned, day: date, spec: BarSpec) -> Iterable[str]:
        """A data file with the states of one session, if it has trades that count."""
        import polars as pl

        part = pinned.only(file for file in pinned.files if file.session == day)
        if not part.files:
            return []
        plan = self._engine.plan(part, Selection(Range(Sessions(day, day))), spec)
        bars = replace(plan.bars, per_us=1_000, incomplete="", priced=False)
        columns = ", ".join(f"{_STORED.get(each, each)} AS {each}" for each in BARS.names)
        states = bars.states(plan.scan, plan.conditions, plan.values)
        found = self._database.arrow(query(f"SELECT {columns} FROM ({states})", plan.values, plan.scan))
        return [self._lake.write(name, pl.DataFrame(found), day).path] if found.num_rows else []

    def _policies(self, pinned: Pinned, eligible: str) -> dict[str, str]:
        """The digest of the policy of each venue."""
        codes = venue_codes(Selection(Range()), Scan(pinned, pinned.files.files), self._catalogue)
        found = self._engine.policies(codes, eligible)
        return {venue: _digest(policy) for venue, policy in found.items()}

    def query(self, plan: Plan, pinned: Pinned, selection: Selection, spec: BarSpec, cached: str) -> Query:
        """The bars of a plan from kept ones; InvalidParameter where they are not exactly those."""
        finer = _interval(cached, "cached")
        _check_fits(finer, pinned, selection, spec, cached)
        name = _table(finer, spec.eligible)
        policies = self._policies(pinned, spec.eligible)
        kept = Pinned(self._lake, name, self._current(name, pinned, policies, cached))
        scan = selection.scan(kept)
        named = {state: column for column, state in _STORED.items() if column != "ts_open"}
        columns = ", ".join(f"{column} AS {state}" for state, column in named.items())
        conditions = selection.conditions(plan.values)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = f"SELECT *, ts_open AS ts_event FROM {scan.relation(True, plan.values.bind)}"
        states = f"SELECT * EXCLUDE ts_event, epoch_us(ts_open) AS k2_bucket, {columns} FROM ({rows}){where}"
        bars = replace(plan.bars, per_us=1_000, priced=False)
        return query(bars.shown(bars.merged(states)), plan.values, scan)

    def _current(self, name: str, pinned: Pinned, policies: Mapping[str, str], cached: str) -> int:
        """The snapshot of a table of bars that is of a snapshot of trades and of the policies of now."""
        for snapshot_id, notes in self._lake.notes(name):
            same = notes.get(_SNAPSHOT) == str(pinned.snapshot_id)
            if same and json.loads(notes[_POLICIES]) == policies:
                return snapshot_id
        problem = f"keeps no bars of snapshot {pinned.snapshot_id} by this policy"
        raise InvalidParameter("cached", cached, problem, f"Run materialise_bars({cached!r}, …), or leave cached out")


def _interval(text: str, parameter: str) -> Interval:
    interval = parse_interval(text)
    if interval.us is None or _QUARTER % interval.us:
        raise InvalidParameter(parameter, text, "is no time that divides 15 minutes", "Keep bars of 1m, say")
    return interval


def _table(interval: Interval, eligible: str) -> str:
    return f"{BARS.name}{interval.text}" + ("" if eligible == "venue" else f"_{eligible}")


def _digest(policy: Policy) -> str:
    rules = sorted(f"{rule.code} {sorted(rule.excluded)} {rule.start} {rule.until}" for rule in policy.rules)
    return hashlib.sha256(json.dumps([policy.name, rules]).encode()).hexdigest()


def _check_fits(finer: Interval, pinned: Pinned, selection: Selection, spec: BarSpec, cached: str) -> None:
    """InvalidParameter where bars or the range cut kept ones."""
    assert finer.us is not None  # noqa: S101 - it divides 15 minutes
    instants = [at for at in (selection.range.start, selection.range.end) if isinstance(at, int)]
    problem = ""
    if spec.of != "trades" or pinned.known is not None or selection.hours is not None:
        problem = "is of all trades as the table has them"
    elif spec.interval.is_threshold or (spec.interval.us or 0) % finer.us:
        problem = f"makes no bars of {spec.interval.text}"
    elif any(at % (finer.us * 1_000) for at in instants):
        problem = "is cut by start or end"
    if problem:
        raise InvalidParameter("cached", cached, problem, "Leave cached out")
