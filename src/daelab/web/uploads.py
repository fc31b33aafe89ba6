"""The pictures in a request's body, read into bounded memory and never into a file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

PARTS = ("picture", "clean")
"""The parts that a multipart body may have."""
_LONGEST_NAME = 200


class UploadTooLarge(Exception):
    """An error for a body that is larger than the limit."""


@dataclass(frozen=True)
class PictureUpload:
    """An uploaded picture."""

    data: bytes
    """The content of the file."""
    name: str
    """The name of the file, without folders; "picture" if none was given."""


async def read_uploads(request: Request, most: int, name: str = "") -> dict[str, PictureUpload]:
    """Read the pictures of a request.

    Args:
        request: The request.
        most: Largest body, in bytes.
        name: The file name of a raw body.

    Returns:
        The raw body as `picture`, or the parts `picture` and `clean` of a multipart body.

    Raises:
        UploadTooLarge: The body is larger than that.
        ValueError: A multipart body is damaged or has no part `picture`.
    """
    body = bytearray()
    async for chunk in limit_body(request, most):
        body += chunk
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        uploads = {"picture": PictureUpload(bytes(body), sanitize_file_name(name))}
    else:
        uploads = await _read_parts(request, body)
    if "picture" not in uploads:
        raise ValueError("the request has no picture; send it as the body, or as the part `picture` of a form")
    return uploads


async def limit_body(request: Request, most: int) -> AsyncIterator[bytes]:
    """Yield the body of a request chunk by chunk.

    Args:
        request: The request.
        most: Largest body, in bytes.

    Raises:
        UploadTooLarge: The content-length header, or the body itself, is larger than that.
    """
    length = request.headers.get("content-length", "0")
    # Refused by the header alone, before the body is sent.
    if not length.isdecimal() or int(length) > most:
        raise UploadTooLarge
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        # The header may be missing or wrong, so the bytes are counted too.
        if read > most:
            raise UploadTooLarge
        yield chunk


async def _read_parts(request: Request, body: bytearray) -> dict[str, PictureUpload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield bytes(body)
        # The parser has its own copy now, and both together would take twice the memory.
        body.clear()
        yield b""

    parser = MultiPartParser(request.headers, stream(), max_files=len(PARTS), max_fields=len(PARTS))  # type: ignore[arg-type]
    parser.spool_max_size = len(body) + 1  # the parser would write a larger part to a file
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
    name = PurePosixPath(re.sub(r"[\x00-\x1f\x7f]", "", text).replace("\\", "/")).name
    # Shortened from the front, so that the suffix is kept.
    return name[-_LONGEST_NAME:] or "picture"
