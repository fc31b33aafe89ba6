"""The formats that need a package: FITS, OpenEXR, JPEG XL, camera raw, and HEIC, which Pillow reads by a plugin.

A reader checks the size from the header before it decodes, and refuses what it would lose: further parts, channels or
bits.
"""

from __future__ import annotations

import importlib
import math
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from daelab.image_io.camera_raw import CheckSize, develop, find_raw_format, read_raw, write_dng
from daelab.image_io.formats import FORMATS, PictureFormat
from daelab.image_io.picture import Picture, UnsupportedPictureError

_LONGEST_SIGNATURE = 32
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of a TIFF."""
_HEADER = 1 << 16
"""The bytes of a file in which its header lies."""


def is_installed(row: PictureFormat) -> bool:
    """Return whether the package that a format needs is installed.

    Args:
        row: The format.
    """
    return not row.package or find_spec(row.package) is not None


def find_optional_format(stream: IO[bytes], suffix: str = "") -> PictureFormat | None:
    """Return the format of a file that needs a package of its own, or None for a file of another format.

    Args:
        stream: The file.
        suffix: The suffix of its name, if it has one.

    Raises:
        UnsupportedPictureError: The package is not installed. The error names the extra that installs it.
        ValueError: The file is a TIFF with a damaged directory.
    """
    stream.seek(0)
    head = stream.read(_LONGEST_SIGNATURE)
    stream.seek(0)
    name = find_raw_format(stream, suffix) if head[:4] in TIFF_MAGIC else ""
    for row in FORMATS.values():
        if row.name == name or (row.signature and re.match(row.signature, head, re.DOTALL)):
            check_installed(row)
            if row.package == "pillow_heif":
                importlib.import_module(row.package).register_heif_opener()
            return row
    return None


def check_installed(row: PictureFormat) -> None:
    """Check that the package that a format needs is installed.

    Args:
        row: The format.

    Raises:
        UnsupportedPictureError: It is not. The error names the extra that installs it.
    """
    if not is_installed(row):
        raise UnsupportedPictureError(f"{row.title} needs the package {row.package}: pip install 'daelab[{row.extra}]'")


def _read_fits(stream: IO[bytes], max_pixels: int, check_size: CheckSize) -> Picture:
    fits: Any = importlib.import_module("astropy.io.fits")
    with fits.open(stream, memmap=False) as parts:
        if len(parts) != 1:
            raise UnsupportedPictureError(f"a FITS file of {len(parts)} parts is not supported; extract one image")
        sides = parts[0].shape
        if len(sides) not in (2, 3):
            raise UnsupportedPictureError(f"a FITS image must have 2 or 3 axes, not {len(sides)}")
        check_size(math.prod(sides), max_pixels)
        data = np.asarray(parts[0].data)
        # FITS stores the most significant byte first, which NumPy's functions for images do not all take.
        data = np.ascontiguousarray(data, data.dtype.newbyteorder("="))
        header = parts[0].header.copy()
    # A cube of one slice keeps its third axis.
    native = (header, data.ndim == 3)
    slices = data if data.ndim == 3 else data[None]
    first, *more = (Picture(one, form="FITS", native=native, stored=one.size) for one in slices)
    return replace(first, more=tuple(more))


def _write_fits(stream: IO[bytes], picture: Picture) -> None:
    fits: Any = importlib.import_module("astropy.io.fits")
    header, is_cube = picture.native or (None, bool(picture.more))
    pages = [page.pixels for page in picture.pages]
    fits.PrimaryHDU(np.stack(pages) if is_cube else pages[0], header).writeto(stream)


def _read_exr(stream: IO[bytes], max_pixels: int, check_size: CheckSize) -> Picture:
    openexr: Any = importlib.import_module("OpenEXR")
    # The library takes names of files only.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.exr"
        path.write_bytes(stream.read())
        (left, top), (right, bottom) = openexr.File(str(path), header_only=True).header()["dataWindow"]
        check_size((int(right) - int(left) + 1) * (int(bottom) - int(top) + 1), max_pixels)
        file = openexr.File(str(path), separate_channels=True)
        channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
        header, parts = dict(file.header()), len(file.parts)
    colors = "RGB" if "R" in channels else "Y"
    first = channels.get(colors[0])
    kept = (*colors, "A") if "A" in channels else tuple(colors)
    alike = first is not None and all((one.shape, one.dtype) == (first.shape, first.dtype) for one in channels.values())
    if parts != 1 or sorted(channels) != sorted(kept) or not alike:
        names = ", ".join(channels)[:80]
        raise UnsupportedPictureError(
            f"an OpenEXR file of {parts} parts and the channels {names} is not supported; only R, G, B or Y, and A"
        )
    pixels = np.dstack([channels[name] for name in colors]) if colors == "RGB" else channels["Y"]
    header.pop("channels", None)
    stored = sum(one.size for one in channels.values())
    return Picture(pixels, channels.get("A"), form="EXR", native=header, stored=stored)


def _write_exr(stream: IO[bytes], picture: Picture) -> None:
    openexr: Any = importlib.import_module("OpenEXR")
    planes = [picture.pixels] if picture.pixels.ndim == 2 else list(np.moveaxis(picture.pixels, -1, 0))
    channels = dict(zip("Y" if len(planes) == 1 else "RGB", map(np.ascontiguousarray, planes), strict=True))
    if picture.alpha is not None:
        channels["A"] = np.ascontiguousarray(picture.alpha)
    header = picture.native or {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.exr"
        openexr.File(dict(header), channels).write(str(path))
        stream.write(path.read_bytes())


def _read_jxl(stream: IO[bytes], max_pixels: int, check_size: CheckSize) -> Picture:
    codec: Any = importlib.import_module("pylibjxl")
    data = stream.read()
    facts = codec.probe(data)
    check_size(facts["width"] * facts["height"], max_pixels)
    if facts["bits_per_sample"] != 8 or facts["exponent_bits_per_sample"] or facts["have_animation"]:
        raise UnsupportedPictureError("JPEG XL with an animation, or of other than 8 bits, is not supported")
    values, metadata = codec.decode(data, metadata=True)
    colors = facts["color_channels"]
    # A grey picture without alpha has no axis of channels.
    planes = values[..., None] if values.ndim == 2 else values
    if planes.shape[-1] != colors + facts["has_alpha"]:
        raise UnsupportedPictureError("JPEG XL of further channels is not supported")
    pixels = np.ascontiguousarray(planes[..., 0] if colors == 1 else planes[..., :colors])
    alpha = np.ascontiguousarray(planes[..., -1]) if facts["has_alpha"] else None
    names = {"exif": "exif", "icc": "icc_profile", "xmp": "xmp"}
    info = {name: bytes(metadata[key]) for key, name in names.items() if metadata.get(key)}
    if "exif" in info:
        # The box begins with the offset of the TIFF header; Pillow's text begins with a name.
        info["exif"] = b"Exif\0\0" + info["exif"].removeprefix(b"\0\0\0\0").removeprefix(b"Exif\0\0")
    return Picture(pixels, alpha, form="JXL", info=info, stored=values.size)


def _write_jxl(stream: IO[bytes], picture: Picture) -> None:
    codec: Any = importlib.import_module("pylibjxl")
    pixels = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    info = {key: picture.info[name] for key, name in (("icc", "icc_profile"), ("xmp", "xmp")) if name in picture.info}
    if "exif" in picture.info:
        info["exif"] = b"\0\0\0\0" + picture.info["exif"].removeprefix(b"Exif\0\0")
    stream.write(codec.encode(np.ascontiguousarray(pixels), lossless=True, **info))


READERS: dict[str, Callable[[IO[bytes], int, CheckSize], Picture]] = {
    "FITS": _read_fits,
    "EXR": _read_exr,
    "JXL": _read_jxl,
    "DNG": read_raw,
    "RAW": read_raw,
}
"""The formats that Pillow does not read: a function of (file, most pixels, check of the size) each."""
WRITERS: dict[str, Callable[[IO[bytes], Picture], None]] = {
    "FITS": _write_fits,
    "EXR": _write_exr,
    "JXL": _write_jxl,
    "DNG": write_dng,
}
"""The formats that Pillow does not write."""
CONVERTERS: dict[str, Callable[[Picture, str], Picture]] = {"DNG": develop, "RAW": develop}
"""The formats whose pictures must be converted for others: a function of (picture, name of the other format) each."""


def check_depth(stream: IO[bytes]) -> None:
    """Check that a file of AVIF, HEIC or JPEG 2000 has samples that Pillow decodes in full.

    Pillow scales more than eight bits to eight, except for grey JPEG 2000.

    Args:
        stream: A file of any format.

    Raises:
        UnsupportedPictureError: It has more bits, or signed samples.
    """
    stream.seek(0)
    head = stream.read(_HEADER)
    stream.seek(0)
    bits = 8
    if head[4:8] == b"ftyp":
        # The bit `high_bitdepth` of AV1, and the lowest three bits of a byte of HEVC's configuration.
        bits += 2 * any(match[1][0] & 0x40 for match in re.finditer(rb"av1C..(.)", head, re.DOTALL))
        bits += max((match[1][0] & 7 for match in re.finditer(rb"hvcC.{17}(.)", head, re.DOTALL)), default=0)
    elif match := re.search(rb"^.{0,4096}?\xff\x4f\xff\x51.{36}(..)(.)", head, re.DOTALL):
        depth = match[2][0]
        if depth & 0x80:
            raise UnsupportedPictureError("JPEG 2000 of signed samples is not supported")
        bits = depth + 1 if int.from_bytes(match[1], "big") > 1 or depth > 15 else 8
    if bits > 8:
        raise UnsupportedPictureError(f"pictures of {bits} bits are not supported in this format; convert it to TIFF")
