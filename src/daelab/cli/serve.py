"""serve: the web page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_result
from daelab.cli.options import LedgerUrl


def serve(
    host: Annotated[str, typer.Option(help="Where to listen; any but this machine needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="DAELAB_TOKEN", help="What visitors must know; at least 12 characters.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A host name it also answers to; repeat for more.")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse larger pictures, by their header.")] = 16_000_000,
    max_body: Annotated[str, typer.Option(metavar="SIZE", help="Refuse larger requests.")] = "128MB",
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; one more is refused.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a request may take.")] = 120,
    workers: Annotated[int, typer.Option(min=1, help="Pictures to work on at once.")] = 1,
    ledger: LedgerUrl = None,
    leaderboard: Annotated[Path | None, typer.Option(help="Its CSV; else leaderboard/leaderboard.csv here.")] = None,
) -> None:
    """Serve the page: denoise pictures in a browser, follow runs; and the same as an HTTP API.

    Only for this machine, unless --host says otherwise. The API is described at /api/openapi.json.

    Example: daelab serve --port 8000
    """
    from daelab._util.hardware import parse_memory_size
    from daelab.web import server
    from daelab.web.app import ServerSettings
    from daelab.web.limits import ServerLimits
    from daelab.web.run_store import LEADERBOARD_FILE, RunStore

    limits = ServerLimits(parse_memory_size(max_body), max_pixels, queue, timeout, workers)
    book = RunStore(ledger, leaderboard or LEADERBOARD_FILE)
    settings = ServerSettings(limits, tuple(allow_host or ()), token, book)

    def ready(address: str) -> None:
        print_result(f"the page is at {address}{'#token=TOKEN' if token else ''} (Ctrl-C ends it)")
        sys.stdout.flush()

    server.serve(settings, host, port, ready)
