"""A profile at work on one member: raw batches in, contract rows and rejects out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from k2kernel.cached import cached_property
from k2kernel.decode import values
from k2kernel.decode.jsonlines import JsonReader
from k2kernel.decode.parquet import parquet_batches, parquet_columns
from k2kernel.decode.raw import LINE, RawBatch, rejects
from k2kernel.decode.routes import Compiled, compile_route
from k2kernel.decode.sessions import Sessions
from k2kernel.decode.sql import Evaluator
from k2kernel.decode.text import CsvReader, start
from k2kernel.decode.values import Context
from k2kernel.errors import FileFault, ProfileError
from k2kernel.profiles import Lookup, Profile
from k2kernel.sources import Block, Member, text_blocks

_EXPR = "__expr"


@dataclass
class Decoded:
    """What a batch became: frames by table (every contract column but ts_ingest and source), rejects, skipped by kind.

    `lines` were read; a line that fed n routes counts n - 1 times in `fanout`, so that
    lines + fanout = rows of all tables + rejected + skipped. `next_line` is the number of the line after the last one.
    """

    tables: dict[str, pl.DataFrame]
    rejected: pl.DataFrame
    skipped: dict[str, int]
    lines: int
    fanout: int
    nbytes: int
    next_line: int


@dataclass
class Decoder:
    """Decodes one member by a profile, with the options given and the texts of the profile's lookups.

    `home` is where the user's venues are declared; `nbytes` is the member's decompressed size, for progress.
    `columns` are the raw columns that the member has, once its first batch has been read.
    """

    profile: Profile
    member: Member
    options: Mapping[str, str]
    home: Path | None = None
    lookups: Mapping[Lookup, Mapping[str, str]] = field(default_factory=dict)
    nbytes: int = 0
    columns: list[str] = field(default_factory=list)

    def batches(self, skip_bytes: int = 0, first_line: int = 1) -> Iterator[Decoded]:
        """Decode the member from `first_line`, which begins after `skip_bytes`; the next batch is read meanwhile."""
        for raw in _ahead(self._raw(skip_bytes, first_line)):
            yield self.decode(raw)

    @property
    def dropped(self) -> list[str]:
        """The raw columns of this member that neither a table column nor `extra` takes."""
        return self.profile.dropped(self.columns)

    def _raw(self, skip_bytes: int, first_line: int) -> Iterator[RawBatch]:
        form = self.profile.file
        if form.format == "parquet":
            self.columns = parquet_columns(self.member)
            yield from parquet_batches(self.member, self._wanted(), self.nbytes)
            return
        if self.member.packing == "parquet":
            raise FileFault(self.member.name, f"is Parquet, and the profile reads {form.format}", "Use another profile")
        if form.format == "ndjson":
            reader = JsonReader(form, Evaluator())  # its own, because it works in another thread
            self.columns = reader.names
            yield from map(reader.read, self._blocks(skip_bytes, first_line))
            return
        first = next(text_blocks(self.member, form.encoding), None)
        if first is None:
            raise FileFault(self.member.name, "is empty", "Fetch it again, or leave it out")
        begin = start(first, form, self.member.name)
        self.columns = begin.names
        splitter = CsvReader(form, begin.names, self._wanted())
        at = (skip_bytes, first_line) if skip_bytes > begin.nbytes else (begin.nbytes, begin.line)
        yield from map(splitter.read, self._blocks(*at))

    def _blocks(self, skip_bytes: int, first_line: int) -> Iterator[Block]:
        return text_blocks(self.member, self.profile.file.encoding, skip_bytes, first_line)

    def _wanted(self) -> list[str]:
        """The raw columns that the profile reads: all of them where SQL may name any, or it keeps all."""
        if self.profile.expressions or any("*" in route.keep for route in self.profile.route):
            return self.columns
        named = [name for name in self.columns if name in self.profile.references]
        return named or self.columns[:1]

    @cached_property
    def _evaluator(self) -> Evaluator:
        evaluator = Evaluator()
        for expression in self.profile.expressions:
            evaluator.check(expression, self.profile.name)
        return evaluator

    @cached_property
    def _alike(self) -> list[str]:
        """Columns that SQL cannot tell from another, because only their case differs."""
        return [name for name in self.columns if sum(name.lower() == other.lower() for other in self.columns) > 1]

    @cached_property
    def _expressions(self) -> dict[str, str]:
        return {text: f"{_EXPR}{number}" for number, text in enumerate(self.profile.expressions)}

    @cached_property
    def _context(self) -> Context:
        return Context(
            place=self.member.name,
            options=self.options,
            columns=tuple(self.columns),
            expressions=self._expressions,
            lookups=self.lookups,
            null_if=tuple(self.profile.file.null_if),
        )

    @cached_property
    def _compiled(self) -> list[Compiled]:
        return [compile_route(route, self._context) for route in self.profile.route]

    @cached_property
    def _sessions(self) -> Sessions:
        return Sessions(self.home)

    def decode(self, raw: RawBatch) -> Decoded:
        """The rows, rejects and skipped lines of a raw batch."""
        rejected = [raw.rejected]
        frame = self._with_expressions(raw, rejected) if self._expressions else raw.frame
        tables: dict[str, list[pl.DataFrame]] = {}
        taken = pl.zeros(len(frame), pl.Int32, eager=True)
        for route in self._compiled:
            takes = None if route.takes is None else frame.select(route.takes).to_series()
            taken = taken + (1 if takes is None else takes.cast(pl.Int32))
            rows, bad = self._rows(route, frame if takes is None else frame.filter(takes), raw)
            tables.setdefault(route.table.name, []).append(rows)
            rejected += bad
        skipped = self._left_out(frame.filter(taken == 0), raw, rejected)
        return Decoded(
            {name: pl.concat(parts) for name, parts in tables.items()},
            pl.concat(rejected),
            _summed(raw.skipped, skipped),
            raw.lines,
            int((taken - 1).clip(lower_bound=0).sum()),
            raw.nbytes,
            raw.first_line + raw.lines,
        )

    def _with_expressions(self, raw: RawBatch, rejected: list[pl.DataFrame]) -> pl.DataFrame:
        if self._alike:
            raise ProfileError(self.profile.name, "expr", f"SQL cannot tell {' from '.join(self._alike)}")
        named = {alias: text for text, alias in self._expressions.items()}
        results, failed = self._evaluator.rows(raw.frame.drop(LINE), named, self.profile.name)
        frame = pl.concat([raw.frame, results], how="horizontal")
        fails = failed.select(pl.any_horizontal(pl.all())).to_series()
        if not fails.any():
            return frame
        lines = frame.filter(fails)[LINE]
        rejected.append(rejects(lines, raw.raw(lines), "expr", "an SQL expression of the profile fails on it"))
        return frame.filter(~fails)

    def _rows(self, route: Compiled, frame: pl.DataFrame, raw: RawBatch) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
        """The contract rows of a route, and what it rejects."""
        out = _staged(route, frame).select(*route.select, route.bad.alias("__bad")).collect()
        bad, faults = out["__bad"], []
        if bad.any():
            found = _staged(route, frame.filter(bad)).select(LINE, route.reason.alias("reason")).collect()
            faults.append(_faults(found[LINE], found["reason"], route, raw))
            out = out.filter(~bad)
        unknown = self._sessions.undeclared(out["venue"])
        if unknown and route.fixed_venue:
            raise next(iter(unknown.values()))
        if unknown:
            odd = out.filter(pl.col("venue").is_in(list(unknown)))
            why = odd["venue"].replace_strict({code: f"venue: {exc}" for code, exc in unknown.items()})
            faults.append(_faults(odd["source_offset"], why, route, raw))
            out = out.filter(pl.col("venue").is_in(list(unknown)).not_())
        if "session" in route.table:
            said = [pl.col("session")] if "session" in out.columns else []
            out = out.with_columns(pl.coalesce(*said, self._sessions.column(out)).alias("session"))
        return out.select(name for name in route.table.names if name in out.columns), faults

    def _left_out(self, frame: pl.DataFrame, raw: RawBatch, rejected: list[pl.DataFrame]) -> dict[str, int]:
        """Rows that no route took: counted by kind where the profile skips them, rejected where it does not."""
        if frame.is_empty():
            return {}
        skip = self.profile.skip
        if skip is None:
            rejected.append(rejects(frame[LINE], raw.raw(frame[LINE]), "route", "no route of the profile takes it"))
            return {}
        text = None if skip.kind is None else values.text_of(skip.kind, self._context)
        if text is not None and skip.kind is not None and skip.kind.map is not None:
            text = values.through_map(text, skip.kind.model_copy(update={"unmapped": "keep"}))
        kind = pl.lit("other") if text is None else text.fill_null("other")
        return dict(frame.select(kind.alias("kind"), LINE)["kind"].value_counts().iter_rows())


def _ahead(batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
    """The same batches, each read by another thread while the one before it is at work here."""
    with ThreadPoolExecutor(1, thread_name_prefix="k2-read") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _staged(route: Compiled, frame: pl.DataFrame) -> pl.LazyFrame:
    return frame.lazy().with_columns(**route.steps.texts).with_columns(**route.steps.values)


def _faults(lines: pl.Series, reason: pl.Series, route: Compiled, raw: RawBatch) -> pl.DataFrame:
    return rejects(lines, raw.raw(lines), "value", reason, route.table.name)


def _summed(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {kind: first.get(kind, 0) + second.get(kind, 0) for kind in {**first, **second}}
