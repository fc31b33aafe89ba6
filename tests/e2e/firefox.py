"""Start Firefox, and answer for it the commands of WebDriver BiDi that it lacks, so that Playwright can drive it.

Playwright reads Firefox's address from its standard error. This program prints one of its own instead, and passes all
messages on. Call: python firefox.py PROGRAM OPTION...
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import sys

LACKING = b"emulation.setMediaFeaturesOverride"
"""The command that the Firefox of Debian 12 does not know. It sets the colour scheme."""
LONGEST = 4096
"""No such command is longer, in bytes."""


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a frame of a WebSocket's client (RFC 6455), and return its bytes, and its content if it is short."""
    raw = await reader.readexactly(2)
    size = raw[1] & 127
    if size > 125:
        more = await reader.readexactly(2 if size == 126 else 8)
        raw, size = raw + more, int.from_bytes(more, "big")
    key = await reader.readexactly(4)
    data = await reader.readexactly(size)
    content = bytes(byte ^ key[at % 4] for at, byte in enumerate(data)) if size <= LONGEST else b""
    return raw + key + data, content


def make_frame(message: dict[str, object]) -> bytes:
    data = json.dumps(message).encode()
    assert len(data) < 126
    return bytes([0x81, len(data)]) + data


async def connect(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what Playwright and Firefox send each other."""
    from_firefox, to_firefox = await asyncio.open_connection("127.0.0.1", port)
    head = await reader.readuntil(b"\r\n\r\n")
    to_firefox.write(re.sub(rb"(?i)\r\nhost: [^\r]*", b"\r\nHost: 127.0.0.1:%d" % port, head))

    async def answer() -> None:
        while data := await from_firefox.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    answers = asyncio.create_task(answer())
    try:
        while True:
            raw, content = await read_frame(reader)
            if LACKING in content:
                writer.write(make_frame({"type": "success", "id": json.loads(content)["id"], "result": {}}))
            else:
                to_firefox.write(raw)
                await to_firefox.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        to_firefox.close()
    await answers


async def main(program: str, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(program, *options, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(rb"WebDriver BiDi listening on ws://127.0.0.1:(\d+)", line):
            server = await asyncio.start_server(functools.partial(connect, int(found[1])), "127.0.0.1", 0)
            own = server.sockets[0].getsockname()[1]
            line = re.sub(rb":\d+", b":%d" % own, line)
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    await process.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
