"""The security middleware: it checks the host, origin and token of every request, and adds headers to every answer."""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

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
"""The content security policy: no inline code, and nothing from other hosts."""
POLICY_HEADER = "content-security-policy"
"""The header that holds the policy."""
HEADERS = {
    POLICY_HEADER: "; ".join(f"{key} {value}" for key, value in POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}
"""The headers of every answer."""


class SecurityMiddleware:
    """An ASGI middleware that refuses requests of other sites' pages and, if a token is set, requests without it."""

    def __init__(self, app: ASGIApp, names: Collection[str] = (), token: str | None = None) -> None:
        """Wrap an application.

        Args:
            app: The application.
            names: Host names that the server answers to, besides localhost and IP addresses. All others are refused,
                because a foreign page could point its own name to this server (DNS rebinding).
            token: The bearer token that requests to /api must carry, or None if none is needed.
        """
        self.app, self.names = app, {name.lower() for name in names}
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why it is refused."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        api = scope["path"].startswith("/api/")
        is_head = scope["method"] == "HEAD"
        if is_head:
            # HEAD has the answer of GET without its body, whatever the address.
            scope = {**scope, "method": "GET"}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Answers of the API may hold a visitor's picture, so no cache may keep them.
                added = HEADERS | ({"cache-control": "no-store"} if api else {})
                # An answer may bring a policy of its own, such as that of a report, which has styles inside.
                own = {key.decode() for key, _ in message["headers"]}
                added = {key: value for key, value in added.items() if key != POLICY_HEADER or key not in own}
                message = {**message, "headers": [*message["headers"], *encode_headers(added)]}
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        refusal = self._find_refusal(scope, api)
        if refusal is None:
            await self.app(scope, receive, with_headers)
            return
        status, reason, more = refusal
        body = json.dumps({"error": reason}).encode()
        headers = encode_headers({"content-type": "application/json", "content-length": str(len(body))} | more)
        await with_headers({"type": "http.response.start", "status": status, "headers": headers})
        await with_headers({"type": "http.response.body", "body": body})

    def _find_refusal(self, scope: Scope, api: bool) -> tuple[int, str, dict[str, str]] | None:
        """Return status, reason and headers of a refusal, or None if the request is allowed."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._answers_to(host):
            return 400, "the server does not answer to this host name; allow it with --allow-host NAME", {}
        # Browsers send the origin with requests of other sites' pages; programs send none and are allowed.
        origin = headers.get(b"origin")
        if api and origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            return 403, "requests from pages of other sites are refused", {}
        # Compared in constant time, so that the time of an answer tells nothing about the token.
        given = headers.get(b"authorization", b"")
        if api and self.token is not None and not hmac.compare_digest(given, b"Bearer " + self.token):
            reason = "a valid token is needed; send the header Authorization: Bearer TOKEN"
            return 401, reason, {"www-authenticate": "Bearer"}
        return None

    def _answers_to(self, host: str) -> bool:
        # An IPv6 address stands in brackets, since it contains colons itself.
        match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::\d*)?", host)
        name = "" if match is None else match[1] or match[2]
        return name == "localhost" or name in self.names or is_ip_address(name)


def is_ip_address(name: str) -> bool:
    """Return whether a host name is an IP address.

    Args:
        name: The host name.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def encode_headers(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as HTTP sends them.

    Args:
        headers: The values by name.
    """
    return [(key.encode(), value.encode()) for key, value in headers.items()]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host.

    Args:
        host: A host name or an IP address.
    """
    return host == "localhost" or (is_ip_address(host) and ipaddress.ip_address(host).is_loopback)
