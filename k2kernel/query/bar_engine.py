"""`BarEngine`: statements of bars, planned over the files of a pinned table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from k2kernel.calendars import Venue, session_of, trading
from k2kernel.calendars import venue as declared_venue
from k2kernel.eligibility import Policy, policy
from k2kernel.errors import InvalidParameter
from k2kernel.query.bars import Bars
from k2kernel.query.buckets import buckets, session_start
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.connection import Query, literal
from k2kernel.query.counting import EVERY_QUOTE, counting
from k2kernel.query.hours import REGULAR
from k2kernel.query.incomplete import condition
from k2kernel.query.intervals import Interval
from k2kernel.query.order import event_key
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Selection
from k2kernel.query.within import span_us, venue_codes
from k2kernel.times import Range, Sessions, midnight_us

if TYPE_CHECKING:
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
        places = self._catalogue.incomplete(pinned)
        bars = Bars(
            spec.of,
            spec.interval,
            found,
            event_key(scan.files, bounds, found.by_session),
            counting(self.policies(codes, spec.eligible), values) if spec.of == "trades" else EVERY_QUOTE,
            spec.columns,
            "false" if spec.interval.is_threshold else self._partial(pinned, selection, declared, found.by_session),
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

    def _partial(self, pinned: Pinned, selection: Selection, venues: Iterable[Venue], by_session: bool) -> str:
        """In SQL, true for bars that the range cuts, or to which more may come: see `BarReads.bars`."""
        lasts = self._catalogue.lasts(pinned)
        texts = {}
        for venue in venues:
            low, high = _range_us(selection, venue)
            cuts = [] if low is None else [f"k2_open < {low}"]
            cuts += [] if high is None else [f"k2_end > {high}"]
            last = lasts.get(venue.code)
            if last is not None and (high is None or last < high):
                close = _closed(venue, last, selection) if by_session else None
                cuts.append(f"k2_end > {last}" + ("" if close is None else f" AND k2_open >= {close}"))
            texts[venue.code] = " OR ".join(cuts) or "false"
        if len(set(texts.values())) <= 1:
            return f"({next(iter(texts.values()), 'false')})"
        cases = " ".join(f"WHEN {literal(code)} THEN {text}" for code, text in texts.items())
        return f"(CASE venue {cases} ELSE false END)"


def _range_us(selection: Selection, venue: Venue) -> tuple[int | None, int | None]:
    """The µs between which the range does not cut bars of a venue, rounded so that whole bars are compared rightly."""
    start, end = selection.range.start, selection.range.end
    days = selection.session_bounds()
    lows = [-(-start // 1_000)] if isinstance(start, int) else []
    highs = [end // 1_000] if isinstance(end, int) else []
    if days is not None:
        lows += _edge(venue, days[0], 0)
        highs += _edge(venue, days[1], 1)
    return max(lows, default=None), min(highs, default=None)


def _closed(venue: Venue, last_us: int, selection: Selection) -> int | None:
    """The µs at which trading of the session of a venue's last event was over, auctions too where they are asked for;
    None where it was not, or nobody knows.
    """
    day = session_of(venue, last_us * 1_000)
    auctions = selection.hours is None or selection.hours.word != REGULAR
    spans = trading(venue, [day], auctions=auctions).get(day)
    close = None if spans is None else midnight_us(day) + spans[-1][1]
    return close if close is not None and close <= last_us else None


def _edge(venue: Venue, day: date, days: int) -> list[int]:
    """The µs at which a session starts, so many days later; nothing for the ends of the calendar."""
    return [] if day in (day.min, day.max) else [session_start(venue, day + days * day.resolution)]


def _instants(selection: Selection) -> Selection:
    """What a selection says about instants."""
    start, end = (at if isinstance(at, int) else None for at in (selection.range.start, selection.range.end))
    return Selection(Range(None, start, end))
