"""A first draft of a profile for a file of an unknown format, from its first lines."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from k2kernel.decode.parquet import parquet_batches, parquet_columns
from k2kernel.decode.text import names_of, refuse_bare_returns
from k2kernel.errors import FileFault
from k2kernel.ingest.draft import draft
from k2kernel.ingest.recognise import Column
from k2kernel.sources import Member, members

_HEAD_BYTES = 1 << 18
_ROWS = 500
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass
class Sample:
    """What the first lines show: the keys of `[file]`, and some texts of each raw column."""

    form: dict[str, object]
    columns: list[Column] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def suggest(path: str | Path) -> str:
    """The TOML of a profile that reads the file as far as its first lines tell, with comments on what to check."""
    member = members(path)[0]
    return draft(member, **vars(_parquet(member) if member.packing == "parquet" else _text(member)))


def _parquet(member: Member) -> Sample:
    names = parquet_columns(member)
    batch = next(parquet_batches(member, names, 0), None)
    if batch is None:
        raise FileFault(member.name, "has no rows", "There is nothing to see in it")
    rows = batch.frame.head(_ROWS)
    return Sample({"format": "parquet"}, [Column(name, rows[name].drop_nulls().to_list()) for name in names])


def _text(member: Member) -> Sample:
    with replace(member, head=_HEAD_BYTES).open() as stream:
        raw = stream.read()
    encoding = _encoding(raw)
    text = raw.decode(encoding, errors="replace").lstrip("\ufeff")
    refuse_bare_returns(member.name, text)
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise FileFault(member.name, "has no rows", "There is nothing to see in it")
    form: dict[str, object] = {} if encoding == "utf-8" else {"encoding": encoding}
    sample = _json(lines, form)
    if sample is None and lines[0].lstrip().startswith(("[", "{")):
        raise FileFault(member.name, "is JSON that has no object in each line", "Make it so: jq -c '.[]' FILE")
    sample = sample or _delimited(lines, form)
    if encoding in ("gbk", "cp1252"):
        sample.remarks.append(f"the encoding {encoding} is a guess: the file is not UTF-8")
    return sample


def _encoding(raw: bytes) -> str:
    """By its mark, by its zero bytes, or the first that it can be: of GBK only the characters of GB 2312 are asked for,
    because any two letters of western Europe may be one of the others.
    """
    marked = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
    marked |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked |= {b"\0": "utf-16-be", raw[:1] + b"\0": "utf-16-le"}
    if (found := next((name for mark, name in marked.items() if raw.startswith(mark)), None)) is not None:
        return found
    for encoding, characters in (("utf-8", "utf-8"), ("gbk", "gb2312")):
        try:
            raw.decode(characters)
        except UnicodeDecodeError:
            continue
        return encoding
    return "cp1252"


def _json(lines: list[str], form: dict[str, object]) -> Sample | None:
    objects = [(line[: line.find("{")], _object(line)) for line in lines[:_ROWS] if "{" in line]
    good = [(prefix, found) for prefix, found in objects if found is not None]
    if not good or len(good) < min(len(lines), _ROWS) / 2:
        return None
    texts: dict[str, list[str]] = {}
    for _, found in good:
        for path, value in _leaves(found, "$"):
            texts.setdefault(path, []).append(value)
    names = _names(list(texts))
    columns = [Column(names[path], values) for path, values in texts.items()]
    form |= {"format": "ndjson", "columns": {names[path]: path for path in texts}}
    if prefix := good[0][0]:
        clock = re.match(r"\d+", prefix)
        name = {10: "recv_s", 13: "recv_ms", 16: "recv_us", 19: "recv_ns"}.get(
            len(clock.group()) if clock else 0, "prefix"
        )
        rest = re.escape(prefix[clock.end() :]).replace(r"\ ", " ") if clock else ""
        form["prefix"] = rf"(?P<{name}>\d+){rest}" if clock else r"(?P<prefix>[^{]*)"
        columns.insert(0, Column(name, [text.strip() for text, _ in good]))
    return Sample(form, columns)


def _object(line: str) -> dict[str, object] | None:
    try:
        found = json.loads(line[line.index("{") :], parse_float=str, parse_int=str)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _leaves(value: Mapping[str, object], path: str) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        place = f"{path}.{key}" if re.fullmatch(r"\w+", key) else f'{path}."{key}"'
        if isinstance(inner, dict):
            yield from _leaves(inner, place)
        elif inner is not None:
            yield place, inner if isinstance(inner, str) else json.dumps(inner)


def _names(paths: list[str]) -> dict[str, str]:
    """The last key of each path, or the whole path where two share it."""
    last = {path: path.rpartition(".")[2].strip('"') for path in paths}
    counts = Counter(last.values())
    return {
        path: name if counts[name] == 1 else path.removeprefix("$.").replace(".", "_") for path, name in last.items()
    }


def _delimited(lines: list[str], form: dict[str, object]) -> Sample:
    remarks = []
    delimiter = _delimiter(lines)
    if lines[0].startswith(("#", "//")) and not _heads(lines, delimiter):
        form["comment"] = "#" if lines[0].startswith("#") else "//"
        lines = [line for line in lines if not line.startswith(str(form["comment"]))]
        delimiter = _delimiter(lines)
    rows = list(islice(csv.reader(lines, delimiter=delimiter), _ROWS))
    width = Counter(map(len, rows)).most_common(1)[0][0]
    skipped = next(number for number, row in enumerate(rows) if len(row) == width)
    rows, odd = rows[skipped:], [row for row in rows[skipped:] if len(row) != width]
    rows = [row for row in rows if len(row) == width]
    if delimiter != ",":
        form["delimiter"] = delimiter
    if skipped:
        form["skip_lines"] = skipped
    if odd:
        remarks.append(
            f"lines such as {delimiter.join(odd[0])!r} have another number of fields: say trailer or comment"
        )
    header = len(rows) > 1 and not any(map(_like_data, rows[0]))
    names = names_of([name.strip() for name in rows.pop(0)] if header else [""] * width)
    form |= {} if header else {"header": False}
    form["columns"] = names
    again = [row for row in rows if header and [text.strip() for text in row] == names]
    if again:
        rows = [row for row in rows if row not in again]
        remarks.append("the header is there again: such lines are rejected")
    columns = [Column(name, [row[n] for row in rows]) for n, name in enumerate(names)]
    if any(not text.strip() for column in columns for text in column.texts):
        form["null_if"] = ""
    return Sample(form, columns, remarks)


def _delimiter(lines: list[str]) -> str:
    """The one that splits most lines into the same number of fields, the more the better."""

    def score(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in csv.reader(lines[:_ROWS], delimiter=delimiter))
        width, count = widths.most_common(1)[0]
        return (count if width > 1 else 0, width)

    return max(",;\t|", key=score)


def _heads(lines: list[str], delimiter: str) -> bool:
    """Whether the first line has as many fields as the next, as `#RIC,Date-Time,Price` has."""
    rows = list(csv.reader(lines[:2], delimiter=delimiter))
    return len(rows) > 1 and len(rows[0]) == len(rows[1]) > 1


def _like_data(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text.strip()) or re.match(r"\d", text.strip()))
