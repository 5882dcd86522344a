"""Access to the studio: a token in its address, a cookie, and the checks of `Host` and `Origin`."""

import os
import secrets
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

COOKIE = "reverie_studio_"
"""Name of the cookie before the port: a browser does not tell servers of one machine apart by their ports."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class AccessMiddleware:
    """Refuses requests without the token, which is valid once, or the cookie that it leaves.

    Args:
        app: the application.
        hosts: values of the `Host` header that are answered.
        token: valid for one request.
        cookie: value of the cookie.
        is_every: answer under every address of this machine, too.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, cookie: str, is_every: bool = False) -> None:
        self._app, self._token, self._cookie, self._is_every = app, token, cookie, is_every
        self._hosts = {name.lower() for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, pass on, or refuse a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        reason = self._refusal(connection)
        name = COOKIE + connection.headers.get("host", "").rpartition(":")[2]
        has_cookie = secrets.compare_digest(connection.cookies.get(name, "").encode(), self._cookie.encode())
        may_enter = not reason and not has_cookie
        if may_enter:
            reason = "This address has been used, or is not complete. Start `reverie studio` again for a new one."
        if scope["type"] == "websocket":
            if reason:
                await WebSocket(scope, receive, send).close(4403, reason)
            else:
                await self._app(scope, receive, send)
            return
        response: ASGIApp
        given = connection.query_params.get("token", "")
        is_get = scope.get("method") == "GET"  # HEAD, as of a program that previews links, uses no token up
        if may_enter and is_get and self._token and secrets.compare_digest(given.encode(), self._token.encode()):
            self._token = ""
            response = RedirectResponse(connection.url.remove_query_params("token").path, 303)
            # Not `strict`, so that a link in a mail opens; sockets check their origin, and all else only reads.
            response.set_cookie(name, self._cookie, httponly=True, samesite="lax", max_age=30 * 24 * 3600)
        elif reason:
            response = Response(reason, HTTPStatus.FORBIDDEN, media_type="text/plain")
        else:
            response = self._app

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {key for key, _ in message["headers"]}
                more = {key: value for key, value in HEADERS.items() if key.encode() not in given}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in more.items())]
            await send(message)

        await response(scope, receive, with_headers)

    def _refusal(self, connection: HTTPConnection) -> str:
        """Return why a request is refused whatever it brings; empty if it is not."""
        host = connection.headers.get("host", "").lower()
        if host not in self._hosts and not (self._is_every and host == _own_address(connection)):
            return f"This studio is not at {host[:100]!r}. Use the address that it has printed."
        origin = connection.headers.get("origin")
        try:
            is_own = urlsplit(origin or "").netloc.lower() == host
        except ValueError:
            is_own = False
        if (origin is None and connection.scope["type"] == "websocket") or (origin is not None and not is_own):
            return "Pages of other sites cannot use this studio. Open its own page."
        return ""


def _own_address(connection: HTTPConnection) -> str:
    """Return the address and port at which the connection has arrived."""
    host, port = connection.scope.get("server") or ("", None)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def remembered_cookie() -> str:
    """Return the value of this user's cookie, so that pages stay open when the studio is started again."""
    if len(stored := remembered("studio-cookie")) >= 32:
        return stored
    value = secrets.token_urlsafe(32)
    remember("studio-cookie", value)
    return value


def remembered(name: str) -> str:
    """Return what `remember` has written for this user; empty if there is nothing."""
    try:
        return _cache(name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def remember(name: str, value: str) -> None:
    """Write a value for the next start, readable by this user alone; where that is impossible it is forgotten."""
    path = _cache(name)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)


def _cache(name: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reverie" / name
