"""A file into the lake: each table gets one commit after the file's last row, or nothing at all.

Data files are written while the file streams by; until their commit they are invisible, and after a crash they are
orphans. Rejects are committed first, so that no good row is visible before the bad ones are safe.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from k2kernel import schemas
from k2kernel.decode import Decoded, Decoder
from k2kernel.errors import CommitConflict, FileFault, InvalidParameter, counted, one_of
from k2kernel.ingest.known import ACCOUNT, REJECTED, TABLES, Loads, Options, Part, by_path, look_up
from k2kernel.ingest.lookups import resolve
from k2kernel.ingest.measured import measured
from k2kernel.ingest.order import SequenceCheck, SequenceDisorder, by_ordinal
from k2kernel.ingest.progress import Phase, Progress, silent
from k2kernel.ingest.receipt import Account, Receipt, TableReceipt
from k2kernel.ingest.repeats import KEEP_ALL, ON_DUPLICATE, drop_repeats
from k2kernel.ingest.runs import Runs
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.profiles import Lookup, Profile
from k2kernel.sources import Member, digest, members

Turn = tuple[datetime, Callable[[], object]]
"""When a load began, which is the ts_ingest of its rows unless a later one was quicker; and what waits for its turn to
commit.
"""

_LOOKS = 4
"""How often to look again at what the lake holds, where another writer was quicker: once for each table of a file."""


def ingest_file(
    lake: Lake,
    path: str | Path,
    profile: Profile,
    options: Options | None = None,
    progress: Progress = silent,
    *,
    turn: Turn | None = None,
) -> Receipt:
    """Load one file (every member of a zip) by `profile`; each table that gets rows gets one snapshot.

    Content that is there already adds nothing. `FileFault` where the file cannot be loaded as a whole; then nothing
    was committed. `turn` is given where others load beside it.
    """
    options = _checked(options or Options(), profile)
    with measured() as told:
        return told(_ingested(lake, path, profile, options, progress, turn=turn))


def _ingested(
    lake: Lake, path: str | Path, profile: Profile, options: Options, progress: Progress, *, turn: Turn | None
) -> Receipt:
    began = time.monotonic()
    lookups = resolve(lake, profile)
    for look in range(_LOOKS):
        try:
            given = turn or (datetime.now(UTC), lambda: None)
            receipt = _Ingest(lake, Path(path), profile, options, lookups, progress, *given, passes=look).run()
            break
        except CommitConflict:
            # Another writer was quicker, perhaps with the same file.
            if look == _LOOKS - 1:
                raise
    return replace(receipt, files=(str(path),), seconds=time.monotonic() - began)


def preview_file(
    lake: Lake | None, home: Path, path: str | Path, profile: Profile, options: Options | None = None
) -> Decoded:
    """Decode the first block of a file without writing anything; `lake` is only asked for lookups."""
    options = _checked(options or Options(), profile)
    first = members(path, profile.file.members)[0]
    lookups = resolve(lake, profile)
    decoder = Decoder(profile, first, options.values, home, lookups)
    for decoded in decoder.batches():
        return decoded
    raise FileFault(first.name, "has no rows")


def _checked(options: Options, profile: Profile) -> Options:
    if not 0 <= options.max_rejects <= 1:
        raise InvalidParameter("max_rejects", options.max_rejects, "is not a share from 0 to 1")
    one_of("on_duplicate", options.on_duplicate, ON_DUPLICATE)
    unknown = sorted(set(options.values) - set(profile.options))
    if unknown:
        known = ", ".join(f"--{name}" for name in profile.options) or "none"
        problem = f"the profile {profile.name} has no such option"
        raise InvalidParameter(unknown[0], options.values[unknown[0]], problem, f"It reads: {known}")
    return options


@dataclass
class _Ingest:
    lake: Lake
    path: Path
    profile: Profile
    options: Options
    lookups: Mapping[Lookup, Mapping[str, str]]
    progress: Progress
    ts_ingest: datetime
    wait: Callable[[], object]
    passes: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    first_rejects: dict[str, str] = field(default_factory=dict)
    by_line: set[str] = field(default_factory=set)
    twins: list[tuple[Part, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    made_for: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    seen: Collection[int | None] = ()

    def run(self) -> Receipt:
        state = _state(self.path)
        parts = self._parts()
        fresh = [part for part in parts if not part.complete]
        snapshots: dict[str, int] = {}
        while fresh:
            try:
                snapshots = self._load(fresh, state)
                break
            except SequenceDisorder:
                self.passes += 1
        return self._receipt(parts, snapshots)

    def _parts(self) -> list[Part]:
        loads = Loads(self.lake)
        self.seen = loads.snapshots
        found = members(self.path, self.profile.file.members)
        sizes = sizes_of(found)
        parts: dict[str, Part] = {}
        for member, size in zip(found, sizes, strict=True):
            known = digest(member, [*loads.lengths, *sizes], self._phase(member, "checking", size))
            if known.sha256 in parts:
                self._repeated(member, parts[known.sha256])
            else:
                parts[known.sha256] = look_up(member, known, loads, self.profile, self.options)
        _refuse_nested(parts)
        return list(parts.values())

    def _repeated(self, member: Member, first: Part) -> None:
        self.notes.append(f"{member.name} is the same as {first.member.name}: read once")
        names = (member.name, first.member.name)
        one, other = (by_path(self.profile, self.options.values, name) for name in names)
        if one != other:
            self.twins.append((first, member.name))

    def _phase(self, member: Member, phase: str, total: int) -> Phase:
        again = f", pass {self.passes + 1}" if self.passes else ""
        return Phase(self.progress, member.name, phase + again, total)

    def _load(self, parts: list[Part], state: object) -> dict[str, int]:
        """Write the data files of all parts, then commit them table by table."""
        disordered: list[SequenceDisorder] = []
        with Runs(self.lake) as runs:
            for part in parts:
                try:
                    self._read(part, runs)
                except SequenceDisorder as disorder:
                    disordered.append(disorder)
                    self._order_by_line(part, disorder)
            if disordered:
                raise disordered[0]
            self._check(parts)
            runs.finish()
            if _state(self.path) != state:
                raise FileFault(str(self.path), "was changed while it was read", "Load it again when it is whole")
            self.wait()
            if self.options.on_duplicate != KEEP_ALL:
                self._drop_repeats(parts, runs)
            return self._commit(parts, runs)

    def _order_by_line(self, part: Part, disorder: SequenceDisorder) -> None:
        self.by_line.add(part.digest.sha256)
        place = f"{part.member.inner}, " if part.member.inner else ""
        self.notes.append(f"{place}{disorder}: rows are ordered by their place in the file, the numbers are in extra")

    def _read(self, part: Part, runs: Runs) -> None:
        sha256, nbytes = part.digest.sha256, part.digest.nbytes
        decoder = Decoder(self.profile, part.member, self.options.values, self.lake.settings.home, self.lookups, nbytes)
        check = SequenceCheck()
        tell = self._phase(part.member, "loading", nbytes - part.skip_bytes)
        account, last = Account(), part.first_line
        for decoded in decoder.batches(part.skip_bytes, part.first_line):
            for table, frame in decoded.tables.items():
                if sha256 not in self.by_line:
                    check.see(table, frame)
                self._add(runs, part, table, by_ordinal(frame) if sha256 in self.by_line else frame)
            self._add(runs, part, REJECTED, _dead_letters(decoded.rejected))
            if len(decoded.rejected):
                self.first_rejects.setdefault(sha256, _first_reject(decoded.rejected))
            account = account + _account(decoded)
            last = max(last, decoded.next_line)
            tell(decoded.nbytes)
        tell.done()
        self.accounts[sha256], self.lines[sha256] = account, (part.first_line, last)

    def _add(self, runs: Runs, part: Part, table: str, frame: pl.DataFrame) -> None:
        """Rows of a table that has this source already (an earlier run was cut short) are there, not added."""
        if table not in part.present and len(frame):
            stamped = frame.with_columns(
                ts_ingest=pl.lit(self.ts_ingest, pl.Datetime("us", "UTC")), source=pl.lit(part.digest.sha256)
            )
            runs.add(table, stamped.select(schemas.TABLES[table].names))

    def _check(self, parts: list[Part]) -> None:
        """Refuse a file of which nothing, or too little, was accepted."""
        for part in parts:
            account = self.accounts[part.digest.sha256]
            if not account.rows and (account.rejected or not (account.skipped.get("no_records") or part.skip_bytes)):
                raise self._nothing(part, account)
            if account.rejected > self.options.max_rejects * account.lines:
                raise FileFault(
                    part.member.name,
                    f"{account.rejected:,} of {account.lines:,} lines are rejected, which is more than "
                    f"{self.options.max_rejects:.2%}. The first: {self.first_rejects[part.digest.sha256]}",
                    "See more with --dry-run, correct the profile, or allow more with --max-rejects",
                )
        for part, twin in self.twins:
            if self._account(part).rows:
                raise FileFault(twin, f"has the content of {part.member.name}, and its path says something else")

    def _nothing(self, part: Part, account: Account) -> FileFault:
        counts = [f"{count:,} {kind}" for kind, count in account.skipped.items()]
        facts = [counted(account.lines, "line"), *([f"skipped: {', '.join(counts)}"] if counts else [])]
        first = self.first_rejects.get(part.digest.sha256)
        return FileFault(
            part.member.name,
            f"no row was accepted ({'; '.join(facts)}){f'. The first fault: {first}' if first else ''}",
            "Is it the right profile? --dry-run shows what it makes of the file"
            if account.lines
            else "Its header, if it has one, is all that it holds",
        )

    def _drop_repeats(self, parts: list[Part], runs: Runs) -> None:
        dropped = drop_repeats(self.lake, runs, parts, self.options.on_duplicate)
        for sha256, rows in dropped.rows.items():
            self.accounts[sha256] = self.accounts[sha256].without("trades", rows)
        self.made_for["trades"] = (dropped.base,)

    def _commit(self, parts: list[Part], runs: Runs) -> dict[str, int]:
        """Commit each table's files; the rejects first."""
        gone = tuple(dict.fromkeys(digest for part in parts for digest in part.replaced))
        snapshots = {}
        for table in TABLES:
            files = [file.path for file in runs.hand_over(table)]
            if files or (gone and self._has(table, gone)):
                snapshots[table] = self._append(table, parts, files, gone)
        return snapshots

    def _has(self, table: str, digests: tuple[str, ...]) -> bool:
        return any(not by.digests.isdisjoint(digests) for by in self.lake.provenance(table))

    def _append(self, table: str, parts: list[Part], files: list[str], gone: tuple[str, ...]) -> int:
        try:
            provenance, made_for = self._provenance(table, parts), self.made_for.get(table, ())
            return self.lake.append(table, files, provenance, replace=gone, seen=self.seen, made_for=made_for)
        except CommitConflict:
            # Nothing was committed. After any other error that is not sure, and orphans do no harm.
            self.lake.discard(files)
            raise

    def _provenance(self, table: str, parts: list[Part]) -> Provenance:
        added = [part for part in parts if table not in part.present and self._rows(table, part)]
        accounts = {ACCOUNT + part.digest.sha256: self._account(part).to_json() for part in added}
        return Provenance(
            sources=tuple(self._record(table, part) for part in added),
            profile=self.profile.name,
            profile_digest=self.profile.digest,
            ts_ingest=self.ts_ingest,
            options=dict(self.options.values),
            extra=accounts,
        )

    def _rows(self, table: str, part: Part) -> int:
        account = self._account(part)
        return account.rejected if table == REJECTED else account.tables.get(table, 0)

    def _record(self, table: str, part: Part) -> SourceRecord:
        sha256, rejected = part.digest.sha256, self._account(part).rejected
        first, last = self.lines[sha256]
        return SourceRecord(
            sha256,
            part.member.name,
            part.digest.nbytes,
            first,
            last,
            self._rows(table, part),
            rejected,
            part.member.place,
        )

    def _account(self, part: Part) -> Account:
        """Of what was read now, else of the earlier load."""
        return self.accounts.get(part.digest.sha256) or part.account or Account()

    def _receipt(self, parts: list[Part], snapshots: Mapping[str, int]) -> Receipt:
        told = [*self.notes, *(note for part in parts if not part.complete for note in part.notes)]
        notes = Receipt(notes=tuple(dict.fromkeys(told)))
        return sum((self._of(part, snapshots) for part in parts), Receipt()) + notes

    def _of(self, part: Part, snapshots: Mapping[str, int]) -> Receipt:
        account = self._account(part)
        left_out = account.repeated
        tables = {
            table: TableReceipt(duplicate=rows + left_out.get(table, 0))
            if table in part.present
            else TableReceipt(rows, left_out.get(table, 0), snapshots.get(table) if rows else None)
            for table, rows in account.tables.items()
        }
        if REJECTED not in part.present:
            return Receipt((), tables, account.lines, account.fanout, account.skipped, account.rejected)
        tables[REJECTED] = TableReceipt(duplicate=account.rejected)
        return Receipt((), tables, account.lines, account.fanout, account.skipped)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes to the file; nothing where it cannot be reached, which reading it will tell."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def sizes_of(found: Sequence[Member]) -> list[int]:
    """The decompressed bytes of the members of a file, 0 where only reading tells."""
    path, packing = found[0].path, found[0].packing
    if packing == "zip":
        with zipfile.ZipFile(path) as archive:
            return [archive.getinfo(str(member.inner)).file_size for member in found]
    return [path.stat().st_size if packing in ("plain", "parquet") else 0]


