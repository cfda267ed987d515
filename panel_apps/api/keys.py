"""API keys: who may ask, for which tables, and for how many rows at once.

Only digests are kept. A key that the server makes has 256 random bits, so a plain SHA-256 of it tells nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from k2kernel import Settings
from k2kernel.errors import InvalidParameter
from panel_apps.api.problems import Refused

_NAMED = re.compile(r"([a-z][a-z0-9_-]*):(.+)")
_FILE = "K2_API_KEYS_FILE"


@dataclass(frozen=True)
class Key:
    """The key `name`: the SHA-256 of it, the tables it may read and the rows of one answer (None: not limited)."""

    name: str
    digest: str
    tables: frozenset[str] | None = None
    rows: int | None = None

    def check(self, snapshots: Mapping[str, object]) -> None:
        """Refused where an answer reads a table that the key may not read."""
        asked = {label.partition(" ")[0] for label in snapshots}
        if self.tables is not None and not asked <= self.tables:
            raise Refused(403, "table-not-allowed", f"This key may not read {', '.join(sorted(asked - self.tables))}")


class Entry(BaseModel):
    """A key in the file of keys."""

    model_config = ConfigDict(extra="forbid")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tables: frozenset[str] | None = None
    rows: int | None = Field(default=None, ge=1)


class Keys:
    """The keys of a server."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = list(keys)

    def find(self, secret: str) -> Key | None:
        """The key that `secret` is; every one is compared, in constant time."""
        digest, found = digest_of(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def named(self, name: str) -> Key | None:
        """The key with a name."""
        return next((key for key in self._keys if key.name == name), None)


def digest_of(secret: str) -> str:
    """What is kept of a key."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """A random key."""
    return secrets.token_urlsafe(32)


def load(settings: Settings) -> tuple[Keys, str | None]:
    """The keys that settings name, or where they name none a random one, which is returned as well."""
    found = [] if settings.api_keys is None else list(_given(settings.api_keys.get_secret_value()))
    found += [] if settings.api_keys_file is None else list(_filed(settings.api_keys_file))
    if len({key.name for key in found}) < len(found):
        raise InvalidParameter("K2_API_KEYS", "…", "two keys have one name", "Give each key a name of its own")
    if found:
        return Keys(found), None
    made = new_key()
    return Keys([Key("default", digest_of(made))]), made


def _given(text: str) -> Iterable[Key]:
    for number, item in enumerate(filter(None, map(str.strip, text.split(",")))):
        named = _NAMED.fullmatch(item)
        name, secret = named.groups() if named else (f"key{number}" if number else "default", item)
        yield Key(name, digest_of(secret))


def _filed(path: Path) -> Iterable[Key]:
    remedy = "Write [name] and under it sha256, tables and rows, as `k2 serve --new-key name` prints them"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, entry in entries.items():
            known = Entry.model_validate(entry)
            yield Key(name, known.sha256, known.tables, known.rows)
    except (OSError, ValueError, ValidationError) as exc:
        raise InvalidParameter(_FILE, str(path), f"cannot be used: {str(exc).splitlines()[0]}", remedy) from exc
