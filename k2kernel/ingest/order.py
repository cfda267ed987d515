"""Does a source's sequence number agree with the order of its rows?"""

from __future__ import annotations

import polars as pl

from k2kernel import schemas

_KEY = ["venue", "symbol"]
_TIME = pl.coalesce(pl.col("ts_event_ns"), pl.col("ts_event").dt.timestamp("us") * 1_000).alias("__ns")


class SequenceDisorder(Exception):
    """A sequence number decreases between rows of one instrument at one time; `line` is where."""

    def __init__(self, table: str, line: int) -> None:
        self.table, self.line = table, line
        super().__init__(f"{table}: the sequence number decreases at line {line}")


class SequenceCheck:
    """Follows the rows of one source; raises `SequenceDisorder` at the first decrease at equal time."""

    def __init__(self) -> None:
        self._last: dict[str, pl.DataFrame] = {}
        self._highest: dict[str, int] = {}

    def see(self, table: str, frame: pl.DataFrame) -> None:
        """Check the next rows, which are in the order of the source."""
        if frame.is_empty() or "sequence" not in schemas.TABLES[table]:
            return
        sequence = frame["sequence"]
        low, high = int(sequence[0]), int(sequence[-1])
        rising = sequence.is_sorted() and low >= self._highest.get(table, low)
        self._highest[table] = high if rising else 2**63 - 1
        rows = frame.lazy().select(*_KEY, _TIME, "sequence", "source_offset")
        if not rising:
            self._compare(table, rows)
        self._last[table] = rows.group_by(_KEY).last().select(*_KEY, "__ns", "sequence", "source_offset").collect()

    def _compare(self, table: str, rows: pl.LazyFrame) -> None:
        last = self._last.get(table)
        joined = rows if last is None else pl.concat([last.lazy(), rows])
        before = pl.col("sequence").shift().over([*_KEY, "__ns"])
        found = joined.filter(pl.col("sequence") < before).head(1).collect()
        if len(found):
            raise SequenceDisorder(table, found["source_offset"][0])


def by_ordinal(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows with the ordinal as `sequence`; the source's own number moves to `extra`."""
    if "sequence" not in frame.columns:
        return frame
    own = pl.format('"sequence":"{}"', pl.col("sequence"))
    merged = pl.format("{},{}}}", pl.col("extra").str.strip_suffix("}"), own)
    extra = pl.when(pl.col("extra").is_null()).then(pl.format("{{{}}}", own)).otherwise(merged)
    moved = pl.when(pl.col("sequence") != pl.col("source_offset")).then(extra).otherwise(pl.col("extra"))
    return frame.with_columns(extra=moved, sequence=pl.col("source_offset"))
