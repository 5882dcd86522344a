"""Access to the studio: a token in its address, a cookie, and the checks of `Host` and `Origin`."""

import os
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

COOKIE = "reverie_studio"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
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
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str, cookie: str) -> None:
        self._app, self._hosts, self._token, self._cookie = app, hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, pass on, or refuse a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        reason = self._refusal(connection)
        has_cookie = secrets.compare_digest(connection.cookies.get(COOKIE, "").encode(), self._cookie.encode())
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
        if may_enter and self._token and secrets.compare_digest(given.encode(), self._token.encode()):
            self._token = ""
            response = RedirectResponse(connection.url.remove_query_params("token").path, 303)
            response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict", max_age=30 * 24 * 3600)
        elif reason:
            response = Response(reason, HTTPStatus.FORBIDDEN, media_type="text/plain")
        else:
            response = self._app

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        await response(scope, receive, with_headers)

    def _refusal(self, connection: HTTPConnection) -> str:
        """Return why a request is refused whatever it brings; empty if it is not."""
        host = connection.headers.get("host", "")
        if host not in self._hosts:
            return f"This studio is not at {host[:100]!r}. Use the address that it has printed."
        origin = connection.headers.get("origin")
        if (origin is None and connection.scope["type"] == "websocket") or (origin and urlsplit(origin).netloc != host):
            return "Pages of other sites cannot use this studio. Open its own page."
        return ""


def remembered_cookie(path: Path | None = None) -> str:
    """Return the value of this user's cookie, so that pages stay open when the studio is started again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = path or cache / "reverie" / "studio-cookie"
    try:
        if len(stored := path.read_text(encoding="ascii").strip()) >= 32:
            return stored
    except (OSError, ValueError):
        pass
    value = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)
    except OSError:
        pass  # then pages have to be opened again
    return value
