"""What the lake holds of a file already: nothing, all of it, or its beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC

from k2kernel import schemas
from k2kernel.errors import AlreadyIngested, FileFault, GrownFile, counted
from k2kernel.ingest.receipt import Account, summed
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.profiles import Profile
from k2kernel.sources import Digest, Member, is_wide

ACCOUNT = "account."
"""Prefix, before a digest, of the key under which a commit keeps the account of each of its sources."""

REJECTED = "dead_letter"
TABLES = (REJECTED, *(name for name in schemas.TABLES if name not in (REJECTED, "ingest_log")))
"""The tables that a file may go to, in the order of their commits."""


@dataclass(frozen=True)
class Options:
    """How a file is ingested: what its profile asks for (`values`: symbol, venue, date, …), and what to do when.

    `max_rejects` is the share of lines that may be rejected before the whole file is refused. `on_duplicate` says what
    becomes of fills whose venue's id another fill of the session has: keep_all, keep_first, keep_last or error.
    `replace` takes out what was loaded of the same content and from the same path (of a zip: path and member).
    """

    values: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    append_grown: bool = False
    max_rejects: float = 0.01
    on_duplicate: str = "keep_all"


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
        rows = self.source.rows
        return Account(rows, tables={self.table: rows}) if text is None else Account.from_json(text)


class Loads:
    """The loads that stand in the lake, by digest and table, and the `snapshots` that they came with."""

    def __init__(self, lake: Lake) -> None:
        self._loads: dict[str, dict[str, Load]] = {}
        self._at: dict[str, set[str]] = {}
        self.snapshots: set[int | None] = set()
        for table in (*TABLES[1:], REJECTED):
            for by in lake.provenance(table):
                self.snapshots.add(by.snapshot_id)
                for source in by.sources:
                    self._loads.setdefault(source.digest, {})[table] = Load(table, source, by)
                    self._at.setdefault(source.place or source.name, set()).add(source.digest)

    def of(self, sha256: str) -> dict[str, Load]:
        """Table to load of the source with this digest."""
        return self._loads.get(sha256, {})

    def at(self, place: str) -> set[str]:
        """The digests of what was loaded from a place (of old commits: under that absolute path as a name)."""
        return self._at.get(place, set())

    @property
    def lengths(self) -> list[int]:
        """The sizes of all sources, each of which a grown file may begin with."""
        return sorted({load.source.nbytes for loads in self._loads.values() for load in loads.values()})

    def beginnings(self, found: Digest) -> list[Load]:
        """A load of each source that a file with this digest begins with, the longest first."""
        digests = [sha256 for sha256 in found.at.values() if sha256 != found.sha256 and sha256 in self._loads]
        loads = [next(iter(self._loads[sha256].values())) for sha256 in digests]
        return sorted(loads, key=lambda load: -load.source.nbytes)


@dataclass(frozen=True)
class Part:
    """What is to be read of a member: from `skip_bytes` and `first_line` on; which tables have it already.

    `replaced` are digests whose rows go out in the same commit. `notes` are about earlier loads: what becomes of them.
    """

    member: Member
    digest: Digest
    skip_bytes: int = 0
    first_line: int = 1
    present: Mapping[str, Load] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def account(self) -> Account | None:
        """The account of an earlier load of the same content, or None."""
        return next((load.account for load in self.present.values()), None)

    @property
    def complete(self) -> bool:
        """True where every table that its rows went to still has them."""
        return _complete(self.present)


def _complete(present: Mapping[str, Load]) -> bool:
    account = next((load.account for load in present.values()), None)
    if account is None:
        return False
    wanted = {table for table, rows in account.tables.items() if rows}
    return (wanted | {REJECTED} if account.rejected else wanted) <= set(present)


def look_up(member: Member, found: Digest, loads: Loads, profile: Profile, options: Options) -> Part:
    """Decide what to read. AlreadyIngested or GrownFile where only the caller can say what is meant."""
    present = loads.of(found.sha256)
    by_bytes = not is_wide(profile.file.encoding) and profile.file.format != "parquet"
    begins = loads.beginnings(found) if by_bytes else []
    known = {found.sha256, *(load.source.digest for load in begins)}
    others = loads.at(member.place) - known
    if options.replace:
        gone = sorted(others | {digest for digest in known if loads.of(digest)})
        notes = tuple(_taken_out(list(loads.of(digest).values())) for digest in gone)
        return Part(member, found, replaced=tuple(gone), notes=notes)
    for load in present.values():
        _refuse_other(member, load, profile, options.values)
    notes = _beside(member, [load for digest in others for load in loads.of(digest).values()])
    if not begins:
        return Part(member, found, present=present, notes=notes)
    begin = begins[0].source
    if not options.append_grown and not present:
        raise GrownFile(member.name, begins[0].table, begin.nbytes, begin.last - 1)
    _refuse_other(member, begins[0], profile, options.values)
    _refuse_incomplete(member, [loads.of(load.source.digest) for load in begins])
    skip = begin.nbytes + _rest_of_line(member, begin.nbytes)
    return Part(member, found, skip, begin.last, present, notes=notes)


def _taken_out(loads: Sequence[Load]) -> str:
    """What `--replace` takes out of one earlier load."""
    return f"took out {_rows(loads)}, loaded from {loads[0].source.name} at {_last(loads)}"


def _beside(member: Member, loads: Sequence[Load]) -> tuple[str, ...]:
    """What is there of a member's path with other content, and stays."""
    if not loads:
        return ()
    contents = len({load.source.digest for load in loads})
    often = f"{contents} times, the last " if contents > 1 else ""
    before = f"{member.inner or 'this path'} was loaded before with other content ({often}at {_last(loads)})"
    return (f"{before}, which is there, too: {_rows(loads)}. Both count; --replace takes the earlier out",)


