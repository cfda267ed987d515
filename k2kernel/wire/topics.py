"""Names: a topic is `market.<asset_class>.<kind>.<venue>`, and its subject in the registry `<topic>-value`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from k2kernel.errors import InvalidParameter
from k2kernel.schemas import KINDS

_TOPIC = re.compile(rf"market\.([a-z0-9_-]+)\.({'|'.join(KINDS)})\.([a-z0-9_-]+)")

REPLAYED = "replay"
"""The asset class of topics with events that were published again: a lake that took them in would have them twice, so
streams read such a topic only where it is named.
"""


@dataclass(frozen=True)
class Topic:
    """A topic: its asset class, the kind of its events (a table), and their venue, in lower case."""

    asset_class: str
    kind: str
    venue: str

    def __str__(self) -> str:
        return f"market.{self.asset_class}.{self.kind}.{self.venue.lower()}"

    @classmethod
    def parse(cls, name: str) -> Topic:
        """The topic of a name; InvalidParameter for another name."""
        found = _TOPIC.fullmatch(name)
        if found is None:
            raise InvalidParameter("topic", name, "is not market.<asset class>.<trades|quotes>.<venue>")
        return cls(*found.groups())


def subject(topic: str) -> str:
    """The registry's name for the schema of a topic's values."""
    return f"{topic}-value"
