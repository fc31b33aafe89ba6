"""TIFF where Pillow falls short: it writes no 16-bit colour, and loses tags. Tags are copied byte by byte."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, Literal

import numpy as np

from daelab.image_io.picture import Array, Picture, convert_resolution

Order = Literal["<", ">"]
Tags = dict[int, tuple[int, Any]]
"""Tag -> (type, bytes in the file's order), or (type, Tags) for a directory of its own."""
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
XMP, ICC_PROFILE = 700, 34675
ORIENTATION = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_DIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
_STRUCTURE = frozenset(
    [
        *(*range(255, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 301, 317, *range(320, 329)),
        *(330, 332, 333, 334, 336, *range(338, 343), 347, *range(512, 522), *range(529, 533)),
    ]
)
"""Tags that say how pixels are stored; the writer makes its own."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by type; the last three are BigTIFF's."""
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_STRIP = 1 << 18
"""Pixels in a strip."""
_HIGHEST = 2**32 - 1
_SHARED = 1 << 24
"""Bytes of tags that pages may share, such as a profile."""
_DEFLATE = 8
# what tifffile logs of damage, an error says, or it was no matter
logging.getLogger("tifffile").addHandler(logging.NullHandler())
_EXIF_HEADER = b"Exif\0\0"
_PHOTOMETRIC = {0: 1, 1: 1, 2: 3, 5: 4}
"""White is zero, black is zero, colour, inks -> channels."""


@dataclass(frozen=True)
class TiffDirectory:
    """What a page says of itself."""

    size: tuple[int, int]
    """Height and width."""
    compressed: bool
    extrasample: int
    """What alpha is: 1 multiplied into the colours, 2 apart from them."""
    kept: Tags
    """All but how the pixels are stored."""


@dataclass
class _File:
    """An open TIFF, and how many bytes of tags have been taken from it."""

    stream: IO[bytes]
    order: Order
    big: bool
    size: int
    taken: int = 0

    def take(self, length: int) -> None:
        """Count them: a small file whose tags all point to the same bytes could become a large one."""
        self.taken += length
        if self.taken > 4 * self.size + _SHARED:
            raise ValueError("its tags claim more than the file holds")


def read_tiff_tags(stream: IO[bytes]) -> tuple[Order, list[TiffDirectory]]:
    """The byte order, "<" or ">", and the directory of each page.

    Raises:
        ValueError: there is none, or one is cut short.
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
    seen: set[int] = set()
    while offset and offset not in seen and offset < file.size:
        seen.add(offset)
        tags, offset = _directory(file, offset)
        height, width, compression, extra = (_first(tags, order, tag) for tag in (257, 256, 259, 338))
        kept = {tag: value for tag, value in tags.items() if tag not in _STRUCTURE and value[0] < 16}
        # Pillow gives colours with alpha multiplied in divided by it again, tifffile as they are
        pages.append(TiffDirectory((height, width), compression > 1, extra, kept))
    if not pages:
        raise ValueError("it has no page")
    return order, pages


def _first(tags: Tags, order: Order, tag: int) -> int:
    """A tag's first whole number; 0 where there is none."""
    kind, data = tags.get(tag, (0, b""))
    form = {_BYTE: "B", _SHORT: "H", _LONG: "I", 16: "Q"}.get(kind)
    return struct.unpack_from(order + form, data)[0] if form and data else 0


def _directory(file: _File, offset: int, depth: int = 0) -> tuple[Tags, int]:
    """A directory's tags and the place of the next one; what lies outside the file is left out."""
    stream, order = file.stream, file.order
    count_form, entry_form, word = ("Q", "HHQ8s", "Q") if file.big else ("H", "HHI4s", "I")
    stream.seek(offset)
    (count,) = _unpacked(stream, order + count_form)
    entries = [_unpacked(stream, order + entry_form) for _ in range(min(count, 4096))]
    (following,) = _unpacked(stream, order + word) if count <= 4096 else (0,)
    tags: Tags = {}
    for tag, kind, items, inline in entries:
        length = items * _SIZES.get(kind, file.size + 1)
        start = struct.unpack(order + word, inline)[0]
        if tag in _DIRECTORIES and depth < 2 and length <= len(inline):
            below = struct.unpack(order + "I", inline[:4])[0] if kind in (_LONG, 13) else start
            if below < file.size:
                tags[tag] = (_LONG, _directory(file, below, depth + 1)[0])
        elif length <= len(inline):
            tags[tag] = (kind, inline[:length])
        elif start + length <= file.size:
            file.take(length)
            stream.seek(start)
            tags[tag] = (kind, stream.read(length))
    return tags, following


def _unpacked(stream: IO[bytes], form: str) -> tuple[Any, ...]:
    data = stream.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise ValueError("its directory is cut short")
    return struct.unpack(form, data)


def convert_tags_to_exif(order: Order, tags: Tags) -> bytes:
    """The tags as the EXIF block that other formats hold."""
    left_out = (XMP, ICC_PROFILE, 33723, 34377)  # these have places of their own
    kept = {tag: value for tag, value in tags.items() if tag not in left_out}
    if not kept.keys() - {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}:
        return b""
    mark = b"MM" if order == ">" else b"II"
    return _EXIF_HEADER + mark + struct.pack(f"{order}HI", 42, 8) + _packed_directory(kept, order, 8)


def convert_tags_to_info(order: Order, tags: Tags) -> dict[str, Any]:
    """What the tags say, as other formats say it."""
    info: dict[str, Any] = {"exif": convert_tags_to_exif(order, tags)}
    for name, tag in (("icc_profile", ICC_PROFILE), ("xmp", XMP)):
        info[name] = tags.get(tag, (0, b""))[1]
    sides = [tags.get(tag, (0, b""))[1] for tag in (X_RESOLUTION, Y_RESOLUTION)]
    per_inch = {2: 1.0, 3: 2.54}.get(_first(tags, order, RESOLUTION_UNIT) or 2)
    if per_inch and all(len(side) == 8 for side in sides):
        ratios = [struct.unpack(f"{order}II", side) for side in sides]
        info["dpi"] = convert_resolution(*(per_inch * above / below if below else 0 for above, below in ratios))
    return {key: value for key, value in info.items() if value}


def make_tiff_tags(picture: Picture) -> tuple[Order, Tags]:
    """The tags that say what another format said."""
    info, tags = picture.info, Tags()
    order: Order = "<"
    if exif := info.get("exif", b"").removeprefix(_EXIF_HEADER):
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
    """Write a TIFF: any integer or float samples, grey, colour, CMYK or indices, with or without alpha.

    Args:
        pages: each a picture, and the colours (n, 3) uint8 of its palette where it has one.

    Raises:
        ValueError: it would be larger than 4 GiB.
    """
    first = pages[0][0]
    order, _ = first.native or make_tiff_tags(first)
    pointer = 4  # where the place of the next directory belongs
    stream.write((b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 0))
    for picture, palette in pages:
        _, tags = picture.native or make_tiff_tags(picture)
        tags = tags | _structure(picture, palette, order) | _strips(stream, picture, order)
        stream.write(b"\0" * (stream.tell() % 2))
        place = stream.tell()
        directory = _packed_directory(tags, order, place)
        if place + len(directory) > _HIGHEST:
            raise ValueError("a TIFF holds no more than 4 GiB")
        stream.write(directory)
        stream.seek(pointer)
        stream.write(struct.pack(f"{order}I", place))
        stream.seek(0, 2)
        pointer = place + 2 + 12 * len(tags)


def _structure(picture: Picture, palette: Array | None, order: Order) -> Tags:
    """The tags that say what a pixel is."""
    height, width = picture.size
    colours = picture.samples - (picture.alpha is not None)
    dtype = picture.pixels.dtype
    bits = 1 if picture.kind == "1" else 8 * dtype.itemsize
    photometric = 3 if palette is not None else {1: 1, 3: 2, 4: 5}[colours]
    shorts = {
        258: [bits] * picture.samples,
        259: [_DEFLATE if picture.encoding.get("compressed", True) else 1],
        262: [photometric],
        277: [picture.samples],
        284: [1],
        339: [{"u": 1, "i": 2, "f": 3}[dtype.kind]] * picture.samples,
    }
    if picture.alpha is not None:
        shorts[338] = [picture.encoding.get("extrasample", 2)]
    if palette is not None:
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(palette)] = palette.T.astype(np.uint16) * 257
        shorts[320] = table.ravel().tolist()
    tags: Tags = {tag: (_SHORT, struct.pack(f"{order}{len(values)}H", *values)) for tag, values in shorts.items()}
    tags |= {tag: (_LONG, struct.pack(f"{order}I", side)) for tag, side in ((256, width), (257, height))}
    return tags


def _strips(stream: IO[bytes], picture: Picture, order: Order) -> Tags:
    """Write the pixels; return the tags that say where."""
    compressed = picture.encoding.get("compressed", True)
    rows = max(1, _STRIP // picture.size[1])
    places, lengths = [], []
    for band in picture.bands(rows):
        if picture.kind == "1":
            data = np.packbits(band[..., 0] >= 128, axis=1).tobytes()
        else:
            data = np.ascontiguousarray(band, band.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if compressed else data
        places.append(stream.tell())
        lengths.append(stream.write(data))
    if places[-1] + lengths[-1] > _HIGHEST:
        raise ValueError("a TIFF holds no more than 4 GiB")
    longs = {273: places, 278: [min(rows, picture.size[0])], 279: lengths}
    return {tag: (_LONG, struct.pack(f"{order}{len(values)}I", *values)) for tag, values in longs.items()}


def _packed_directory(tags: Tags, order: Order, place: int) -> bytes:
    """A directory that will stand at `place`, with no next one, and after it what its entries point to."""
    entries, beside = b"", b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        there = struct.pack(f"{order}I", start + len(beside))
        if isinstance(value, dict):
            count, inline, outside = 1, there, _packed_directory(value, order, start + len(beside))
        else:
            count = len(value) // _SIZES[kind]
            inline, outside = (value, b"") if len(value) <= 4 else (there, value)
        entries += struct.pack(f"{order}HHI4s", tag, kind, count, inline)
        beside += outside + b"\0" * (len(outside) % 2)
    return struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + beside


def read_tiff_samples(stream: IO[bytes], number: int) -> Picture:
    """A page whose samples Pillow does not know, such as colour of floats.

    Raises:
        ValueError: tifffile does not know them either.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        found = file.pages[number]
        assert isinstance(found, tifffile.TiffPage)
        try:
            values = found.asarray()
        except KeyError as error:  # of a compression that it leaves to another package
            raise ValueError(f"{error.args[0]}; pip install imagecodecs") from None
        if found.planarconfig == 2 and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        alpha = None
        if found.extrasamples and values.ndim == 3:
            values, alpha = values[..., : -len(found.extrasamples)], values[..., -len(found.extrasamples)]
        pixels = np.ascontiguousarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)
        colours = 1 if pixels.ndim == 2 else pixels.shape[-1]
        if pixels.dtype.kind not in "uif" or _PHOTOMETRIC.get(int(found.photometric)) != colours:
            raise ValueError(f"{colours} channels of {pixels.dtype} with photometric {found.photometric} are not read")
        if found.photometric == 0 and pixels.dtype.kind == "u":
            pixels = np.iinfo(pixels.dtype).max - pixels
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return Picture(native, None if alpha is None else np.ascontiguousarray(alpha, native.dtype))
