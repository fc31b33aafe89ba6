"""The server behind `daelab serve`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace

from daelab.web.app import ServerSettings, create_app
from daelab.web.security import is_ip_address, is_loopback

SHORTEST_TOKEN = 12
"""Smallest number of characters of a token."""


def serve(
    settings: ServerSettings, host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], None] | None = None
) -> None:
    """Serve the page and the API until interrupted.

    Args:
        settings: The settings of the server.
        host: An address or name of this machine. Every address except the loopback address needs a token.
        port: The port to listen on; 0 chooses a free port.
        ready: A function that is called with the page's address when the server listens.

    Raises:
        ValueError: The host can be reached from other machines and there is no token, the token is too short, or the
            extra `web` is not installed.
        OSError: The port is taken.
    """
    if not is_loopback(host) and settings.token is None:
        raise ValueError(
            f"--host {host} can be reached from other machines; set a --token (or $DAELAB_TOKEN) for the visitors"
        )
    if settings.token is not None and len(settings.token) < SHORTEST_TOKEN:
        raise ValueError(f"--token has {len(settings.token)} characters; use at least {SHORTEST_TOKEN}")
    # Visitors use the name that the server was given, so it answers to it.
    if not is_ip_address(host):
        settings = replace(settings, names=(*settings.names, host))
    app = create_app(settings)
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Opened here and not by uvicorn, so that the address is known even if port 0 was asked for.
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
