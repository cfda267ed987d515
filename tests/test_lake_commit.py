"""Appends: exactly once, one snapshot each, whatever other writers and lost answers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.transforms import BucketTransform
from sqlalchemy.exc import OperationalError

from k2kernel.errors import CommitConflict, WriterFenced
from k2kernel.lake import Claim, Lake, Provenance, SourceRecord, commit
from tests.lake_frames import DAY, OPEN, came_from, load, rows_of, trades
from tests.travel import expire_past


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_LONGEST_WAIT", 0.01)


Commit = Callable[..., Any]


@contextmanager
def faults(lake: Lake, *plan: Callable[[Commit], Commit]) -> Iterator[list[str]]:
    """Let the first commits fail as planned, and the rest be what they are. What is yielded counts the attempts."""
    catalog, real = lake.catalog, lake.catalog.commit_table
    pending, attempts = list(plan), []

    def commit_table(*args: Any, **kwargs: Any) -> Any:
        attempts.append("commit")
        act = pending.pop(0)(real) if pending else real
        return act(*args, **kwargs)

    catalog.commit_table = commit_table  # type: ignore[method-assign]
    try:
        yield attempts
    finally:
        del catalog.commit_table


def lost_answer(error: Exception) -> Callable[[Commit], Commit]:
    """The commit lands, and its writer is told that nobody knows."""

    def fault(real: Commit) -> Commit:
        def act(*args: Any, **kwargs: Any) -> Any:
            real(*args, **kwargs)
            raise error

        return act

    return fault


def lost_request(error: Exception) -> Callable[[Commit], Commit]:
    """The commit never arrives."""

    def fault(_: Commit) -> Commit:
        def act(*_args: Any, **_kwargs: Any) -> Any:
            raise error

        return act

    return fault


def overtaken(other: Callable[[], object]) -> Callable[[Commit], Commit]:
    """Another writer commits first."""

    def fault(real: Commit) -> Commit:
        def act(*args: Any, **kwargs: Any) -> Any:
            other()
            return real(*args, **kwargs)

        return act

    return fault


ERRORS = [
    CommitStateUnknownException("timed out"),
    TimeoutError("timed out"),
    OperationalError("UPDATE", {}, Exception("database is locked")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("fate", [lost_answer, lost_request])
def test_an_unknown_outcome_ends_in_exactly_one_commit(lake: Lake, fate: Any, error: Exception) -> None:
    load(lake, "before")
    with faults(lake, fate(error)) as attempts:
        head = load(lake, "a", minute=1)
    assert len(attempts) == (1 if fate is lost_answer else 2)
    assert head == lake.head("trades")
    assert len(lake.ancestors("trades")) == 2
    assert rows_of(lake).height == 20
    assert [ingest.snapshot_id for ingest in lake.provenance("trades")][-1] == head


def test_lost_twice_and_then_landed(lake: Lake) -> None:
    unknown = CommitStateUnknownException("?")
    with faults(lake, lost_request(unknown), lost_request(CommitFailedException("no")), lost_answer(unknown)):
        load(lake, "a")
    assert rows_of(lake).height == 10
    assert len(lake.ancestors("trades")) == 1


def test_a_landed_commit_is_known_again_under_another_writers(lake: Lake) -> None:
    other = Lake.open(lake.settings)

    def land_and_be_followed(real: Commit) -> Commit:
        def act(*args: Any, **kwargs: Any) -> Any:
            real(*args, **kwargs)
            load(other, "b", minute=1)
            raise CommitStateUnknownException("?")

        return act

    with faults(lake, land_and_be_followed):
        mine = load(lake, "a", minute=1)
    assert [snapshot.snapshot_id for snapshot in lake.ancestors("trades")] == [lake.head("trades"), mine]
    assert rows_of(lake).height == 20


def test_commits_that_never_succeed_leave_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_ATTEMPTS", 3)
    monkeypatch.setattr(commit, "_PATIENCE_S", 0)
    written = lake.write("trades", trades(10, "a"), DAY)
    down = lost_request(CommitFailedException("no"))
    with faults(lake, down, down, down), pytest.raises(CommitConflict, match="did not succeed in 3 attempts"):
        lake.append("trades", [written.path], came_from("a", 10))
    assert lake.head("trades") is None
    assert Path(written.path).exists()
    assert lake.append("trades", [written.path], came_from("a", 10)) == lake.head("trades")


def test_two_writers_with_stale_handles_both_land(lake: Lake) -> None:
    other = Lake.open(lake.settings)
    assert lake.head("trades") is other.head("trades") is None
    with faults(lake, overtaken(lambda: load(other, "b"))) as attempts:
        load(lake, "a")
    assert len(attempts) == 2
    assert len(lake.ancestors("trades")) == 2
    assert sorted(rows_of(lake)["source"].unique()) == ["a", "b"]


def test_the_same_file_twice_at_once_is_one_load(lake: Lake) -> None:
    other = Lake.open(lake.settings)
    with faults(lake, overtaken(lambda: load(other, "a"))), pytest.raises(CommitConflict, match="Nothing was added"):
        load(lake, "a")
    assert rows_of(lake).height == 10


def test_an_ingested_source_is_refused_and_the_rest_of_it_is_not(lake: Lake) -> None:
    head = load(lake, "a")
    with pytest.raises(CommitConflict, match=f"a.csv from 0 to 10 is in snapshot {head} already"):
        load(lake, "a")
    rest = Provenance((SourceRecord("a", "a.csv", first=10, last=12, rows=2),), "p", "", OPEN)
    written = lake.write("trades", trades(2, "a", source_offset=[10, 11]), DAY)
    lake.append("trades", [written.path], rest)
    assert rows_of(lake).height == 12


@pytest.mark.parametrize(
    ("first", "writer", "epoch", "error"),
    [
        (10, "w", 1, None),
        (10, "later", 2, None),
        (9, "w", 1, CommitConflict),
        (11, "w", 1, CommitConflict),
        (0, "later", 2, CommitConflict),
        (10, "other", 1, WriterFenced),
        (10, "earlier", 0, WriterFenced),
    ],
)
def test_offsets_go_on_where_the_table_ends_and_by_its_newest_writer(
    lake: Lake, first: int, writer: str, epoch: int, error: type[Exception] | None
) -> None:
    written = lake.write("trades", trades(10, "t/0"), DAY)
    lake.append("trades", [written.path], came_from("t/0", 10), claims=[Claim("t/0", 0, 10, "w", 1)])
    more = lake.write("trades", trades(2, "t/0", source_offset=[first, first + 1]), DAY)
    claims = [Claim("t/0", first, first + 2, writer, epoch)]
    with pytest.raises(error) if error else nullcontext():
        lake.append("trades", [more.path], came_from("t/0", 2), claims=claims)
    assert lake.offsets("trades")["t/0"].end == (10 if error else first + 2)
    assert rows_of(lake).height == (10 if error else 12)


def test_after_a_rollback_the_file_loads_again(lake: Lake) -> None:
    first = load(lake, "a")
    load(lake, "b")
    lake.rollback("trades", first)
    load(lake, "b")
    assert rows_of(lake).height == 20
    assert [sorted(ingest.digests) for ingest in lake.provenance("trades")] == [["a"], ["b"]]


def test_equal_rows_of_one_file_all_survive(lake: Lake) -> None:
    written = lake.write("trades", trades(6, "a", ts_event=[OPEN] * 6, sequence=1, source_offset=1), DAY)
    lake.append("trades", [written.path], came_from("a", 6))
    assert rows_of(lake).height == 6


def test_an_append_of_many_files_is_one_snapshot(lake: Lake) -> None:
    days = [DAY + timedelta(days=number) for number in range(3)]
    files = [lake.write("trades", trades(5, "a", day), day) for day in days]
    head = lake.append("trades", [file.path for file in files], came_from("a", 15))
    assert [snapshot.id for snapshot in lake.snapshots("trades")] == [head]
    assert sorted(file.session for file in lake.files("trades", head) if file.session) == days


def test_appends_and_compaction_go_on_where_another_program_changed_the_partitions(lake: Lake) -> None:
    load(lake, "one")
    with lake.table("trades").update_spec() as update:
        update.add_field("symbol", BucketTransform(4), "bucket")
    for minute, digest in enumerate(("two", "three"), start=1):
        load(lake, digest, minute=minute)
    assert lake.maintenance.compact("trades").files_after == 1
    assert sorted(rows_of(lake)["source"].unique()) == ["one", "three", "two"]
    assert len(rows_of(lake)) == lake.files("trades", lake.head("trades")).rows == 30
    assert [field.name for field in lake.table("trades").spec().fields] == ["session", "bucket"]


def test_provenance_comes_back(lake: Lake) -> None:
    written = lake.write("trades", trades(3, "a"), DAY)
    sources = (SourceRecord("a", 'x.zip!7078 "é".csv', 10, 0, 5, 3, 2), SourceRecord("b", "x.zip!empty", 0, 0, 0, 0, 0))
    given = Provenance(sources, "asx", "f00d", OPEN, {"symbol": "BHP"}, {"schema-id": "7"})
    head = lake.append("trades", [written.path], given)
    found = Lake.open(lake.settings).provenance("trades")
    assert found == [replace(given, snapshot_id=head, committed_at=found[0].committed_at)]
    assert found[0].committed_at is not None
    assert abs(found[0].committed_at.timestamp() - Path(written.path).stat().st_mtime) < 60


def test_ts_ingest_never_decreases(lake: Lake) -> None:
    load(lake, "late", minute=5)
    load(lake, "early", minute=1)
    load(lake, "later", minute=6)
    stamps = [ingest.ts_ingest for ingest in lake.provenance("trades")]
    just_after = OPEN + timedelta(minutes=5, microseconds=1)
    assert stamps == [OPEN + timedelta(minutes=5), just_after, OPEN + timedelta(minutes=6)]
    early = rows_of(lake).filter(pl.col("source") == "early")
    assert early["ts_ingest"].unique().to_list() == [just_after]
    assert early.drop("ts_ingest").sort("sequence").equals(trades(10, "early").drop("ts_ingest"))
    stored = list(Path(lake.table("trades").location()).glob("data/**/*.parquet"))
    assert len(stored) == len(lake.files("trades", lake.head("trades"))) == 3


def test_a_stream_keeps_the_order_of_time_and_reads_no_log_for_it(lake: Lake) -> None:
    """The last ingest is in the line of kept snapshots; or it has expired under a compaction, and the log has it."""

    def stream(first: int, minute: int) -> datetime:
        frame = trades(3, "topic/0", ts_ingest=OPEN + timedelta(minutes=minute))
        claim = Claim("topic/0", first, first + 3, "writer", 1)
        lake.append("trades", [lake.write("trades", frame, DAY).path], came_from("topic/0", 3, minute), claims=[claim])
        return lake.provenance("trades")[-1].ts_ingest

    assert stream(0, 5) == OPEN + timedelta(minutes=5)
    lake.tag("trades", "early")
    assert stream(3, 9) == OPEN + timedelta(minutes=9)
    assert stream(6, 7) == (last := OPEN + timedelta(minutes=9, microseconds=1))
    lake.maintenance.compact("trades")
    expire_past(lake)
    assert [snapshot.operation for snapshot in lake.snapshots("trades")] == ["overwrite", "append"]
    assert stream(9, 8) == last + timedelta(microseconds=1)
    other = Lake.open(lake.settings)
    frame = trades(3, "topic/0", ts_ingest=OPEN + timedelta(minutes=20))
    given, claim = came_from("topic/0", 3, 20), Claim("topic/0", 12, 15, "writer", 1)
    other.append("trades", [other.write("trades", frame, DAY).path], given, claims=[claim])
    assert not other._history._logged


def test_rows_written_again_keep_their_field_ids_and_statistics(lake: Lake) -> None:
    load(lake, "late", minute=5)
    load(lake, "early", minute=1)
    late, early = (lake.files("trades", snapshot.snapshot_id).prune() for snapshot in lake.ancestors("trades")[::-1])
    (new,) = (file for file in early if file not in late)
    assert (new.rows, new.symbol_min, new.ts_event_min) == (10, "BHP", late[0].ts_event_min)
    assert new.status_all_null


def test_replace_is_one_snapshot(lake: Lake) -> None:
    first = load(lake, "a")
    load(lake, "b", minute=1)
    written = lake.write("trades", trades(4, "a", ts_ingest=OPEN + timedelta(minutes=2)), DAY)
    head = lake.append("trades", [written.path], came_from("a", 4, minute=2, profile="other"), replace=["a"])
    assert lake.ancestors("trades")[0].snapshot_id == head
    assert len(lake.ancestors("trades")) == 3
    assert rows_of(lake)["source"].value_counts().sort("source").rows() == [("a", 4), ("b", 10)]
    assert [(sorted(ingest.digests), ingest.profile) for ingest in lake.provenance("trades")] == [
        (["b"], "asx-trades"),
        (["a"], "other"),
    ]
    assert rows_of(lake, snapshot_id=first).height == 10
    latest = lake.snapshots("trades")[0]
    assert (latest.operation, latest.rows_added, latest.rows_total) == ("overwrite", 4, 14)


def test_replace_carries_other_rows_of_a_shared_file_over(lake: Lake) -> None:
    shared = lake.write("trades", trades(6, "", source=["a", "b", "c"] * 2), DAY)
    pair = tuple(SourceRecord(digest, digest, last=2, rows=2) for digest in "abc")
    lake.append("trades", [shared.path], Provenance(pair, "p", "", OPEN))
    load(lake, "aa")
    written = lake.write("trades", trades(1, "b"), DAY)
    lake.append("trades", [written.path], came_from("b", 1), replace=["b"])
    assert rows_of(lake)["source"].value_counts().sort("source").rows() == [("a", 2), ("aa", 10), ("b", 1), ("c", 2)]
    assert sorted(digest for ingest in lake.provenance("trades") for digest in ingest.digests) == ["a", "aa", "b", "c"]
    assert len(lake.ancestors("trades")) == 3


def test_replace_while_another_appends(lake: Lake) -> None:
    load(lake, "a")
    other = Lake.open(lake.settings)
    written = lake.write("trades", trades(4, "a"), DAY)
    with faults(lake, overtaken(lambda: load(other, "b"))):
        lake.append("trades", [written.path], came_from("a", 4), replace=["a"])
    assert rows_of(lake)["source"].value_counts().sort("source").rows() == [("a", 4), ("b", 10)]
    assert len(lake.ancestors("trades")) == 3


def test_replace_with_an_unknown_outcome(lake: Lake) -> None:
    load(lake, "a")
    written = lake.write("trades", trades(4, "a"), DAY)
    with faults(lake, lost_answer(CommitStateUnknownException("?"))):
        lake.append("trades", [written.path], came_from("a", 4), replace=["a"])
    assert rows_of(lake).height == 4
    assert len(lake.ancestors("trades")) == 2


def test_replace_of_what_is_not_there_appends(lake: Lake) -> None:
    written = lake.write("trades", trades(4, "a"), DAY)
    lake.append("trades", [written.path], came_from("a", 4), replace=["zzz"])
    assert lake.snapshots("trades")[0].operation == "append"


def test_logged_provenance_counts_where_its_snapshot_has_expired(lake: Lake) -> None:
    expired = load(lake, "a")
    load(lake, "b", minute=1)
    (ingest, _) = lake.provenance("trades")
    expire_past(lake)
    assert expired not in {snapshot.id for snapshot in lake.snapshots("trades")}
    (log,) = rows_of(lake, "ingest_log").to_dicts()
    assert (log["table"], log["source"], log["range_start"], log["range_end"]) == ("trades", "a", 0, 10)
    assert (log["rows"], log["snapshot_id"], log["committed_at"]) == (10, expired, ingest.committed_at)
    assert [sorted(found.digests) for found in lake.provenance("trades")] == [["a"], ["b"]]
    assert lake.provenance("trades")[0] == ingest
    assert lake.provenance("quotes") == []
    with pytest.raises(CommitConflict):
        load(lake, "a")
