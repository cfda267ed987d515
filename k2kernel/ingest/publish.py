"""A file to topics: decoded by a profile as a load would, published instead of written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from k2kernel.decode import Decoder
from k2kernel.errors import FileFault, counted
from k2kernel.html import Spoken
from k2kernel.ingest.files import sizes_of
from k2kernel.ingest.known import Options
from k2kernel.ingest.lookups import resolve
from k2kernel.ingest.order import SequenceCheck, SequenceDisorder, by_ordinal
from k2kernel.ingest.progress import Phase, Progress, silent
from k2kernel.ingest.receipt import summed
from k2kernel.lake import Lake
from k2kernel.profiles import Profile
from k2kernel.schemas import KINDS
from k2kernel.sinks.kafka import Producer, Published
from k2kernel.sources import Member, members


@dataclass(frozen=True)
class Sent(Spoken):
    """What became of a file: its `lines`, `rejected` ones, those `skipped` by kind, and what was `published`."""

    file: str
    lines: int = 0
    rejected: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    published: Published = field(default_factory=Published)

    def __str__(self) -> str:
        told = [counted(self.lines, "line"), str(self.published)]
        told += [f"{count:,} {kind} skipped" for kind, count in self.skipped.items()]
        told += [f"{self.rejected:,} rejected"] if self.rejected else []
        return f"{self.file}: {'; '.join(told)}"


def publish_file(
    lake: Lake | None,
    home: Path,
    path: str | Path,
    profile: Profile,
    producer: Producer,
    *,
    options: Options,
    progress: Progress = silent,
) -> Sent:
    """Publish the trades and quotes of one file (every member of a zip), and wait until each is delivered or told.

    A file that cannot be decoded, or of which more than the allowed share of lines is bad, is a `FileFault` before
    anything of it is published; so it is read twice.
    """
    lookups = resolve(lake, profile)
    found = members(path, profile.file.members)
    decoders = [Decoder(profile, member, options.values, home, lookups) for member in found]
    tells = [
        Phase(progress, member.name, "checking", size) for member, size in zip(found, sizes_of(found), strict=True)
    ]
    looks = [_inspect(*each, options) for each in zip(decoders, found, tells, strict=True)]
    for decoder, member, (_, nbytes, by_line) in zip(decoders, found, looks, strict=True):
        _send(decoder, member, producer, Phase(progress, member.name, "publishing", nbytes), by_line=by_line)
    return _total(str(path), [sent for sent, _, _ in looks], deliver(producer, str(path), progress))


def deliver(producer: Producer, file: str, progress: Progress) -> Published:
    """Wait until each row that was sent is delivered or told."""
    phase, done = Phase(progress, file, "delivering", producer.sent), 0

    def tell(delivered: int) -> None:
        nonlocal done
        phase(delivered - done)
        done = delivered

    return producer.flush(tell)


def _inspect(decoder: Decoder, member: Member, tell: Phase, options: Options) -> tuple[Sent, int, bool]:
    """The account of a member, its bytes, and whether its rows are ordered by their place, as their numbers are not."""
    lines = rejected = nbytes = 0
    skipped: dict[str, int] = {}
    by_line, check, first = False, SequenceCheck(), ""
    for decoded in decoder.batches():
        lines, rejected = lines + decoded.lines, rejected + len(decoded.rejected)
        skipped = summed(skipped, decoded.skipped)
        first = first or next((str(reason) for reason in decoded.rejected["reason"].head(1)), "")
        try:
            for table, frame in decoded.tables.items():
                check.see(table, frame)
        except SequenceDisorder:
            by_line = True
        nbytes += decoded.nbytes
        tell(decoded.nbytes)
    tell.done()
    if rejected > options.max_rejects * lines:
        problem = f"{rejected:,} of {lines:,} lines are bad, more than {options.max_rejects:.2%}. The first: {first}"
        raise FileFault(member.name, problem, "Correct the profile, or allow more with --max-rejects")
    return Sent(member.name, lines, rejected, skipped), nbytes, by_line


def _send(decoder: Decoder, member: Member, producer: Producer, tell: Phase, *, by_line: bool) -> None:
    for decoded in decoder.batches():
        for table, frame in decoded.tables.items():
            if table not in KINDS:
                raise FileFault(member.name, f"has rows for {table}", "Only trades and quotes are events; ingest it")
            producer.send(table, by_ordinal(frame) if by_line else frame)
        tell(decoded.nbytes)


def _total(path: str, parts: list[Sent], published: Published) -> Sent:
    skipped = summed(*(part.skipped for part in parts))
    return Sent(path, sum(part.lines for part in parts), sum(part.rejected for part in parts), skipped, published)
