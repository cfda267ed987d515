"""Delimited text to raw batches: pyarrow splits a clean block at once; a block with a fault is looked at line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pyarrow import csv

from k2kernel.decode.raw import LINE, RawBatch, rejects
from k2kernel.errors import FileFault
from k2kernel.profiles import Format
from k2kernel.sources import Block, is_wide

_ARROW_BLOCK = 1 << 22


@dataclass
class Lines:
    """A block's lines: `frame` (LINE, text) of data lines; what was rejected or skipped; the raw bytes of all."""

    frame: pl.DataFrame
    rejected: pl.DataFrame
    skipped: dict[str, int]


def utf8(data: bytes, encoding: str) -> bytes | None:
    """The block as UTF-8, or None where some byte is not of the encoding."""
    if encoding == "utf-8" and data.isascii():
        return data
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return data if encoding == "utf-8" else text.encode()


def encoding_of(form: Format) -> str:
    """The encoding of blocks: the file's, or UTF-8 where the source has recoded it."""
    return "utf-8" if is_wide(form.encoding) else form.encoding.lower()


def marks(form: Format) -> re.Pattern[bytes] | None:
    """What a line that is no row looks like: comment, trailer or "no records"."""
    patterns = [re.escape(form.comment)] if form.comment else []
    patterns += [pattern.removeprefix("^") for pattern in (form.trailer, form.no_records) if pattern]
    return re.compile(b"(?m)^(?:" + "|".join(patterns).encode() + b")") if patterns else None


def split_lines(block: Block, form: Format) -> Lines:
    """Every line of the block, sorted into data, skipped kinds and rejects; blank lines are skipped."""
    raw = pl.Series("raw", block.data.split(b"\n")[:-1], dtype=pl.Binary)
    numbers = pl.int_range(block.first_line, block.first_line + len(raw), eager=True)
    texts = _decoded(raw, encoding_of(form)).str.strip_suffix("\r")
    frame = pl.DataFrame({LINE: numbers, "raw": raw, "text": texts}).with_columns(kind=_kinds(form))
    data = frame.filter(pl.col("kind").is_null()).select(LINE, "text")
    faults = frame.filter(pl.col("kind").is_in(list(_FAULTS)))
    rejected = rejects(faults[LINE], faults["raw"], "text", faults["kind"].replace_strict(_FAULTS, return_dtype=pl.String))
    counted = frame.filter(pl.col("kind").is_in(list(_FAULTS)).not_())["kind"].drop_nulls().value_counts()
    return Lines(data, rejected, dict(zip(counted["kind"], counted["count"], strict=True)))


_FAULTS = {
    "undecodable": "the line is not in the profile's encoding",
    "return": "the line has a carriage return in its middle",
    "quotes": "the line has a quote that does not end",
}


def _decoded(raw: pl.Series, encoding: str) -> pl.Series:
    if encoding == "utf-8":
        return raw.cast(pl.String, strict=False)
    return pl.Series(raw.name, [_decode(line, encoding) for line in raw], dtype=pl.String)


def _decode(line: bytes, encoding: str) -> str | None:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:
        return None


def _kinds(form: Format) -> pl.Expr:
    text = pl.col("text")
    kind = pl.when(text.is_null()).then(pl.lit("undecodable"))
    kind = kind.when(text.str.contains(r"^\s*$")).then(pl.lit("blank"))
    if form.comment:
        kind = kind.when(text.str.starts_with(form.comment)).then(pl.lit("comment"))
    for name in ("trailer", "no_records"):
        if pattern := getattr(form, name):
            kind = kind.when(text.str.contains("^(?:" + pattern.removeprefix("^") + ")")).then(pl.lit(name))
    if form.format == "csv":
        kind = kind.when(text.str.contains("\r", literal=True)).then(pl.lit("return"))
        if form.quote:
            odd = text.str.count_matches(form.quote, literal=True) % 2 == 1
            kind = kind.when(odd).then(pl.lit("quotes"))
    return kind.otherwise(None)


