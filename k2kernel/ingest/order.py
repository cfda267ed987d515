"""Whether a source's sequence numbers agree with the order of its rows."""

from __future__ import annotations

import polars as pl

from k2kernel import schemas

_KEY = ("venue", "symbol")
_TIME = pl.coalesce(pl.col("ts_event_ns"), pl.col("ts_event").dt.timestamp("us") * 1_000).alias("ns")
_RECENT_ROWS = 1_000_000
"""How many of the rows before a block are kept to compare with."""


class SequenceDisorder(Exception):
    """A sequence number decreases between rows of one instrument at one time."""


class SequenceCheck:
    """Follows the rows of one source; raises `SequenceDisorder` at the first decrease at equal time.

    Rows are compared with those of their block and the million before it.
    """

    def __init__(self) -> None:
        self._tables: dict[str, _Followed] = {}

    def see(self, table: str, frame: pl.DataFrame) -> None:
        """Check the next rows, which are in the order of the source."""
        if frame.is_empty() or "sequence" not in schemas.TABLES[table]:
            return
        followed = self._tables.setdefault(table, _Followed())
        rows = frame.select(*_KEY, _TIME, "sequence", "source_offset")
        if not rows["source_offset"].is_sorted():  # two routes feed the table
            rows = rows.sort("source_offset", maintain_order=True)
        line = followed.see(rows)
        if line is not None:
            raise SequenceDisorder(f"{table}: the sequence number decreases at line {line}")


class _Followed:
    """The rows of one table: the recent ones, and the highest number (`top`) and time (`until`) so far.

    While the numbers of all rows rise, those two are kept for all instruments together, then for each.
    """

    def __init__(self) -> None:
        self._recent: list[pl.DataFrame] = []
        self._rose: tuple[int, int] | None = None
        self._tops: pl.DataFrame | None = None

    def see(self, rows: pl.DataFrame) -> int | None:
        """The line of the first decrease, or None."""
        line = None
        if self._tops is None and self._rises(rows):
            until = int(str(rows["ns"].max()))
            self._rose = int(rows["sequence"][-1]), max(until, self._rose[1] if self._rose else until)
        else:
            line = self._first_decrease(rows)
            tops = rows.group_by(_KEY).agg(pl.max("sequence").alias("top"), pl.max("ns").alias("until"))
            self._tops = tops if self._tops is None else pl.concat([self._tops, tops]).group_by(_KEY).max()
        self._recent.append(rows)
        while sum(map(len, self._recent[1:])) > _RECENT_ROWS:
            self._recent.pop(0)
        return line

    def _rises(self, rows: pl.DataFrame) -> bool:
        return rows["sequence"].is_sorted() and (self._rose is None or int(rows["sequence"][0]) >= self._rose[0])

    def _first_decrease(self, rows: pl.DataFrame) -> int | None:
        """Only rows below a number, and not after a time, that their instrument has reached can be one."""
        before = self._tops if self._tops is not None else rows.select(*_KEY, top="sequence", until="ns").clear()
        reached = rows.with_columns(
            pl.col(name).cum_max().shift().over(_KEY).alias(to) for name, to in (("sequence", "top"), ("ns", "until"))
        ).join(before, on=_KEY, how="left", suffix="_before")
        top, until = (
            pl.max_horizontal(name, f"{name}_before", pl.lit(all_of_them, pl.Int64))
            for name, all_of_them in zip(("top", "until"), self._rose or (None, None), strict=True)
        )
        suspects = reached.filter((pl.col("sequence") < top) & (pl.col("ns") <= until))
        if suspects.is_empty():
            return None
        at = [*_KEY, "ns"]
        same = pl.concat([*self._recent, rows]).join(suspects.select(at).unique(), on=at, how="semi")
        found = same.sort("source_offset").filter(pl.col("sequence") < pl.col("sequence").shift().over(at))
        return None if found.is_empty() else int(found["source_offset"][0])


def by_ordinal(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows with the ordinal as `sequence`; the source's own number is kept in `extra`."""
    if "sequence" not in frame.columns:
        return frame
    extra, own = pl.col("extra"), pl.format('"sequence":"{}"', pl.col("sequence"))
    merged = pl.coalesce(pl.format("{},{}}}", extra.str.strip_suffix("}"), own), pl.format("{{{}}}", own))
    moves = (pl.col("sequence") != pl.col("source_offset")) & extra.str.json_path_match("$.sequence").is_null()
    return frame.with_columns(extra=pl.when(moves).then(merged).otherwise(extra), sequence=pl.col("source_offset"))
