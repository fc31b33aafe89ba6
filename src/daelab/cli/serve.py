"""The command `daelab serve`."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_result
from daelab.cli.options import Device, LedgerUrl

NETWORK, LIMITS = "Network", "Limits"

Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on. An address that other machines can reach needs --token.", rich_help_panel=NETWORK
    ),
]
Port = Annotated[
    int, typer.Option(min=0, max=65535, help="Port to listen on. 0 chooses a free port.", rich_help_panel=NETWORK)
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="DAELAB_TOKEN",
        help="Token that visitors must give, of at least 12 characters. Default: no token is needed.",
        rich_help_panel=NETWORK,
    ),
]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Another host name that the server answers to. Can be repeated.",
        rich_help_panel=NETWORK,
    ),
]
_MaxPixels = Annotated[
    int,
    typer.Option(
        min=1,
        help="Largest picture to accept, in pixels. It is checked before the picture is decoded.",
        rich_help_panel=LIMITS,
    ),
]
MaxBody = Annotated[str, typer.Option(metavar="SIZE", help="Largest request to accept.", rich_help_panel=LIMITS)]
Queue = Annotated[
    int,
    typer.Option(min=0, help="Number of requests that may wait. Further ones are refused.", rich_help_panel=LIMITS),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=1, help="Longest time that a request may take without progress, in seconds.", rich_help_panel=LIMITS
    ),
]
_Workers = Annotated[int, typer.Option(min=1, help="Number of pictures to denoise at once.", rich_help_panel=LIMITS)]
LeaderboardFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="CSV file of the leaderboard to show. Default: leaderboard/leaderboard.csv."),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    allow_host: AllowedHost = None,
    max_pixels: _MaxPixels = 16_000_000,
    max_body: MaxBody = "128MB",
    queue: Queue = 8,
    timeout: Timeout = 120,
    workers: _Workers = 1,
    device: Device = None,  # noqa: ARG001
    ledger: LedgerUrl = None,
    leaderboard: LeaderboardFile = None,
) -> None:
    """Serve the web page and its HTTP API.

    The page denoises pictures and shows the runs. Only this machine can reach it, unless --host says otherwise. The API
    is described at /api/openapi.json.

    Example: daelab serve --port 8000
    """
    # Imported here, so that `daelab --help` does not wait for these modules.
    from daelab._util.memory import parse_memory_size
    from daelab.web import server
    from daelab.web.app import ServerSettings
    from daelab.web.limits import ServerLimits
    from daelab.web.run_store import LEADERBOARD_FILE, RunStore

    if leaderboard is not None and not leaderboard.is_file():
        raise FileNotFoundError(f"--leaderboard {leaderboard}: the file does not exist")
    limits = ServerLimits(parse_memory_size(max_body, "--max-body"), max_pixels, queue, timeout, workers)
    runs = RunStore(ledger, leaderboard or LEADERBOARD_FILE)
    if ledger is not None:
        # A wrong URL is reported now and not by the page.
        runs.open_ledger()
    settings = ServerSettings(limits, tuple(allow_host or ()), token, runs)

    def announce(address: str) -> None:
        print_result(f"the page is at {address}{'#token=TOKEN' if token else ''} (Ctrl-C ends it)")
        # A program that reads the address from a pipe would otherwise wait for it.
        sys.stdout.flush()

    logging.disable(logging.NOTSET)  # unlike other commands, a server logs what goes wrong
    with suppress(KeyboardInterrupt):  # the way to end a server, so it is no interruption
        server.serve(settings, host, port, announce)
