"""Delimited text to raw batches: pyarrow splits a clean block at once; one with a fault is looked at line by line."""

from __future__ import annotations

import codecs
import csv as plain_csv
import re
from collections.abc import Callable
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


def marks(form: Format) -> str:
    """How a line that is no row begins, as a regex: comment, trailer or "no records"."""
    patterns = [re.escape(form.comment)] if form.comment else []
    patterns += [pattern.removeprefix("^") for pattern in (form.trailer, form.no_records) if pattern]
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def any_line(pattern: str) -> Callable[[bytes], bool]:
    """Whether any line begins with what the regex matches (a search from each line feed is quicker than `(?m)^`)."""
    first, later = (re.compile(f"(?m){before}(?:{pattern})".encode()) for before in ("", "\n"))
    return lambda data: first.match(data) is not None or later.search(data) is not None


def split_lines(block: Block, form: Format) -> Lines:
    """Every line of the block, sorted into data, skipped kinds and rejects; blank lines are skipped."""
    raw = pl.Series("raw", block.data.split(b"\n")[:-1], dtype=pl.Binary)
    numbers = pl.int_range(block.first_line, block.first_line + len(raw), eager=True)
    texts = _decoded(raw, encoding_of(form)).str.strip_suffix("\r")
    frame = pl.DataFrame({LINE: numbers, "raw": raw, "text": texts}).with_columns(kind=_kinds(form))
    data = frame.filter(pl.col("kind").is_null()).select(LINE, "text")
    faults = frame.filter(pl.col("kind").is_in(list(_FAULTS)))
    rejected = rejects(
        faults[LINE], faults["raw"], "text", faults["kind"].replace_strict(_FAULTS, return_dtype=pl.String)
    )
    counted = frame.filter(pl.col("kind").is_in(list(_FAULTS)).not_())["kind"].drop_nulls().value_counts()
    return Lines(data, rejected, dict(counted.iter_rows()))


_FAULTS = {
    "undecodable": "the line is not in the profile's encoding",
    "return": "the line has a carriage return in its middle",
    "quotes": "the line has a quote that does not end",
}


def _decoded(raw: pl.Series, encoding: str) -> pl.Series:
    if encoding == "utf-8":
        try:
            return raw.cast(pl.String)
        except pl.exceptions.ComputeError:  # some line is not UTF-8: find out which
            pass
    return pl.Series(raw.name, [_decode(line, encoding) for line in raw], dtype=pl.String)


def _decode(line: bytes, encoding: str) -> str | None:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:
        return None


def _kinds(form: Format) -> pl.Expr:
    """Why a line is no row: the first that holds; null for a row."""
    text = pl.col("text")
    kinds = {"undecodable": text.is_null(), "blank": text.str.contains(r"^\s*$")}
    if form.comment:
        kinds["comment"] = text.str.starts_with(form.comment)
    for name in ("trailer", "no_records"):
        if pattern := getattr(form, name):
            kinds[name] = text.str.contains("^(?:" + pattern.removeprefix("^") + ")")
    if form.format == "csv":
        kinds["return"] = text.str.contains("\r", literal=True)
        if form.quote:
            whole = text.str.contains(_rows_regex(form.delimiter, form.quote))
            kinds["quotes"] = text.str.contains(form.quote, literal=True) & whole.not_()
    return pl.coalesce([pl.when(holds).then(pl.lit(kind)) for kind, holds in kinds.items()])


def _rows_regex(delimiter: str, quote: str) -> str:
    """A line whose quoted fields all end; a quote inside a field that does not begin with one is a character."""
    comma, mark = re.escape(delimiter), re.escape(quote)
    field = f"(?:{mark}(?:[^{mark}]|{mark}{mark})*{mark}[^{comma}{mark}]*|[^{comma}{mark}][^{comma}]*|)"
    return f"^{field}(?:{comma}{field})*$"


