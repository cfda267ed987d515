"""Maintenance while others write, read and replay; and killed at each step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel.lake import Lake
from k2kernel.lake.reachable import Reachable, on_disk
from tests.feeds import Feed, wait_for
from tests.lake_frames import load, new_lake, rows_of
from tests.query_lake import add, at, event
from tests.streams import Services
from tests.support import ROOT
from tests.travel import meanwhile

POLICY = {"last": 25, "every": "0s", "hourly": "0s", "daily": "0s"}


@contextmanager
def appending(lake: Lake, loaded: list[str]) -> Iterator[None]:
    """A writer of its own that appends three trades and a quote, again and again, and notes what it has loaded."""
    own = Lake.open(lake.settings)

    def work(number: int) -> None:
        for table, count in (("trades", 3), ("quotes", 1)):
            rows = [event(ts_event=at(100 + number * 10 + place)) for place in range(count)]
            add(own, f"{table}-{number}", rows, table, minute=number)
        loaded.append(f"trades-{number}")

    with meanwhile(work):
        yield


def test_nobody_notices_maintenance_under_constant_appends(tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    for table in ("trades", "quotes"):
        for number in range(4):
            add(lake, f"{table}-old-{number}", [event(ts_event=at(number * 50 + n)) for n in range(50)], table)
    bench, reader = k2.connect(settings=lake.settings), k2.connect(settings=lake.settings)
    bench.pin("eod", ["trades", "quotes"])
    wanted = reader.replay("BHP", as_of="eod", digest=True).run().digest
    slow = reader.replay("BHP", as_of="eod", digest=True, batch_rows=20)
    events, loaded, seen = slow.batches(), list[str](), 0
    with appending(lake, loaded):
        for turn in range(8):
            for table in ("trades", "quotes"):
                bench.compact(table)
                bench.lake.maintenance.expire(table, POLICY, dry_run=False)
                bench.orphans(table, dry_run=False)
            assert next(events).num_rows == 20
            assert reader.trades("BHP", as_of="eod").to_arrow().num_rows == 200
            least = 200 + 3 * len(loaded)
            now = reader.trades("BHP").to_arrow().select(["source", "source_offset"]).to_pylist()
            assert len({tuple(row.values()) for row in now}) == len(now) >= max(seen, least)
            seen = len(now)
            assert reader.replay("BHP", as_of="eod", digest=True).run().digest == wanted, turn
    for _ in events:
        pass
    assert slow.digest == wanted
    assert len(loaded) > 5
    ends = Lake.open(lake.settings)
    digests = [digest for ingest in ends.provenance("trades") for digest in ingest.digests]
    assert sorted(digests) == sorted([*(f"trades-old-{number}" for number in range(4)), *loaded])
    assert rows_of(ends).height == 200 + 3 * len(loaded)


def test_a_stream_notices_no_maintenance_and_the_audit_neither(services: Services, tmp_path: Path) -> None:
    """Compacted, expired and cleaned while it commits; offsets are carried on, and no row is lost or doubled."""
    feed = Feed(services, tmp_path / ".k2")
    feed.publish(200)
    with feed.bench.stream([feed.topic], rows=100, seconds=0.1) as stream:
        for _ in range(6):
            feed.publish(200, bad=1)
            for table in ("trades", "dead_letter"):
                feed.bench.compact(table)
                feed.bench.expire(table, {**POLICY, "last": 2}, dry_run=False)
                feed.bench.orphans(table, "1h", dry_run=False)
        wait_for(lambda: stream.done.messages == feed.sent + len(feed.bad))
    feed.bench.expire("trades", {**POLICY, "last": 1}, dry_run=False)
    assert stream.done.batches > len(feed.bench.snapshots("trades")) == 1
    feed.check()


STEPS = """
import os, signal
from pathlib import Path
from tests.lake_frames import settings
from k2kernel.lake import Lake
from k2kernel.lake.write import Writer
lake = Lake.open(settings(Path({home!r})))
counts = {{"write": 0, "commit": 0, "delete": 0}}
def watch(kind, real):
    def call(*args, **kwargs):
        found = real(*args, **kwargs)
        counts[kind] += 1
        if (kind, counts[kind]) == {step!r}:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call
lake.catalog.commit_table = watch("commit", lake.catalog.commit_table)
Writer._store = watch("write", Writer._store)
from k2kernel.lake.local_io import LocalFileIO
LocalFileIO.delete = watch("delete", LocalFileIO.delete)
lake.maintenance.compact("trades")
lake.maintenance.expire("trades", {policy!r}, dry_run=False)
lake.maintenance.orphans("trades", "0s", dry_run=False)
"""


@pytest.mark.parametrize(
    "step",
    [("write", 1), ("commit", 1), ("write", 2), ("commit", 2), ("commit", 3), ("delete", 4)],
    ids=["first file", "compacted", "log written", "log committed", "expired", "while deleting"],
)
def test_killed_at_any_step_it_leaves_a_right_table_and_a_rerun_finishes(tmp_path: Path, step: tuple[str, int]) -> None:
    lake = new_lake(tmp_path)
    for number in range(5):
        load(lake, f"s{number}", rows=3, minute=number)
    lake.tag("trades", "early", lake.snapshots("trades")[3].id)
    ingests, before = lake.provenance("trades"), sorted(map(str, rows_of(lake).rows()))
    policy = POLICY | {"last": 1}
    code = STEPS.format(home=str(tmp_path), step=step, policy=policy)
    killed = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    for finished in (False, True):
        lake = Lake.open(lake.settings)
        if finished:
            lake.maintenance.compact("trades")
            lake.maintenance.expire("trades", policy, dry_run=False)
            lake.maintenance.orphans("trades", "0s", dry_run=False)
        assert sorted(map(str, rows_of(lake).rows())) == before
        assert lake.provenance("trades") == ingests
        early = lake.table("trades").refs()["early"].snapshot_id
        assert rows_of(lake, snapshot_id=early).height == 6
    assert len(lake.snapshots("trades")) == 2
    table = lake.table("trades")
    assert {file.path for file in on_disk("trades", table)} == Reachable().files(table)
    assert len(lake.files("trades", lake.head("trades"))) == 1
