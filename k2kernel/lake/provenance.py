"""Where the rows of a commit came from: carried in the snapshot's summary under `k2.` keys, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

COMMIT_KEY = "k2.commit"
TS_INGEST_KEY = "k2.ts-ingest"
PARENT_KEY = "k2.parent"
"""In `ingest_log`: the snapshot that an expired one was built on."""
_SOURCES, _PROFILE, _PROFILE_DIGEST = "k2.sources", "k2.profile", "k2.profile-digest"
_OPTIONS, _REPLACED, _EXTRA = "k2.options", "k2.replaced", "k2.extra."


@dataclass(frozen=True)
class SourceRecord:
    """One source of a commit: its `digest`, its `name` (path and zip member), its size in bytes and what was read.

    `first` (inclusive) to `last` (exclusive) are lines, rows or offsets of the source. `place` is the name of a file by
    its absolute path, links followed; empty for messages, and in commits that were made before it was kept.
    """

    digest: str
    name: str
    nbytes: int = 0
    first: int = 0
    last: int = 0
    rows: int = 0
    rejected: int = 0
    place: str = ""

    def clashes(self, other: SourceRecord) -> bool:
        """True where both brought the same part of the same source."""
        if self.digest != other.digest:
            return False
        same = (self.first, self.last) == (other.first, other.last)
        return same or (self.first < other.last and other.first < self.last)


@dataclass(frozen=True)
class Provenance:
    """One ingest into one table. `ts_ingest` (aware) is the time its rows carry.

    `replaced` are the digests whose rows the commit took out. `snapshot_id` and `committed_at` (UTC) are known once it
    is committed.
    """

    sources: tuple[SourceRecord, ...]
    profile: str
    profile_digest: str
    ts_ingest: datetime
    options: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    snapshot_id: int | None = None
    committed_at: datetime | None = None

    @property
    def digests(self) -> frozenset[str]:
        """The digests of the sources."""
        return frozenset(source.digest for source in self.sources)

    def summary(self) -> dict[str, str]:
        """The `k2.` keys of the snapshot's summary."""
        keys = {
            _SOURCES: json.dumps([asdict(source) for source in self.sources], separators=(",", ":")),
            _PROFILE: self.profile,
            _PROFILE_DIGEST: self.profile_digest,
            _OPTIONS: json.dumps(dict(self.options), separators=(",", ":")),
            TS_INGEST_KEY: self.ts_ingest.isoformat(timespec="microseconds"),
        }
        if self.replaced:
            keys[_REPLACED] = json.dumps(self.replaced)
        return keys | {_EXTRA + name: value for name, value in self.extra.items()}

    @classmethod
    def parse(cls, summary: Mapping[str, Any], snapshot_id: int, committed_at: datetime) -> Provenance | None:
        """The provenance in a snapshot's summary, or None where it is no ingest's."""
        if _SOURCES not in summary:
            return None
        return cls(
            sources=tuple(SourceRecord(**source) for source in json.loads(summary[_SOURCES])),
            profile=summary.get(_PROFILE, ""),
            profile_digest=summary.get(_PROFILE_DIGEST, ""),
            ts_ingest=datetime.fromisoformat(summary[TS_INGEST_KEY]),
            options=json.loads(summary.get(_OPTIONS, "{}")),
            extra={key.removeprefix(_EXTRA): text for key, text in summary.items() if key.startswith(_EXTRA)},
            replaced=tuple(json.loads(summary.get(_REPLACED, "[]"))),
            snapshot_id=snapshot_id,
            committed_at=committed_at,
        )

    def without(self, digests: Iterable[str]) -> Provenance:
        """The same, less the sources of `digests`."""
        gone = frozenset(digests)
        return replace(self, sources=tuple(source for source in self.sources if source.digest not in gone))


def summary_of(snapshot: IcebergSnapshot | None) -> Mapping[str, str]:
    """The keys of a snapshot's summary; none where there is no snapshot, or it has no summary."""
    return {} if snapshot is None or snapshot.summary is None else snapshot.summary.additional_properties


def standing(history: Iterable[Provenance]) -> list[Provenance]:
    """The ingests of `history` (oldest first) whose rows later ones did not take out."""
    kept: list[Provenance] = []
    for ingest in history:
        if ingest.replaced:
            remaining = (earlier.without(ingest.replaced) for earlier in kept)
            kept = [earlier for earlier in remaining if earlier.sources]
        kept.append(ingest)
    return kept


def carried(summary: Mapping[str, Any]) -> dict[str, str]:
    """The `k2.` keys that a commit without rows of its own takes over from the one before: all but an ingest's own."""
    own = {COMMIT_KEY, TS_INGEST_KEY, _SOURCES, _PROFILE, _PROFILE_DIGEST, _OPTIONS, _REPLACED}
    return {key: text for key, text in summary.items() if key.startswith("k2.") and key not in own}