def _rows(loads: Iterable[Load]) -> str:
    rows = summed(*({load.table: load.source.rows} for load in loads))
    return ", ".join(f"{counted(count, 'row')} of {table}" for table, count in rows.items())


def _last(loads: Iterable[Load]) -> str:
    return f"{max(load.by.ts_ingest for load in loads).astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"


def _refuse_other(member: Member, load: Load, profile: Profile, options: Mapping[str, str]) -> None:
    """AlreadyIngested where the profile, an option, or what the profile takes from the path is another one now."""
    before, same_profile = load.by, load.by.profile_digest == profile.digest
    given = dict(before.options)
    taken = by_path(profile, given, load.source.name) if same_profile else {}
    now = by_path(profile, options, member.name) if same_profile else {}
    if same_profile and given == dict(options) and taken == now:
        return
    changed = " (changed since)" if not same_profile and before.profile == profile.name else ""
    spelled = _spelled(before.profile, given, taken), _spelled(profile.name + changed, options, now)
    raise AlreadyIngested(member.name, load.table, *spelled)


def _spelled(profile: str, options: Mapping[str, str], taken: Mapping[str, str | None]) -> str:
    given = [f"--{name} {text}" for name, text in sorted(options.items())]
    return " ".join(
        [f"--profile {profile}", *given, *(f"with {name} {text} by its path" for name, text in taken.items())]
    )


def by_path(profile: Profile, options: Mapping[str, str], name: str) -> dict[str, str | None]:
    """The columns that a member's rows get from its path alone, and the texts there."""
    taken = {}
    for route in profile.route:
        for column, value in route.columns.items():
            for each in (value, value.date):
                if each and each.path and each.option not in options and not (each.references or each.expr):
                    found = re.search(each.path, name)
                    taken[column] = found[1] if found and found.re.groups else None
    return taken


def _refuse_incomplete(member: Member, beginnings: Sequence[Mapping[str, Load]]) -> None:
    if not all(map(_complete, beginnings)):
        raise FileFault(
            member.name,
            "what it begins with was ingested, and is no longer (or was never) in all the tables that it belongs to",
            "Use --replace to load the whole file again",
        )


def _rest_of_line(member: Member, nbytes: int) -> int:
    """The bytes of a line end that the beginning lacked. `FileFault` where its last line has grown."""
    with member.open() as stream:
        left = nbytes - 1
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            left -= len(block)
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
