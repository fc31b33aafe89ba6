"""The pictures in a request's body, read into bounded memory and never into a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from daelab._util.text import CONTROL_CHARACTERS
from daelab.web.limits import ServerLimits

if TYPE_CHECKING:
    from starlette.requests import Request

PARTS = ("picture", "clean")
"""The parts that a multipart body may have."""
_LONGEST_NAME = 200
_MOST_DIGITS = 18


class UploadTooLarge(Exception):
    """An error for a body that is larger than the limit."""


class SlowUpload(Exception):
    """An error for a body of which nothing arrives for too long."""


class ClientLeft(Exception):
    """An error that ends the work of a client that has closed its connection."""


@dataclass(frozen=True)
class PictureUpload:
    """An uploaded picture."""

    data: bytes
    """The content of the file."""
    name: str
    """The name of the file, without folders; "picture" if none was given."""


@dataclass(frozen=True)
class RequestBody:
    """The body of a request that has arrived and has not been parsed."""

    data: bytearray
    """The bytes."""
    content_type: str
    """The header content-type."""
    name: str
    """The file name of a raw body."""


async def read_body(
    request: Request, limits: ServerLimits, name: str = "", hold: Callable[[int], None] = lambda count: None
) -> RequestBody:
    """Read the body of a request into memory.

    Args:
        request: The request.
        limits: The limits of the server.
        name: The file name of a raw body.
        hold: Called with the size of each chunk before it is kept.

    Raises:
        UploadTooLarge: The body is too large.
        SlowUpload: The client sends nothing for too long.
        ClientLeft: The client closed its connection.
    """
    body = bytearray()
    async for chunk in limit_body(request, limits):
        hold(len(chunk))
        body += chunk
    return RequestBody(body, request.headers.get("content-type", ""), name)


async def limit_body(request: Request, limits: ServerLimits) -> AsyncIterator[bytes]:
    """Yield the body of a request chunk by chunk.

    Args:
        request: The request.
        limits: The limits of the server.

    Raises:
        UploadTooLarge: The content-length header, or the body itself, is too large.
        SlowUpload: The client sends nothing for too long.
        ClientLeft: The client closed its connection.
    """
    from starlette.requests import ClientDisconnect

    length = request.headers.get("content-length", "0")
    # Refused by the header alone, before the body is sent.
    if not length.isdecimal() or len(length) > _MOST_DIGITS or int(length) > limits.body:
        raise UploadTooLarge
    read = 0
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.idle):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise SlowUpload from None
        except ClientDisconnect:
            raise ClientLeft from None
        read += len(chunk)
        # The header may be missing or wrong, so the bytes are counted too.
        if read > limits.body:
            raise UploadTooLarge
        yield chunk


def parse_uploads(body: RequestBody) -> dict[str, PictureUpload]:
    """Find the pictures in a body.

    Args:
        body: The body.

    Returns:
        A raw body as `picture`, or the parts `picture` and `clean` of a multipart body.

    Raises:
        ValueError: A multipart body is damaged or has no part `picture`.
    """
    if body.content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return {"picture": PictureUpload(bytes(body.data), sanitize_file_name(body.name))}
    uploads = asyncio.run(_read_parts(body))
    if "picture" not in uploads:
        raise ValueError("the request has no picture; send it as the body, or as the part `picture` of a form")
    return uploads


async def _read_parts(body: RequestBody) -> dict[str, PictureUpload]:
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield bytes(body.data)
        # The parser has its own copy now, and both together would take twice the memory.
        body.data.clear()
        yield b""

    headers = Headers({"content-type": body.content_type})
    parser = MultiPartParser(headers, stream(), max_files=len(PARTS), max_fields=len(PARTS))
    parser.spool_max_size = len(body.data) + 1  # the parser would write a larger part to a file
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "no boundary")
        raise ValueError(f"the multipart body is damaged: {reason}") from None
    uploads = {}
    for part, value in form.multi_items():
        if part in PARTS and isinstance(value, UploadFile):
            uploads[part] = PictureUpload(await value.read(), sanitize_file_name(value.filename or ""))
    await form.close()
    return uploads


def sanitize_file_name(text: str) -> str:
    r"""Return a file name without folders and control characters, which is safe to repeat in an answer.

    Args:
        text: The name that the client gave.

    >>> sanitize_file_name("C:\\pictures\\cat.png"), sanitize_file_name("../../etc/a\nb.png"), sanitize_file_name("")
    ('cat.png', 'ab.png', 'picture')
    """
    name = PurePosixPath(CONTROL_CHARACTERS.sub("", text).replace("\\", "/")).name
    # Shortened from the front, so that the suffix is kept.
    return name[-_LONGEST_NAME:] or "picture"
