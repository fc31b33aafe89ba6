"""Ways to damage a good file: at random, and with corrected checksums and lengths, so that decoders read on."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

_EDGES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "x", "\0", "\ud800", "a" * 5000, [], {}, [[[[]]]], {"": {}}, [0] * 1000, "gaussian(0.1, 0.2)", "model-c"),
)
_WORDS = (
    *("(", ")", "|", ">", ",", "..", "+", "*", "=", "[", "]", "{", "}", '"', "'", "#", "\n", "\r\n", "\t", ".", ";"),
    *("0", "-1", "1e9", "1e400", "nan", "inf", "9" * 30, "9" * 5000, "true", "None", "\0", "\ufeff", "é", "\u2028"),
    *("mse", "dssim", "gaussian", "real", "table-1", "poisson", "jpeg", "a.b", "[a]", "[[a]]", "training", "(" * 30),
    # names that would run code, open a file or connect
    *(
        '"os:abort"',
        '"judge:os:abort"',
        '"hub"',
        '"a.onnx"',
        '"/etc/passwd"',
        '"hf://a/b"',
        '"~/a.safetensors"',
        "os:abort",
    ),
    *("path", "factory", "name", "model", "start", "judge", "teacher", "spec", "loss"),
)


_REQUEST_WORDS = (
    *(
        "GET",
        "HEAD",
        "POST",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "HTTP/1.0",
        "HTTP/2",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\0",
        "\xff",
    ),
    *(
        "Host: evil",
        "Host: [::1",
        "Host: localhost:99999999",
        "Origin: http://[",
        "Origin: null",
        "Authorization: Basic",
    ),
    *("Content-Length: -1", "Content-Length: 99999999999", "Content-Length: ٣", "Transfer-Encoding: chunked"),
    *("Expect: 100-continue", "Connection: close", "Upgrade: websocket", "If-None-Match: *", "Authorization: Basic"),
    *("Content-Type: multipart/form-data", "multipart/form-data; boundary=", "boundary*=utf-8''%ff", "Cookie: " * 300),
    *("%00", "%ff", "%0d%0a", "..%2f", "../", "//", "\\", "?", "&", "=", "#", "http://evil/", "a" * 5000, "%" * 99),
    *(
        "r",
        "api",
        "runs",
        "stop",
        "details",
        "samples",
        "name=",
        "seed=9999999999999999999",
        "strength=nan",
        "after=inf",
    ),
    *("noise=", "model=automatic", "model=../r", "quality=0", "format=GIF", "answer=events", "self_ensemble=1"),
)


def bytewise(data: bytes, rng: random.Random) -> bytes:
    """Change a few places: bits, bytes, numbers of one to eight bytes; cut, double, move or insert pieces."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        length = min(rng.choice((1, 2, 4, 16, 64, 400)), len(out) - at)
        way = rng.randrange(8)
        if way == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif way in (2, 3):
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_EDGES) % 2 ** (8 * size)
            out[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif way == 4:
            del out[at : at + length]
        elif way == 5:
            out[at:at] = out[at : at + length]
        elif way == 6:
            out[at:at] = rng.randbytes(length)
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def textual(data: bytes, rng: random.Random) -> bytes:
    """Insert, remove, repeat or move words."""
    return _reword(data.decode("utf-8", "replace"), rng, _WORDS).encode("utf-8", "replace")


def _reword(text: str, rng: random.Random, words: tuple[str, ...]) -> str:
    pieces = re.findall(r"\w+|\s+|.", text, flags=re.DOTALL)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(pieces) + 1)
        way = rng.randrange(5)
        if way == 0:
            pieces.insert(at, rng.choice(words))
        elif way == 1:
            pieces[at : at + 1] = [rng.choice(words)]
        elif way == 2:
            del pieces[at : at + rng.choice((1, 3, 9))]
        elif way == 3:
            pieces[at:at] = pieces[at : at + 9] * rng.choice((1, 2, 50))
        elif pieces:
            pieces.insert(at, rng.choice(pieces))
    return "".join(pieces)


