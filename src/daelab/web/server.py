"""The server behind `daelab serve`."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from daelab.errors import describe_error
from daelab.web.app import ServerSettings, create_app
from daelab.web.protocol import make_protocol
from daelab.web.security import is_ip_address, is_loopback

if TYPE_CHECKING:
    import uvicorn

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
        ValueError: The host can be reached from other machines and there is no token, the token is too short, a name
            is no host name, the port is taken, or the extra `web` is not installed.
    """
    if not is_loopback(host) and settings.token is None:
        raise ValueError(
            f"--host {host} can be reached from other machines; set a --token (or $DAELAB_TOKEN) for the visitors"
        )
    if settings.token is not None and len(settings.token) < SHORTEST_TOKEN:
        raise ValueError(f"--token has {len(settings.token)} characters; use at least {SHORTEST_TOKEN}")
    for name in settings.names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"--allow-host takes a name such as lab.example, without port and path, not {name!r}")
    # Visitors use the name that the server was given, so it answers to it.
    if not is_ip_address(host):
        settings = replace(settings, names=(*settings.names, host))
    server = make_server(settings)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Opened here and not by uvicorn, so that the address is known even if port 0 was asked for.
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = describe_error(error).partition(" (while")[0]
        raise ValueError(f"cannot listen on {host}, port {port}: {reason}") from None
    if ready is not None:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}/")
    with listening:
        server.run(sockets=[listening])


def make_server(settings: ServerSettings) -> uvicorn.Server:
    """Make the server, which does not listen yet.

    Args:
        settings: The settings of the server.

    Raises:
        ValueError: The extra `web` is not installed.
    """
    app = create_app(settings)
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        http=make_protocol(settings.limits.idle),
        ws="none",
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
