"""TIFF: pixels are written by tifffile, metadata is read and written byte by byte, nested directories included.

Pillow writes no 16-bit color and loses tags. tifffile writes every kind of samples, but neither the tags of a source as
they were nor directories inside directories, which hold EXIF and GPS data.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, Literal

import numpy as np

from daelab.image_io.picture import Array, Picture, UnsupportedPictureError
from daelab.image_io.thumbnails import drop_photoshop_thumbnails, drop_xmp_thumbnails

Order = Literal["<", ">"]
"""The byte order: "<" is little-endian, ">" is big-endian."""
Tags = dict[int, tuple[int, Any]]
"""Tag -> (type, bytes in the byte order of the file), or (type, Tags) for a nested directory."""
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
XMP, ICC_PROFILE = 700, 34675
ORIENTATION = 274
MAX_SAMPLE_VALUE = 281
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_DIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
_STRUCTURE = frozenset(
    [
        *(*range(255, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301, 317, *range(320, 329)),
        *(330, 332, 333, 334, 336, *range(338, 343), 347, *range(512, 522), *range(529, 533), 32998, 37724),
    ]
)
"""The tags that say how pixels are stored. They are never copied from a source."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""The bytes of a value, by type. The last three types exist only in BigTIFF."""
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 3, 4, 5, 7, 16
_STRIP = 1 << 18
"""The number of pixels in a strip."""
_CLASSIC = 2**32 - 2**25
"""The number of bytes from which a file is written as BigTIFF, whose offsets have 64 bits."""
_SHARED = 1 << 24
"""The bytes of tags, such as a color profile, that pages may share."""
EXIF_HEADER = b"Exif\0\0"
MOST_PAGES = 1024
"""The number of pages that are read."""
_MOST_ENTRIES, _MOST_TAGS = 4096, 100_000
"""The number of tags of a directory, and of all directories of a file."""
_MOST_STRIPS = 500_000
"""The number of strips or tiles of all pages."""
_SUBDIRECTORIES, _PHOTOSHOP, _PHOTOSHOP_LAYERS = 330, 34377, 37724
_PHOTOMETRIC, _SENSOR, _STRIP_TAGS = 262, (32803, 34892), ((273, 324), (279, 325))
"""The photometric interpretations of a mosaic of colors, and of the linear light of a camera."""


@dataclass(frozen=True)
class TiffDirectory:
    """The directory of a page: its size, how its pixels are stored, and its metadata."""

    size: tuple[int, int]
    """The height and the width in pixels."""
    compressed: bool
    """Whether the pixels are compressed."""
    planar: bool
    """Whether each sample has strips of its own."""
    samples: int
    """The number of samples of a pixel."""
    extrasamples: tuple[int, ...]
    """What the samples beyond the colors are: 1 for alpha that is multiplied into them, 2 for other alpha, else 0."""
    below: tuple[tuple[int, int], ...]
    """The height and the width of the pictures in its SubIFDs."""
    layered: bool
    """Whether it has layers of Photoshop."""
    sensor: tuple[int, ...]
    """The pixels of each picture, the page or those in its SubIFDs, that holds what the sensor of a camera measured."""
    declared_range: tuple[float, float] | None
    """The values of black and white, if they follow from tags or from a number of bits such as 12."""
    kept: Tags
    """All tags but those that say how the pixels are stored."""


@dataclass
class _File:
    """An open TIFF, and the number of bytes of tags that have been read from it."""

    stream: IO[bytes]
    order: Order
    big: bool
    size: int
    taken: int = 0
    entries: int = 0
    strips: int = 0

    @property
    def layout(self) -> tuple[str, str, str]:
        """The `struct` codes of the number of entries, of an entry, and of an offset."""
        return _layout(self.order, self.big)

    def take(self, length: int) -> None:
        """Count bytes that are read, and refuse more than the file can hold."""
        # the tags of a small file may all point to the same bytes, and would fill the memory
        self.taken += length
        if self.taken > 4 * self.size + _SHARED:
            raise UnsupportedPictureError("its tags describe more data than the file contains")

    def count(self, entries: int = 0, strips: int = 0) -> None:
        """Count tags and strips, and refuse more than can be read in reasonable time."""
        self.entries, self.strips = self.entries + entries, self.strips + strips
        if entries > _MOST_ENTRIES or self.entries > _MOST_TAGS or self.strips > _MOST_STRIPS:
            raise UnsupportedPictureError("it has more tags or strips than are read")


