"""Raw batches: rows of text columns with their line numbers, before any meaning is given to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

LINE = "__line"
"""The column that holds the line (text) or row (Parquet) number, from 1."""

REJECTS = {"line": pl.Int64(), "target": pl.String(), "raw": pl.Binary(), "error": pl.String(), "reason": pl.String()}


def rejects(lines: object, raw: object, error: str, reason: object, target: str | None = None) -> pl.DataFrame:
    """A frame of `REJECTS` from equally long columns; `reason` may be one text for all."""
    columns = {"line": lines, "target": target, "raw": raw, "error": error, "reason": reason}
    literals = {name: pl.lit(value) for name, value in columns.items() if value is None or isinstance(value, str)}
    frame = pl.DataFrame({name: value for name, value in columns.items() if name not in literals})
    return frame.with_columns(**literals).select(pl.col(name).cast(kind) for name, kind in REJECTS.items())


def no_rejects() -> pl.DataFrame:
    """An empty frame of `REJECTS`."""
    return pl.DataFrame(schema=REJECTS)


@dataclass
class RawBatch:
    """Rows of a block: String columns and `LINE`; what could not even be split; what was left out, by kind.

    `lines` counts every line that was read; `data` and `first_line` give a row's raw text back.
    """

    frame: pl.DataFrame
    lines: int
    nbytes: int
    data: bytes = b""
    first_line: int = 1
    rejected: pl.DataFrame = field(default_factory=no_rejects)
    skipped: dict[str, int] = field(default_factory=dict)

    def raw(self, numbers: pl.Series) -> pl.Series:
        """The raw bytes of the lines with these numbers (for Parquet, where there are none, the row as JSON)."""
        if self.data:
            texts = pl.Series(self.data.split(b"\n"), dtype=pl.Binary)
            return texts.gather(numbers - self.first_line)
        rows = self.frame.join(pl.DataFrame({LINE: numbers}), on=LINE, how="inner", maintain_order="right")
        return rows.select(pl.struct(pl.exclude(LINE)).struct.json_encode().cast(pl.Binary)).to_series()
