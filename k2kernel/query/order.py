"""The total order of events, in SQL: said once, used by every read.

Events of one kind are ordered by (event ns, venue, symbol, sequence, source, source_offset). The event time in ns is
`ts_event_ns` where a source has it, else `ts_event`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile

EVENT_NS = "coalesce(ts_event_ns, epoch_ns(ts_event))"
"""The instant of an event in ns since 1970."""

TOTAL_ORDER = ("ts_event", EVENT_NS, "venue", "symbol", "sequence", "source", "source_offset")
"""The total order. `ts_event` is the floor of the ns, so it changes nothing as the first key, and it lets a scan skip
row groups."""

_WITHIN = (EVENT_NS, "sequence", "source", "source_offset")
"""The total order among the events of one instrument."""

_BITS = 62
"""Bits for sequence and offset beside 64 bits of time in a HUGEINT, such that they still fit a BIGINT."""


def order_by(one_instrument: bool = False) -> str:
    """The keys of ORDER BY for events; those that one instrument has in common are left out."""
    keys = (key for key in TOTAL_ORDER if not (one_instrument and key in ("venue", "symbol")))
    return ", ".join(keys)


@dataclass(frozen=True)
class Bounds:
    """What the footer of one data file says: least and greatest `sequence` and `source_offset` (None: unknown), and
    whether no row has nanoseconds."""

    sequence: tuple[int, int] | None = None
    offset: tuple[int, int] | None = None
    whole_us: bool = False


@dataclass(frozen=True)
class Key:
    """A value that orders the events of one instrument, in SQL: `first` and `last` of an expression by it."""

    text: str
    scalar: bool = False

    def first(self, expression: str, condition: str = "") -> str:
        """The expression's value at the first event where it is not null."""
        return f"arg_min({expression}, {self.text}){_filter(condition)}"

    def last(self, expression: str, condition: str = "") -> str:
        """The expression's value at the last event where it is not null."""
        return f"arg_max({expression}, {self.text}){_filter(condition)}"


def _filter(condition: str) -> str:
    return f" FILTER (WHERE {condition})" if condition else ""


ROW_KEY = Key(f"row({', '.join(_WITHIN)})")
"""The key that is always right: the struct of all of them."""


def event_key(files: Sequence[LakeFile], bounds: Iterable[Bounds], per_session: bool) -> Key:
    """The cheapest key that still is the total order among the events of one instrument (and session, where
    `per_session`) in `files`: one integer where time, sequence and offset fit it and no two sources meet."""
    known = list(bounds)
    times = [file.ts_event_min for file in files]
    sequence = _span(bound.sequence for bound in known)
    offset = _span(bound.offset for bound in known)
    if sequence is None or offset is None or any(time is None or time < 0 for time in times):
        return ROW_KEY
    bits = (sequence[1] - sequence[0]).bit_length(), (offset[1] - offset[0]).bit_length()
    if sum(bits) > _BITS or sources_meet(files, per_session):
        return ROW_KEY
    time = "epoch_us(ts_event)" if all(bound.whole_us for bound in known) else EVENT_NS
    low = f"(sequence - {sequence[0]}) * {1 << bits[1]} + (source_offset - {offset[0]})"
    return Key(f"{time}::HUGEINT * {1 << sum(bits)} + ({low})", scalar=True)


def _span(pairs: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    found = list(pairs)
    known = [pair for pair in found if pair is not None]
    if not known or len(known) < len(found):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def sources_meet(files: Sequence[LakeFile], per_session: bool) -> bool:
    """True unless the files prove that an instrument's rows (of a session) come from one source."""

    def place(file: LakeFile) -> tuple[date, str]:
        return (file.session or date.min) if per_session else date.min, file.symbol_min or ""

    if any(file.source_min is None or file.source_min != file.source_max for file in files):
        return True
    if any(file.session is None or file.symbol_max is None for file in files):
        return len({file.source_min for file in files}) > 1
    for _, group in groupby(sorted(files, key=place), key=lambda file: place(file)[0]):
        reached, source = "", None
        for file in group:
            if source is not None and (file.symbol_min or "") <= reached and file.source_min != source:
                return True
            reached, source = max(reached, file.symbol_max or ""), file.source_min
    return False
