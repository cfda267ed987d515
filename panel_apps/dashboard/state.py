"""`State`: what a visitor has chosen. The address of the page carries it, so that a view can be shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import param

INTERVALS = ["10s", "1m", "5m", "15m", "30m", "1h", "1d", "session"]
PAGES = {
    "market": "Market",
    "tape": "Tape",
    "travel": "Time travel",
    "corrections": "Corrections",
    "health": "Health",
    "letters": "Dead letters",
    "replay": "Replay",
    "runs": "Runs",
}
"""The pages and what they are called."""


class State(param.Parameterized):
    """The words of every read of a page; `as_of` is empty for now, and `live` then follows new snapshots."""

    page: Any = param.Selector(default="market", objects=list(PAGES))
    venue = param.String("")
    symbol = param.String("")
    session = param.String("")
    interval: Any = param.Selector(default="5m", objects=INTERVALS)
    hours: Any = param.Selector(default="rth+auctions", objects=["all", "rth", "rth+auctions"])
    eligible = param.String("venue")
    adjustment: Any = param.Selector(default="raw", objects=["raw", "split", "dividend", "all"])
    as_of = param.String("")
    live = param.Boolean(default=True)
    zone: Any = param.Selector(default="venue", objects=["venue", "UTC"])
    theme: Any = param.Selector(default="dark", objects=["dark", "light"])

    def __init__(self, **chosen: Any) -> None:
        super().__init__(**chosen)  # type: ignore[no-untyped-call]  # param has no types

    @classmethod
    def of_address(cls, words: Mapping[str, str]) -> State:
        """What an address says; words that mean nothing are left at their defaults."""
        state = cls()
        for name in cls.words():
            if name in words:
                value: object = words[name] == "true" if name == "live" else words[name]
                try:
                    state.param.update(**{name: value})
                except ValueError:
                    continue
        return state

    @classmethod
    def words(cls) -> list[str]:
        """The names of everything that is chosen."""
        return [name for name in cls.param if name != "name"]

    @property
    def address(self) -> str:
        """The query of the address: what is not at its default."""
        chosen = {name: getattr(self, name) for name in self.words()}
        told = {name: value for name, value in chosen.items() if value != self.param[name].default}
        return urlencode({name: str(value).lower() if name == "live" else value for name, value in told.items()})
