"""Counters, gauges and histograms as plain numbers: recording is an addition, and needs no library."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from operator import add
from typing import Self

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Numbers = list[float]
"""The numbers of one series: a value; of a histogram the count of each bucket, then the sum."""

Series = dict[tuple[str, ...], Numbers]
"""The series of an instrument by the values of its labels."""

_LOCK = threading.Lock()


class Instrument:
    """A metric by its name without suffix, what it means, and its labels; `series` are its numbers by their values.

    A series is there from its first number on; one without labels, or with the only label's `known` values, from the
    beginning: a rate misses what happens before the first look.
    """

    def __init__(self, name: str, meaning: str, label_names: tuple[str, ...] = (), known: tuple[str, ...] = ()) -> None:
        self.name, self.meaning, self.label_names = name, meaning, label_names
        self.series: Series = {}
        for labels in [(value,) for value in known] if label_names else [()]:
            self.series[labels] = self.zeros
        self.labelled: tuple[str, ...] = ()

    def labels(self, *values: str) -> Self:
        """The series with these values, in the order of `label_names`."""
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, not {values}")
        found = copy(self)
        found.labelled = values
        return found

    @property
    def zeros(self) -> Numbers:
        """The numbers of a series that nothing has happened to."""
        return [0.0]

    @property
    def _numbers(self) -> Numbers:
        return self.series.setdefault(self.labelled, self.zeros)

    def hand_over(self) -> Series:
        """The numbers so far, for another process to `take`; they are zero then."""
        with _LOCK:
            told = dict(self.series)
            for labels in told:
                self.series[labels] = self.zeros
        return told

    def take(self, told: Series) -> None:
        """Add what another process has handed over."""
        with _LOCK:
            for labels, numbers in told.items():
                mine = self.series.setdefault(labels, self.zeros)
                mine[:] = map(add, mine, numbers)

    def _add(self, amount: float) -> None:
        with _LOCK:
            self._numbers[0] += amount


class Counter(Instrument):
    """What only grows while the process lives."""

    def inc(self, amount: float = 1) -> None:
        """Count `amount` more."""
        self._add(amount)


class Gauge(Instrument):
    """What goes up and down. Several processes that share it show what `across` makes of their values."""

    def __init__(
        self, name: str, meaning: str, label_names: tuple[str, ...] = (), across: Callable[[list[float]], float] = sum
    ) -> None:
        super().__init__(name, meaning, label_names)
        self.across = across

    def inc(self, amount: float = 1) -> None:
        """Add `amount`."""
        self._add(amount)

    def dec(self, amount: float = 1) -> None:
        """Take `amount` away."""
        self._add(-amount)

    def set(self, value: float) -> None:
        """It is `value` now."""
        with _LOCK:
            self._numbers[0] = value

    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        """One more while the block runs."""
        self.inc()
        try:
            yield
        finally:
            self.dec()


class Histogram(Instrument):
    """How often a value was at most each of the `buckets`."""

    def __init__(
        self,
        name: str,
        meaning: str,
        label_names: tuple[str, ...] = (),
        buckets: tuple[float, ...] = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    ) -> None:
        self.buckets = buckets
        super().__init__(name, meaning, label_names)

    @property
    def zeros(self) -> Numbers:
        """A count for each bucket and for what is above, and the sum."""
        return [0.0] * (len(self.buckets) + 2)

    def observe(self, value: float) -> None:
        """Count a value."""
        with _LOCK:
            numbers = self._numbers
            numbers[bisect_left(self.buckets, value)] += 1
            numbers[-1] += value

    @contextmanager
    def time(self) -> Iterator[None]:
        """Observe the seconds that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - start)
