"""What stands before every request: host, origin and token are looked at; and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""The content security policy: nothing inline, nothing from elsewhere."""
HEADERS = {
    "content-security-policy": "; ".join(f"{key} {value}" for key, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}


class SecurityMiddleware:
    """ASGI middleware.

    Args:
        names: host names that this server answers to, beside localhost and plain addresses: a page
            that rebinds its own name to this address is refused.
        token: what `Authorization: Bearer` must say to reach /api; none asks for none.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = (), token: str | None = None) -> None:
        self.app, self.names = app, {name.lower() for name in names}
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        api = scope["path"].startswith("/api/")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = dict(HEADERS) | ({"cache-control": "no-store"} if api else {})
                message = {**message, "headers": [*message["headers"], *_encoded(kept)]}
            await send(message)

        fault = self._fault(scope, api)
        if fault is None:
            await self.app(scope, receive, with_headers)
            return
        status, reason, more = fault
        body = json.dumps({"error": reason}).encode()
        headers = _encoded({"content-type": "application/json", "content-length": str(len(body))} | more)
        await with_headers({"type": "http.response.start", "status": status, "headers": headers})
        await with_headers({"type": "http.response.body", "body": body})

    def _fault(self, scope: Scope, api: bool) -> tuple[int, str, dict[str, str]] | None:
        said = {key: value.decode("latin-1") for key, value in scope["headers"]}
        host = said.get(b"host", "")
        if not self._answers_to(host):
            return 400, "this server does not answer to that host name; --allow-host NAME lets it", {}
        origin = said.get(b"origin")
        if api and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "requests from other sites' pages are refused", {}
        given = said.get(b"authorization", "")
        if api and self.token is not None and not hmac.compare_digest(given.encode(), b"Bearer " + self.token):
            return 401, "this server asks for its token: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
        return None

    def _answers_to(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        return name == "localhost" or name in self.names or is_ip_address(name)


def is_ip_address(name: str) -> bool:
    """Whether it is an IP address, written out."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in headers.items()]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return host == "localhost" or (is_ip_address(host) and ipaddress.ip_address(host).is_loopback)
