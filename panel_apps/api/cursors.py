"""Cursors: position tokens of the workbench, signed, so that a server only goes on from places that it gave out."""

from __future__ import annotations

import base64
import hmac
import secrets
from hashlib import sha256

from k2kernel import Settings
from k2kernel.errors import InvalidPosition


class Signer:
    """Signs tokens with HMAC-SHA256. Servers that share `K2_HTTP_SECRET` take each other's cursors."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.http_secret
        self._secret = secrets.token_bytes(32) if secret is None else secret.get_secret_value().encode()

    def sign(self, token: str) -> str:
        """The cursor of a position."""
        return f"{token}.{self._mac(token)}"

    def open(self, cursor: str) -> str:
        """The position of a cursor; InvalidPosition where it was not given out with this secret."""
        token, _, mac = cursor.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(token).encode()):
            raise InvalidPosition("was not given out by this server", "Begin again without cursor")
        return token

    def _mac(self, token: str) -> str:
        found = hmac.new(self._secret, token.encode(), sha256).digest()
        return base64.urlsafe_b64encode(found[:18]).decode()
