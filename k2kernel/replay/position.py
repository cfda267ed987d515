"""Where a replay is, as a token: base64url of JSON with the pinned snapshots, the query's digest and the last key.

The checksum tells a damaged token from a good one. It is no signature: who hands tokens to strangers signs them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2kernel.errors import InvalidPosition
from k2kernel.replay.plan import Since

_VERSION = 1
_TEXTS = (2, 3, 5)
"""Where in a key the texts stand: venue, symbol, source."""


@dataclass(frozen=True)
class Position:
    """A place in the replay `query` (a digest of its words) of `snapshots`: next comes what is after `since`."""

    query: str
    snapshots: Mapping[str, int | None]
    since: Since

    def encode(self) -> str:
        """The token."""
        pins = {name: None if pin is None else str(pin) for name, pin in self.snapshots.items()}
        key = None if self.since.key is None else list(self.since.key)
        body = {"v": _VERSION, "q": self.query, "s": pins, "k": key, "t": self.since.instant}
        return base64.urlsafe_b64encode(_json({**body, "c": _checksum(body)})).decode().rstrip("=")

    @classmethod
    def decode(cls, token: object) -> Position:
        """The position that a token stands for; InvalidPosition where it is no token, or not as it was given out."""
        body = _parsed(token)
        if body.pop("c", None) != _checksum(body) or body.get("v") != _VERSION:
            raise InvalidPosition("was changed since it was given out, or comes from another version")
        pins = {name: None if pin is None else int(pin) for name, pin in body["s"].items()}
        return cls(body["q"], pins, Since(body["t"], None if body["k"] is None else _key(body["k"])))


def _key(values: list[Any]) -> tuple[Any, ...]:
    right = (isinstance(value, str if at in _TEXTS else int) for at, value in enumerate(values))
    if len(values) != 7 or not all(right):
        raise InvalidPosition("has no key of the total order")
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
