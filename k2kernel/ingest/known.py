"""What the lake holds of a file already: nothing, all of it, or its beginning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from k2kernel.errors import AlreadyIngested, FileFault, GrownFile
from k2kernel.ingest.receipt import Account
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.profiles import Profile
from k2kernel.sources import Digest, Member, digest, is_wide

ACCOUNT = "account."
"""Prefix, before a digest, of the key under which a commit keeps the account of each of its sources."""


@dataclass(frozen=True)
class Load:
    """An earlier load of one source into one table."""

    table: str
    source: SourceRecord
    by: Provenance

    @property
    def account(self) -> Account:
        """The lines of the source, over all tables."""
        text = self.by.extra.get(ACCOUNT + self.source.digest)
        return Account(lines=self.source.rows, tables={self.table: self.source.rows}) if text is None else Account.from_json(text)


class Loads:
    """The loads that stand in the lake, by digest and table."""

    def __init__(self, lake: Lake, tables: Iterable[str]) -> None:
        self._loads = [
            Load(table, source, by)
            for table in dict.fromkeys(tables)
            for by in lake.provenance(table)
            for source in by.sources
        ]

    def of(self, sha256: str) -> dict[str, Load]:
        """Table to load of the source with this digest."""
        return {load.table: load for load in self._loads if load.source.digest == sha256}

    @property
    def lengths(self) -> list[int]:
        """The sizes of all sources, each of which a grown file may begin with."""
        return sorted({load.source.nbytes for load in self._loads})

    def beginning(self, found: Digest) -> Load | None:
        """The longest load that a file with this digest begins with."""
        begins = [
            load
            for load in self._loads
            if load.source.nbytes < found.nbytes and found.at.get(load.source.nbytes) == load.source.digest
        ]
        return max(begins, key=lambda load: load.source.nbytes, default=None)


@dataclass(frozen=True)
class Part:
    """What is to be read of a member: from `skip_bytes` and `first_line` on; which tables have it already.

    `replaced` are digests whose rows go out in the same commit.
    """

    member: Member
    digest: Digest
    skip_bytes: int = 0
    first_line: int = 1
    present: dict[str, Load] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()

    @property
    def account(self) -> Account | None:
        """The account of an earlier load of the same content, or None."""
        return next((load.account for load in self.present.values()), None)

    @property
    def complete(self) -> bool:
        """True where every table that its rows went to still has them."""
        account = self.account
        if account is None:
            return False
        wanted = [table for table, rows in account.tables.items() if rows]
        wanted += ["dead_letter"] if account.rejected else []
        return all(table in self.present for table in wanted)


@dataclass(frozen=True)
class Policy:
    """How content that the lake has already is treated."""

    replace: bool = False
    append_grown: bool = False


def look_up(member: Member, loads: Loads, profile: Profile, options: dict[str, str], policy: Policy, found: Digest) -> Part:
    """Decide what to read. AlreadyIngested or GrownFile where only the caller can say what is meant."""
    present = loads.of(found.sha256)
    begin = None if is_wide(profile.file.encoding) or profile.file.format == "parquet" else loads.beginning(found)
    if policy.replace:
        gone = {found.sha256} if present else set()
        while begin is not None:
            gone.add(begin.source.digest)
            begin = loads.beginning(Digest(begin.source.digest, begin.source.nbytes, found.at))
        return Part(member, found, replaced=tuple(sorted(gone)))
    for load in present.values():
        _refuse_other(member, load, profile, options)
    if begin is None:
        return Part(member, found, present=present)
    if not policy.append_grown and not present:
        raise GrownFile(member.name, begin.table, begin.source.nbytes, begin.source.last - 1)
    _refuse_other(member, begin, profile, options)
    skip = begin.source.nbytes + _rest_of_line(member, begin.source.nbytes)
    return Part(member, found, skip, begin.source.last, present)


def _refuse_other(member: Member, load: Load, profile: Profile, options: dict[str, str]) -> None:
    before, now = load.by, options
    if (before.profile_digest, dict(before.options)) == (profile.digest, now):
        return
    raise AlreadyIngested(
        member.name,
        load.table,
        _spelled(before.profile, dict(before.options), ""),
        _spelled(profile.name, now, " (changed since)" if before.profile == profile.name and dict(before.options) == now else ""),
    )


def _spelled(profile: str, options: dict[str, str], note: str) -> str:
    return " ".join([f"--profile {profile}{note}", *(f"--{name} {text}" for name, text in sorted(options.items()))])


def _rest_of_line(member: Member, nbytes: int) -> int:
    """The bytes of a line end that the beginning lacked. `FileFault` where its last line has grown."""
    with member.open() as stream:
        left = nbytes - 1
        while left > 0:
            left -= len(stream.read(min(left, 1 << 20)))
        tail = stream.read(3)
    if tail.startswith(b"\n"):
        return 0
    for end in (b"\r\n", b"\n"):
        if tail[1:].startswith(end):
            return len(end)
    raise FileFault(
        member.name,
        "the last line of what was ingested was incomplete and is longer now",
        "Use --replace to load the whole file again",
    )


def digest_of(member: Member, loads: Loads, progress: object) -> Digest:
    """Read the member through once."""
    return digest(member, loads.lengths, progress)  # type: ignore[arg-type]
