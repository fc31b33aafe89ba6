"""A request's body -> pictures' bytes, in memory and bounded; never a file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

PARTS = ("picture", "clean")
"""What a multipart body may hold."""
_LONGEST_NAME = 200


class UploadTooLarge(Exception):
    """A body of more bytes than are read."""


@dataclass(frozen=True)
class PictureUpload:
    """A picture's file as it came."""

    data: bytes
    name: str
    """Of the file, without folders; "picture" where none was given."""


async def read_uploads(request: Request, most: int, name: str = "") -> dict[str, PictureUpload]:
    """The pictures of a request: its raw body as `picture`, or the parts of a multipart one.

    Args:
        most: bytes of the body.
        name: of a raw body's file.

    Raises:
        TooLarge: more bytes than that.
        ValueError: a multipart body that is none, or without a part `picture`.
    """
    body = bytearray()
    async for chunk in limit_body(request, most):
        body += chunk
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        found = {"picture": PictureUpload(bytes(body), sanitize_file_name(name))}
    else:
        found = await _parts(request, body)
    if "picture" not in found:
        raise ValueError("the request has no picture: send it as the body, or as the part `picture` of a form")
    return found


async def limit_body(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body, chunk by chunk.

    Raises:
        TooLarge: by the request's own word, or when it turns out so.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > most:
        raise UploadTooLarge
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read > most:
            raise UploadTooLarge
        yield chunk


async def _parts(request: Request, body: bytearray) -> dict[str, PictureUpload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield bytes(body)
        body.clear()
        yield b""

    parser = MultiPartParser(request.headers, stream(), max_files=len(PARTS), max_fields=len(PARTS))  # type: ignore[arg-type]
    parser.spool_max_size = len(body) + 1  # a larger part would be kept in a file
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "no boundary")
        raise ValueError(f"the multipart body is damaged: {reason}") from None
    found = {}
    for part, value in form.multi_items():
        if part in PARTS and isinstance(value, UploadFile):
            found[part] = PictureUpload(await value.read(), sanitize_file_name(value.filename or ""))
    await form.close()
    return found


def sanitize_file_name(text: str) -> str:
    r"""A file's name as it may be said again: without folders and control characters.

    >>> sanitize_file_name("C:\\pictures\\cat.png"), sanitize_file_name("../../etc/a\nb.png"), sanitize_file_name("")
    ('cat.png', 'ab.png', 'picture')
    """
    name = PurePosixPath(re.sub(r"[\x00-\x1f\x7f]", "", text).replace("\\", "/")).name
    return name[-_LONGEST_NAME:] or "picture"
