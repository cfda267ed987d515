"""`BarEngine`: statements of bars, planned over the files of a pinned table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from k2kernel.calendars import Venue
from k2kernel.calendars import venue as declared_venue
from k2kernel.eligibility import Policy, policy
from k2kernel.errors import InvalidParameter
from k2kernel.query.bars import Bars
from k2kernel.query.buckets import buckets, session_start
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Query, literal
from k2kernel.query.counting import EVERY_QUOTE, counting
from k2kernel.query.incomplete import condition
from k2kernel.query.intervals import Interval
from k2kernel.query.order import event_key
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Selection
from k2kernel.query.within import span_us, venue_codes
from k2kernel.times import Range, Sessions

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path


@dataclass(frozen=True)
class BarSpec:
    """What bars are asked for: see `QueryEngine.bars`; `by_close` orders them by their ends."""

    interval: Interval
    of: str
    columns: tuple[str, ...]
    eligible: str = "venue"
    align: str = "session"
    fill: str | None = None
    by_close: bool = False


@dataclass(frozen=True)
class Plan:
    """A statement under way: what it is made from, the rows it reads, and the zone to show it in."""

    bars: Bars
    scan: Scan
    conditions: list[str]
    values: Values
    zone: str | None

    def query(self) -> Query:
        """The bars."""
        text = self.bars.sql(self.scan, self.conditions, self.values)
        return replace(query(text, self.values, self.scan), few=True)

    def states(self) -> Query:
        """The states of the bars."""
        return query(self.bars.states(self.scan, self.conditions, self.values), self.values, self.scan)


class BarEngine:
    """Plans statements of bars."""

    def __init__(self, home: Path, catalogue: Catalogue) -> None:
        self._home, self._catalogue = home, catalogue

    def plan(self, pinned: Pinned, selection: Selection, spec: BarSpec) -> Plan:
        """The statement of bars of a selection."""
        values, whole = Values(), self._whole(pinned, selection, spec.interval)
        scan = whole.scan(pinned)
        codes = venue_codes(whole, scan, self._catalogue)
        declared = [declared_venue(code, self._home) for code in codes]
        found = buckets(spec.interval, declared, span_us(scan), spec.align)
        if spec.fill is not None and not found.by_session:
            raise InvalidParameter("fill", spec.fill, "fits no bars that cross sessions", "Use align='session'")
        bounds = self._catalogue.bounds(scan.files)
        low, high = self._limits(pinned, selection, declared)
        places = self._catalogue.incomplete(pinned)
        bars = Bars(
            spec.of,
            spec.interval,
            found,
            event_key(scan.files, bounds, found.by_session),
            counting(self.policies(codes, spec.eligible), values) if spec.of == "trades" else EVERY_QUOTE,
            spec.columns,
            low,
            high,
            condition(places, values),
            "" if whole is selection else " AND ".join(_instants(selection).conditions(values)),
            spec.fill,
            1 if all(bound.whole_us for bound in bounds) else 1_000,
            spec.by_close,
            spec.of == "trades" and all(file.price_never_null for file in scan.files),
        )
        zones = {venue.zone for venue in declared}
        return Plan(bars, scan, whole.conditions(values), values, zones.pop() if len(zones) == 1 else None)

    def policies(self, codes: Iterable[str], eligible: str) -> dict[str, Policy]:
        """The policy of each of the venues `codes` by the word `eligible`."""
        return {code: policy(code, eligible, self._home) for code in codes} or {"": policy("", eligible, self._home)}

    @staticmethod
    def _whole(pinned: Pinned, selection: Selection, interval: Interval) -> Selection:
        """The selection of the whole sessions in which the range lies, where bars are numbered from their start."""
        if not interval.is_threshold or _instants(selection).range == Range():
            return selection
        days = [file.session for file in selection.scan(pinned).files]
        known = sorted(day for day in days if day is not None)
        around = Sessions(known[0], known[-1]) if known and len(known) == len(days) else None
        first, last = selection.session_bounds() or (None, None)
        if around is not None:
            around = Sessions(max(around.first, first or around.first), min(around.last, last or around.last))
        elif first is not None and last is not None:
            around = Sessions(first, last)
        return replace(selection, range=Range(around))

    def _limits(self, pinned: Pinned, selection: Selection, venues: Iterable[Venue]) -> tuple[str, str]:
        """In SQL, of a bar's venue, the µs before which bars are cut by the range, and after which by the range or
        because nothing later has come.
        """
        lasts = self._catalogue.lasts(pinned)
        pairs = {venue.code: _cut(selection, venue, lasts.get(venue.code)) for venue in venues}
        low, high = (
            {code: str(pair[at] if pair[at] is not None else "NULL") for code, pair in pairs.items()} for at in (0, 1)
        )
        return _case(low), _case(high)


def _case(texts: dict[str, str]) -> str:
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "NULL")
    return f"CASE venue {' '.join(f'WHEN {literal(code)} THEN {text}' for code, text in texts.items())} END"


def _cut(selection: Selection, venue: Venue, last_us: int | None) -> tuple[int | None, int | None]:
    """The µs between which nothing cuts the bars of a venue, rounded so that whole bars are compared rightly."""
    start, end = selection.range.start, selection.range.end
    days = selection.session_bounds()
    lows = [-(-start // 1_000)] if isinstance(start, int) else []
    highs = [end // 1_000] if isinstance(end, int) else []
    if days is not None:
        lows += _edge(venue, days[0], 0)
        highs += _edge(venue, days[1], 1)
    highs += [] if last_us is None else [last_us]
    return max(lows, default=None), min(highs, default=None)


def _edge(venue: Venue, day: date, days: int) -> list[int]:
    """The µs at which a session starts, so many days later; nothing for the ends of the calendar."""
    return [] if day in (day.min, day.max) else [session_start(venue, day + days * day.resolution)]


def _instants(selection: Selection) -> Selection:
    """What a selection says about instants."""
    start, end = (at if isinstance(at, int) else None for at in (selection.range.start, selection.range.end))
    return Selection(Range(None, start, end))