def read_tiff_tags(stream: IO[bytes]) -> tuple[Order, list[TiffDirectory]]:
    """Return the byte order and the directory of each page.

    Args:
        stream: A TIFF, or an EXIF block without its header.

    Raises:
        UnsupportedPictureError: The file has too many pages, tags or strips.
        ValueError: The file has no page, or a directory is cut short.
    """
    stream.seek(0)
    head = stream.read(16)
    if len(head) < 8:
        raise ValueError("its header is cut short")
    order: Order = ">" if head[:2] == b"MM" else "<"
    big = len(head) == 16 and struct.unpack(f"{order}H", head[2:4])[0] == 43
    file = _File(stream, order, big, stream.seek(0, 2))
    offset = struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}I", head[4:8])[0]
    pages: list[TiffDirectory] = []
    visited: set[int] = set()
    # A hostile file may chain its directories in a circle.
    while offset and offset not in visited and offset < file.size:
        if len(pages) == MOST_PAGES:
            raise UnsupportedPictureError(f"it has more than {MOST_PAGES:,} pages, which are not read")
        visited.add(offset)
        tags, offset = _read_directory(file, offset)
        pages.append(_describe_directory(file, tags))
    if pages and offset >= file.size:
        raise ValueError(f"page {len(pages) + 1} lies beyond its end")
    if not pages:
        raise ValueError("it has no page")
    return order, pages


def _describe_directory(file: _File, tags: Tags) -> TiffDirectory:
    order = file.order
    height, width, compression = (_first(tags, order, tag) for tag in (257, 256, 259))
    file.count(strips=len(get_integers(tags, order, 273)) + len(get_integers(tags, order, 324)))
    offsets = get_integers(tags, order, _SUBDIRECTORIES)
    below = [_read_directory(file, offset)[0] for offset in offsets if 0 < offset < file.size]
    measured = [one for one in (tags, *below) if _first(one, order, _PHOTOMETRIC) in _SENSOR]
    # libraw would print a message of its own.
    if any(_find_end(one, order) > file.size for one in measured):
        raise ValueError("its pixels end before its last row")
    kept = {tag: value for tag, value in tags.items() if tag not in _STRUCTURE and value[0] < 16}
    for tag, drop in ((XMP, drop_xmp_thumbnails), (_PHOTOSHOP, drop_photoshop_thumbnails)):
        if tag in kept:
            kept[tag] = (kept[tag][0], drop(kept[tag][1]))
    declared = _read_declared_range(tags, order)
    if declared is not None and declared[1] < 2**16:
        # The samples are written with whole bytes, so without this tag their range would be lost.
        kept[MAX_SAMPLE_VALUE] = (_SHORT, struct.pack(order + "H", int(declared[1])))
    return TiffDirectory(
        size=(height, width),
        compressed=compression > 1,
        planar=_first(tags, order, 284) == 2,
        samples=_first(tags, order, 277) or 1,
        extrasamples=get_integers(tags, order, 338),
        below=tuple((_first(one, order, 257), _first(one, order, 256)) for one in below),
        layered=_PHOTOSHOP_LAYERS in tags,
        sensor=tuple(_first(one, order, 256) * _first(one, order, 257) for one in measured),
        declared_range=declared,
        kept=kept,
    )


