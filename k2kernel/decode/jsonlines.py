"""Newline-delimited JSON to raw batches: a prefix of each line, and paths into its object, all as exact text."""

from __future__ import annotations

import codecs
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
    """Reads blocks of JSON lines; `form.columns` maps column names to JSON paths, `form.prefix` has named groups.

    `names` are the columns of a batch. An object or array at a path comes as its text, with its numbers in quotes.
    """

    def __init__(self, form: Format, evaluator: Evaluator) -> None:
        self.form, self.evaluator = form, evaluator
        columns = form.columns if isinstance(form.columns, dict) else {}
        self.paths = {name: _path(path) for name, path in columns.items()}
        self.groups = list(re.compile(form.prefix).groupindex) if form.prefix else []
        self.names = [*self.groups, *self.paths]

    def read(self, block: Block) -> RawBatch:
        """The rows of a block; a line that is not the prefix and one JSON object is rejected."""
        data = block.data.removeprefix(codecs.BOM_UTF8) if block.first_line == 1 else block.data
        lines = split_lines(Block(data, block.first_line, block.nbytes), self.form)
        frame = self._without_prefix(lines.frame)
        texts = self.evaluator.json(frame["json"], _quoted(frame["json"]), list(self.paths.values()))
        columns = [texts.struct.field(f"c{n}").alias(name) for n, name in enumerate(self.paths)]
        good = texts.struct.field("valid") & frame["__prefix"]
        frame = frame.select(LINE, *self.groups).with_columns(columns)
        batch = RawBatch(frame.filter(good), data.count(b"\n"), block.nbytes, data, block.first_line)
        batch.skipped = lines.skipped
        numbers = frame.filter(~good)[LINE]
        faults = rejects(numbers, batch.raw(numbers), "json", "the line is not a JSON object (after its prefix)")
        batch.rejected = pl.concat([lines.rejected, faults])
        return batch

    def _without_prefix(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns of the prefix's named groups, the `json` after it, and `__prefix`: whether it was there."""
        text = pl.col("text")
        if not self.form.prefix:
            return frame.select(LINE, text.alias("json"), pl.lit(value=True).alias("__prefix"))
        pattern = "^(?:" + self.form.prefix.removeprefix("^") + ")"
        groups = text.str.extract_groups(pattern)
        named = [groups.struct.field(name) for name in self.groups]
        there = text.str.contains(pattern).alias("__prefix")
        return frame.select(LINE, *named, text.str.replace(pattern, "").alias("json"), there)


def _path(path: str) -> str:
    return path if path.startswith(("$", "/")) else f"$.{path}"


def _quoted(texts: pl.Series) -> pl.Series:
    if not len(texts):
        return texts
    data = ("\n".join(texts) + "\n").encode()
    return pl.Series(quote_numbers(data).decode().split("\n")[:-1], dtype=pl.String)


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
