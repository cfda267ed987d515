"""The total order of events, in SQL: said once, used by every read.

Events of one kind are ordered by (event ns, venue, symbol, sequence, source, source_offset). The event time in ns is
`ts_event_ns` where a source has it, else `ts_event`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
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


@dataclass(frozen=True)
class Bounds:
    """What the footer of one data file says: least and greatest `sequence` and `source_offset` (None: unknown), and
    whether no row has nanoseconds.
    """

    sequence: tuple[int, int] | None = None
    offset: tuple[int, int] | None = None
    whole_us: bool = False


@dataclass(frozen=True)
class Key:
    """A value that orders the events of one instrument, in SQL; `sequence` reads its sequence number out of `{key}`."""

    text: str
    sequence: str | None = None


ROW_KEY = Key(f"row({', '.join(_WITHIN)})")
"""The key that is always right: the struct of all of them."""


def order_by(files: Sequence[LakeFile], bounds: Iterable[Bounds], one_instrument: bool) -> list[str]:
    """The keys of ORDER BY for the events in `files`: those of the total order that can tell two of them apart."""
    useless = {EVENT_NS} if all(bound.whole_us for bound in bounds) else set()
    if one_instrument:
        useless |= {"venue", "symbol"}
    if not sources_meet(files, per_session=False):
        useless.add("source")
    return [key for key in TOTAL_ORDER if key not in useless]


def event_key(files: Sequence[LakeFile], bounds: Sequence[Bounds], per_session: bool) -> Key:
    """The cheapest key that still is the total order among the events of one instrument (and session, where
    `per_session`) in `files`: one integer where time, sequence and offset fit it and no two sources meet.
    """
    sequence = _span([bound.sequence for bound in bounds])
    offset = _span([bound.offset for bound in bounds])
    if sequence is None or offset is None or any(file.ts_event_min is None for file in files):
        return ROW_KEY
    bits = (sequence[1] - sequence[0]).bit_length(), (offset[1] - offset[0]).bit_length()
    if sum(bits) > _BITS or sources_meet(files, per_session):
        return ROW_KEY
    time = "epoch_us(ts_event)" if all(bound.whole_us for bound in bounds) else EVENT_NS
    low = f"(sequence - {sequence[0]}) * {1 << bits[1]} + (source_offset - {offset[0]})"
    unpacked = f"((({{key}} & {(1 << sum(bits)) - 1}) >> {bits[1]}) + {sequence[0]})::BIGINT"
    return Key(f"{time}::HUGEINT * {1 << sum(bits)} + ({low})", unpacked)


def _span(pairs: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    known = [pair for pair in pairs if pair is not None]
    if not known or len(known) < len(pairs):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def sources_meet(files: Sequence[LakeFile], per_session: bool) -> bool:
    """True unless statistics prove that no two sources have events of one instrument (and session) at one time."""
    if len(files) > 1 and any(file.ts_event_min is None or file.ts_event_max is None for file in files):
        return True
    by_time = sorted(files, key=lambda file: file.ts_event_min or 0)
    return any(file.source_min is None or file.source_min != file.source_max for file in files) or any(
        _meet(file, other, per_session)
        for at, file in enumerate(by_time)
        for other in takewhile(partial(_starts_in, file), by_time[at + 1 :])
    )


def _starts_in(file: LakeFile, other: LakeFile) -> bool:
    return (other.ts_event_min or 0) <= (file.ts_event_max or 0)


def _meet(one: LakeFile, other: LakeFile, per_session: bool) -> bool:
    apart = per_session and None not in (one.session, other.session) and one.session != other.session
    return (
        one.source_min != other.source_min
        and not apart
        and _overlap((one.symbol_min, one.symbol_max), (other.symbol_min, other.symbol_max))
        and _overlap((one.venue_min, one.venue_max), (other.venue_min, other.venue_max))
    )


def _overlap(one: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> bool:
    return (one[0] is None or other[1] is None or one[0] <= other[1]) and (
        other[0] is None or one[1] is None or other[0] <= one[1]
    )
