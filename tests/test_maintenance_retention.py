"""What a policy keeps, against a model in plain Python over random histories; the line of kept states among them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as setting
from hypothesis import strategies as st

from k2kernel.lake.expiry import to_log
from k2kernel.lake.retention import Retention, to_expire
from k2kernel.lake.snapshots import Parents, head
from tests.lake_frames import load, new_lake

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

NOW = datetime(2024, 3, 15, 12, 30, tzinfo=UTC)
STATES = 24


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> TableMetadata:
    """A table with a branch at one state, a tag at another, and three states that a rollback left without a name."""
    lake = new_lake(tmp_path_factory.mktemp("history"))
    for number in range(STATES):
        if number == 10:
            back = lake.snapshots("trades")[3].id
            head_before = lake.head("trades")
            lake.rollback("trades", back)
            lake.untag("trades", f"before-rollback-{head_before}")
        load(lake, f"s{number}", rows=1, minute=number)
        if number == 4:
            lake.table("trades").manage_snapshots().create_branch(lake.head("trades") or 0, "draft").commit()
        if number == 13:
            lake.tag("trades", "eod")
    return lake.table("trades").metadata


def at_times(metadata: TableMetadata, ages: Sequence[timedelta]) -> TableMetadata:
    """The same history with its states at these ages, the oldest first."""
    moments = [int((NOW - age).timestamp() * 1_000) for age in sorted(ages, reverse=True)]
    states = sorted(metadata.snapshots, key=lambda state: state.sequence_number or 0)
    moved = [state.model_copy(update={"timestamp_ms": ms}) for state, ms in zip(states, moments, strict=True)]
    return metadata.model_copy(update={"snapshots": moved})


def model(metadata: TableMetadata, policy: Retention) -> set[int]:
    """The ids that stay, by a loop over the states of main from the newest to the oldest."""
    times = {state.snapshot_id: datetime.fromtimestamp(state.timestamp_ms / 1_000, UTC) for state in metadata.snapshots}
    parents = {state.snapshot_id: state.parent_snapshot_id for state in metadata.snapshots}
    kept = {ref.snapshot_id for ref in metadata.refs.values()}
    kept |= {number for number, moment in times.items() if NOW - moment <= policy.every}
    hours, days, place, state = set[str](), set[str](), 0, head(metadata)
    while state is not None:
        age, hour, day = NOW - times[state], f"{times[state]:%Y-%m-%d %H}", f"{times[state]:%Y-%m-%d}"
        if (
            place < policy.last
            or (hour not in hours and age <= policy.hourly)
            or (day not in days and age <= policy.daily)
        ):
            kept.add(state)
        hours.add(hour)
        days.add(day)
        place, state = place + 1, parents[state]
    return kept


minutes = st.integers(0, 60 * 24 * 12).map(lambda number: timedelta(minutes=number))
policies = st.builds(
    Retention,
    last=st.integers(1, 6),
    every=st.sampled_from([timedelta(), timedelta(minutes=50), timedelta(hours=30)]),
    hourly=st.sampled_from([timedelta(), timedelta(hours=9), timedelta(days=3)]),
    daily=st.sampled_from([timedelta(), timedelta(days=2), timedelta(days=9)]),
)


@setting(max_examples=200, deadline=None)
@given(ages=st.lists(minutes, min_size=STATES, max_size=STATES), policy=policies)
def test_expiry_keeps_what_the_policy_says(history: TableMetadata, ages: list[timedelta], policy: Retention) -> None:
    metadata = at_times(history, ages)
    gone = to_expire("trades", metadata, policy, NOW)
    everything = {state.snapshot_id for state in metadata.snapshots}
    assert everything - set(gone) == model(metadata, policy)
    assert_the_line_holds(metadata, gone)


def assert_the_line_holds(metadata: TableMetadata, gone: Sequence[int]) -> None:
    """Once they are gone, kept states and the log are still the whole line, of main and of every name."""
    logged = {state.snapshot_id for state in to_log(metadata, gone, ())}
    whole, after = Parents(metadata), expired(metadata, gone)
    true = {number: whole.true(number) for number in whole.snapshots}
    for ref in metadata.refs.values():
        line = whole.line(ref.snapshot_id)
        assert after.line(ref.snapshot_id) == [number for number in line if number not in gone]
        assert {number for number in line if number in gone} <= logged
        for number in after.line(ref.snapshot_id):
            assert after.true(number) == true[number]


def expired(metadata: TableMetadata, gone: Sequence[int]) -> Parents:
    """The line as PyIceberg leaves it: without those states, and without a parent above each of them."""
    kept = [
        state.model_copy(update={"parent_snapshot_id": None}) if state.parent_snapshot_id in gone else state
        for state in metadata.snapshots
        if state.snapshot_id not in gone
    ]
    properties = {**metadata.properties, **Parents(metadata).without(gone)}
    return Parents(metadata.model_copy(update={"snapshots": kept, "properties": properties}))


def test_expiring_step_by_step_keeps_the_line(tmp_path: Path) -> None:
    """Every other state goes, then two of three, then all but the last: the history is the same each time."""
    lake = new_lake(tmp_path)
    for number in range(12):
        load(lake, f"s{number}", rows=1, minute=number)
    ingests = lake.provenance("trades")
    for step in (2, 3, 1):
        states = lake.snapshots("trades")
        stay = [state.id for state in states[:1] + states[1:][step - 1 :: step][: 0 if step == 1 else None]]
        for number in stay[1:]:
            lake.tag("trades", f"stays-{number}", number)
        policy = {"last": 1, "every": "0s", "hourly": "0s", "daily": "0s"}
        lake.maintenance.expire("trades", policy, dry_run=False, now=datetime.now(UTC) + timedelta(seconds=1))
        assert [state.id for state in lake.snapshots("trades")] == stay
        assert [state.snapshot_id for state in lake.ancestors("trades")] == stay
        assert lake.provenance("trades") == ingests
        for number in stay[1:]:
            assert len(lake.provenance("trades", number)) == [each.snapshot_id for each in ingests].index(number) + 1
            lake.untag("trades", f"stays-{number}")
