"""Maintenance of real tables: what changes is files and old states, never a row, a name, or what was loaded."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFileContent
from pyiceberg.table.update import SetLocationUpdate
from pyiceberg.types import DoubleType

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.errors import CommitConflict, InvalidParameter, UnknownReference, UnsupportedTable
from k2kernel.lake import Lake, commit
from k2kernel.lake.local_io import local_path
from k2kernel.lake.reachable import Reachable, on_disk
from k2kernel.schemas import TABLES
from tests.lake_frames import DAY, OPEN, came_from, load, new_lake, rows_of, trades
from tests.query_lake import add, at, event
from tests.test_cli import call
from tests.test_lake_snapshots import delete_rows
from tests.travel import expire_past

NOTHING = {"last": 1, "every": "0s", "hourly": "0s", "daily": "0s"}
"""A policy that keeps the current state alone, and what has a name."""

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return new_lake(tmp_path)


def exact(lake: Lake, name: str = "trades", snapshot_id: int | None = None) -> Counter[str]:
    """Every row with every column, as a bag."""
    return Counter(map(str, rows_of(lake, name, snapshot_id).rows()))


def assert_only_needed_files(lake: Lake, name: str = "trades") -> None:
    table = lake.table(name)
    assert {file.path for file in on_disk(name, table)} == Reachable().files(table)


def several(lake: Lake, count: int = 6) -> None:
    """Loads of two sessions in turn, with symbols and prices of their own."""
    for number in range(count):
        day = (DAY, NEXT)[number % 2]
        rows = trades(7, f"s{number}", day, symbol=["BHP", "ANZ", "RIO"] * 2 + ["CBA"], trade_id=["x", None] * 3 + [""])
        written = lake.write("trades", rows.with_columns(ts_ingest=pl.lit(OPEN + timedelta(minutes=number))), day)
        lake.append("trades", [written.path], came_from(f"s{number}", 7, number))


def test_compaction_is_one_snapshot_with_the_same_rows_in_order(lake: Lake, wb: k2.Workbench) -> None:
    several(lake)
    before, head, states = exact(lake), lake.head("trades"), len(lake.snapshots("trades"))
    would = wb.compact("trades", dry_run=True)
    assert (would.applied, would.files, would.files_after, lake.head("trades")) == (False, 6, 2, head)
    done = wb.compact("trades")
    assert (done.applied, done.files, done.files_after, done.snapshots_after) == (True, 6, 2, states + 1)
    assert done.nbytes_after is not None
    assert done.nbytes_after < done.nbytes
    assert exact(lake) == before == exact(lake, snapshot_id=head)
    assert wb.diff("trades", head).summary.added == wb.diff("trades", head).summary.removed == 0
    newest = lake.snapshots("trades")[0]
    assert (newest.operation, newest.parent_id, newest.rows_total, newest.source) == ("overwrite", head, 42, "")
    for file in lake.files("trades", newest.id):
        rows = pl.read_parquet(file.path, hive_partitioning=False)
        keys = rows.select(TABLES["trades"].sort)
        assert keys.equals(keys.sort(TABLES["trades"].sort, nulls_last=False))
        assert rows["session"].unique().to_list() == [file.session]
    assert wb.compact("trades").snapshots_after == states + 1, "there is nothing left to do"


def test_compaction_fills_files_and_leaves_full_ones_alone(tmp_path: Path) -> None:
    lake = Lake.open(new_lake(tmp_path).settings.model_copy(update={"ingest_buffer_rows": 1_000}))
    for number in range(5):
        load(lake, f"s{number}", rows=450, minute=number)
    lake.maintenance.compact("trades")
    assert sorted(file.rows for file in lake.files("trades", lake.head("trades"))) == [250, 1_000, 1_000]
    full = {file.path for file in lake.files("trades", lake.head("trades")) if file.rows == 1_000}
    load(lake, "more", rows=450, minute=9)
    lake.maintenance.compact("trades")
    after = {file.path: file.rows for file in lake.files("trades", lake.head("trades"))}
    assert (sorted(after.values()), full <= after.keys()) == ([700, 1_000, 1_000], True)
    lake.maintenance.compact("trades", DAY)
    assert not full & {file.path for file in lake.files("trades", lake.head("trades"))}, "a session named is rewritten"
    assert rows_of(lake).select("source", "source_offset").is_unique().all()


def test_a_large_session_is_one_run_whatever_the_threads(tmp_path: Path) -> None:
    """Fifty thousand rows in random order of symbols, in files of twenty thousand, sorted by four threads."""
    policy = {"threads": 4, "ingest_buffer_rows": 20_000}
    lake = Lake.open(new_lake(tmp_path).settings.model_copy(update=policy))
    rng = random.Random(1)
    for number in range(5):
        frame = trades(10_000, f"s{number}", symbol=rng.choices("ABCDEFGH", k=10_000))
        lake.append("trades", [lake.write("trades", frame, DAY).path], came_from(f"s{number}", 10_000, number))
    keys = TABLES["trades"].sort
    wanted = rows_of(lake).sort(keys, nulls_last=False)
    lake.maintenance.compact("trades", DAY)
    files = sorted(lake.files("trades", lake.head("trades")), key=lambda file: (file.symbol_min, file.symbol_max))
    assert [file.rows for file in files] == [20_000, 20_000, 10_000]
    assert pl.concat([pl.read_parquet(file.path, hive_partitioning=False) for file in files]).equals(wanted)


def test_compaction_applies_deletes_and_keeps_what_is_carried(lake: Lake) -> None:
    load(lake, "a")
    load(lake, "b", minute=1)
    target = next(file.path for file in lake.files("trades", lake.head("trades")) if file.source_min == "a")
    delete_rows(lake, DataFileContent.POSITION_DELETES, target, [0, 3])
    before = exact(lake)
    ingests = lake.provenance("trades")
    lake.maintenance.compact("trades")
    assert exact(lake) == before
    (file,) = lake.files("trades", lake.head("trades"))
    assert (file.rows, file.deletes) == (18, ())
    assert lake.provenance("trades") == ingests


def test_a_summary_is_carried_forward_through_maintenance(lake: Lake) -> None:
    load(lake, "a")
    written = lake.write("trades", trades(3, "b"), DAY)
    lake.append("trades", [written.path], came_from("b", 3, 1, extra={"offsets": "market:0=[0,3)"}))
    for step in (lake.maintenance.compact, lake.maintenance.rewrite_manifests):
        step("trades")
        snapshot = lake.table("trades").current_snapshot()
        assert snapshot is not None
        assert snapshot.summary is not None
        assert snapshot.summary.additional_properties["k2.extra.offsets"] == "market:0=[0,3)"
    assert [sorted(ingest.digests) for ingest in lake.provenance("trades")] == [["a"], ["b"]]


def test_a_table_with_columns_that_cannot_be_written_is_not_compacted(lake: Lake) -> None:
    load(lake, "a")
    with lake.table("trades").update_schema() as change:
        change.add_column("mine", DoubleType())
    with pytest.raises(UnsupportedTable, match="column mine is of the type double"):
        lake.maintenance.compact("trades")


def test_a_compaction_gives_up_politely_and_leaves_no_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    several(lake)
    head, files = lake.head("trades"), {file.path for file in on_disk("trades", lake.table("trades"))}

    def refuse(*_: Any) -> None:
        raise CommitFailedException("another writer")

    monkeypatch.setattr(commit, "_PATIENCE_S", 0)
    monkeypatch.setattr(lake.catalog, "commit_table", refuse)
    with pytest.raises(CommitConflict, match="did not succeed"):
        lake.maintenance.compact("trades")
    data = {file.path for file in on_disk("trades", lake.table("trades")) if file.path.endswith(".parquet")}
    assert data <= files
    assert lake.head("trades") == head


def test_sessions_that_another_writer_took_are_left(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit finds the files of one session replaced meanwhile: that session is his, the other is compacted."""
    several(lake)
    other, real, calls = Lake.open(lake.settings), lake.catalog.commit_table, 0

    def commit_table(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            other.maintenance.compact("trades", DAY)
            load(other, "late", minute=9)
        return real(*args)

    before = exact(lake)
    monkeypatch.setattr(lake.catalog, "commit_table", commit_table)
    lake.maintenance.compact("trades")
    assert calls == 2
    assert len(lake.files("trades", lake.head("trades"))) == 3
    assert rows_of(lake).height == 52
    assert before <= exact(lake)
    assert_clean_after_orphans(lake)


def assert_clean_after_orphans(lake: Lake) -> None:
    lake.maintenance.orphans("trades", "0s", dry_run=False)
    assert_only_needed_files(lake)


def test_manifests_are_merged_in_one_snapshot_without_rows(lake: Lake) -> None:
    several(lake)
    before, head, properties = exact(lake), lake.head("trades"), lake.table("trades").properties
    assert "fewer" in lake.maintenance.rewrite_manifests("trades", dry_run=True).note
    assert lake.head("trades") == head
    assert lake.maintenance.rewrite_manifests("trades").note == "6 → 1 manifests"
    assert (exact(lake), lake.table("trades").properties) == (before, properties)
    assert lake.snapshots("trades")[0].parent_id == head
    states = len(lake.snapshots("trades"))
    assert lake.maintenance.rewrite_manifests("trades").snapshots_after == states, "one manifest is left alone"


def test_orphans_are_old_files_that_nothing_refers_to(lake: Lake, wb: k2.Workbench) -> None:
    several(lake)
    young = lake.write("trades", trades(3, "young"), DAY)
    old = lake.write("trades", trades(3, "old"), DAY)
    days_ago = time.time() - 4 * 86_400
    for file in on_disk("trades", lake.table("trades")):
        if file.path != young.path:
            os.utime(file.path, (days_ago, days_ago))
    would = wb.orphans("trades")
    assert (would.applied, would.deleted, would.deleted_nbytes) == (False, 1, old.nbytes)
    assert Path(old.path).exists()
    assert wb.orphans("trades", dry_run=False).deleted == 1
    assert (Path(old.path).exists(), Path(young.path).exists()) == (False, True)
    assert wb.orphans("trades", "1h", dry_run=False).deleted == 0
    lake.append("trades", [young.path], came_from("young", 3, 9))
    assert_clean_after_orphans(lake)
    assert rows_of(lake).height == 45
    with pytest.raises(InvalidParameter, match="older_than"):
        wb.orphans("trades", "soon")


def test_a_location_that_is_spelled_otherwise_loses_no_file(lake: Lake) -> None:
    several(lake)
    table, before = lake.table("trades"), exact(lake)
    link = lake.settings.home.parent / "link"
    link.symlink_to(table.location())
    for location in (f"file://{table.location()}", str(link)):
        lake.catalog.commit_table(lake.table("trades"), (), (SetLocationUpdate(location=location),))
        assert lake.maintenance.orphans("trades", "0s", dry_run=False).deleted == 0
        assert exact(lake) == before


@pytest.mark.parametrize("policy", [{"last": 0}, {"last": "3"}, {"every": "soon"}, {"yearly": "1d"}])
def test_what_is_no_policy_is_refused(lake: Lake, policy: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=r"last|every"):
        lake.maintenance.expire("trades", policy)


def test_the_command_line_says_first_and_does_then(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    several(lake)
    head = lake.head("trades")

    def told(*words: str) -> str:
        code, out, err = call(capsys, monkeypatch, main, "table", *words)
        assert code == 0
        return out + err

    would = told("compact", "trades", "--dry-run")
    assert "compact (dry run): 6 → 7 snapshots, 6 → 2 data files, 6 files of 2 sessions" in would
    assert would.endswith("k2: nothing was changed; without --dry-run it is\n")
    assert "(dry run)" in told("maintain", "trades", "--dry-run")
    assert lake.head("trades") == head
    assert "compact: 6 → 7 snapshots, 6 → 2 data files" in told("compact", "trades")
    assert told("compact", "trades", "--session", "2014-03-10") == "trades: compact: nothing to do\n"
    time.sleep(0.002)
    words = ("expire", "trades", "--last", "1", "--every", "0s", "--hourly", "0s", "--daily", "0s")
    would = told(*words)
    assert "expire (dry run): 7 → 1 snapshots" in would
    assert f"those of {lake.snapshots('trades')[-1].committed_at:%Y-%m-%d %H:%M:%S} to" in would
    assert would.endswith("with --apply it is\n")
    assert len(lake.snapshots("trades")) == 7
    assert "expire: 7 → 1 snapshots" in told(*words, "--apply")
    (local_path(lake.table("trades").location()) / "data" / "lost.parquet").touch()
    assert "1 files (0 bytes) off the disk, data/lost.parquet" in told("orphans", "trades", "--older-than", "0s")
    (row,) = json.loads(told("orphans", "trades", "--older-than", "0s", "--apply", "-o", "json"))
    assert (row["action"], row["applied"], row["deleted"]) == ("orphans", True, 1)
    assert "rewrite-manifests" in told("rewrite-manifests", "trades")
    assert told("maintain").startswith("nothing to do: trades, quotes, ")
    steps = json.loads(told("maintain", "-o", "json"))
    assert [step["table"] for step in steps] == [name for name in TABLES for _ in range(3)]


def test_every_kind_of_table_is_maintained(lake: Lake, wb: k2.Workbench) -> None:
    for number in range(3):
        add(lake, f"q{number}", [event(ts_event=at(number))] * 5, "quotes", minute=number)
        load(lake, f"s{number}", minute=number)
    before = {name: exact(lake, name) for name in ("trades", "quotes")}
    for name in before:
        expire_past(lake, name)
    logged = exact(lake, "ingest_log")
    done = wb.maintain()
    assert {(step.table, step.action): step.files_after for step in done if step.files} == {
        (name, action): 1 for name in (*before, "ingest_log") for action in ("compact", "expire", "orphans")
    }
    assert exact(lake, "ingest_log") == logged
    assert {name: exact(lake, name) for name in before} == before


def test_a_step_that_fails_keeps_no_other_from_being_done(lake: Lake, wb: k2.Workbench) -> None:
    for number in range(3):
        add(lake, f"q{number}", [event(ts_event=at(number))] * 5, "quotes", minute=number)
        load(lake, f"s{number}", minute=number)
    with lake.table("trades").update_schema() as change:
        change.add_column("mine", DoubleType())
    with pytest.raises(UnsupportedTable, match="column mine"):
        wb.maintain()
    assert [len(lake.files(name, lake.head(name))) for name in ("trades", "quotes")] == [3, 1]


def test_a_branch_is_published_only_where_no_row_is_dropped(lake: Lake, wb: k2.Workbench) -> None:
    first = load(lake, "a")
    lake.table("trades").manage_snapshots().create_branch(first, "draft").commit()
    table = lake.table("trades")
    with table.transaction() as transaction:
        producer = transaction.update_snapshot(branch="draft").merge_append()
        written = lake.write("trades", trades(5, "b"), DAY)
        producer.append_data_file(commit.describe_files(table, [written.path])[0])
        producer.commit()
    assert lake.head("trades") == first
    assert wb.publish("trades", "draft") == lake.head("trades") == wb.publish("trades", "draft")
    assert rows_of(lake).height == 15
    load(lake, "c", minute=1)
    with pytest.raises(CommitConflict, match="main has moved since draft left it"):
        wb.publish("trades", "draft")
    assert rows_of(lake).height == 25
    with pytest.raises(UnknownReference, match="no branch"):
        wb.publish("trades", "nothing")
