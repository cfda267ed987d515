"""Never a lost row and never a doubled one: sinks that die at every step, sleep, race and lose answers."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.feeds import Feed, wait_for
from tests.stream_worker import FENCED, STEPS, Fault, asleep, sink
from tests.streams import Kafka, Registry, Services, need_servers

BATCH = 150


def start(feed: Feed, fault: Fault | None = None, rows: int = BATCH) -> BaseProcess:
    return sink(feed.home, feed.services, [feed.topic], rows, fault)


def run(feed: Feed, fault: Fault) -> int:
    """A sink that meets a fault; its exit code."""
    process = start(feed, fault)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize("step", STEPS)
def test_a_sink_that_is_killed_at_a_step(feed: Feed, step: str) -> None:
    feed.publish(500, bad=20)
    for number in (1, 2):
        assert run(feed, Fault(step, number)) == -signal.SIGKILL
        feed.publish(300, bad=5)
    feed.drain()
    feed.check()


def test_a_commit_whose_answer_is_lost(feed: Feed) -> None:
    feed.publish(600, bad=10)
    assert run(feed, Fault("after commit", 1, "lose")) == 0
    feed.check()
    feed.publish(100)
    assert run(feed, Fault("after commit", 2, "lose")) == 0
    feed.check()


@pytest.mark.parametrize("step", STEPS)
def test_a_sleeper_that_wakes_up_at_a_step_is_fenced(feed: Feed, step: str) -> None:
    """Meanwhile another sink has taken in what it held, and more."""
    feed.publish(600, bad=10)
    sleeper = start(feed, Fault(step, 2, "sleep"))
    try:
        wait_for(lambda: asleep(sleeper.pid), 60)
        feed.drain()
        feed.publish(400, bad=5)
        feed.drain()
        os.kill(int(sleeper.pid or 0), signal.SIGCONT)
        sleeper.join(60)
        assert sleeper.exitcode == FENCED
    finally:
        sleeper.kill()
    feed.check()


def test_two_writers_of_the_same_partitions(feed: Feed) -> None:
    feed.publish(2_000, bad=10)
    pair = [start(feed, rows=100) for _ in range(2)]
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


ACCIDENTS = (*STEPS, "lost answer", "sleeper", "two writers", "broker", "registry")
A_ROUND, ROUNDS = 5, 11
"""Seeds of which the accidents together are all there are, and how often; the first round is in `make test`."""


def plan(seed: int) -> list[tuple[str, int]]:
    """The accidents of a run, each with a number: two of its round's, and at random up to two more."""
    deck, rng = list(ACCIDENTS), random.Random(seed)
    random.Random(seed // A_ROUND).shuffle(deck)
    names = deck[seed % A_ROUND :: A_ROUND] + rng.choices(ACCIDENTS, k=rng.randrange(3))
    return [(name, rng.randrange(1, 5)) for name in names]


def meet(feed: Feed, servers: Servers, accident: str, number: int) -> None:
    """Let an accident happen to a sink at work, or to what it works with."""
    if accident in STEPS:
        run(feed, Fault(accident, number))
    elif accident == "lost answer":
        run(feed, Fault("after commit", number, "lose"))
    elif accident == "two writers":
        pair = [start(feed) for _ in range(2)]
        for process in pair:
            process.join(60)
    elif accident == "sleeper":
        sleep_and_wake(feed, number / 20)
    else:
        struck = start(feed)
        time.sleep(feed.rng.random())
        servers.strike(accident, number / 2)
        struck.join(90)
        # One that begins while the broker is away says so and ends.
        assert struck.exitcode in {0, 1}


def sleep_and_wake(feed: Feed, after: float) -> None:
    sleeper = start(feed)
    time.sleep(feed.rng.random() * after)
    os.kill(int(sleeper.pid or 0), signal.SIGSTOP)
    # A sleeper that holds the catalog's lock keeps others out as long as it sleeps.
    other = start(feed)
    other.join(feed.rng.random() * 3)
    os.kill(int(sleeper.pid or 0), signal.SIGCONT)
    for process in (sleeper, other):
        process.join(90)
        assert process.exitcode is not None


def one_random_run(servers: Servers, home: Path, seed: int) -> None:
    """Accidents one after another, rows and noise between them; then all is there once, and the audit agrees."""
    accidents = plan(seed)
    print(f"seed {seed}: {', '.join(f'{name} {number}' for name, number in accidents)}")  # noqa: T201 - see conftest
    feed = Feed(servers.services, home, seed)
    for accident, number in accidents:
        feed.publish(feed.rng.randrange(1, 600), bad=feed.rng.randrange(0, 6))
        meet(feed, servers, accident, number)
    feed.drain()
    feed.check()


def test_every_round_of_seeds_meets_every_accident() -> None:
    for first in range(0, A_ROUND * ROUNDS, A_ROUND):
        met = Counter(name for seed in range(first, first + A_ROUND) for name, _ in plan(seed))
        assert {*met} == {*ACCIDENTS}
    assert A_ROUND * (ROUNDS - 1) >= 50


@pytest.mark.parametrize("seed", range(A_ROUND))
def test_random_accidents(servers: Servers, tmp_path: Path, seed: int) -> None:
    one_random_run(servers, tmp_path / ".k2", seed)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(A_ROUND, A_ROUND * ROUNDS))
def test_many_random_accidents(servers: Servers, tmp_path: Path, seed: int) -> None:
    one_random_run(servers, tmp_path / ".k2", seed)
