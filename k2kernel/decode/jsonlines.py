"""Newline-delimited JSON to raw batches: a prefix of each line, and paths into its object, all as exact text."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import polars as pl

from k2kernel.decode.raw import LINE, RawBatch, rejects
from k2kernel.decode.sql import Evaluator
from k2kernel.decode.text import split_lines
from k2kernel.profiles import Format
from k2kernel.sources import Block

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


class JsonReader:
    """Reads blocks of JSON lines; `form.columns` maps column names to JSON paths, `form.prefix` has named groups."""

    def __init__(self, form: Format, evaluator: Evaluator) -> None:
        self.form, self.evaluator = form, evaluator
        self.paths = {name: _path(path) for name, path in dict(form.columns).items()}
        self.names = [*(re.compile(form.prefix).groupindex if form.prefix else ()), *self.paths]

    def read(self, block: Block) -> RawBatch:
        """The rows of a block; a line that is not the prefix and one JSON object is rejected."""
        lines = split_lines(Block(quote_numbers(block.data), block.first_line, block.nbytes), self.form)
        frame = self._without_prefix(lines.frame)
        texts = self.evaluator.json(frame["json"], list(self.paths.values()))
        columns = pl.DataFrame([texts.struct.field(f"c{n}").alias(name) for n, name in enumerate(self.paths)])
        frame = pl.concat([frame.drop("text", "json"), columns], how="horizontal")
        bad = frame.select((texts.struct.field("valid") & pl.col("__prefix")).not_()).to_series()
        batch = RawBatch(frame.filter(~bad).drop("__prefix"), block.data.count(b"\n"), block.nbytes)
        batch.data, batch.first_line, batch.skipped = block.data, block.first_line, lines.skipped
        numbers = frame.filter(bad)[LINE]
        faults = rejects(numbers, batch.raw(numbers), "json", "the line is not a JSON object (after its prefix)")
        batch.rejected = pl.concat([lines.rejected, faults])
        return batch

    def _without_prefix(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns of the prefix's named groups, the `json` after it, and `__prefix`: whether it was there."""
        if not self.form.prefix:
            return frame.with_columns(json="text", __prefix=pl.lit(value=True))
        pattern = "^(?:" + self.form.prefix.removeprefix("^") + ")"
        groups = pl.col("text").str.extract_groups(pattern)
        return frame.with_columns(groups.alias("__groups")).unnest("__groups").with_columns(
            json=pl.col("text").str.replace(pattern, ""), __prefix=pl.col("text").str.contains(pattern)
        )


def _path(path: str) -> str:
    return path if path.startswith(("$", "/")) else f"$.{path}"


def quote_numbers(data: bytes) -> bytes:
    """The same JSON lines with every number in quotes, so that its digits survive parsing as they were written.

    A number begins after `:`, `,` or `[` outside a string; whether a byte is inside a string follows from the count
    of unescaped quotes since the start of its line.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    token = _NUMBER[raw] & ~_inside_strings(raw)
    edges = np.flatnonzero(np.diff(token.view(np.int8), prepend=np.int8(0), append=np.int8(0)))
    starts, ends = edges[::2], edges[1::2]
    value = _BEGINS[raw[starts]] & _OPENS[_before(raw, starts)]
    where = np.stack((starts[value], ends[value]), axis=1).ravel()
    return bytes(np.insert(raw, where, ord('"')))


def _table(characters: bytes) -> Flags:
    table = np.zeros(256, dtype=bool)
    table[list(characters)] = True
    return table


_NUMBER = _table(b"0123456789+-.eE")
_BEGINS = _table(b"0123456789-")
_OPENS = _table(b":,[")
_BLANK = _table(b" \t\r")


def _before(raw: Bytes, positions: Positions) -> Bytes:
    """The nearest byte before each position that is no blank."""
    at = positions - 1
    while (blank := _BLANK[raw[np.maximum(at, 0)]] & (at > 0)).any():
        at = at - blank
    return raw[np.maximum(at, 0)]


def _inside_strings(raw: Bytes) -> Flags:
    quotes = raw == ord('"')
    slashes = raw == ord("\\")
    if slashes.any():
        quotes &= ~_escaped(slashes)
    inside = np.bitwise_xor.accumulate(quotes)
    newlines = np.flatnonzero(raw == ord("\n"))
    if inside[newlines].any():
        lengths = np.diff(newlines, prepend=-1)
        carried = np.concatenate(([False], inside[newlines][:-1]))
        inside[: lengths.sum()] ^= np.repeat(carried, lengths)
    return inside


def _escaped(slashes: Flags) -> Flags:
    """Positions after an odd run of backslashes."""
    index = np.arange(len(slashes), dtype=np.int64)
    last_other = np.maximum.accumulate(np.where(slashes, -1, index))
    run = np.where(slashes, index - last_other, 0)
    return np.concatenate(([False], run[:-1] % 2 == 1))
