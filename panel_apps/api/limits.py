"""How often a key may ask: a sliding minute, counted in this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

MINUTE = 60.0


@dataclass(frozen=True)
class Allowance:
    """Whether a request may pass, and what is left: requests, and seconds until there is one more."""

    passes: bool
    most: int
    left: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        found = {
            "RateLimit-Limit": str(self.most),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(self.seconds),
        }
        return found if self.passes else {**found, "Retry-After": str(self.seconds)}


class Rate:
    """At most `most` requests in any minute, for each name. A request that is refused does not count."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._seen: dict[str, deque[float]] = {}

    def take(self, name: str) -> Allowance:
        """Count one request of `name`."""
        now = self._now()
        seen = self._seen.setdefault(name, deque())
        while seen and now - seen[0] >= MINUTE:
            seen.popleft()
        passes = len(seen) < self._most
        if passes:
            seen.append(now)
        return Allowance(passes, self._most, self._most - len(seen), max(1, ceil(seen[0] + MINUTE - now)))
