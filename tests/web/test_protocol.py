"""The server on a socket: slow clients, bytes that are not HTTP, and the headers of every answer."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from daelab.web.app import ServerSettings
from daelab.web.handlers import AnswerFile
from daelab.web.limits import ServerLimits
from daelab.web.security import HEADERS
from daelab.web.server import make_server

PATIENCE = 30.0
LOWER = {key: value.lower() for key, value in HEADERS.items()}
SLOW_BODY = b"POST /api/preview HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
SLOW_HEADERS = b"POST /api/preview HTTP/1.1\r\nHost: localhost\r\nX-He"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run a server in a thread that waits for slow clients as long as the test says."""
    idle = getattr(request, "param", PATIENCE)
    server = make_server(ServerSettings(ServerLimits(body=2_000_000, queue=0, idle=idle)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        server.address = listening.getsockname()  # type: ignore[attr-defined]
        yield server
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def address(server: Any) -> tuple[str, int]:
    return server.address  # type: ignore[no-any-return]


def connect(address: tuple[str, int], data: bytes) -> socket.socket:
    connection = socket.create_connection(address, PATIENCE)
    connection.sendall(data)
    return connection


def receive(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def exchange(address: tuple[str, int], data: bytes) -> Answer:
    return parse(receive(connect(address, data)))


def make_request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10)).save(stream, "PNG")
    return stream.getvalue()


def test_half_sent_requests_hold_no_places(address: tuple[str, int]) -> None:
    slow = [connect(address, data) for data in (SLOW_BODY, SLOW_HEADERS, b"") for _ in range(5)]
    answer = exchange(address, make_request("POST", "/api/preview?name=a.png", body=picture()))
    assert answer.status == 200
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("server", [0.1], indirect=True)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SLOW_BODY, "the request arrived too slowly; send it again"),
        (SLOW_HEADERS, "the headers of the request arrived too slowly"),
    ],
)
def test_a_half_sent_request_is_ended(address: tuple[str, int], data: bytes, reason: str) -> None:
    connection = connect(address, data)
    raw = b""
    while not raw.endswith(b"}"):
        raw += connection.recv(1 << 16)
    connection.close()
    answer = parse(raw)
    assert (answer.status, json.loads(answer.body)) == (408, {"error": reason})
    assert {key: answer.headers.get(key) for key in HEADERS} == LOWER


@pytest.mark.parametrize("server", [0.1], indirect=True)
def test_connections_without_a_request_are_closed(address: tuple[str, int]) -> None:
    assert receive(connect(address, b"")) == b""
    # The second request of a connection has the same limit as the first.
    again = receive(connect(address, b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/ab"))
    assert again.startswith(b"HTTP/1.1 200")
    assert again.endswith(b'{"error": "the headers of the request arrived too slowly"}')


@pytest.mark.parametrize("server", [0.1], indirect=True)
def test_a_client_that_does_not_read_is_cut_off(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 50_000_000  # more than the buffers of the system hold
    monkeypatch.setattr("daelab.web.app.answer_preview", lambda *_, **__: AnswerFile(bytes(size), "a", "image/png"))
    connection = connect(server.address, make_request("POST", "/api/preview", body=b"x"))
    deadline = time.monotonic() + PATIENCE
    while not server.server_state.total_requests or server.server_state.connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    received = 0
    with connection, suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
    assert received < size


STRANGE = {
    "garbage": (b"\x16\x03\x01\x00\xff\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", 400),
    "foreign host": (make_request("GET", "/").replace(b"localhost", b"evil"), 400),
    "half an address as host": (make_request("GET", "/").replace(b"localhost", b"[::1"), 400),
    "long length": (make_request("POST", "/api/inspect", "Content-Length: " + "9" * 5000), 400),
    "large length": (make_request("POST", "/api/inspect", "Content-Length: 9999999999"), 413),
    "bad chunk": (make_request("POST", "/api/inspect", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
    "half an address as origin": (make_request("GET", "/api/about", "Origin: http://["), 403),
    "origin of bytes": (make_request("GET", "/api/about", "Origin: \xff"), 403),
    "unknown method": (make_request("BREW", "/api/about"), 405),
    "web socket": (make_request("GET", "/api/x", "Upgrade: websocket", "Connection: Upgrade"), 404),
    "range": (make_request("GET", "/api/about", "Range: bytes=99999999999-1,-"), 200),
    "bytes in the path": (make_request("GET", "/%ff%00/..%2f..%2fetc/passwd"), 404),
    "proxy": (make_request("GET", "http://evil/"), 404),
}


def test_every_answer_has_the_headers_and_one_reason(address: tuple[str, int]) -> None:
    for name, (data, status) in STRANGE.items():
        answer = exchange(address, data)
        assert answer.status == status, name
        assert {key: answer.headers.get(key) for key in HEADERS} == LOWER, name
        if status >= 400:
            document = json.loads(answer.body)
            assert list(document) == ["error"], name
            assert 5 < len(document["error"]) < 400, name


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/api/about", "/api/runs", "/api/nothing", "/api/denoise"])
def test_head_has_the_answer_of_get_without_its_body(address: tuple[str, int], path: str) -> None:
    get, head = (exchange(address, make_request(method, path)) for method in ("GET", "HEAD"))
    assert head.body == b""
    assert get.body != b""
    assert head.status == get.status
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
