"""Which states of a table a policy keeps: every one for a while, then one an hour, then one a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter
from k2kernel.lake.pins import pinned
from k2kernel.lake.snapshots import Parents, committed_at, head
from k2kernel.times import parse_duration

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

    from k2kernel.config import Settings


@dataclass(frozen=True)
class Retention:
    """What to keep of the states that no name stands at: the newest `last`, every one younger than `every`, the last of
    each hour (UTC) younger than `hourly`, and the last of each day (UTC) younger than `daily`.
    """

    last: int
    every: timedelta
    hourly: timedelta
    daily: timedelta

    @classmethod
    def of(cls, settings: Settings, **changes: object) -> Retention:
        """The policy of the settings, with `changes` (last, every, hourly, daily)."""
        words = {name: changes.get(name, getattr(settings, f"keep_{name}")) for name in ("every", "hourly", "daily")}
        last = changes.get("last", settings.keep_last)
        if not isinstance(last, int) or last < 1 or changes.keys() - words.keys() - {"last"}:
            raise InvalidParameter("policy", changes, "is no policy", "Give last (from 1), every, hourly or daily")
        return cls(last, **{name: length(word, name) for name, word in words.items()})

    def kept(self, line: Sequence[tuple[int, datetime]], now: datetime) -> set[int]:
        """The ids that stay of a line of states (newest first, with their times)."""
        found = {number for number, _ in line[: self.last]}
        for most, unit in ((self.every, None), (self.hourly, "hours"), (self.daily, "days")):
            seen: set[object] = set()
            for number, moment in line:
                bucket = number if unit is None else _bucket(moment, unit)
                if now - moment <= most and bucket not in seen:
                    found.add(number)
                seen.add(bucket)
        return found


def length(value: object, parameter: str) -> timedelta:
    """A `timedelta`, or a whole number with its unit, such as `3d`."""
    return timedelta(microseconds=parse_duration(value, parameter) // 1_000)


def _bucket(moment: datetime, unit: str) -> datetime:
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if unit == "hours" else hour.replace(hour=0)


def to_expire(name: str, metadata: TableMetadata, policy: Retention, now: datetime) -> list[int]:
    """The snapshots of a table that the policy lets go, oldest first: none that a tag, a branch or the record of a pin
    names, and none younger than `every`, even where a rollback left it behind.
    """
    parents = Parents(metadata)
    line = [(number, committed_at(parents.snapshots[number])) for number in parents.line(head(metadata))]
    kept = policy.kept(line, now) | {ref.snapshot_id for ref in metadata.refs.values()}
    kept |= {pin.snapshots.get(name) or 0 for pin in pinned(metadata).values()}
    return [
        snapshot.snapshot_id
        for snapshot in sorted(metadata.snapshots, key=lambda one: one.sequence_number or 0)
        if snapshot.snapshot_id not in kept and now - committed_at(snapshot) > policy.every
    ]
