"""Sequence numbers of a stream that jump, repeat, come late or begin again, as rows of the table `gaps`.

Only a source knows what its numbers count, so a stream watches them where it is told: those of each `instrument` of a
partition, or of a whole partition (`source`). What is found depends on the order of the offsets alone, not on batches
or restarts: the state is what the tables say up to an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from k2kernel import schemas
from k2kernel.lake import Lake
from k2kernel.schemas import GAPS

SCOPES = ("instrument", "source")
"""What sequence numbers may count."""

_READ = ("source", "source_offset", "venue", "symbol", "session", "ts_event", "sequence")
_LAST = ("source_offset", "session", "ts_event", "sequence")
COLUMNS = {name: kind for name, kind in GAPS.polars.items() if name != "ts_ingest"}
"""What is found: the columns of `gaps`, and their types."""


@dataclass(frozen=True)
class State:
    """What is known by key since its numbers last began: the row that came last, with the `first` number (and its
    offset) and the `greatest`; and of `gaps` the rows that tell what is missing or came late.
    """

    last: pl.DataFrame
    marks: pl.DataFrame

    def without(self, source: str) -> State:
        """The same, with nothing of a partition."""
        return State(*(frame.filter(pl.col("source") != source) for frame in (self.last, self.marks)))


class Watch:
    """Watches the numbers of the rows of one table; `scope` says what they count."""

    def __init__(self, table: str, scope: str) -> None:
        self._table, self._scope = table, scope
        self._key = ["source", "venue", "symbol"] if scope == "instrument" else ["source"]
        nothing = pl.DataFrame(schema={name: schemas.TABLES[table].polars[name] for name in _READ})
        self.state = State(self._folded(nothing), pl.DataFrame(schema=COLUMNS))

    def begin(self, lake: Lake, source: str, end: int | None) -> None:
        """Know what the tables say of a partition up to the offset `end` (exclusive; None: they have nothing)."""
        self.state = known = self.state.without(source)
        if end is None:
            return
        ours = (pl.col("source_offset") < end) & (pl.col("scope") == self._scope) & (pl.col("target") == self._table)
        marks = pl.concat([known.marks.clear(), *_rows(lake, GAPS.name, source, COLUMNS)]).filter(ours)
        resets = marks.filter(pl.col("event") == "reset").group_by(self._key).agg(since=pl.max("source_offset"))
        rows = (self._since(part, resets) for part in _rows(lake, self._table, source, _READ))
        last = self._merged(pl.concat([known.last.clear(), *(self._folded(part) for part in rows)]))
        self.state = State(pl.concat([known.last, last]), pl.concat([known.marks, self._since(marks, resets)]))

    def forget(self, source: str) -> None:
        """Another stream reads this partition now."""
        self.state = self.state.without(source)

    def see(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, State]:
        """What the numbers of further rows show (columns of `gaps`), and the state after them, which is the caller's to
        set once they are committed.
        """
        known = self.state
        marked = self._marked(known.last, rows.select(_READ).sort("source", "source_offset"))
        late = marked.filter(pl.col("sequence") <= pl.col("top"))
        jumps = marked.filter(pl.col("sequence") > pl.col("top") + 1).with_columns(event=pl.lit("gap"))
        resets = marked.filter("reset").with_columns(event=pl.lit("reset"))
        found = [jumps, self._told(known.marks, jumps, late), resets]
        events = pl.concat([self._events(each) for each in found]).sort("source", "source_offset")
        current = marked.filter(pl.col("era") == pl.col("era").max().over(self._key))
        last = self._merged(current.select(known.last.columns))
        began = resets.group_by(self._key).agg(since=pl.max("source_offset"))
        kept = known.last.join(last, on=self._key, how="anti", maintain_order="left")
        return events, State(pl.concat([kept, last]), self._since(pl.concat([known.marks, events]), began))

    def _marked(self, last: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """The last row known of each key and then the new ones: whether numbers begin again with it, in which `era` of
        such beginnings it is, and the greatest number of it so far (`top`; null where it is the first).
        """
        before = last.join(rows, on=self._key, how="semi", maintain_order="left").with_columns(old=pl.lit(value=True))
        new = self._folded(rows, each=True).with_columns(old=pl.lit(value=False))
        number, session, at = (pl.col(name).shift().over(self._key) for name in ("sequence", "session", "ts_event"))
        again = (pl.col("session") > session) | ((pl.col("sequence") <= 1) & (pl.col("ts_event") > at))
        reset = ~pl.col("old") & (pl.col("sequence") <= number) & again
        both = pl.concat([before, new]).with_columns(reset=reset.fill_null(value=False))
        both = both.with_columns(era=pl.col("reset").cum_sum().over(self._key))
        era = [*self._key, "era"]
        return both.with_columns(
            top=pl.col("greatest").cum_max().shift().over(era), began=pl.col("first").first().over(era)
        )

    def _told(self, marks: pl.DataFrame, jumps: pl.DataFrame, late: pl.DataFrame) -> pl.DataFrame:
        """Late rows as `reorder`, where their number was missing, or is before the first one; else as `duplicate`."""
        era, place = [*self._key, "era"], [*self._key, "era", "sequence"]
        marks = marks.with_columns(era=pl.lit(0, late.schema["era"]))
        ranges = pl.concat(
            [
                each.select(*era, low="expected", high="sequence")
                for each in (marks.filter(pl.col("event") == "gap"), jumps.with_columns(expected=pl.col("top") + 1))
            ]
        )
        came = marks.filter(pl.col("event") == "reorder").select(place).unique().with_columns(came=pl.lit(value=True))
        turn = late.with_columns(turn=pl.int_range(pl.len()).over(place)).join(came, on=place, how="left")
        held = turn.sort("sequence").join_asof(
            ranges.sort("low"), left_on="sequence", right_on="low", by=era, check_sortedness=False
        )
        missing = (pl.col("sequence") < pl.col("high")) & (pl.col("turn") == 0) & pl.col("came").is_null()
        reorder = (pl.col("sequence") < pl.col("began")) | missing.fill_null(value=False)
        return held.with_columns(event=pl.when(reorder).then(pl.lit("reorder")).otherwise(pl.lit("duplicate")))

    def _events(self, rows: pl.DataFrame) -> pl.DataFrame:
        facts = {"target": pl.lit(self._table), "scope": pl.lit(self._scope), "expected": pl.col("top") + 1}
        facts["missing"] = pl.when(pl.col("event") == "gap").then(pl.col("sequence") - pl.col("top") - 1)
        return rows.with_columns(**facts).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())

    def _since(self, rows: pl.DataFrame, resets: pl.DataFrame) -> pl.DataFrame:
        """The rows since the numbers of their key last began."""
        joined = rows.join(resets, on=self._key, how="left", maintain_order="left")
        return joined.filter(pl.col("source_offset") >= pl.col("since").fill_null(0)).drop("since")

    def _folded(self, rows: pl.DataFrame, *, each: bool = False) -> pl.DataFrame:
        """Rows as a state has them, `each` by itself or one a key."""
        number = pl.col("sequence")
        found = rows.with_columns(first_offset=pl.col("source_offset"), first=number, greatest=number)
        names = [*_READ, "first_offset", "first", "greatest"]
        return found.select(names) if each else self._merged(found.select(names))

    def _merged(self, parts: pl.DataFrame) -> pl.DataFrame:
        """One row a key, of parts of its history."""
        latest = [name for name in _READ if name not in self._key]
        found = parts.group_by(self._key, maintain_order=True).agg(
            *(pl.col(name).sort_by("source_offset").last() for name in latest),
            pl.min("first_offset"),
            pl.col("first").sort_by("first_offset").first(),
            pl.max("greatest"),
        )
        return found.select(*_READ, "first_offset", "first", "greatest")


def _rows(
    lake: Lake, table: str, source: str, columns: Mapping[str, object] | tuple[str, ...]
) -> Iterator[pl.DataFrame]:
    """The rows of a partition that a table has, part by part."""
    kinds = schemas.TABLES[table].polars
    scan = lake.table(table).scan(f"source = '{source}'", tuple(columns))
    for batch in scan.to_arrow_batch_reader():
        yield pl.DataFrame(pl.from_arrow(batch)).select(pl.col(name).cast(kinds[name]) for name in columns)
