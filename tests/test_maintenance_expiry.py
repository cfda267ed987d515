"""Expiry of real tables: what goes is what no kept state needs; what was loaded stays known, and readers are told."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.errors import CommitConflict, ExpiredReference
from k2kernel.lake import Lake
from k2kernel.lake.reachable import on_disk
from k2kernel.times import parse_as_of
from tests.lake_frames import load, new_lake, rows_of
from tests.test_maintenance import NOTHING, assert_clean_after_orphans, assert_only_needed_files, exact, several
from tests.travel import expire_past


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return new_lake(tmp_path)


def test_expiry_deletes_what_no_kept_state_needs_and_nothing_else(lake: Lake, wb: k2.Workbench) -> None:
    several(lake)
    wb.tag("trades", "eod", lake.snapshots("trades")[3].id)
    wb.pin("held", ["trades"], lake.snapshots("trades")[4].id, hold_until="2999-01-01")
    tagged, pinned = exact(lake, snapshot_id=lake.snapshots("trades")[3].id), wb.trades(as_of="held").to_arrow()
    wb.compact("trades")
    before, ingests = exact(lake), lake.provenance("trades")
    time.sleep(0.002)
    disk = {file.path for file in on_disk("trades", lake.table("trades"))}
    would = wb.expire("trades", NOTHING)
    assert {file.path for file in on_disk("trades", lake.table("trades"))} == disk, "a dry run changes nothing"
    assert (would.applied, would.snapshots, would.snapshots_after) == (False, 7, 3)
    done = wb.expire("trades", NOTHING, dry_run=False)
    assert (done.snapshots_after, done.deleted) == (3, would.deleted)
    gone = disk - {file.path for file in on_disk("trades", lake.table("trades"))}
    assert len(gone) == done.deleted
    assert sum(path.endswith(".parquet") for path in gone) == 3
    assert exact(lake) == before
    assert Counter(map(str, rows_of(lake, snapshot_id=lake.resolve("trades", parse_as_of("eod"))).rows())) == tagged
    assert wb.trades(as_of="held").to_arrow() == pinned
    assert lake.provenance("trades") == ingests == Lake.open(lake.settings).provenance("trades")
    assert wb.expire("trades", NOTHING, dry_run=False).deleted == 0


def test_an_expired_file_is_still_known(lake: Lake, wb: k2.Workbench) -> None:
    """Expired step by step, with a compaction between, a rollback behind, and the log itself compacted and expired."""
    for number in range(3):
        load(lake, f"s{number}", minute=number)
    lake.rollback("trades", lake.snapshots("trades")[1].id)
    (undo,) = [tag.name for tag in lake.tags("trades")]
    load(lake, "s3", minute=3)
    expire_past(lake)
    load(lake, "s4", minute=4)
    wb.compact("trades")
    load(lake, "s5", minute=5)
    expire_past(lake)
    standing = [["s0"], ["s1"], ["s3"], ["s4"], ["s5"]]
    assert [sorted(ingest.digests) for ingest in lake.provenance("trades")] == standing
    abandoned = lake.resolve("trades", parse_as_of(undo))
    assert [sorted(ingest.digests) for ingest in lake.provenance("trades", abandoned)] == [["s0"], ["s1"], ["s2"]]
    wb.compact("ingest_log")
    wb.expire("ingest_log", NOTHING, dry_run=False)
    lake.untag("trades", undo)
    expire_past(lake)
    for known in (lake, Lake.open(lake.settings)):
        assert [sorted(ingest.digests) for ingest in known.provenance("trades")] == standing
    for digest in ("s0", "s3", "s5"):
        with pytest.raises(CommitConflict, match="already"):
            load(lake, digest)
    load(lake, "s2", minute=6)
    assert rows_of(lake).height == 60
    assert_only_needed_files(lake, "ingest_log")
    assert_clean_after_orphans(lake)


def test_thinned_states_stay_one_line(lake: Lake, wb: k2.Workbench) -> None:
    """What is kept beyond a gap is still what the table was built on, and can be gone back to."""
    for number in range(6):
        load(lake, f"s{number}", minute=number)
    ids = [found.id for found in wb.snapshots()][::-1]
    wb.tag("trades", "early", ids[1])
    expire_past(lake)
    load(lake, "s6", minute=6)
    assert [(found.id, found.is_current_ancestor) for found in wb.snapshots()][1:] == [(ids[5], True), (ids[1], True)]
    assert [min(ingest.digests) for ingest in lake.provenance("trades")] == [f"s{number}" for number in range(7)]
    assert [min(ingest.digests) for ingest in lake.provenance("trades", ids[1])] == ["s0", "s1"]
    undone = wb.rollback("trades", "early")
    assert (undone.rows_after, undone.removed) == (20, tuple(f"s{number}.csv" for number in (2, 3, 4, 5, 6)))
    load(lake, "s3", minute=9)
    assert [min(ingest.digests) for ingest in lake.provenance("trades")] == ["s0", "s1", "s3"]


def test_reads_of_expired_states_say_so_and_others_go_on(lake: Lake, wb: k2.Workbench) -> None:
    for number in range(4):
        load(lake, f"s{number}", minute=number)
    states = wb.snapshots()[::-1]
    wb.tag("trades", "kept", states[1].id)
    planned = {"gone": wb.trades(as_of=states[2].id), "kept": wb.trades(as_of="kept")}
    sql = wb.sql("SELECT * FROM trades", as_of=states[2].id)
    replays = {
        name: wb.replay(kinds="trades", as_of=as_of) for name, as_of in (("gone", states[2].id), ("kept", "kept"))
    }
    wb.compact("trades")
    expire_past(lake)
    for file in lake.files("trades", lake.head("trades")):
        assert file.rows == 40
    assert planned["kept"].to_arrow().num_rows == replays["kept"].run().events == 20
    for read in (planned["gone"].to_arrow, sql.to_arrow, replays["gone"].run):
        with pytest.raises(ExpiredReference, match=r"has expired meanwhile.*It has: kept"):
            read()
    with pytest.raises(ExpiredReference):
        wb.trades(as_of=states[0].committed_at + (states[1].committed_at - states[0].committed_at) / 2)


def test_a_name_that_is_set_while_its_state_expires_saves_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = load(lake, "a"), load(lake, "b", minute=1)
    other, real, calls = Lake.open(lake.settings), lake.catalog.commit_table, 0
    time.sleep(0.002)

    def commit_table(table: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first one is of the log
            other.tag("trades", "late", first)
        return real(table, *args)

    monkeypatch.setattr(lake.catalog, "commit_table", commit_table)
    assert lake.maintenance.expire("trades", NOTHING, dry_run=False).snapshots_after == 2
    assert calls == 2
    assert lake.resolve("trades", parse_as_of("late")) == first
    assert [sorted(ingest.digests) for ingest in lake.provenance("trades")] == [["a"], ["b"]]