def get_integers(tags: Tags, order: Order, tag: int) -> tuple[int, ...]:
    """Return the integers of a tag, or none if it is not there or holds something else.

    Args:
        tags: The tags of a directory.
        order: Their byte order.
        tag: The number of the tag.
    """
    kind, data = tags.get(tag, (0, b""))
    form = {_BYTE: "B", _SHORT: "H", _LONG: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    return struct.unpack(f"{order}{len(data) // _SIZES[kind]}{form}", data) if form else ()


def _find_end(tags: Tags, order: Order) -> int:
    """Return the position behind the last strip or tile."""
    starts, lengths = ((*get_integers(tags, order, one), *get_integers(tags, order, two)) for one, two in _STRIP_TAGS)
    return max(map(sum, zip(starts, lengths, strict=False)), default=0)


def _first(tags: Tags, order: Order, tag: int) -> int:
    """Return the first integer of a tag, or 0 if there is none."""
    return next(iter(get_integers(tags, order, tag)), 0)


def _read_declared_range(tags: Tags, order: Order) -> tuple[float, float] | None:
    """Return the values of black and white of samples of more than eight bits, if a page declares them."""
    bits = _first(tags, order, 258)
    white = _first(tags, order, MAX_SAMPLE_VALUE) or (2**bits - 1 if bits in range(9, 16) else 0)
    return (0.0, float(white)) if bits > 8 and white else None


def _layout(order: Order, big: bool) -> tuple[str, str, str]:
    return (order + "Q", order + "HHQ8s", order + "Q") if big else (order + "H", order + "HHI4s", order + "I")


def _read_directory(file: _File, offset: int, depth: int = 0) -> tuple[Tags, int]:
    """Return the tags of a directory and the offset of the next one. Tags that lie outside the file are left out."""
    stream, order = file.stream, file.order
    count_form, entry_form, word = file.layout
    stream.seek(offset)
    (count,) = _unpack(stream, count_form)
    # A damaged count would fill the memory.
    file.count(entries=count)
    entries = [_unpack(stream, entry_form) for _ in range(count)]
    (following,) = _unpack(stream, word)
    tags: Tags = {}
    for tag, kind, items, inline in entries:
        # An unknown type counts as longer than the file, so that its tag is left out.
        length = items * _SIZES.get(kind, file.size + 1)
        start = struct.unpack(word, inline)[0]
        # The depth is limited, since a hostile directory may contain itself.
        if tag in _DIRECTORIES and depth < 2 and length <= len(inline):
            below = struct.unpack(order + "I", inline[:4])[0] if kind in (_LONG, 13) else start
            if below < file.size:
                tags[tag] = (_LONG, _read_directory(file, below, depth + 1)[0])
        elif length <= len(inline):
            tags[tag] = (kind, inline[:length])
        elif start + length <= file.size:
            file.take(length)
            stream.seek(start)
            tags[tag] = (kind, stream.read(length))
    return tags, following


def _unpack(stream: IO[bytes], form: str) -> tuple[Any, ...]:
    data = stream.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise ValueError("its directory is cut short")
    return struct.unpack(form, data)


def make_tiff_tags(picture: Picture) -> tuple[Order, Tags]:
    """Return the byte order and the tags for the metadata of a picture that was read from another format.

    Args:
        picture: The picture, whose `info` is converted.
    """
    info, tags = picture.info, Tags()
    order: Order = "<"
    if exif := info.get("exif", b"").removeprefix(EXIF_HEADER):
        order, pages = read_tiff_tags(BytesIO(exif))
        tags = dict(pages[0].kept)
    if icc := info.get("icc_profile"):
        tags[ICC_PROFILE] = (_UNDEFINED, icc)
    if xmp := info.get("xmp"):
        tags[XMP] = (_BYTE, xmp)
    if dpi := info.get("dpi"):
        for tag, side in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
            tags[tag] = (_RATIONAL, struct.pack(f"{order}II", round(float(side) * 1000), 1000))
        tags[RESOLUTION_UNIT] = (_SHORT, struct.pack(f"{order}H", 2))
    return order, tags


def write_tiff(stream: IO[bytes], pages: Sequence[tuple[Picture, Array | None]]) -> None:
    """Write a TIFF of integers or floats: grey, color, CMYK or palette indices, with or without alpha.

    A file that could exceed 4 GiB is written as BigTIFF.

    Args:
        stream: An empty file, open for reading and writing.
        pages: Each a picture, and the colors (n, 3) uint8 of its palette or None.
    """
    import tifffile

    # The tags are stored in the source's byte order, so the file is written in it.
    metadata = [picture.native or make_tiff_tags(picture) for picture, _ in pages]
    order = metadata[0][0]
    big = sum(math.prod(picture.size) * picture.samples * picture.pixels.itemsize for picture, _ in pages) > _CLASSIC
    with tifffile.TiffWriter(stream, bigtiff=big, byteorder=order) as writer:
        for picture, palette in pages:
            _write_page(writer, picture, palette, order)
    _add_tags(stream, [tags for _, tags in metadata], order, big)


def _write_page(writer: Any, picture: Picture, palette: Array | None, order: Order) -> None:
    """Write the pixels of a page, strip by strip, so that alpha is never joined to all pixels at once."""
    height, width = picture.size
    further = (picture.alpha is not None) + len(picture.extra)
    colors = picture.samples - further
    planar = picture.encoding.get("planar", False) and picture.samples > 1
    compressed = picture.encoding.get("compressed", True)
    bilevel = picture.kind == "1"
    rows = min(height, max(1, _STRIP // width))
    colormap = None
    if palette is not None:
        colormap = np.zeros((3, 256), np.uint16)
        colormap[:, : len(palette)] = palette.T.astype(np.uint16) * 257
    writer.write(
        _encode_strips(picture, rows, order, compressed, planar),
        shape=(picture.samples, height, width)
        if planar
        else (height, width, *[picture.samples][: picture.samples - 1]),
        dtype=np.dtype(bool) if bilevel else picture.pixels.dtype,
        photometric="palette" if palette is not None else {1: "minisblack", 3: "rgb", 4: "separated"}[colors],
        planarconfig=None if picture.samples == 1 else "separate" if planar else "contig",
        extrasamples=picture.extrasamples or None,
        colormap=colormap,
        compression="zlib" if compressed else None,
        rowsperstrip=rows,
        contiguous=False,
        metadata=None,
        software=False,
    )


def _encode_strips(picture: Picture, rows: int, order: Order, compressed: bool, planar: bool) -> Iterator[bytes]:
    for samples in map(slice, range(picture.samples), range(1, picture.samples + 1)) if planar else [slice(None)]:
        for band in picture.bands(rows):
            if picture.kind == "1":
                data = np.packbits(band[..., 0] >= 128, axis=1).tobytes()
            else:
                data = np.ascontiguousarray(band[..., samples], band.dtype.newbyteorder(order)).tobytes()
            yield zlib.compress(data) if compressed else data


def _add_tags(stream: IO[bytes], metadata: Sequence[Tags], order: Order, big: bool) -> None:
    """Replace the directories that tifffile wrote by directories with the metadata, at the end of the file.

    tifffile would add a resolution where there is none, and leaves out the directories of EXIF and GPS data.
    """
    count_form, entry_form, word = _layout(order, big)
    pointer = 8 if big else 4
    for tags in metadata:
        file = _File(stream, order, big, stream.seek(0, 2))
        stream.seek(pointer)
        (offset,) = _unpack(stream, word)
        written, following = _read_directory(file, offset)
        merged = {tag: value for tag, value in written.items() if tag in _STRUCTURE} | tags
        # TIFF wants directories to begin at even offsets.
        place = file.size + file.size % 2
        stream.seek(pointer)
        stream.write(struct.pack(word, place))
        stream.seek(file.size)
        stream.write(b"\0" * (place - file.size) + pack_directory(merged, order, place, big=big, following=following))
        pointer = place + struct.calcsize(count_form) + len(merged) * struct.calcsize(entry_form)


def pack_directory(tags: Tags, order: Order, place: int, *, big: bool = False, following: int = 0) -> bytes:
    """Pack a directory, followed by the values that its entries point to.

    Args:
        tags: The tags.
        order: Their byte order.
        place: The position at which the directory will stand.
        big: Whether the file is a BigTIFF.
        following: The position of the next directory, or 0.
    """
    count_form, entry_form, word = _layout(order, big)
    size = struct.calcsize(word)
    entries, values = b"", b""
    start = place + struct.calcsize(count_form) + len(tags) * struct.calcsize(entry_form) + size
    # TIFF wants the entries of a directory in ascending order.
    for tag, (kind, value) in sorted(tags.items()):
        there = struct.pack(word, start + len(values))
        if isinstance(value, dict):
            kind, count, inline = _LONG8 if big else _LONG, 1, there
            outside = pack_directory(value, order, start + len(values), big=big)
        else:
            count = len(value) // _SIZES[kind]
            inline, outside = (value, b"") if len(value) <= size else (there, value)
        entries += struct.pack(entry_form, tag, kind, count, inline)
        values += outside + b"\0" * (len(outside) % 2)
    return struct.pack(count_form, len(tags)) + entries + struct.pack(word, following) + values
