"""What a read asks for: rows of a pinned table, the venues and sessions that they can be of, and so their hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from k2kernel.calendars import venue as declared_venue
from k2kernel.eligibility import policy
from k2kernel.query.catalogue import Catalogue
from k2kernel.query.hours import ALL, Hours, hours_of
from k2kernel.query.scan import Pinned, Scan
from k2kernel.query.selection import Instrument, Selection
from k2kernel.query.when import When
from k2kernel.times import from_ns

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Wanted:
    """A pinned table, the rows of it that are asked for, and when it was pinned at."""

    pinned: Pinned
    selection: Selection
    when: When

    @property
    def instrument(self) -> Instrument:
        """The one instrument of a summary."""
        assert self.selection.instruments is not None  # noqa: S101 - a summary is of one instrument
        return self.selection.instruments[0]

    @property
    def hours(self) -> str:
        """The hours of trading that are asked for."""
        return ALL if self.selection.hours is None else self.selection.hours.word

    @property
    def within(self) -> dict[str, Any]:
        """What an answer says about its hours."""
        return {"hours": self.hours, "notes": () if self.selection.hours is None else self.selection.hours.notes}


def within(selection: Selection, pins: Sequence[Pinned], word: str, catalogue: Catalogue, home: Path) -> Selection:
    """The selection of rows of pinned tables, limited to the hours `word`."""
    if word == ALL:
        return selection
    scans = [replace(selection, hours=None).scan(pinned) for pinned in pins]
    codes = sorted({code for scan in scans for code in venue_codes(selection, scan, catalogue)})
    sessions = {day for scan in scans for day in sessions_of(scan)}
    return replace(selection, hours=hours_at(word, codes, sessions, home))


def hours_at(word: str, codes: Sequence[str], sessions: Iterable[date], home: Path) -> Hours:
    """The hours `word` of the venues `codes` in `sessions`."""
    marks = {code: policy(code, home=home).auctions for code in codes}
    return hours_of(word, [declared_venue(code, home) for code in codes], sorted(set(sessions)), marks)


def venue_codes(selection: Selection, scan: Scan, catalogue: Catalogue) -> list[str]:
    """The venues that the rows can be of: as asked for, as statistics tell, else as the catalogue knows."""
    codes = sure_venues(selection, scan)
    return sorted(catalogue.entries(scan.pinned)["venue"].unique().to_pylist()) if codes is None else codes


def sure_venues(selection: Selection, scan: Scan) -> list[str] | None:
    """The venues of the rows where the selection or the files' statistics tell; None where they do not."""
    if selection.instruments is not None:
        return sorted({instrument.venue for instrument in selection.instruments})
    if selection.venue is not None:
        return [selection.venue]
    return venues_of(scan)


def venues_of(scan: Scan) -> list[str] | None:
    """The venues in the files of a scan, where their statistics tell."""
    found = {file.venue for file in scan.files}
    return None if None in found else sorted(map(str, found))


def span_us(scan: Scan) -> tuple[int, int]:
    """µs since 1970 between which the rows are, by statistics; from 1970 to 2100 where a file has none."""
    lows, highs = ([getattr(file, name) for file in scan.files] for name in ("ts_event_min", "ts_event_max"))
    if not lows or None in lows or None in highs:
        return 0, 4_102_444_800_000_000
    return min(lows), max(highs)


def sessions_of(scan: Scan) -> Iterable[date]:
    """The sessions that the rows can be of: those of the files, or where one does not say, all that its times allow."""
    named = [file.session for file in scan.files if file.session is not None]
    if len(named) == len(scan.files):
        return named
    low, high = (from_ns(us * 1_000).date() for us in span_us(scan))
    return [low + n * _DAY for n in range(-1, (high - low).days + 2)]
