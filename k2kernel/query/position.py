"""Where a read is, as a token: base64url of JSON with the pinned snapshots, the query's digest and the last key.

The checksum tells a damaged token from a good one. It is no signature: who hands tokens to strangers signs them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from k2kernel.errors import InvalidPosition

_VERSION = 1

Key = tuple[Any, ...]
"""The place of a row in an order, as texts and integers."""

EVENT_KEY = (int, int, str, str, int, str, int)
"""The key of an event: ns, rank of its kind, venue, symbol, sequence, source, source_offset."""


class Since(NamedTuple):
    """Where to begin: at the first event (both None), at the first one at or after `instant`, or after `key`.

    `instant` is in ns of the replay's clock.
    """

    instant: int | None = None
    key: Key | None = None

    @property
    def ns(self) -> int | None:
        """The first instant that can still come."""
        return self.instant if self.key is None else int(self.key[0])


@dataclass(frozen=True)
class Position:
    """A place in the read `query` (a digest of its words) of `snapshots`: next comes what is after `since`."""

    query: str
    snapshots: Mapping[str, int | None]
    since: Since

    @classmethod
    def after(cls, query: str, snapshots: Mapping[str, int | None], key: Key) -> Position:
        """The place after the row with this key."""
        return cls(query, snapshots, Since(key=key))

    @property
    def key(self) -> Key | None:
        """The key of the row before; None where the place is an instant or the beginning."""
        return self.since.key

    def encode(self) -> str:
        """The token."""
        pins = {name: None if pin is None else str(pin) for name, pin in self.snapshots.items()}
        key = None if self.since.key is None else list(self.since.key)
        body = {"v": _VERSION, "q": self.query, "s": pins, "k": key, "t": self.since.instant}
        return base64.urlsafe_b64encode(_json({**body, "c": _checksum(body)})).decode().rstrip("=")

    @classmethod
    def decode(cls, token: object, shape: Sequence[type] = EVENT_KEY) -> Position:
        """The position that a token stands for; InvalidPosition where it is no token, not as it was given out, or its
        key has not the types of `shape`.
        """
        body = _parsed(token)
        if body.pop("c", None) != _checksum(body) or body.get("v") != _VERSION:
            raise InvalidPosition("was changed since it was given out, or comes from another version")
        pins = {name: None if pin is None else int(pin) for name, pin in body["s"].items()}
        return cls(body["q"], pins, Since(body["t"], None if body["k"] is None else _key(body["k"], shape)))


def _key(values: list[Any], shape: Sequence[type]) -> Key:
    if len(values) != len(shape) or not all(map(isinstance, values, shape)):
        raise InvalidPosition("has no key of this order")
    return tuple(values)


def _parsed(token: object) -> dict[str, Any]:
    if not isinstance(token, str):
        raise InvalidPosition("is not a text")
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        body = json.loads(raw)
    except (binascii.Error, ValueError) as exc:
        raise InvalidPosition("is not a token") from exc
    if not isinstance(body, dict) or base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
        raise InvalidPosition("is not a token")
    return body


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(body)).hexdigest()[:24]


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def digest_of(words: Mapping[str, Any]) -> str:
    """The digest of a query's words."""
    return hashlib.sha256(_json(words)).hexdigest()[:32]
