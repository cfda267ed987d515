"""Logging in: a form that takes a key, and the signed cookie that stands for it in a browser afterwards.

The cookie names the key and the time until which it holds. It is `HttpOnly` and `SameSite=Strict`, so that neither
scripts nor pages of other origins can use it.
"""

from __future__ import annotations

import time
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import URL
from starlette.types import Scope

from k2kernel.errors import InvalidPosition
from panel_apps.api.cursors import Signer
from panel_apps.api.keys import Key, Keys

LOGIN, HOME, COOKIE = "/login", "/dashboard", "k2_login"
_SECONDS = 12 * 3_600
_MARK = "login"


class Logins:
    """The logins of a server. Servers that share `K2_HTTP_SECRET` and their keys take each other's."""

    def __init__(self, keys: Keys, signer: Signer) -> None:
        self._keys, self._signer = keys, signer

    def enter(self, secret: str) -> str | None:
        """The cookie's value for a key; None where there is no such key."""
        key = self._keys.find(secret)
        until = int(time.time()) + _SECONDS
        return None if key is None else self._signer.sign(f"{_MARK}:{key.name}:{key.digest[:16]}:{until}")

    def find(self, cookies: str) -> Key | None:
        """The key that a Cookie header stands for, while that key is the same and the time is not over."""
        try:
            found = SimpleCookie(cookies).get(COOKIE)
            mark, name, digest, until = ("", "", "", "0") if found is None else self._open(found.value)
        except (CookieError, InvalidPosition, ValueError):
            return None
        key = self._keys.named(name)
        is_good = mark == _MARK and int(until) > time.time() and key is not None and key.digest.startswith(digest)
        return key if is_good else None

    def _open(self, value: str) -> tuple[str, str, str, str]:
        mark, name, digest, until = self._signer.open(value).split(":")
        return mark, name, digest, until

    @staticmethod
    def address(scope: Scope) -> str:
        """The login that comes back to a page."""
        query = scope["query_string"].decode("latin-1")
        return f"{LOGIN}?next={quote(scope['path'] + (f'?{query}' if query else ''), safe='')}"


def router(logins: Logins) -> APIRouter:
    """The routes of logging in and out."""
    found = APIRouter(include_in_schema=False)

    @found.get("/")
    async def home(request: Request) -> Response:
        return RedirectResponse(str(URL(HOME).replace(query=request.url.query)), 303)

    @found.get("/favicon.ico")
    async def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml")

    @found.get(LOGIN)
    async def form(next: str = HOME) -> Response:  # noqa: A002 - the word in the URL
        return HTMLResponse(_page(next))

    @found.post(LOGIN)
    async def enter(request: Request) -> Response:
        given = {
            name: values[0] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()
        }
        goal = given.get("next", HOME)
        cookie = logins.enter(given.get("key", "").strip())
        if cookie is None:
            return HTMLResponse(_page(goal, "That is no key of this server."), 401)
        answer = RedirectResponse(goal if _is_ours(goal) else HOME, 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, _SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    @found.post("/logout")
    async def leave() -> Response:
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(COOKIE)
        return answer

    return found


def _is_ours(goal: str) -> bool:
    return goal.partition("?")[0] == HOME and "\\" not in goal


def _page(goal: str, problem: str = "") -> str:
    return _FORM.replace("{goal}", escape(goal)).replace("{problem}", escape(problem))


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1f67b1"/>'
    '<path d="M3 11l3-4 3 2 4-6" stroke="#fff" stroke-width="1.6" fill="none"/></svg>'
)

_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>k2kernel</title>
<meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light dark;--bg:#f4f6f8;--card:#fff;--ink:#17202c;--quiet:#64748b;--line:#d8dee6;--accent:#2563a8}
@media (prefers-color-scheme:dark){:root{--bg:#0e1319;--card:#161d26;--ink:#dbe3ec;--quiet:#8594a6;--line:#2a3542;
--accent:#5b9bd8}}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--ink);
font:14px/1.5 system-ui,sans-serif}
form{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:28px 32px;width:320px}
h1{font-size:17px;margin:0 0 2px}p{color:var(--quiet);margin:0 0 18px}label{display:block;margin-bottom:4px}
input{width:100%;box-sizing:border-box;padding:8px 10px;border:1px solid var(--line);border-radius:5px;
background:var(--bg);color:inherit;font:inherit}
button{margin-top:14px;width:100%;padding:9px;border:0;border-radius:5px;background:var(--accent);color:#fff;font:inherit}
.problem{color:#d9534f;margin:10px 0 0}</style></head><body><form method="post" action="/login">
<h1>k2kernel</h1>
<p>The key of this server opens the dashboard.</p><label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<input type="hidden" name="next" value="{goal}"><button>Open</button><p class="problem">{problem}</p></form>
</body></html>"""
