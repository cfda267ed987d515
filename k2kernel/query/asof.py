"""As-of joins: to each row of one table the row of another that prevailed at its time.

The prevailing row is the last in the total order of events at or before (`inclusive`) or before an instant. It is
found first and judged afterwards: an older row never takes the place of one that is too old, of another session, or
one-sided. Rows at one instant are told apart by the order, never by chance: an `ASOF JOIN` of DuckDB takes any of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, counted, listed, one_of
from k2kernel.query.nbbo import nbbo, nbbo_columns

if TYPE_CHECKING:
    import polars as pl

CLOCKS = ("ts_event", "ts_recv")
SIDES = ("any", "two_sided", "uncrossed")
BOOKS = ("nbbo", "same_exec_venue", "last_row")
_QUOTE = ("bid_px", "ask_px")
_ORDER = ("venue", "symbol", "sequence", "source", "source_offset")
"""The total order after the instant."""


@dataclass(frozen=True)
class Prevailing:
    """Which row prevails; see `Joins.asof` for the words. `tolerance` is in ns."""

    by: tuple[str, ...] = ("venue", "symbol")
    on: str = "ts_event"
    inclusive: bool = True
    tolerance: int | None = None
    same_session: bool = False
    sides: str = "any"
    book: str | None = None
    suffix: str = "_right"

    def __post_init__(self) -> None:
        one_of("on", self.on, CLOCKS)
        one_of("sides", self.sides, SIDES)
        if self.book is not None:
            one_of("book", self.book, BOOKS)
        if not self.by or not all(isinstance(name, str) for name in self.by):
            raise InvalidParameter("by", self.by, "names no columns", 'Leave it out for ("venue", "symbol")')

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that are equal in both rows."""
        own = self.book == "same_exec_venue" and "exec_venue" not in self.by
        return (*self.by, "exec_venue") if own else self.by

    def columns(self, left: Sequence[str], right: Sequence[str]) -> list[str]:
        """The columns of the join; InvalidParameter where either table lacks one that it needs, or names collide."""
        self._check("left", left, self.keys)
        self._check("right", right, (*self.keys, *self._prices()))
        found = nbbo_columns(right, self.by) if self.book == "nbbo" else right
        names = [*left, *self._named(left, found).values()]
        if len(set(names)) < len(names):
            raise InvalidParameter("suffix", self.suffix, "makes two columns of one name", "Give another")
        return names

    def join(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """The rows of `left`, in their order, each with the columns of the row of `right` that prevails (else null)."""
        import polars as pl

        _check_types(left, right, self.keys)
        check_clocks(left, right, self.by, self.on)
        quotes = self.ordered(right)
        at = self.match(left, instants(left, self.on, "left"), quotes)
        named = self._named(left.columns, quotes.columns)
        found = quotes.select(pl.col(name).gather(at).alias(new) for name, new in named.items())
        return left.hstack(found.get_columns())

    def ordered(self, right: pl.DataFrame) -> pl.DataFrame:
        """The rows of `right` in the total order by `on`, as the one book that the join is of."""
        if self.book is None:
            _check_one_book(right, self.by)
        found = in_order(right, self.on, "right")
        return nbbo(found, instants(found, self.on, "right"), self.by) if self.book == "nbbo" else found

    def match(self, left: pl.DataFrame, at: pl.Series, right: pl.DataFrame) -> pl.Series:
        """To each row of `left`, at the instant `at` (ns since 1970), the number of the row of `right` that prevails.

        `right` is `ordered`; null where no row prevails, or the one that does is not acceptable.
        """
        times = instants(right, self.on, "right")
        found = _last(left.select(self.keys), at, right.select(self.keys), times, self.inclusive)
        for good in self._tests(left, at, right, times, found):
            found = found.set(~good.fill_null(value=False), None)
        return found

    def _tests(
        self, left: pl.DataFrame, at: pl.Series, right: pl.DataFrame, times: pl.Series, found: pl.Series
    ) -> Iterator[pl.Series]:
        """Of each row of `left`, whether the row of `right` that was found is acceptable."""
        if self.tolerance is not None:
            yield at - times.gather(found) <= self.tolerance
        if self.same_session:
            yield left["session"] == right["session"].gather(found)
        if self.sides != "any":
            yield _qualifies(right, self.sides).gather(found)

    def _check(self, which: str, names: Sequence[str], needed: Collection[str]) -> None:
        wanted = [*needed, *(["session"] if self.same_session else [])]
        missing = [name for name in wanted if name not in names]
        missing += [] if self.on in names or f"{self.on}_ns" in names else [self.on]
        if missing:
            raise InvalidParameter(which, "…", f"has no column {missing[0]!r}", f"It has: {listed(names, most=40)}")

    def _prices(self) -> tuple[str, ...]:
        own = ("exec_venue",) if self.book == "nbbo" else ()
        return (*_QUOTE, *own) if own or self.sides != "any" else ()

    def _named(self, left: Sequence[str], right: Sequence[str]) -> dict[str, str]:
        """The columns that `right` adds, and what they are called."""
        return {name: name + self.suffix * (name in left) for name in right if name not in self.keys}


def instants(frame: pl.DataFrame, on: str, which: str) -> pl.Series:
    """The times of a frame in ns since 1970: `<on>_ns` where a row has it, else `on`.

    InvalidParameter where `on` is no time with a zone, or a row has neither.
    """
    import polars as pl

    kind = frame.schema.get(on)
    if kind is not None and not (isinstance(kind, pl.Datetime) and kind.time_zone):
        raise InvalidParameter(
            which, "…", f"its {on} is {kind}, not a time with a zone", 'Cast it to Datetime("us", "UTC")'
        )
    parts = [pl.col(f"{on}_ns")] if f"{on}_ns" in frame.columns else []
    parts += [] if kind is None else [pl.col(on).dt.epoch("ns")]
    found = frame.select(pl.coalesce(parts).cast(pl.Int64).alias("k2_ns")).to_series()
    if found.null_count():
        remedy = "Leave those rows out" + (", or join on='ts_event'" if on == "ts_recv" else "")
        raise InvalidParameter("on", on, f"is missing in {counted(found.null_count(), 'row')} of {which}", remedy)
    return found


def in_order(frame: pl.DataFrame, on: str, which: str) -> pl.DataFrame:
    """The rows in the total order by `on`, as far as the frame has its columns; rows equal in those stay in order."""
    keys = [instants(frame, on, which), *(frame[name] for name in _ORDER if name in frame.columns)]
    if _are_ordered(keys):
        return frame
    names = [f"k2_{number}" for number in range(len(keys))]
    more = frame.with_columns(key.alias(name) for key, name in zip(keys, names, strict=True))
    return more.sort(names, maintain_order=True).drop(names)


def _are_ordered(keys: Sequence[pl.Series]) -> bool:
    """True where no row is before the one above it; later keys are looked at only where earlier ones are equal."""
    tied = None
    for key in keys:
        above, below = key.head(-1), key.tail(-1)
        back = below < above if tied is None else tied & (below < above)
        if back.any():
            return False
        tied = (below == above) if tied is None else tied & (below == above)
        if not tied.any():
            return True
    return True


def _last(left: pl.DataFrame, at: pl.Series, right: pl.DataFrame, times: pl.Series, inclusive: bool) -> pl.Series:
    """The number of the last row of `right` at or before (before, where not `inclusive`) each instant of `left`.

    Of rows at one instant Polars takes the last, as long as they are in order.
    """
    import polars as pl

    keys = [] if _is_one_group(left, right) else left.columns
    wanted = pl.DataFrame([*map(left.get_column, keys), at.alias("k2_ns")]).with_row_index("k2_row")
    known = pl.DataFrame([*map(right.get_column, keys), times.alias("k2_ns")]).with_row_index("k2_at").drop_nulls(keys)
    in_time = at.is_sorted()
    found = (wanted if in_time else wanted.sort("k2_ns", maintain_order=True)).join_asof(
        known, on="k2_ns", by=keys or None, allow_exact_matches=inclusive, check_sortedness=False
    )
    return (found if in_time else found.sort("k2_row"))["k2_at"]


def _is_one_group(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    """True where all rows of both have the same keys."""
    return bool(len(left) and len(right)) and all(
        bool(
            (left[name] == left[name][0]).all(ignore_nulls=False)
            and (right[name] == left[name][0]).all(ignore_nulls=False)
        )
        for name in left.columns
    )


def _qualifies(quotes: pl.DataFrame, sides: str) -> pl.Series:
    bid, ask = quotes["bid_px"], quotes["ask_px"]
    two_sided = bid.is_not_null() & ask.is_not_null()
    return two_sided & (bid <= ask).fill_null(value=False) if sides == "uncrossed" else two_sided


def check_clocks(left: pl.DataFrame, right: pl.DataFrame, by: Sequence[str], on: str) -> None:
    """InvalidParameter where event times that are compared are of two clocks."""
    import polars as pl

    if on != "ts_event" or not all("clock" in frame.columns for frame in (left, right)):
        return
    if _is_one_group(left.select("clock"), right.select("clock")):
        return
    found = pl.concat([frame.select(*by, "clock").unique() for frame in (left, right)]).unique()
    mixed = found.filter(pl.len().over(by) > 1).sort(by)
    if len(mixed):
        where = ", ".join(map(str, mixed.row(0)[: len(by)]))
        problem = f"the times of {where} are partly by the venue's clock, partly by the recorder's"
        raise InvalidParameter("on", on, problem, "Join on='ts_recv'")


def _check_types(left: pl.DataFrame, right: pl.DataFrame, keys: Sequence[str]) -> None:
    for name in keys:
        one, other = left.schema[name], right.schema[name]
        if one != other:
            raise InvalidParameter("by", name, f"is {one} in left and {other} in right", "Cast one to the other")


def _check_one_book(right: pl.DataFrame, by: Sequence[str]) -> None:
    """InvalidParameter where quotes of one instrument come from several venues and nobody said which of them count."""
    import polars as pl

    if not {*_QUOTE, "exec_venue"} <= {*right.columns} or "exec_venue" in by or right["exec_venue"].n_unique() < 2:
        return
    several = right.group_by(by).agg(pl.col("exec_venue").unique()).filter(pl.col("exec_venue").list.len() > 1)
    if len(several):
        *key, venues = several.sort(by).row(0)
        problem = f"the quotes of {', '.join(map(str, key))} are of several venues: {listed(sorted(map(str, venues)))}"
        remedy = "Say which prevails: 'nbbo' (the best of all), 'same_exec_venue' or 'last_row'"
        raise InvalidParameter("book", None, problem, remedy)
