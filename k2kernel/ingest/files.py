"""A file into the lake: each table gets one commit after the file's last row, or nothing at all.

Data files are written while the file streams by; until their commit they are invisible, and after a crash they are
orphans. Rejects are committed first, so that no good row is visible before the bad ones are safe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl

from k2kernel import schemas
from k2kernel.decode import Decoded, Decoder
from k2kernel.errors import CommitConflict, FileFault, InvalidParameter
from k2kernel.ingest.known import ACCOUNT, Loads, Part, Policy, look_up
from k2kernel.ingest.lookups import resolve
from k2kernel.ingest.order import SequenceCheck, SequenceDisorder, by_ordinal
from k2kernel.ingest.progress import Progress, silent
from k2kernel.ingest.receipt import Account, Receipt, TableReceipt
from k2kernel.ingest.runs import Runs
from k2kernel.lake import Lake, Provenance, SourceRecord
from k2kernel.profiles import Lookup, Profile
from k2kernel.sources import Member, digest, members

_REJECTED = "dead_letter"


@dataclass(frozen=True)
class Options:
    """How a file is ingested: what its profile asks for (`values`: symbol, venue, date, …), and what to do when.

    `max_rejects` is the share of lines that may be rejected before the whole file is refused.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    append_grown: bool = False
    max_rejects: float = 0.01


def ingest_file(
    lake: Lake, path: str | Path, profile: Profile, options: Options | None = None, progress: Progress = silent
) -> Receipt:
    """Load one file (every member of a zip) by `profile`; each table that gets rows gets one snapshot.

    Content that is there already adds nothing. `FileFault` where the file cannot be loaded as a whole; then nothing
    was committed.
    """
    options = _checked(options or Options(), profile)
    began = time.monotonic()
    lookups = resolve(lake, profile)
    try:
        receipt = _Ingest(lake, str(path), profile, options, lookups, progress).run()
    except CommitConflict:
        # Another writer was quicker, perhaps with the same file: look again at what is there, once.
        receipt = _Ingest(lake, str(path), profile, options, lookups, progress).run()
    return replace(receipt, files=(str(path),), seconds=time.monotonic() - began)


def preview_file(lake: Lake, path: str | Path, profile: Profile, options: Options | None = None) -> Decoded:
    """Decode the first block of a file without writing anything."""
    options = _checked(options or Options(), profile)
    first = members(path, profile.file.members)[0]
    lookups = resolve(lake, profile)
    decoder = Decoder(profile, first, options.values, lake.settings.home, lookups)
    for decoded in decoder.batches():
        return decoded
    raise FileFault(first.name, "has no rows")


def _checked(options: Options, profile: Profile) -> Options:
    if not 0 <= options.max_rejects <= 1:
        raise InvalidParameter("max_rejects", options.max_rejects, "is not a share from 0 to 1")
    unknown = sorted(set(options.values) - set(profile.options))
    if unknown:
        known = ", ".join(f"--{name}" for name in profile.options) or "none"
        raise InvalidParameter(
            unknown[0], options.values[unknown[0]], f"the profile {profile.name} has no such option", f"It reads: {known}"
        )
    return options


