"""When an event may pass: pace, pause, step, seek and stop, by a clock that tests can replace."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from k2kernel.times import NS


class Clock(Protocol):
    """What paces a replay."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""

    def wait(self, wake: threading.Condition, ns: int) -> None:
        """Let `ns` pass, or less where `wake` (which is held) is notified before."""


class SystemClock:
    """The clock of this machine, which never goes back."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        return time.monotonic_ns()

    def wait(self, wake: threading.Condition, ns: int) -> None:
        """Sleep `ns`, or until `wake` is notified."""
        wake.wait(ns / NS)


class ManualClock:
    """A clock whose time passes when it is waited for, and only then: a day's replay takes no time."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        """The nanoseconds that were waited for so far."""
        return self._now

    def wait(self, wake: threading.Condition, ns: int) -> None:  # noqa: ARG002 - there is nothing to wake
        """Jump ahead by `ns`."""
        self._now += ns


class Gate:
    """Lets events pass at `speed` times the pace at which they happened (0: at once), and holds them while paused.

    The first event passes at once, and so does the first one after a seek. A pause is not made up for; a consumer that
    is slower than the pace is: events that are due pass together.
    """

    def __init__(self, speed: float, clock: Clock) -> None:
        self._wake = threading.Condition()
        self._clock, self._speed = clock, speed
        self._anchor: tuple[int, int] | None = None
        self._last: int | None = None
        self._steps = 0
        self._seek: int | None = None
        self.paused = self.stopped = False
        self.interrupted = False
        """True where the next event must ask again whether it may pass."""

    @property
    def speed(self) -> float:
        """Times the pace at which events happened; 0: at once."""
        return self._speed

    def change(self, speed: float) -> None:
        """Go on at another speed, from the next event on."""
        with self._wake:
            self._speed = speed
            self._rebase()
            self._notify()

    def pause(self) -> None:
        """Hold the next event."""
        with self._wake:
            self.paused, self._steps = True, 0
            self._notify()

    def resume(self) -> None:
        """Go on; the event after the pause keeps its distance from the one before."""
        with self._wake:
            self.paused = False
            self._rebase()
            self._notify()

    def step(self, events: int) -> None:
        """Let so many events pass at once, paused before and after."""
        with self._wake:
            self._steps = events + (self._steps if self.paused else 0)
            self.paused = True
            self._notify()

    def stop(self) -> None:
        """Let nothing pass any more."""
        with self._wake:
            self.stopped = True
            self._notify()

    def seek(self, instant: int) -> None:
        """Have the next event be the first at or after `instant`."""
        with self._wake:
            self._seek = instant
            self._notify()

    def take_seek(self) -> int | None:
        """The instant to go to, once."""
        with self._wake:
            wanted, self._seek = self._seek, None
            if wanted is not None:
                self._anchor = self._last = None
            return wanted

    def admit(self, times: Sequence[int] | None, at: int, end: int) -> int:
        """Wait until the event `at` may pass, and return the end of those that may with it; `at` where none may,
        because of stop or seek. `times` are their instants in ns (None: unpaced).
        """
        with self._wake:
            while not self.stopped and self._seek is None:
                if self.paused and not self._steps:
                    self.interrupted = True
                    self._wake.wait()
                elif self.paused:
                    upto = min(end, at + self._steps)
                    self._steps -= upto - at
                    return self._passed(times, upto)
                elif not self._speed or times is None:
                    return self._passed(times, end)
                elif (upto := self._due(times, at, end)) > at:
                    return self._passed(times, upto)
            return at

    def _passed(self, times: Sequence[int] | None, upto: int) -> int:
        """Note that all before `upto` pass. A single step must ask again."""
        self.interrupted = False
        if times is not None:
            self._last = times[upto - 1]
        return upto

    def _due(self, times: Sequence[int], at: int, end: int) -> int:
        """The end of the events that are due now; `at` after some waiting where there are none."""
        now = self._clock.now()
        if self._anchor is None:
            self._anchor = (now, times[at] if self._last is None else self._last)
        wall, instant = self._anchor
        virtual = instant + int((now - wall) * self._speed)
        if times[at] <= virtual:
            return bisect_right(times, virtual, at, end)
        self._clock.wait(self._wake, -int(-(times[at] - virtual) // self._speed))
        return at

    def _rebase(self) -> None:
        """Count the pace from now and from the last event."""
        self._anchor = None

    def _notify(self) -> None:
        self.interrupted = True
        self._wake.notify_all()
