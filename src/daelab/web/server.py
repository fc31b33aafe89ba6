"""A server for one machine, or for others with a token."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace

from daelab.web.app import ServerSettings, create_app
from daelab.web.security import is_ip_address, is_loopback

SHORTEST_TOKEN = 12


def serve(
    settings: ServerSettings, host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until interrupted.

    Args:
        host: an address or name of this machine; any but the loopback needs a token.
        port: 0 takes a free one.
        ready: called with the page's address once it is listened to.

    Raises:
        ValueError: another host without a token, a short token, or the extra `web` is not installed.
        OSError: the port is taken.
    """
    if not is_loopback(host) and settings.token is None:
        raise ValueError(f"--host {host} lets others in, who must know a --token (or $DAELAB_TOKEN)")
    if settings.token is not None and len(settings.token) < SHORTEST_TOKEN:
        raise ValueError(f"--token has {len(settings.token)} characters; take at least {SHORTEST_TOKEN}")
    if not is_ip_address(host):
        settings = replace(settings, names=(*settings.names, host))
    app = create_app(settings)
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    config = uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
    )
    if ready is not None:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}/")
    with listening:
        uvicorn.Server(config).run(sockets=[listening])
