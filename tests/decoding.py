"""Decode a text by a profile that is written in the test."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from k2kernel import profiles
from k2kernel.decode import Decoder
from k2kernel.profiles import Profile
from k2kernel.sources import members

PLAIN = """
title = "the least of a profile"
[file]
columns = ["time", "price"]
[[route]]
table = "trades"
[route.columns]
symbol = { constant = "S" }
venue = { constant = "XASX" }
ts_event = { column = "time", layout = "iso8601" }
price = "price"
"""


@dataclass
class Decoding:
    """All that came of a file; the lines are accounted for."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    fanout: int = 0
    dropped: list[str] = field(default_factory=list)

    def column(self, name: str, table: str = "trades") -> list[Any]:
        return [row[name] for row in self.tables[table]]

    @property
    def reasons(self) -> dict[int, str]:
        return {row["line"]: row["reason"] for row in self.rejected}


def profile_of(folder: Path, toml: str, name: str = "own") -> Profile:
    path = folder / f"{name}.toml"
    path.write_text(textwrap.dedent(toml), encoding="utf-8")
    return profiles.load(path)


def decode(profile: Profile, path: Path, *, lookup: Mapping[str, str] | None = None, **options: str) -> Decoding:
    """Decode every member of the file; every lookup of the profile has the texts of `lookup`."""
    done = Decoding()
    frames: dict[str, list[pl.DataFrame]] = {}
    for member in members(path, profile.file.members):
        decoder = Decoder(profile, member, options, None, dict.fromkeys(profile.lookups, lookup or {}))
        for batch in decoder.batches():
            for table, frame in batch.tables.items():
                frames.setdefault(table, []).append(frame)
            done.rejected += batch.rejected.to_dicts()
            done.skipped = {
                kind: done.skipped.get(kind, 0) + batch.skipped.get(kind, 0) for kind in {*done.skipped, *batch.skipped}
            }
            done.lines += batch.lines
            done.fanout += batch.fanout
        done.dropped = decoder.dropped
    done.tables = {table: pl.concat(parts).to_dicts() for table, parts in frames.items()}
    rows = sum(map(len, done.tables.values()))
    assert done.lines + done.fanout == rows + len(done.rejected) + sum(done.skipped.values())
    return done


def decode_text(folder: Path, toml: str, data: bytes | str, name: str = "data.csv", **options: str) -> Decoding:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return decode(profile_of(folder, toml), path, lookup=None, **options)


def utc(year: int, month: int, day: int, *clock: int) -> datetime:
    """`clock` is hours, minutes, seconds and µs, as far as they are not 0."""
    hour, minute, second, micros = (*clock, 0, 0, 0, 0)[:4]
    return datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)


def dec(*texts: str | None) -> list[Decimal | None]:
    return [None if text is None else Decimal(text) for text in texts]