class CsvReader:
    """Splits blocks of one member: `names` are its columns in order, `wanted` those that the profile reads."""

    def __init__(self, form: Format, names: list[str], wanted: list[str]) -> None:
        self.form, self.names, self.wanted = form, names, wanted
        self._marks = marks(form)

    def read(self, block: Block) -> RawBatch:
        """The rows of a block."""
        clean = self._clean(block)
        return clean if clean is not None else self._careful(block)

    def _clean(self, block: Block) -> RawBatch | None:
        """All lines at once, or None where any line is not simply a row."""
        data = utf8(block.data, encoding_of(self.form))
        if data is None or self._has_blank(data) or (self._marks and self._marks.search(data)):
            return None
        lines = data.count(b"\n")
        table, ragged = self._split(data, threads=True)
        if ragged or table.num_rows != lines:
            return None
        frame = self._frame(table, pl.int_range(block.first_line, block.first_line + lines, eager=True))
        return RawBatch(frame, lines, block.nbytes, block.data, block.first_line)

    def _has_blank(self, data: bytes) -> bool:
        """Whether a line is empty; with several columns such a line is ragged, and needs no search."""
        return len(self.names) == 1 and re.search(rb"(?m)^[ \t]*\r?$", data[:-1]) is not None

    def _careful(self, block: Block) -> RawBatch:
        """Line by line: leave out what is no row, reject what cannot be split, keep every good row."""
        lines = split_lines(block, self.form)
        data = ("\n".join(lines.frame["text"]) + "\n").encode() if len(lines.frame) else b""
        table, ragged = self._split(data, threads=False) if data else (None, [])
        numbers, rejected = lines.frame[LINE], lines.rejected
        if ragged:
            at = pl.Series([row.number - 1 for row in ragged], dtype=pl.Int64)
            why = [f"has {row.actual_columns} fields, not {row.expected_columns}" for row in ragged]
            raw = RawBatch(lines.frame, 0, 0, block.data, block.first_line).raw(numbers.gather(at))
            rejected = pl.concat([rejected, rejects(numbers.gather(at), raw, "ragged", why)])
            numbers = numbers.filter(pl.int_range(len(numbers), eager=True).is_in(at.implode()).not_())
        frame = self._frame(table, numbers) if table is not None else self._none()
        total = block.data.count(b"\n")
        return RawBatch(frame, total, block.nbytes, block.data, block.first_line, rejected, lines.skipped)

    def _split(self, data: bytes, threads: bool) -> tuple[pa.Table, list[csv.InvalidRow]]:
        ragged: list[csv.InvalidRow] = []

        def note(row: csv.InvalidRow) -> str:
            ragged.append(row)
            return "skip"

        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(column_names=self.names, block_size=_ARROW_BLOCK, use_threads=threads),
            parse_options=csv.ParseOptions(
                delimiter=self.form.delimiter,
                quote_char=self.form.quote or False,
                invalid_row_handler=note,
                ignore_empty_lines=False,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(self.wanted, pa.string()),
                include_columns=self.wanted,
                strings_can_be_null=False,
            ),
        )
        return table, ragged

    def _none(self) -> pl.DataFrame:
        return pl.DataFrame(schema=dict.fromkeys(self.wanted, pl.String) | {LINE: pl.Int64})

    def _frame(self, table: pa.Table, numbers: pl.Series) -> pl.DataFrame:
        frame = pl.DataFrame(pl.from_arrow(table))
        return frame.with_columns(numbers.alias(LINE))


@dataclass(frozen=True)
class Start:
    """Where a member's rows begin: its column names, the bytes before the first row, and the line it is on."""

    names: list[str]
    nbytes: int
    line: int


def start(block: Block, form: Format, place: str) -> Start:
    """Read what precedes the rows: lines to skip, comments and blank lines, and the header where there is one."""
    at, line = 0, 1
    for _ in range(form.skip_lines):
        at, line = block.data.index(b"\n", at) + 1, line + 1
    mark = form.comment.encode() if form.comment else None
    while at < len(block.data):
        end = block.data.index(b"\n", at) + 1
        text = block.data[at:end]
        if form.header and text.strip() and not (mark and text.startswith(mark)):
            return Start(_names(text, form, place), end, line + 1)
        if not form.header:
            return Start(list(form.columns), at, line)
        at, line = end, line + 1
    raise FileFault(place, "has no header line" if form.header else "has no rows", "Is it the right file?")


def _names(line: bytes, form: Format, place: str) -> list[str]:
    try:
        text = line.decode("utf-8" if is_wide(form.encoding) else form.encoding)
    except UnicodeDecodeError as exc:
        raise FileFault(place, f"its header is not {form.encoding}", "Set file.encoding in the profile") from exc
    text = text.lstrip("\ufeff").rstrip("\r\n")
    return _unique([name.strip().strip(form.quote or None) for name in text.split(form.delimiter)])


def _unique(names: list[str]) -> list[str]:
    """Repeated names get a number: a, a_2, a_3."""
    counts: dict[str, int] = {}
    result = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return result
