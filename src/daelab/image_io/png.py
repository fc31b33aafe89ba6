"""PNG where Pillow falls short: it reads 16-bit colour as 8-bit, writes none, and drops most chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from daelab.image_io.picture import Array, Picture

MAGIC = b"\x89PNG\r\n\x1a\n"
KEPT = frozenset(b"iCCP gAMA cHRM sRGB cICP pHYs tEXt zTXt iTXt eXIf tIME".split())
"""Chunks that stay true of a picture that is cleaned."""
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_PAETH = 4
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and the steps between columns and rows, of an interlaced PNG's seven passes."""
_INFLATED = 1 << 20
"""Bytes to inflate at once, however small the data that holds them."""

Chunks = list[tuple[bytes, bytes]]


def read_kept_chunks(stream: IO[bytes]) -> Chunks:
    """The chunks to keep, in the order of the file; pixels are skipped unread."""
    found: Chunks = []
    stream.seek(len(MAGIC))
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in KEPT:
            found.append((name, stream.read(length)))
            stream.seek(4, 1)
        else:
            stream.seek(length + 4, 1)
    return found


def check_png_complete(stream: IO[bytes]) -> None:
    """Raise a ValueError where the pixels' data ends before the last row, which Pillow takes for black."""
    stream.seek(len(MAGIC))
    inflate, missing = zlib.decompressobj(), 0
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IHDR":
            missing = _data_size(stream.read(length))
        elif name == b"IDAT":
            data = stream.read(length)
            while data and missing > 0 and not inflate.eof:
                missing -= len(inflate.decompress(data, _INFLATED))
                data = inflate.unconsumed_tail
        else:
            stream.seek(length, 1)
        stream.seek(4, 1)
    if missing > 0:
        raise ValueError("its pixels end before its last row")


def _data_size(header: bytes) -> int:
    """Bytes of all rows with their filters, before they are compressed."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def make_png_chunks(picture: Picture) -> Chunks:
    """The chunks that say what another format said."""
    info, found = picture.info, []
    if icc := info.get("icc_profile"):
        found.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi := info.get("dpi"):
        found.append((b"pHYs", struct.pack(">IIB", *(round(float(side) / 0.0254) for side in dpi), 1)))
    if exif := info.get("exif"):
        found.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp := info.get("xmp"):
        found.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    if comment := info.get("comment"):
        # latin-1 is what tEXt holds, and gives every byte back
        found.append((b"tEXt", b"Comment\0" + comment.replace(b"\0", b" ")))
    return found


def write_png(stream: IO[bytes], picture: Picture, palette: tuple[Array, Array] | None = None) -> None:
    """Write a PNG of 1, 8 or 16 bits.

    Args:
        picture: uint8 or uint16, grey or colour, with or without alpha; indices where there is a palette.
        palette: colours (n, 3) and their alphas (n,), uint8.
    """
    height, width = picture.size
    deep = picture.pixels.dtype == np.uint16
    black_and_white = picture.kind == "1"
    depth = 16 if deep else 1 if black_and_white else 8
    colour_type = 3 if palette is not None else _COLOUR_TYPES[picture.samples]
    stream.write(MAGIC)
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    for name, data in make_png_chunks(picture) if picture.native is None else picture.native:
        _chunk(stream, name, data)
    if palette is not None:
        colours, alphas = palette
        _chunk(stream, b"PLTE", colours.tobytes())
        if alphas.min() < 255:
            _chunk(stream, b"tRNS", alphas.tobytes())
    rows = (_row_bytes(band, black_and_white) for band in picture.bands())
    step = 0 if palette is not None or black_and_white else picture.samples * depth // 8
    for data in _deflated(_filtered(rows, step)):
        _chunk(stream, b"IDAT", data)
    _chunk(stream, b"IEND", b"")


def _row_bytes(band: Array, black_and_white: bool) -> Array:
    """(h, W, samples) -> (h, bytes)."""
    if black_and_white:
        return np.packbits(band[..., 0] >= 128, axis=1)
    return np.ascontiguousarray(band, band.dtype.newbyteorder(">")).view(np.uint8).reshape(len(band), -1)


def _deflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(6)
    for part in parts:
        if data := deflate.compress(part):
            yield data
    yield deflate.flush()


def _filtered(bands: Iterable[Array], step: int) -> Iterator[bytes]:
    """Rows of bytes with PNG's filter before each: Paeth's, or none where `step`, the bytes of a pixel, is 0."""
    above: Array | None = None
    for rows in bands:
        out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        out[:, 0] = _PAETH if step else 0
        out[:, 1:] = rows - _paeth(rows, above, step) if step else rows
        above = rows[-1]
        yield out.tobytes()


def _paeth(rows: Array, above: Array | None, step: int) -> Array:
    """What each byte is expected to be: its left, upper or corner neighbour, the nearest to left + up - corner."""
    padded = np.zeros((len(rows) + 1, rows.shape[1] + step), np.int16)
    padded[1:, step:] = rows
    if above is not None:
        padded[0, step:] = above
    left, up, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    best = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, best).astype(np.uint8)


def _chunk(stream: IO[bytes], name: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))
