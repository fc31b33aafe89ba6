"""PNG features that Pillow lacks: it reads 16-bit color as 8-bit, cannot write it, and drops most chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from daelab.image_io.picture import Array, Picture
from daelab.image_io.thumbnails import drop_exif_thumbnail, drop_xmp_thumbnails

MAGIC = b"\x89PNG\r\n\x1a\n"
KEPT = frozenset(b"iCCP gAMA cHRM sRGB cICP pHYs tEXt zTXt iTXt eXIf tIME".split())
"""The chunks that are kept: they still hold when the pixels are denoised."""
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PAETH = 4
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The seven passes of an interlaced PNG: the first column and row, and the steps between columns and rows."""
_INFLATED = 1 << 20
"""The number of bytes that are inflated at once, since little data can inflate to much."""

_DROPS = {b"eXIf": drop_exif_thumbnail, b"iTXt": drop_xmp_thumbnails}
"""The functions that drop thumbnails from a chunk."""

Chunks = list[tuple[bytes, bytes]]
"""The name and the data of each chunk."""


def read_kept_chunks(stream: IO[bytes]) -> Chunks:
    """Return the chunks to keep, in the order of the file.

    Args:
        stream: A PNG. Its pixels are skipped.
    """
    chunks: Chunks = []
    stream.seek(len(MAGIC))
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in KEPT:
            chunks.append((name, _DROPS.get(name, bytes)(stream.read(length))))
            stream.seek(4, 1)
        else:
            # The four bytes of the checksum are skipped too.
            stream.seek(length + 4, 1)
    return chunks


def count_png_samples(stream: IO[bytes]) -> int:
    """Return the number of samples of a pixel; 1 for an index into a palette.

    Args:
        stream: A PNG.
    """
    stream.seek(len(MAGIC) + 17)
    return _SAMPLES.get(stream.read(1)[0], 1)


def check_png_complete(stream: IO[bytes]) -> None:
    """Check that the file holds every row of pixels. Pillow shows missing rows as black.

    Args:
        stream: A PNG.

    Raises:
        ValueError: The data of the pixels ends before the last row.
    """
    stream.seek(len(MAGIC))
    inflate, missing = zlib.decompressobj(), 0
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IHDR":
            missing = _compute_data_size(stream.read(length))
        elif name == b"IDAT":
            data = stream.read(length)
            # It ends when all rows are there, so that data that inflates to far more costs nothing.
            while data and missing > 0 and not inflate.eof:
                missing -= len(inflate.decompress(data, _INFLATED))
                data = inflate.unconsumed_tail
        else:
            stream.seek(length, 1)
        stream.seek(4, 1)
    if missing > 0:
        raise ValueError("its pixels end before its last row")


def _compute_data_size(header: bytes) -> int:
    """Return the number of bytes of all rows with their filters, uncompressed."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES[colour]
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def make_png_chunks(picture: Picture) -> Chunks:
    """Return the chunks for the metadata of a picture that was read from another format.

    Args:
        picture: The picture, whose `info` is converted.
    """
    info, chunks = picture.info, Chunks()
    if icc := info.get("icc_profile"):
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi := info.get("dpi"):
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(float(side) / 0.0254) for side in dpi), 1)))
    if exif := info.get("exif"):
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp := info.get("xmp"):
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    if comment := info.get("comment"):
        # tEXt holds Latin-1, in which every byte is a character, so nothing is lost
        chunks.append((b"tEXt", b"Comment\0" + comment.replace(b"\0", b" ")))
    return chunks


def write_png(stream: IO[bytes], picture: Picture, palette: tuple[Array, Array] | None = None) -> None:
    """Write a PNG of 1, 8 or 16 bits.

    Args:
        stream: The file to write to.
        picture: Uint8 or uint16, grey or color, with or without alpha; indices if there is a palette.
        palette: Colors (n, 3) and their alphas (n,), uint8.
    """
    height, width = picture.size
    deep = picture.pixels.dtype == np.uint16
    black_and_white = picture.kind == "1"
    depth = 16 if deep else 1 if black_and_white else 8
    color_type = 3 if palette is not None else _COLOR_TYPES[picture.samples]
    stream.write(MAGIC)
    _write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    for name, data in make_png_chunks(picture) if picture.native is None else picture.native:
        _write_chunk(stream, name, data)
    if palette is not None:
        colors, alphas = palette
        _write_chunk(stream, b"PLTE", colors.tobytes())
        if alphas.min() < 255:
            _write_chunk(stream, b"tRNS", alphas.tobytes())
    rows = (_pack_rows(band, black_and_white) for band in picture.bands())
    # Indices and single bits are not filtered, since neighboring values of them are not similar as numbers.
    step = 0 if palette is not None or black_and_white else picture.samples * depth // 8
    for data in _deflate_parts(_filter_rows(rows, step)):
        _write_chunk(stream, b"IDAT", data)
    _write_chunk(stream, b"IEND", b"")


def _pack_rows(band: Array, black_and_white: bool) -> Array:
    """Convert (h, W, samples) to (h, bytes)."""
    if black_and_white:
        return np.packbits(band[..., 0] >= 128, axis=1)
    return np.ascontiguousarray(band, band.dtype.newbyteorder(">")).view(np.uint8).reshape(len(band), -1)


def _deflate_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(6)
    for part in parts:
        if data := deflate.compress(part):
            yield data
    yield deflate.flush()


def _filter_rows(bands: Iterable[Array], step: int) -> Iterator[bytes]:
    """Filter rows of bytes: by Paeth's filter, or not at all if `step`, the number of bytes of a pixel, is 0."""
    above: Array | None = None
    for rows in bands:
        out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        out[:, 0] = _PAETH if step else 0
        out[:, 1:] = rows - _paeth(rows, above, step) if step else rows
        above = rows[-1]
        yield out.tobytes()


def _paeth(rows: Array, above: Array | None, step: int) -> Array:
    """Predict each byte: whichever of its left, upper and corner neighbor is nearest to left + up - corner."""
    # In 16 bits with a sign, since the differences of bytes are negative or above 255.
    padded = np.zeros((len(rows) + 1, rows.shape[1] + step), np.int16)
    padded[1:, step:] = rows
    if above is not None:
        # The last row of the band before stays the upper neighbor, so that bands do not show in the file.
        padded[0, step:] = above
    left, up, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    best = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, best).astype(np.uint8)


def _write_chunk(stream: IO[bytes], name: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))