@dataclass
class _Ingest:
    lake: Lake
    path: str
    profile: Profile
    options: Options
    lookups: Mapping[Lookup, Mapping[str, str]]
    progress: Progress
    ts_ingest: datetime = field(default_factory=lambda: datetime.now(UTC))
    accounts: dict[str, Account] = field(default_factory=dict)
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    first_reject: str = ""
    notes: list[str] = field(default_factory=list)

    def run(self) -> Receipt:
        parts = self._parts()
        fresh = [part for part in parts if not part.complete]
        snapshots: dict[str, int] = {}
        if fresh:
            try:
                snapshots = self._load(fresh, ordinal=False)
            except SequenceDisorder as disorder:
                self.notes.append(f"{disorder}: rows are ordered by their place in the file, the numbers are in extra")
                snapshots = self._load(fresh, ordinal=True)
        return self._receipt(parts, snapshots)

    def _parts(self) -> list[Part]:
        loads = self._loads()
        policy = Policy(self.options.replace, self.options.append_grown)
        parts: dict[str, Part] = {}
        for member in members(self.path, self.profile.file.members):
            tell = partial(self._tell, member, "checking")
            found = digest(member, loads.lengths, tell)
            if found.sha256 in parts:
                self.notes.append(f"{member.name} is the same as {parts[found.sha256].member.name}: read once")
                continue
            part = look_up(member, loads, self.profile, dict(self.options.values), policy, found)
            parts[found.sha256] = part
        return list(parts.values())

    def _loads(self) -> Loads:
        return Loads(self.lake, [*(route.table for route in self.profile.route), _REJECTED])

    def _tell(self, member: Member, phase: str, nbytes: int, total: int = 0) -> None:
        name = member.inner or member.path.name
        self.progress(name, phase, nbytes, total or max(member.path.stat().st_size, nbytes))

    def _load(self, parts: list[Part], ordinal: bool) -> dict[str, int]:
        """Write the data files of all parts, then commit them table by table."""
        self.accounts.clear()
        with Runs(self.lake) as runs:
            for part in parts:
                self._read(part, runs, ordinal)
            self._check(parts)
            runs.finish()
            return self._commit(parts, runs)

    def _read(self, part: Part, runs: Runs, ordinal: bool) -> None:
        decoder = Decoder(
            self.profile, part.member, self.options.values, self.lake.settings.home, self.lookups, part.digest.nbytes
        )
        check = SequenceCheck()
        account, first, last = Account(), part.first_line, part.first_line
        for decoded in decoder.batches(part.skip_bytes, part.first_line):
            for table, frame in decoded.tables.items():
                if ordinal:
                    frame = by_ordinal(frame)
                else:
                    check.see(table, frame)
                self._add(runs, part, table, frame)
            self._add(runs, part, _REJECTED, _dead_letters(decoded.rejected))
            account = account + _account(decoded)
            last = max(last, decoded.next_line)
            self.first_reject = self.first_reject or _first_reject(decoded.rejected)
            self._tell(part.member, "loading", decoded.nbytes, part.digest.nbytes)
        self.accounts[part.digest.sha256], self.lines[part.digest.sha256] = account, (first, last)

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
            most = self.options.max_rejects * account.lines
            if account.rejected and (account.rejected > most or not account.rows):
                raise FileFault(
                    part.member.name,
                    f"{account.rejected:,} of {account.lines:,} lines are rejected, which is more than "
                    f"{self.options.max_rejects:.2%}. The first: {self.first_reject}",
                    "See more with --dry-run, correct the profile, or allow more with --max-rejects",
                )
            if not account.rows and not account.skipped.get("no_records") and not part.skip_bytes:
                skipped = ", ".join(f"{count:,} {kind}" for kind, count in account.skipped.items())
                raise FileFault(
                    part.member.name,
                    f"no row was accepted ({account.lines:,} lines{'; skipped: ' + skipped if skipped else ''})",
                    "Is it the right profile? --dry-run shows what it makes of the file",
                )

    def _commit(self, parts: list[Part], runs: Runs) -> dict[str, int]:
        """Commit each table's files; the rejects first."""
        gone = tuple(digest for part in parts for digest in part.replaced)
        snapshots = {}
        for table in (_REJECTED, *(name for name in schemas.TABLES if name != _REJECTED)):
            files = [file.path for file in runs.hand_over(table)]
            if files or (gone and self._has(table, gone)):
                snapshots[table] = self._append(table, parts, files, gone)
        return snapshots

    def _has(self, table: str, digests: tuple[str, ...]) -> bool:
        return any(digests_in(by, digests) for by in self.lake.provenance(table))

    def _append(self, table: str, parts: list[Part], files: list[str], gone: tuple[str, ...]) -> int:
        try:
            return self.lake.append(table, files, self._provenance(table, parts), replace=gone)
        except CommitConflict:
            self.lake.discard(files)
            raise

    def _provenance(self, table: str, parts: list[Part]) -> Provenance:
        records = tuple(self._record(table, part) for part in parts if table not in part.present)
        accounts = {ACCOUNT + digest: account.to_json() for digest, account in self.accounts.items()}
        return Provenance(
            sources=records,
            profile=self.profile.name,
            profile_digest=self.profile.digest,
            ts_ingest=self.ts_ingest,
            options=dict(self.options.values),
            extra=accounts,
        )

    def _record(self, table: str, part: Part) -> SourceRecord:
        account = self.accounts[part.digest.sha256]
        rows = account.rejected if table == _REJECTED else account.tables.get(table, 0)
        first, last = self.lines[part.digest.sha256]
        name, nbytes = part.member.name, part.digest.nbytes
        return SourceRecord(part.digest.sha256, name, nbytes, first, last, rows, account.rejected)

    def _receipt(self, parts: list[Part], snapshots: Mapping[str, int]) -> Receipt:
        receipts = [self._of(part, snapshots) for part in parts]
        whole = Receipt(notes=tuple(self.notes))
        for receipt in receipts:
            whole = whole + receipt
        return whole

    def _of(self, part: Part, snapshots: Mapping[str, int]) -> Receipt:
        account = self.accounts.get(part.digest.sha256) or part.account or Account()
        known = set(part.present)
        tables = {
            table: TableReceipt(duplicate=rows) if table in known else TableReceipt(rows, 0, snapshots.get(table))
            for table, rows in account.tables.items()
        }
        there = _REJECTED in known
        if there:
            tables[_REJECTED] = TableReceipt(duplicate=account.rejected)
        rejected = 0 if there else account.rejected
        return Receipt((), tables, account.lines, account.fanout, account.skipped, rejected)


def digests_in(by: Provenance, digests: tuple[str, ...]) -> bool:
    """True where the ingest brought one of the sources."""
    return bool(by.digests & set(digests))


def _account(decoded: Decoded) -> Account:
    rows = {table: len(frame) for table, frame in decoded.tables.items()}
    return Account(decoded.lines, decoded.fanout, rows, decoded.skipped, len(decoded.rejected))


def _first_reject(rejected: pl.DataFrame) -> str:
    if rejected.is_empty():
        return ""
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