def http_request(data: bytes, rng: random.Random) -> bytes:
    """Damage the address, headers or body of a request, most often with the correct length of its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    if rng.random() < 0.7:
        head = _reword(head.decode("latin-1"), rng, _REQUEST_WORDS).encode("latin-1", "replace")
    else:
        body = bytewise(body, rng)
    if rng.random() < 0.8:
        head = re.sub(rb"(?<=Content-Length: )\d+", b"%d" % len(body), head, count=1)
    return head + end + body


def png_chunks(data: bytes, rng: random.Random) -> bytes:
    """Damage chunks of a PNG and correct their checksums."""
    out, at = [data[:8]], 8
    spoilt = rng.randrange(8)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if rng.random() < 0.2 or len(out) - 1 == spoilt:
            body = body[:4] + bytewise(body[4:], rng)
        out.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    if rng.random() < 0.2:
        rng.shuffle(out)
    return b"".join(out)


_PARTS = re.compile(
    rb"[\s\S]{4}(?:tEXt|zTXt|iTXt|fcTL|IDAT|IEND)|\xff[\xda\xe1\xfe\xd9]|\x21[\xf9\xfe]|\x2c\0{4}|ANMF|EXIF|XMP "
)
"""Where a chunk of a PNG, a segment of a JPEG, a block of a GIF or a chunk of a WebP begins."""


def repeated_part(data: bytes, rng: random.Random) -> bytes:
    """Repeat a part of a file many times, such as a scan, a frame or a text."""
    places = [match.start() for match in _PARTS.finditer(data)]
    at = rng.randrange(len(places) - 1)
    part = data[places[at] : places[at + 1]]
    return (
        data[: places[at]]
        + part * min(rng.choice((2, 30, 900, 20_000)), 1 + (1 << 20) // len(part))
        + data[places[at] :]
    )


def tensor_header(data: bytes, rng: random.Random) -> bytes:
    """Damage the JSON of a safetensors file, including daelab's own, and correct its length."""
    (length,) = struct.unpack_from("<Q", data)
    entries = json.loads(data[8 : 8 + length])
    if rng.random() < 0.7:
        card = json.loads(entries["__metadata__"]["daelab"])
        entries["__metadata__"]["daelab"] = json.dumps(_spoilt(card, rng))
    else:
        entries = _spoilt(entries, rng)
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data[8 + length :]


def _spoilt(value: Any, rng: random.Random) -> Any:
    """Return a JSON value in which something is exchanged, lost, doubled or damaged."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        way = rng.randrange(8)
        if way == 0:
            return {name: inner for name, inner in value.items() if name != key}
        if way == 1:
            return value | {rng.choice(("", "x", "kind", "spec", "\0", key + "x")): value[key]}
        return value | {key: _spoilt(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return value[:at] + [_spoilt(value[at], rng)] * rng.choice((0, 1, 1, 1, 2, 40)) + value[at + 1 :]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 1000, float(value), str(value)))
    if isinstance(value, str) and rng.random() < 0.5:
        return textual(value.encode(), rng).decode("utf-8", "replace")
    return rng.choice(_VALUES)


def zip_members(data: bytes, rng: random.Random) -> bytes:
    """Damage one member of a ZIP archive (.npz, .pt) and correct its checksum."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
        spoilt = rng.randrange(len(members))
        for number, (name, content) in enumerate(members):
            if number == spoilt and rng.random() < 0.1:
                continue
            new.writestr(name, bytewise(content, rng) if number == spoilt else content, rng.choice((0, 8)))
    return stream.getvalue()


def mutated(good: bytes, mutations: tuple[Mutation, ...], rng: random.Random) -> bytes:
    """Damage a file in a way that knows its format, or bytewise."""
    way = rng.choice(mutations) if mutations and rng.random() < 0.7 else bytewise
    try:
        return way(good, rng)
    except (
        ValueError,
        LookupError,
        TypeError,
        OSError,
        EOFError,
        NotImplementedError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ):  # spoilt twice: no longer the format
        return bytewise(good, rng)