class CsvReader:
    """Splits blocks of one member: `names` are its columns in order, `wanted` those that the profile reads."""

    def __init__(self, form: Format, names: list[str], wanted: list[str]) -> None:
        self.form, self.names, self.wanted = form, names, wanted
        blank = "[ \\t]*\\r?$" if len(names) == 1 else ""
        patterns = [pattern for pattern in (marks(form), blank) if pattern]
        self._no_row = any_line("|".join(patterns)) if patterns else None

    def read(self, block: Block) -> RawBatch:
        """The rows of a block."""
        clean = self._clean(block)
        return clean if clean is not None else self._careful(block)

    def _clean(self, block: Block) -> RawBatch | None:
        """All lines at once, or None where any line is not simply a row."""
        data = utf8(block.data, encoding_of(self.form))
        if data is None or (self._no_row and self._no_row(data[:-1])) or self._open_end(data):
            return None
        lines = block.lines
        try:
            table, ragged = self._split(data, _ARROW_BLOCK)
        except pa.ArrowInvalid:  # such as a quote that does not end
            return None
        if ragged or table.num_rows != lines:
            return None
        frame = self._frame(table, pl.int_range(block.first_line, block.first_line + lines, eager=True))
        if _has_empty_row(frame):  # which may be an empty line
            return None
        return RawBatch(frame, lines, block.nbytes, block.data, block.first_line)

    def _open_end(self, data: bytes) -> bool:
        """Whether the last line has a quote that does not end: the parser would not say so."""
        last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :].decode().rstrip("\r\n")
        quote = self.form.quote
        return bool(quote) and quote in last and not re.match(_rows_regex(self.form.delimiter, quote), last)

    def _careful(self, block: Block) -> RawBatch:
        """Line by line: leave out what is no row, reject what cannot be split, keep every good row."""
        lines = split_lines(block, self.form)
        data = ("\n".join(lines.frame["text"]) + "\n").encode() if len(lines.frame) else b""
        table, ragged = self._split(data) if data else (None, [])
        numbers, rejected = lines.frame[LINE], lines.rejected
        if ragged:
            at = pl.Series([row.number - 1 for row in ragged], dtype=pl.Int64)
            why = [f"has {row.actual_columns} fields, not {row.expected_columns}" for row in ragged]
            raw = RawBatch(lines.frame, 0, 0, block.data, block.first_line).raw(numbers.gather(at))
            rejected = pl.concat([rejected, rejects(numbers.gather(at), raw, "ragged", why)])
            numbers = numbers.filter(pl.int_range(len(numbers), eager=True).is_in(at.implode()).not_())
        frame = self._frame(table, numbers) if table is not None else self._none()
        return RawBatch(frame, block.lines, block.nbytes, block.data, block.first_line, rejected, lines.skipped)

    def _split(self, data: bytes, block: int | None = None) -> tuple[pa.Table, list[csv.InvalidRow]]:
        """By several threads where blocks are given; the numbers of ragged rows are only right without."""
        ragged: list[csv.InvalidRow] = []

        def note(row: csv.InvalidRow) -> str:
            ragged.append(row)
            return "skip"

        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=self.names, block_size=block or len(data), use_threads=block is not None
            ),
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


def _has_empty_row(frame: pl.DataFrame) -> bool:
    empty = pl.repeat(value=True, n=len(frame), dtype=pl.Boolean, eager=True)
    for column in frame.drop(LINE).get_columns():
        empty &= column == ""
        if not empty.any():
            return False
    return True


@dataclass(frozen=True)
class Start:
    """Where a member's rows begin: its column names, the bytes before the first row, and the line it is on."""

    names: list[str]
    nbytes: int
    line: int


def start(block: Block, form: Format, place: str) -> Start:
    """Read what precedes the rows: lines to skip, comments and blank lines, and the header where there is one."""
    at, line = len(codecs.BOM_UTF8) if block.data.startswith(codecs.BOM_UTF8) else 0, 1
    for _ in range(min(form.skip_lines, block.data.count(b"\n"))):
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
    text = text.rstrip("\r\n")
    refuse_bare_returns(place, text)
    if "\0" in text:
        raise FileFault(place, "its header has zero bytes", "Set file.encoding in the profile, such as utf-16-le")
    cells = next(
        plain_csv.reader(
            [text],
            delimiter=form.delimiter,
            quotechar=form.quote or None,
            quoting=plain_csv.QUOTE_MINIMAL if form.quote else plain_csv.QUOTE_NONE,
        )
    )
    return names_of([name.strip().strip(form.quote or None) for name in cells])


def refuse_bare_returns(place: str, text: str) -> None:
    """FileFault where a file's first text has carriage returns, and no line feed, between its lines."""
    if "\r" in text and "\n" not in text:
        raise FileFault(place, "its lines end in carriage returns alone", "Make them line feeds: tr '\\r' '\\n'")


def names_of(header: list[str]) -> list[str]:
    """Repeated names get a number: a, a_2, a_3; empty ones that of their place: column1."""
    counts: dict[str, int] = {}
    result = []
    for number, text in enumerate(header):
        name = text or f"column{number + 1}"
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return result