def _refuse_nested(parts: Mapping[str, Part]) -> None:
    """Members of one zip of which one begins with another: loading both would double rows."""
    for part, inner in _nested(parts):
        raise FileFault(
            part.member.name,
            f"begins with all of {inner.member.name}, whose rows would be there twice",
            "Load the longer one alone: take the other out of the zip",
        )


def _nested(parts: Mapping[str, Part]) -> Iterator[tuple[Part, Part]]:
    for sha256, part in parts.items():
        if not part.skip_bytes and not part.complete:
            yield from ((part, parts[other]) for other in part.digest.at.values() if other in parts and other != sha256)


def _account(decoded: Decoded) -> Account:
    rows = {table: len(frame) for table, frame in decoded.tables.items()}
    return Account(decoded.lines, decoded.fanout, rows, decoded.skipped, len(decoded.rejected))


def _first_reject(rejected: pl.DataFrame) -> str:
    first = rejected.sort("line").row(0, named=True)
    raw = (first["raw"] or b"").rstrip(b"\r").decode(errors="replace")
    return f"line {first['line']}: {first['reason']} in {raw[:200]!r}"


def _dead_letters(rejected: pl.DataFrame) -> pl.DataFrame:
    return rejected.select(
        target="target",
        source_offset="line",
        raw="raw",
        error="error",
        reason="reason",
        schema_id=pl.lit(None, pl.Int64),
        attempt=pl.lit(1, pl.Int32),
    )
