"""Pace, pause, step, seek and stop: on a clock of ours, and quick on the clock of this machine."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from k2kernel.errors import InvalidParameter, SlowConsumer
from k2kernel.lake import Lake
from k2kernel.replay import Control, ManualClock, Replay, ReplayEngine
from k2kernel.replay.feed import Feed
from tests.query_lake import DAY, OPEN_NS, add, at, event

pytestmark = pytest.mark.alone

GAPS_NS = (0, 1, 999, 5_000_000, 40_000_000, 40_000_000, 1_000_000_000, 3_600_000_000_000)
"""Between one event and the next; time is a second and an hour, too."""


@pytest.fixture
def engine(lake: Lake) -> ReplayEngine:
    moments = [sum(GAPS_NS[:n]) for n in range(len(GAPS_NS) + 1)]
    add(lake, "a", [event(ns) for ns in moments[::2]])
    add(lake, "q", [event(ns) for ns in moments[1::2]], "quotes", minute=1)
    return ReplayEngine(lake)


@pytest.fixture
def steady(lake: Lake) -> ReplayEngine:
    """An event every 10 ms for 100 s."""
    add(lake, "a", [event(n * 10_000_000) for n in range(10_000)])
    return ReplayEngine(lake)


def spacing(clock: ManualClock, found: Iterator[Any]) -> list[int]:
    stamps = [clock.now() for _ in found]
    return [after - before for before, after in pairwise(stamps)]


@pytest.mark.parametrize("speed", [1, 10, 100, 0.5])
@pytest.mark.parametrize("by_rows", [True, False])
def test_events_are_as_far_apart_as_they_were(engine: ReplayEngine, speed: float, by_rows: bool) -> None:
    clock = ManualClock()
    replay = engine.replay(speed=speed, pace_clock=clock)
    found = spacing(clock, iter(replay) if by_rows else replay.batches())
    wanted = [gap / speed for gap in GAPS_NS if by_rows or gap]
    assert len(found) == len(wanted)
    assert median(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 5_000_000
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 1


def test_unpaced_nothing_waits(engine: ReplayEngine) -> None:
    clock = ManualClock()
    assert set(spacing(clock, iter(engine.replay(pace_clock=clock)))) == {0}


def test_a_slow_consumer_gets_what_is_due_together(steady: ReplayEngine) -> None:
    clock = ManualClock()
    sizes = []
    for batch in steady.replay(speed=1, pace_clock=clock, limit=100).batches():
        sizes.append(len(batch))
        clock.wait(threading.Condition(), 95_000_000)
    assert sum(sizes) == 100
    assert set(sizes[1:-1]) <= {9, 10}


def test_the_speed_can_change_on_the_way(steady: ReplayEngine) -> None:
    clock = ManualClock()
    replay = steady.replay(speed=1, pace_clock=clock, limit=30)
    stamps = []
    for number, _ in enumerate(replay):
        stamps.append(clock.now())
        if number == 9:
            replay.speed = 10
        elif number == 19:
            replay.speed = 0
    found = [after - before for before, after in pairwise(stamps)]
    assert found == [10_000_000] * 9 + [1_000_000] * 10 + [0] * 10
    with pytest.raises(InvalidParameter):
        replay.speed = -1


def test_seek_goes_back_and_ahead_and_the_rest_is_the_same(steady: ReplayEngine) -> None:
    replay = steady.replay(digest=True)
    everything = [row.source_offset for row in steady.replay()]
    found = []
    for number, row in enumerate(replay):
        found.append(row.source_offset)
        if number == 99:
            replay.seek(at(50))
        elif number == 199:
            replay.seek(at(1))
    assert found == everything[:100] + everything[5_000:5_100] + everything[100:]
    assert replay.digest is None
    replay.seek("2014-03-10T10:01:39.985+11:00")
    assert replay.state == "ready"
    assert [row.source_offset for row in replay] == everything[-1:]
    replay.seek(at(1_000))
    assert list(replay) == []
    with pytest.raises(InvalidParameter, match="time"):
        replay.seek("noon")


def test_a_position_after_a_seek_goes_on_from_there(steady: ReplayEngine) -> None:
    replay = steady.replay()
    replay.seek(at(50))
    token = replay.position
    assert [row.source_offset for row in steady.replay(position=token)][:2] == [5_000, 5_001]


def test_step_lets_so_many_pass(steady: ReplayEngine) -> None:
    replay = steady.replay()
    replay.pause()
    assert replay.state == "paused"
    replay.step(3)
    rows = iter(replay)
    assert [next(rows).source_offset for _ in range(3)] == [0, 1, 2]
    replay.step()
    assert next(rows).source_offset == 3
    later = threading.Timer(0.05, replay.resume)
    later.start()
    assert next(rows).source_offset == 4
    assert replay.state == "running"
    with pytest.raises(InvalidParameter):
        replay.step(0)


def test_stop_is_the_end_and_says_where(steady: ReplayEngine) -> None:
    replay = steady.replay()
    found = []
    for row in replay:
        found.append(row.source_offset)
        if row.source_offset == 499:
            replay.stop()
    assert (found[-1], replay.state, replay.events) == (499, "stopped", 500)
    assert list(replay) == []
    assert next(iter(steady.replay(position=replay.position))).source_offset == 500


def test_one_reader_at_a_time(steady: ReplayEngine) -> None:
    replay = steady.replay()
    rows = iter(replay)
    next(rows)
    with pytest.raises(InvalidParameter, match="being read"):
        next(iter(replay))


class Watched:
    """A replay read by a thread that notes when each event came, and rests for `delay` seconds after it."""

    def __init__(self, replay: Replay, delay: float = 0) -> None:
        self.replay, self.delay = replay, delay
        self.seen: list[tuple[float, int]] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        for row in self.replay:
            self.seen.append((time.monotonic(), row.source_offset))
            if self.delay:
                time.sleep(self.delay)

    def end(self) -> None:
        self.replay.stop()
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("speed", [0, 1, 100])
def test_pause_seek_and_stop_take_effect_within_50_ms(steady: ReplayEngine, speed: float) -> None:
    # Without a pace the events would all have come before the pause: the reader has to take its time then.
    watched = Watched(steady.replay(speed=speed, limit=9_000), delay=0 if speed else 0.001)
    while not watched.seen:
        time.sleep(0.001)
    watched.replay.pause()
    paused = time.monotonic()
    time.sleep(0.2)
    assert watched.seen[-1][0] - paused < 0.05
    count = len(watched.seen)
    watched.replay.step(2)
    time.sleep(0.1)
    assert len(watched.seen) == count + 2
    watched.replay.resume()
    assert statistics.median(sought(watched, tens) for tens in (95, 80, 60, 90, 70)) < 0.05
    stopping = time.monotonic()
    watched.end()
    assert time.monotonic() - stopping < 0.05


def sought(watched: Watched, tens: int) -> float:
    """Seconds from a seek to the event 100 * `tens` until it comes."""
    before, start = len(watched.seen), time.monotonic()
    watched.replay.seek(at(tens))
    while not (came := [moment for moment, offset in watched.seen[before:] if offset == tens * 100]):
        assert time.monotonic() - start < 1
        time.sleep(0.001)
    return came[0] - start


def test_a_paused_replay_can_be_stopped_while_it_waits_for_an_hour(engine: ReplayEngine) -> None:
    watched = Watched(engine.replay(speed=1))
    while len(watched.seen) < 5:
        time.sleep(0.001)
    watched.end()
    assert watched.replay.state == "stopped"


def consume(feed: Feed, delay: float = 0) -> list[Any]:
    found = []
    for record in feed:
        found.append(record)
        time.sleep(delay)
    return found


def test_a_feed_that_blocks_loses_nothing(steady: ReplayEngine) -> None:
    replay = steady.replay(limit=500)
    feed = replay.feed(capacity=7, slow="block")
    found = [record for record in feed if not isinstance(record, Control)]
    assert [row.source_offset for row in found] == list(range(500))  # type: ignore[union-attr]
    assert feed.dropped == 0


def test_a_feed_that_drops_says_how_many_and_where(steady: ReplayEngine) -> None:
    feed = steady.replay(limit=2_000).feed(capacity=10, slow="drop_oldest")
    feed.start()
    time.sleep(0.5)
    found = list(feed)
    position = 0
    dropped = 0
    for record in found:
        if isinstance(record, Control):
            if record.name == "dropped":
                dropped += record.details["count"]
                position += record.details["count"]
                assert record.ts_ns == record.details["last_ns"] == OPEN_NS + (position - 1) * 10_000_000
        else:
            assert record.source_offset == position  # type: ignore[union-attr]
            position += 1
    assert position == 2_000
    assert dropped == feed.dropped == 1_990


def test_a_feed_that_fails_says_so_after_what_it_held(steady: ReplayEngine) -> None:
    replay = steady.replay()
    feed = replay.feed(capacity=10, slow="error").start()
    time.sleep(0.5)
    found: list[Any] = []
    with pytest.raises(SlowConsumer, match="10 events behind"):
        found.extend(feed)
    assert [row.source_offset for row in found if not isinstance(row, Control)] == list(range(10))
    rest = [row.source_offset for row in steady.replay(position=feed.position)]
    assert rest[0] == 10


def test_a_feed_can_be_left_and_its_position_is_the_consumers(steady: ReplayEngine) -> None:
    replay = steady.replay()
    seen = 0
    with replay.feed(capacity=100) as feed:
        for record in feed:
            seen += not isinstance(record, Control)
            if seen == 50:
                break
    token = feed.position
    assert replay.state == "stopped"
    assert next(iter(steady.replay(position=token))).source_offset == 50
    for wrong in ({"slow": "sleep"}, {"capacity": 0}):
        with pytest.raises(InvalidParameter):
            steady.replay().feed(**wrong)


def test_async_iteration_and_an_async_feed_leave_the_loop_free(steady: ReplayEngine) -> None:
    async def story() -> tuple[list[int], list[int], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        plain = [row.source_offset async for row in steady.replay(speed=20, limit=500)]
        records = [record async for record in steady.replay(limit=500).feed(capacity=5)]
        ticking.cancel()
        return plain, [r.source_offset for r in records if not isinstance(r, Control)], ticks  # type: ignore[union-attr]

    plain, fed, ticks = asyncio.run(story())
    assert plain == fed == list(range(500))
    assert ticks >= 15


def test_a_cancelled_task_stops_the_replay(engine: ReplayEngine) -> None:
    replay = engine.replay(speed=1)

    async def story() -> None:
        async for _ in replay:
            pass

    async def main() -> None:
        task = asyncio.create_task(story())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 2
    assert replay.state == "stopped"


def test_an_async_loop_that_breaks_goes_on(steady: ReplayEngine) -> None:
    replay = steady.replay(session=DAY)

    async def some() -> list[int]:
        found = []
        rows = aiter(replay)
        async for row in rows:
            found.append(row.source_offset)
            if len(found) == 10:
                break
        await rows.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(some()) == list(range(10))
    assert next(iter(replay)).source_offset == 10
