"""Requests as bytes of a client, answered by the server's own protocol and application without a socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import uvicorn
from PIL import Image
from uvicorn.server import ServerState

from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.web import admission
from daelab.web.app import ServerSettings, create_app
from daelab.web.limits import ServerLimits
from daelab.web.protocol import make_protocol
from daelab.web.run_store import RunStore
from daelab.web.security import HEADERS

IDLE = 0.01
"""Seconds that the server waits for the rest of a request, all of which is there at once."""
PATIENCE = 120.0
"""Seconds after which a request counts as one that hangs."""
TOKEN = "a-token-of-the-test"
READ = (
    *("/", "/static/main.js", "/api/about", "/api/models", "/api/columns", "/api/openapi.json", "/api/leaderboard"),
    *("/api/runs", "/api/runs?since=0.1", "/api/runs/r?after=1", "/api/runs/r/details", "/api/runs/r/report"),
    *("/api/runs/r/samples/noisy", "/api/studies", "/api/samples/cat?thumbnail=true"),
)
"""Addresses that are read."""


class _WorkerInThread:
    """A worker without a process, whose start would take seconds."""

    alive = is_ready = True

    def run(self, job: Callable[[Any], Any], report: Callable[[int, int], None], is_over: Callable[[], bool]) -> Any:
        return job(report)

    def close(self) -> None:
        """Do nothing, since nothing needs to be closed."""


class _Connection(asyncio.Transport):
    """A connection that records what the server sends."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50_000)})
        self.sent = bytearray()
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        if not self.closed.is_set():
            self.sent += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Do nothing, since everything has been read."""

    resume_reading = pause_reading


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with one run, its ledger and a leaderboard, which all workers share."""
    folder = tempfile.TemporaryDirectory(prefix="daelab-fuzz-")
    path = Path(folder.name)
    with mock.patch.dict(os.environ, DAELAB_RUNS=folder.name):
        run = get_run_folder("r")
        run.path.mkdir()
        run.write_metrics([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}])
        (run.path / "report.html").write_text("<title>a report</title>", encoding="utf-8")
        np.savez(run.path / "samples.npz", noisy=np.zeros((2, 3, 8, 8), np.uint8))
        Ledger(_ledger(path)).record("r", status="finished", recipe={"seed": 1}, val_psnr=20.5)
    (path / "leaderboard.csv").write_text("model,psnr\nmodel-c,20.5\n", encoding="utf-8")
    return folder


def _ledger(path: Path) -> str:
    return f"sqlite:///{path / 'ledger.db'}"


@cache
def _config(pid: int) -> uvicorn.Config:
    """Return the server of a process, since processes may not share a connection to the database."""
    path = Path(_folder().name)
    limits = ServerLimits(body=1_000_000, pixels=100_000, idle=IDLE)
    app = create_app(
        ServerSettings(limits, token=TOKEN, runs=RunStore(_ledger(path), leaderboard=path / "leaderboard.csv"))
    )
    return uvicorn.Config(app, access_log=False, server_header=False, ws="none", log_config=None)


def make_request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", *headers, *length)
    return "\r\n".join([*lines, "", ""]).encode() + body


def good_requests() -> list[bytes]:
    """Return requests to every address, with forms, in chunks, and two in one connection."""
    stream = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)).save(stream, "PNG")
    picture = stream.getvalue()
    parts = (
        f'--b\r\nContent-Disposition: form-data; name="{part}"; filename="a.png"\r\n\r\n'.encode() + picture + b"\r\n"
        for part in ("picture", "clean")
    )
    form = b"".join(parts) + b"--b--\r\n"
    in_chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(picture), picture)
    return [
        *(make_request("GET", path) for path in READ),
        make_request("HEAD", "/api/runs"),
        make_request("GET", "/api/about", "Origin: http://localhost") + make_request("GET", "/static/page.css"),
        make_request("POST", "/api/preview?name=a.png", body=picture),
        make_request("POST", "/api/noise?noise=gaussian(0,0.1)&seed=1", "Transfer-Encoding: chunked") + in_chunks,
        make_request("POST", "/api/inspect", "Expect: 100-continue", body=picture),
        make_request("POST", "/api/denoise?model=model-c&answer=events&name=a.png", body=picture),
        make_request(
            "POST",
            "/api/denoise?model=model-c&answer=json&strength=0.5&format=JPEG&quality=80",
            "Content-Type: multipart/form-data; boundary=b",
            body=form,
        ),
    ]


def send_request(_: Path, content: bytes) -> list[int]:
    """Send bytes to a server, check every answer, and return the statuses.

    Raises:
        AssertionError: The server failed, or an answer has no security headers, more than one reason, or a path.
    """
    folder = _folder().name
    with (
        mock.patch.dict(os.environ, DAELAB_RUNS=folder),
        mock.patch.object(admission, "WorkerProcess", _WorkerInThread),
    ):
        raw = asyncio.run(_exchange(content))
    assert folder.encode() not in raw, f"an answer names {folder}"
    return [_check(*answer, content) for answer in _split(raw)]


async def _exchange(content: bytes) -> bytes:
    state, connection = ServerState(), _Connection()
    protocol: Any = make_protocol(IDLE)(_config(os.getpid()), state, {})  # type: ignore[call-arg]
    protocol.timeout_keep_alive = IDLE
    protocol.connection_made(connection)
    if content:  # an empty piece would stand for the end of the connection
        protocol.data_received(content)
    async with asyncio.timeout(PATIENCE):
        await connection.closed.wait()
        protocol.connection_lost(None)
        await asyncio.gather(*state.tasks)
    return bytes(connection.sent)


def _split(raw: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Yield status, headers and body of each answer; an answer to HEAD has no body."""
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert end, f"half an answer: {head[:200]!r}"
        assert match, f"no answer: {head[:200]!r}"
        headers = dict(line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
        if match[1] == b"100":
            continue
        # The end of an answer without a length is that of the connection.
        length = int(headers.get("content-length", len(raw)))
        body = b"" if raw.startswith(b"HTTP/1.1 ") else raw[:length]
        raw = raw[len(body) :]
        yield int(match[1]), headers, body


def _check(status: int, headers: dict[str, str], body: bytes, content: bytes) -> int:
    assert status < 500, f"status {status}: {body[:500]!r}"
    missing = HEADERS.keys() - headers.keys()
    assert not missing, f"status {status} without {missing}"
    if status >= 400 and (body or b"HEAD" not in content):
        document = json.loads(body)
        assert list(document) == ["error"], document
        assert 5 < len(document["error"]) < 400, document
        assert document["error"].isprintable(), document
    return status
