"""Bounds on the work that a picture file may cause, checked by a cheap look at its structure before it is decoded.

A file of a few megabytes can hold so many scans, frames or text chunks that a decoder works on it for minutes. The look
only counts. It stops where the structure is damaged, since the decoder then says what is wrong.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from io import BytesIO
from typing import IO

from daelab.image_io.picture import UnsupportedPictureError
from daelab.image_io.tiff import read_tiff_tags

MOST_SCANS = 100
"""The number of scans of a JPEG. Each one costs time for every pixel; encoders write at most some thirty."""
MOST_FRAMES = 10_000
"""The number of frames of an animation."""
MOST_CHUNKS = 2_000
"""The number of chunks, segments or blocks of metadata."""
MOST_COMMENT = 1 << 20
"""The bytes of the comments of a GIF, which Pillow joins piece by piece."""
MOST_PADDING = 1 << 16
"""The bytes between the segments of a JPEG, which Pillow reads one by one."""
_LEAST_CHUNK = 64
"""The average number of bytes in chunks of pixels, from which further chunks count as normal."""
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker of a JPEG, apart from those inside the data of a scan."""
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_DECODED_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Sequential and progressive JPEG. The others are lossless or hierarchical."""
_FURTHER_PICTURE = re.compile(rb"\xff\xd8\xff|ftyp")
"""The beginning of another JPEG or of a video."""


def check_work(stream: IO[bytes]) -> str:
    """Check that a picture file holds no more parts than can be read in reasonable time.

    TIFF has a check of its own where its directories are read.

    Args:
        stream: A file of any format.

    Returns:
        A remark on what the file holds beyond its pictures, or nothing.

    Raises:
        UnsupportedPictureError: It holds too much of something, or is a kind of JPEG that cannot be decoded.
    """
    stream.seek(0)
    head = stream.read(12)
    stream.seek(0)
    if head.startswith(b"\x89PNG"):
        _check_chunks(stream, 8, ">I4s", data=(b"IDAT", b"fdAT"), frames=(b"fcTL",), tail=4)
    elif head.startswith(b"RIFF"):
        _check_chunks(stream, 12, "<4sI", data=(), frames=(b"ANMF",), tail=0)
    elif head.startswith(b"GIF8"):
        _check_gif(stream.read())
    elif head.startswith(b"\xff\xd8"):
        return _check_jpeg(stream.read())
    return ""


def _refuse(count: int, most: int, what: str) -> None:
    if count > most:
        raise UnsupportedPictureError(f"it has more than {most:,} {what}, which are not read")


def _check_chunks(
    stream: IO[bytes], start: int, form: str, *, data: tuple[bytes, ...], frames: tuple[bytes, ...], tail: int
) -> None:
    """Count the chunks of a PNG or a WebP."""
    size = stream.seek(0, 2)
    position, counts = start, Counter[str]()
    while position < size:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        one, other = struct.unpack(form, head)
        name, length = (one, other) if isinstance(one, bytes) else (other, one)
        kind = "chunks of pixels" if name in data else "frames" if name in frames else "chunks of metadata"
        counts[kind] += 1
        _refuse(counts["frames"], MOST_FRAMES, "frames")
        _refuse(counts["chunks of metadata"], MOST_CHUNKS, "chunks of metadata")
        _refuse(counts["chunks of pixels"], MOST_CHUNKS + size // _LEAST_CHUNK, "chunks of pixels")
        # The chunks of RIFF are padded to an even length; those of a PNG end with a checksum.
        position += 8 + length + (tail or length % 2)


def _check_gif(data: bytes) -> None:
    """Count the frames and blocks of a GIF."""
    counts = Counter[str]()
    try:
        position = 13 + _count_palette_bytes(data[10])
        while data[position] in (0x21, 0x2C):
            if data[position] == 0x21:
                kind = "comment" if data[position + 1] == 0xFE else "extensions"
                position += 2
            else:
                kind = "frames"
                position += 11 + _count_palette_bytes(data[position + 9])
            counts[kind] += 1
            while length := data[position]:
                position += length + 1
                counts["blocks"] += 1
                counts["bytes of comments"] += length if kind == "comment" else 0
                _refuse(counts["blocks"], 100 * MOST_CHUNKS + len(data) // _LEAST_CHUNK, "blocks")
            position += 1
            _refuse(counts["frames"], MOST_FRAMES, "frames")
            _refuse(counts["comment"], MOST_CHUNKS, "comments")
            _refuse(counts["extensions"], 4 * MOST_FRAMES, "extensions")
            _refuse(counts["bytes of comments"], MOST_COMMENT, "bytes of comments")
    except IndexError:  # the file is cut short
        return


def _count_palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _check_jpeg(data: bytes) -> str:
    """Count the scans and segments of a JPEG, and return a remark on pictures behind its end."""
    counts = Counter[str]()
    exif, position = [b""], 2
    while marker := _JPEG_MARKER.search(data, position):
        counts["bytes between segments"] += 0 if counts["scans"] else marker.start() - position
        code, position = data[marker.end() - 1], marker.end()
        if code == 0xD9:
            break
        if code in (0x01, 0xD8) or len(data) < position + 2:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        counts["scans" if code == 0xDA else "segments"] += 1
        _refuse(counts["scans"], MOST_SCANS, "scans")
        _refuse(counts["segments"], MOST_CHUNKS, "segments")
        if code in _START_OF_FRAME:
            _check_frame(code, segment)
        if code == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif.append(segment[6:])
        position += max(2, length)
    else:
        counts["bytes between segments"] += 0 if counts["scans"] else len(data) - position
    _refuse(counts["bytes between segments"], MOST_PADDING, "bytes between segments")
    _check_exif(b"".join(exif))
    return "the first of several pictures in one file" if _FURTHER_PICTURE.search(data, position) else ""


def _check_frame(code: int, header: bytes) -> None:
    if code not in _DECODED_FRAMES:
        raise UnsupportedPictureError("lossless and hierarchical JPEG is not supported")
    if len(header) >= 6 and header[0] != 8:
        raise UnsupportedPictureError(f"JPEG of {header[0]} bits is not supported")
    if len(header) >= 6 and header[5] not in (1, 3, 4):
        raise UnsupportedPictureError(f"JPEG of {header[5]} channels is not supported")


def _check_exif(exif: bytes) -> None:
    """Check that the tags of EXIF data do not describe the same bytes again and again, since Pillow copies them."""
    try:
        read_tiff_tags(BytesIO(exif))
    except UnsupportedPictureError:
        raise
    except ValueError:  # damaged metadata does no harm
        return
