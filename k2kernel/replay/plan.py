"""From pinned files to slices of time: what each is read with, and in which order its rows come.

A slice is one sorted query. Slices follow each other without overlap, so their concatenation is the whole order, and
no more than a slice is ever held. They are cut by the statistics of files and row groups, without reading a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from k2kernel.query.connection import Query
from k2kernel.query.order import EVENT_NS
from k2kernel.query.position import Since
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Selection
from k2kernel.replay.chunk import KEYS, Layout, names_of
from k2kernel.schemas import TABLES

if TYPE_CHECKING:
    from k2kernel.lake import LakeFile
    from k2kernel.replay.footers import Footer, Footers

RECV_NS = "coalesce(ts_recv_ns, epoch_ns(ts_recv))"
"""The instant of capture in ns since 1970."""

CLOCKS = {"ts_event": EVENT_NS, "ts_recv": RECV_NS}
"""What a replay can be ordered by, and its ns in SQL."""

_WINDOW_ROWS = 4_000_000
"""Rows whose footers are read at once."""

_FIRST_ROWS = (4_096, 65_536)
"""About how many rows have come when the first slices are over."""

_MOST_PASSES = 8
"""How often, on average, a row group may be read for the slices that it spreads over."""

_MOST_GROUPS = 6
"""Groups of files of one kind that a statement may read one by one."""


@dataclass(frozen=True)
class Spanned:
    """A file of a pinned table, with the µs (both inclusive) between which its rows are; None: unknown."""

    pinned: Pinned
    file: LakeFile
    span: tuple[int, int] | None

    def meets(self, low: int | None, high: int | None) -> bool:
        """True where a row may be in [low, high)."""
        return self.span is None or ((low is None or self.span[1] >= low) and (high is None or self.span[0] < high))


@dataclass(frozen=True)
class Plan:
    """A pinned selection and the order of its events. `kinds` are in the order in which they follow at one instant."""

    kinds: tuple[str, ...]
    pins: Mapping[str, Pinned]
    selection: Selection
    footers: Footers
    raw: bool = False
    order_by: str = "ts_event"
    slice_rows: int = 250_000

    def slices(self, since: Since) -> Iterator[Slice]:
        """The slices that hold what follows `since`, in order."""
        files = [item for name in self.kinds for item in self._spanned(self.pins[name])]
        start = None if since.ns is None else since.ns // 1_000
        fresh = True
        for low, high in _windows(files):
            if start is None or high is None or high > start:
                for found in self._cut(files, low, high, start, fresh):
                    fresh = False
                    yield found

    def _spanned(self, pinned: Pinned) -> list[Spanned]:
        files = self.selection.scan(pinned).files
        if self.order_by == "ts_event":
            return [Spanned(pinned, file, _span(file)) for file in files]
        spans = [footer.span(self.order_by) for footer in self.footers.of(files)]
        return [Spanned(pinned, file, span) for file, span in zip(files, spans, strict=True)]

    def _cut(
        self, files: Sequence[Spanned], low: int | None, high: int | None, start: int | None, fresh: bool
    ) -> Iterator[Slice]:
        """The slices of the window [low, high) from `start` on; those where a replay begins are smaller."""
        inside = [item for item in files if item.meets(low, high)]
        footers = self.footers.of([item.file for item in inside])
        cuts = _cuts(self._densities(footers, low, high), self.slice_rows)
        if fresh:
            begin = low if start is None else max(start, low or start)
            soon = _first_cuts(self._densities(footers, begin, high))
            cuts = sorted({*cuts, *soon})
        for first, last in pairwise([low, *cuts, high]):
            if start is None or last is None or last > start:
                found = [at for at in zip(inside, footers, strict=True) if at[0].meets(first, last)]
                if found:
                    yield Slice(self, first, last, self._groups(found))

    def _densities(self, footers: Iterable[Footer], low: int | None, high: int | None) -> list[_Density]:
        """Where in [low, high) the rows are, as far as row groups tell."""
        chosen = self.selection.instruments
        symbols = None if chosen is None else {item.symbol for item in chosen}
        found = []
        for group in (group for footer in footers for group in footer.groups):
            span, bounds = group.times.get(self.order_by), group.symbols
            wanted = symbols is None or bounds is None or any(bounds[0] <= name <= bounds[1] for name in symbols)
            if span is not None and wanted:
                found.append(_Density(span[0], span[1] + 1, group.rows).clip(low, high))
        return [density for density in found if density.rows]

    def _groups(self, files: Sequence[tuple[Spanned, Footer]]) -> tuple[Group, ...]:
        """Files of one kind and with the same unchanging columns together."""
        groups: list[Group] = []
        for kind in self.kinds:
            of_kind = [(item.file, footer.constants) for item, footer in files if item.pinned.name == kind]
            by_constants: dict[str, list[tuple[LakeFile, Mapping[str, Any]]]] = {}
            for file, constants in of_kind:
                by_constants.setdefault(repr(sorted(constants.items(), key=str)), []).append((file, constants))
            parts = list(by_constants.values())
            for part in parts if len(parts) <= _MOST_GROUPS else [of_kind]:
                shared = dict(part[0][1])
                for _, constants in part:
                    shared = {name: shared[name] for name in shared if constants.get(name, _NOTHING) == shared[name]}
                groups.append(Group(kind, tuple(file for file, _ in part), shared))
        return tuple(groups)


_NOTHING = object()


@dataclass(frozen=True)
class Group:
    """Files of a kind, and the columns that have one value in all of them."""

    kind: str
    files: tuple[LakeFile, ...]
    constants: Mapping[str, Any]


class Slice:
    """The events of [low, high) µs on the replay's clock (None: open): one sorted statement over groups of files."""

    def __init__(self, plan: Plan, low: int | None, high: int | None, groups: tuple[Group, ...]) -> None:
        self._plan, self._low, self._high, self._groups = plan, low, high, groups
        self._fixed = self._unchanging()
        self.layout = Layout(
            plan.kinds,
            tuple(group.kind for group in groups),
            {name: [group.constants.get(name) for group in groups] for name in self._fixed},
        )

    def _unchanging(self) -> tuple[str, ...]:
        """Columns that no statement reads: each group has one value of them, or none."""
        moving = {"status"} if any(pin.known is not None for pin in self._plan.pins.values()) else set()
        names = (name for name in names_of(self._plan.kinds) if name not in {self._plan.order_by, *moving})
        return tuple(name for name in names if all(map(_is_fixed(name), self._groups)))

    def query(self, since: Since) -> Query:
        """The rows after `since` in their order, as `layout` reads them."""
        values, scans, parts = Values(), [], []
        for number, group in enumerate(self._groups):
            scan = self._scan(group)
            scans.append(scan)
            parts.append(self._select(number, group, scan, values, since))
        text = " UNION ALL BY NAME ".join(parts)
        return query(f"SELECT * FROM ({text}) ORDER BY {', '.join(self._order())}", values, *scans)

    def _scan(self, group: Group) -> Scan:
        pinned = self._plan.pins[group.kind]
        sessions = {file.session for file in group.files}
        undoing = [
            file
            for file in self._plan.selection.scan(pinned).undoing
            if None in sessions or file.session is None or file.session in sessions
        ]
        return Scan(pinned, group.files, undoing, {*self._read(group), "ts_recv", "ts_recv_ns", "conditions"})

    def _read(self, group: Group) -> list[str]:
        return [name for name in TABLES[group.kind].names if name not in self._fixed]

    def _select(self, number: int, group: Group, scan: Scan, values: Values, since: Since) -> str:
        ranks = (f"{rank}::SMALLINT AS k2_{name}" for name, rank in self._ranks(number).items())
        names = ", ".join(
            [f"{number}::SMALLINT AS k2_group", f"{self._rank(group)}::TINYINT AS k2_kind", *ranks, *self._read(group)]
        )
        wanted = self._plan.selection.of(group.kind)
        conditions = [*wanted.conditions(values), *self._when(values), *self._after(group, values, since)]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {names} FROM {scan.relation(self._plan.raw, values.bind)}{where}"

    def _rank(self, group: Group) -> int:
        return self._plan.kinds.index(group.kind)

    def _ranks(self, number: int) -> dict[str, int]:
        """For the keys that are fixed: the place of the group's value among those of all groups."""
        found = {}
        for name in KEYS:
            if name in self._fixed:
                texts = self.layout.fixed[name]
                found[name] = sorted(set(texts)).index(texts[number])
        return found

    def _when(self, values: Values) -> list[str]:
        column = self._plan.order_by
        found = [] if self._low is None else [f"{column} >= make_timestamptz({values.bind(self._low)})"]
        return found if self._high is None else [*found, f"{column} < make_timestamptz({values.bind(self._high)})"]

    def _after(self, group: Group, values: Values, since: Since) -> list[str]:
        """`since` as conditions; the coarse one on µs lets row groups be skipped."""
        if since.ns is None or (self._low is not None and self._low > since.ns // 1_000):
            return []
        ns = CLOCKS[self._plan.order_by]
        coarse = f"{self._plan.order_by} >= make_timestamptz({values.bind(since.ns // 1_000)})"
        if since.key is None:
            return [coarse, f"{ns} >= {values.bind(since.ns)}"]
        bound = [values.bind(value) for value in since.key]
        later = (
            f"row({self._rank(group)}::TINYINT, {', '.join(KEYS)}) > row({bound[1]}::TINYINT, {', '.join(bound[2:])})"
        )
        return [coarse, f"({ns} > {bound[0]} OR ({ns} = {bound[0]} AND {later}))"]

    def _order(self) -> list[str]:
        column = self._plan.order_by
        ns = [] if self.layout.fixed.get(f"{column}_ns", [0]) == [None] * len(self._groups) else [CLOCKS[column]]
        return [column, *ns, "k2_kind", *(f"k2_{name}" if name in self._fixed else name for name in KEYS)]


def _is_fixed(name: str) -> Any:
    """Whether a group needs no reading of `name`: it has one value of it, or its kind has no such column."""
    return lambda group: name in group.constants or name not in TABLES[group.kind].names


def _span(file: LakeFile) -> tuple[int, int] | None:
    if file.ts_event_min is None or file.ts_event_max is None:
        return None
    return file.ts_event_min, file.ts_event_max


def _windows(files: Sequence[Spanned]) -> list[tuple[int | None, int | None]]:
    """[low, high) of parts of the range whose footers are read together, open at both ends."""
    spans = [_Density(item.span[0], item.span[1] + 1, item.file.rows) for item in files if item.span is not None]
    rows = sum(density.rows for density in spans)
    parts = int(-(-rows // _WINDOW_ROWS))
    cuts = _quantiles(spans, rows / parts, parts) if parts > 1 else []
    return list(pairwise([None, *cuts, None]))


class _Density(NamedTuple):
    """Rows spread over [low, high)."""

    low: int
    high: int
    rows: float

    def clip(self, low: int | None, high: int | None) -> _Density:
        """The part of it in [low, high)."""
        first = self.low if low is None else max(low, self.low)
        last = self.high if high is None else min(high, self.high)
        return _Density(first, last, self.rows * max(0, last - first) / (self.high - self.low))


def _cuts(densities: Sequence[_Density], most_rows: int) -> list[int]:
    """Where to cut so that slices have about equally many rows, not more than `most_rows` unless that would read row
    groups too often.
    """
    rows = sum(density.rows for density in densities)
    if rows <= most_rows:
        return []
    first, last = min(item.low for item in densities), max(item.high for item in densities)
    spread = sum(item.rows * (item.high - item.low) for item in densities) / (rows * (last - first))
    parts = min(-int(-rows // most_rows), max(1, int(_MOST_PASSES / spread)))
    return _quantiles(densities, rows / parts, parts)


def _first_cuts(densities: Sequence[_Density]) -> list[int]:
    """The instants before which the first few rows lie, so that the first event comes soon."""
    rows = sum(density.rows for density in densities)
    return [cut for few in _FIRST_ROWS if few < rows for cut in _quantiles(densities, few, 2)]


def _quantiles(densities: Sequence[_Density], step: float, parts: int) -> list[int]:
    """The instants before which 1, 2, … `parts` - 1 times `step` rows lie."""
    changes: dict[int, float] = {}
    for low, high, rows in densities:
        changes[low] = changes.get(low, 0) + rows / (high - low)
        changes[high] = changes.get(high, 0) - rows / (high - low)
    found: list[int] = []
    before = rate = 0.0
    for (at, change), (until, _) in pairwise(sorted(changes.items())):
        rate += change
        after = before + rate * (until - at)
        while len(found) + 1 < parts and rate > 0 and after >= step * (len(found) + 1):
            found.append(at + int((step * (len(found) + 1) - before) / rate))
        before = after
    return sorted(set(found))
