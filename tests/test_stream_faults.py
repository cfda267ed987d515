"""Never a lost row and never a doubled one: sinks that die at every step, sleep, race and lose answers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.feeds import Feed
from tests.stream_worker import FENCED, LOST_REPLY, STEPS, sink
from tests.streams import Kafka, Registry, Services, need_servers

BATCH = 150


def run(feed: Feed, step: str, number: int = 1) -> int:
    """A sink that meets a fault; its exit code."""
    process = sink(feed.home, feed.services, [feed.topic], BATCH, (step, number))
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture
def feed(services: Services, tmp_path: Path) -> Feed:
    return Feed(services, tmp_path / ".k2")


@pytest.mark.parametrize("step", STEPS)
def test_a_sink_that_is_killed_at_a_step(feed: Feed, step: str) -> None:
    feed.publish(500, bad=20)
    for number in (1, 2):
        assert run(feed, step, number) == -signal.SIGKILL
        feed.publish(300, bad=5)
    feed.drain()
    feed.check()


def test_a_commit_whose_answer_is_lost(feed: Feed) -> None:
    feed.publish(600, bad=10)
    assert run(feed, LOST_REPLY, 1) == 0
    feed.check()
    feed.publish(100)
    assert run(feed, LOST_REPLY, 2) == 0
    feed.check()


def test_a_sleeper_that_wakes_up_is_fenced(feed: Feed) -> None:
    feed.publish(3_000, bad=10)
    sleeper = sink(feed.home, feed.services, [feed.topic], 100, None)
    while not feed.bench.lake.offsets("trades"):
        time.sleep(0.01)
    os.kill(int(sleeper.pid or 0), signal.SIGSTOP)
    feed.drain()
    feed.publish(400, bad=5)
    feed.drain()
    os.kill(int(sleeper.pid or 0), signal.SIGCONT)
    sleeper.join(60)
    assert sleeper.exitcode in {FENCED, 0}
    feed.check()


def test_two_writers_of_the_same_partitions(feed: Feed) -> None:
    feed.publish(2_000, bad=10)
    pair = [sink(feed.home, feed.services, [feed.topic], 100, None) for _ in range(2)]
    for process in pair:
        process.join(60)
    assert {process.exitcode for process in pair} <= {0, FENCED}
    feed.drain()
    feed.check()


@dataclass
class Servers:
    """A broker and a registry that may be struck: those of the other tests are not."""

    kafka: Kafka
    registry: Registry

    @property
    def services(self) -> Services:
        return Services(self.kafka.bootstrap, self.registry.url)

    def strike(self, accident: str, seconds: float) -> None:
        """The broker crashes, or the registry goes away, and comes back."""
        if accident == "broker":
            self.kafka.restart(crash=True)
            return
        self.registry.stop()
        time.sleep(seconds)
        self.registry.start()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    need_servers()
    folder = tmp_path_factory.mktemp("struck")
    found = Servers(Kafka(folder / "kafka"), Registry(folder / "registry"))
    try:
        found.kafka.start()
        found.registry.start()
        yield found
    finally:
        found.registry.stop()
        found.kafka.stop()


def wreck(feed: Feed, servers: Servers | None) -> list[str]:
    """A few random accidents, one after another, and what they were."""
    told = []
    outages = [] if servers is None else ["broker", "registry"]
    for _ in range(feed.rng.randrange(2, 5)):
        feed.publish(feed.rng.randrange(1, 600), bad=feed.rng.randrange(0, 6))
        accident = feed.rng.choice([*STEPS, LOST_REPLY, "two", "sleep", *outages])
        number = feed.rng.randrange(1, 5)
        told.append(f"{accident} {number}")
        if accident == "two":
            pair = [sink(feed.home, feed.services, [feed.topic], BATCH, None) for _ in range(2)]
            for process in pair:
                process.join(60)
        elif accident == "sleep":
            sleep_and_wake(feed, number / 20)
        elif servers is not None and accident in outages:
            struck = sink(feed.home, feed.services, [feed.topic], BATCH, None)
            time.sleep(feed.rng.random())
            servers.strike(accident, number / 2)
            struck.join(90)
            # One that begins while the broker is away says so and ends.
            assert struck.exitcode in {0, 1}
        else:
            run(feed, accident, number)
    return told


def sleep_and_wake(feed: Feed, after: float) -> None:
    sleeper = sink(feed.home, feed.services, [feed.topic], BATCH, None)
    time.sleep(feed.rng.random() * after)
    os.kill(int(sleeper.pid or 0), signal.SIGSTOP)
    # A sleeper that holds the catalog's lock keeps others out as long as it sleeps.
    other = sink(feed.home, feed.services, [feed.topic], BATCH, None)
    other.join(feed.rng.random() * 3)
    os.kill(int(sleeper.pid or 0), signal.SIGCONT)
    for process in (sleeper, other):
        process.join(90)
        assert process.exitcode is not None


def one_random_run(services: Services, home: Path, seed: int, servers: Servers | None = None) -> None:
    feed = Feed(services, home, seed)
    told = wreck(feed, servers)
    print(f"seed {seed}: {', '.join(told)}")  # noqa: T201 - what a failure is repeated with
    feed.drain()
    feed.check()


@pytest.mark.parametrize("seed", range(5))
def test_random_accidents(services: Services, tmp_path: Path, seed: int) -> None:
    one_random_run(services, tmp_path / ".k2", seed)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(100, 145))
def test_many_random_accidents(servers: Servers, tmp_path: Path, seed: int) -> None:
    """With crashes of the broker and outages of the registry among them."""
    one_random_run(servers.services, tmp_path / ".k2", seed, servers)
