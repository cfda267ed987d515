"""What every request passes: correlation id, key or login, rate, size of the body; at its end the audit line."""

from __future__ import annotations

import json
import logging
import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2kernel import Settings
from k2kernel.metrics import METRICS
from panel_apps.api.context import Facts
from panel_apps.api.keys import Key, Keys
from panel_apps.api.limits import Rate
from panel_apps.api.login import HOME, LOGIN, Logins
from panel_apps.api.problems import Refused

AUDIT = logging.getLogger("k2.audit")

OPEN = frozenset({"/", "/favicon.ico", "/health", "/ready", "/metrics", "/docs", "/openapi.json", LOGIN})
"""Paths that need no key: none of them tells anything of the data."""

SCRIPTS = "/static/"
"""Under it are the scripts and styles of the dashboard and of `/docs`, which need no key either."""

ASKING: ContextVar[Key] = ContextVar("k2.key")
"""The key of the request or websocket that is being answered."""

_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
"""What a page may load: nothing from elsewhere."""

_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "OPTIONS", "POST"}
"""Those that metrics tell apart: a caller may invent others."""


class Gate:
    """An ASGI app before another one. What has no key gets no further, except to `OPEN` paths."""

    def __init__(self, app: ASGIApp, keys: Keys, logins: Logins, settings: Settings) -> None:
        self._app, self._keys, self._logins = app, keys, logins
        self._rate, self._most_bytes = Rate(settings.http_rate), settings.http_max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or refuse it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key, origin = self._key(headers), headers.get("origin")
        if key is None or (origin is not None and origin.partition("://")[2] != headers.get("host")):
            await send({"type": "websocket.close", "code": 1008})
            return
        ASKING.set(key)
        await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts = scope["k2.facts"] = Facts(_correlation(Headers(scope=scope)))
        start, status = time.perf_counter(), 0
        more: dict[str, str] = {}

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({"X-Correlation-ID": facts.correlation_id, "X-Content-Type-Options": "nosniff", **more})
                if headers.get("content-type", "").startswith("text/html"):
                    headers.update({"Content-Security-Policy": _PAGE, "Referrer-Policy": "same-origin"})
            await send(message)

        METRICS.http_in_flight.inc()
        try:
            more |= self._admitted(scope, facts)
            await self._app(scope, _Body(receive, self._most_bytes, scope).receive, send_with_headers)
        except Refused as exc:
            await exc.answer(scope, receive, send_with_headers)
        finally:
            METRICS.http_in_flight.dec()
            _tell(scope, facts, status, time.perf_counter() - start)

    def _admitted(self, scope: Scope, facts: Facts) -> dict[str, str]:
        """The headers of the rate; Refused without a key, or over the rate."""
        headers = Headers(scope=scope)
        path = scope["path"]
        if path == LOGIN and scope["method"] == "POST":
            return self._taken(LOGIN)
        if path in OPEN or path.startswith(SCRIPTS):
            return {}
        facts.key = self._key(headers)
        if facts.key is None and path == HOME and scope["method"] == "GET":
            raise Refused(303, "login", "Log in.", {"Location": self._logins.address(scope)})
        if facts.key is None:
            detail = "Give an API key as X-API-Key or as Authorization: Bearer."
            raise Refused(401, "no-key", detail, {"WWW-Authenticate": "Bearer"})
        ASKING.set(facts.key)
        return self._taken(facts.key.name)

    def _taken(self, name: str) -> dict[str, str]:
        """Count one request; Refused where there were too many."""
        allowance = self._rate.take(name)
        if not allowance.passes:
            detail = f"This key may make {allowance.most} requests a minute; try again in {allowance.seconds} s."
            raise Refused(429, "rate-limit", detail, allowance.headers)
        return allowance.headers

    def _key(self, headers: Headers) -> Key | None:
        """The key that a request comes with, as X-API-Key, as a bearer token, or by the cookie of a login."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        secret = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        return self._keys.find(secret) if secret else self._logins.find(headers.get("cookie", ""))


class _Body:
    """The body of a request, of at most `most` bytes, whatever its headers say."""

    def __init__(self, receive: Receive, most: int, scope: Scope) -> None:
        self._receive, self._most, self._seen = receive, most, 0
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next message; Refused once there are more bytes."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            raise self._too_large()
        return message

    def _too_large(self) -> Refused:
        return Refused(
            413, "body-limit", f"The body of a request may have {self._most} bytes.", {"Connection": "close"}
        )


def _correlation(headers: Headers) -> str:
    """The id that the caller gave where it is a plain one, else a new one."""
    given = headers.get("x-correlation-id", "")
    return given if _CORRELATION.fullmatch(given) else uuid4().hex


def _tell(scope: Scope, facts: Facts, status: int, seconds: float) -> None:
    """The metrics and the audit line of a request that is over; status 499 where the client left before."""
    route = getattr(scope.get("route"), "path", "other").replace(":path}", "}")
    status = status or 499
    known = route != "other" and scope["method"] in _METHODS
    METRICS.http_requests.labels(scope["method"] if known else "any", route, str(status)).inc()
    METRICS.http_seconds.labels(route).observe(seconds)
    METRICS.http_rows.labels(route).inc(facts.rows)
    told = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "key": None if facts.key is None else facts.key.name,
        "method": scope["method"],
        "route": route,
        "status": status,
        "snapshots": {name: None if found is None else str(found) for name, found in facts.snapshots.items()},
        "rows": facts.rows,
        "ms": round(seconds * 1_000, 1),
        "correlation_id": facts.correlation_id,
    }
    AUDIT.info(json.dumps(told))
