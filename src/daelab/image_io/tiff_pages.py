"""Pages of a TIFF: what cannot be read, and the samples that Pillow does not know, such as further bands."""

from __future__ import annotations

import logging
import math
import re
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from daelab.image_io.picture import Array, Picture, UnsupportedPictureError, invert_grey
from daelab.image_io.tiff import Order, TiffDirectory, get_integers

_PHOTOMETRIC = {0: 1, 1: 1, 2: 3, 5: 4}
"""The channels of each photometric interpretation: white is zero, black is zero, RGB, CMYK."""
_ALPHA = (1, 2)
"""The kinds of further samples that are alpha: multiplied into the colors, and not."""
_DEFLATE = (8, 32946)
_UNBOUNDED = (34925, 50000)
"""Compressions of which a few bytes may fill the memory: LZMA and Zstandard."""
_IMAGEJ = re.compile(rb"\AImageJ=[^\0]*?\nimages=(\d{1,9})\n")
_SHAPED = re.compile(rb'\A\{"shape": \[([\d, ]{1,99})\]')
"""How ImageJ and tifffile describe several pictures that may be stored behind a single directory."""
_SUBFILE, _DESCRIPTION, _DEPTH = 254, 270, 32997
_MASK = 4
# tifffile logs damage that either leads to an error here or does not matter
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def check_pages(stream: IO[bytes], order: Order, directories: Sequence[TiffDirectory]) -> str:
    """Check that the pages of a TIFF are all that it holds, and return a remark on what else it holds.

    Args:
        stream: The TIFF.
        order: The byte order.
        directories: The directories of its pages.

    Returns:
        The remark, or nothing.

    Raises:
        UnsupportedPictureError: A page is a thumbnail, a mask or a volume, or there are pictures without a directory.
    """
    size = stream.seek(0, 2)
    own = sum(math.prod(directory.size) * directory.samples for directory in directories)
    for number, directory in enumerate(directories, 1):
        kept = directory.kept
        if any(math.prod(below) > math.prod(directory.size) for below in directory.below):
            raise UnsupportedPictureError(
                f"page {number} is a thumbnail, and the full picture in its SubIFD is not read; "
                "convert it to a plain TIFF or PNG first"
            )
        if sum(get_integers(kept, order, _SUBFILE)) & _MASK:
            raise UnsupportedPictureError(f"page {number} is a mask, which is not supported; remove it first")
        # A description may be older than the pixels, so the file must also be large enough for it.
        if own < _count_described_samples(directory) <= size or max(get_integers(kept, order, _DEPTH), default=1) > 1:
            raise UnsupportedPictureError(
                f"page {number} is a stack of several pictures, which is not supported; save each as a page of its own"
            )
    below = sum(len(directory.below) for directory in directories)
    return "; ".join(
        note
        for note, there in (
            (f"without the {below} reduced copies in its SubIFDs", below),
            ("without its Photoshop layers", any(directory.layered for directory in directories)),
        )
        if there
    )


def _count_described_samples(directory: TiffDirectory) -> int:
    """Return the number of samples that the description of a page speaks of, or 0."""
    description = directory.kept.get(_DESCRIPTION, (0, b""))[1]
    if match := _IMAGEJ.match(description):
        return int(match[1]) * math.prod(directory.size) * directory.samples
    match = _SHAPED.match(description)
    return math.prod(map(int, match[1].split(b","))) if match else 0


def read_tiff_samples(stream: IO[bytes], number: int) -> Picture:
    """Read the pixels, alpha and further bands of a page whose samples Pillow does not know, such as color of floats.

    Args:
        stream: The TIFF.
        number: The number of the page, from 0.

    Raises:
        UnsupportedPictureError: Tifffile does not know the samples either, or they are not grey, RGB or CMYK.
        ValueError: The page is damaged.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages[number]
        assert isinstance(page, tifffile.TiffPage)
        colors = _PHOTOMETRIC.get(int(page.photometric))
        if colors == 4 and page.samplesperpixel < 4:  # inks other than cyan, magenta, yellow and black
            colors = 1
        interpretation = getattr(page.photometric, "name", page.photometric)
        count = f"{page.samplesperpixel} channel{'' if page.samplesperpixel == 1 else 's'}"
        kind = f"{count} of {page.dtype} with photometric {interpretation}"
        if colors is None or page.dtype is None or page.dtype.kind not in "uif" or page.imagedepth > 1:
            raise UnsupportedPictureError(f"pictures of {kind} are not supported; convert it to RGB or grey")
        if page.compression in _UNBOUNDED:
            raise UnsupportedPictureError(f"the compression of its {kind} is not supported")
        if page.compression in _DEFLATE:
            _check_deflated(file, page)
        values = _decode(page)
    # White is zero in such a page, and it is the opposite everywhere else in daelab.
    return _split(values, colors, tuple(map(int, page.extrasamples)), invert=page.photometric == 0)


def _decode(page: Any) -> Array:
    """Return the samples of a page, (H, W, samples)."""
    try:
        values: Array = page.asarray()
    # tifffile leaves some compressions and numbers of bits to another package
    except (KeyError, ValueError, NotImplementedError) as error:
        reason = str(error.args[0] if error.args else error)
        if "imagecodecs" not in reason and "not supported" not in reason and "not implemented" not in reason:
            raise
        raise UnsupportedPictureError(f"{reason}; pip install imagecodecs") from None
    shape = page.imagelength, page.imagewidth
    values = values.reshape(-1, *shape) if page.planarconfig == 2 else values.reshape(*shape, -1)
    values = np.moveaxis(values, 0, -1) if page.planarconfig == 2 else values
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _split(values: Array, colors: int, types: tuple[int, ...], *, invert: bool) -> Picture:
    """Separate the samples of a page (H, W, samples) into pixels, alpha and further bands."""
    count = values.shape[2] - colors
    if count < 0:
        raise UnsupportedPictureError(f"{values.shape[2]} samples are too few for {colors} channels")
    # Without a word on its kind, a fourth sample of RGB is alpha. Any other is a band.
    types = types[-count:] if count else ()
    types = (0,) * (count - len(types)) + types if types or (colors, count) != (3, 1) else (2,)
    place = next((at for at, kind in enumerate(types) if kind in _ALPHA), None)
    pixels = np.ascontiguousarray(values[..., 0] if colors == 1 else values[..., :colors])
    bands = [np.ascontiguousarray(values[..., colors + at]) for at in range(count)]
    alpha = None if place is None else bands.pop(place)
    if invert:
        pixels = invert_grey(pixels)
    return Picture(pixels, alpha, tuple(bands), encoding={"extrasamples": types})


def _check_deflated(file: Any, page: Any) -> None:
    """Check that no strip inflates to more than its pixels, since tifffile would inflate it whatever it takes."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    pixels = page.tilelength * page.tilewidth if page.is_tiled else page.rowsperstrip * page.imagewidth
    most = min(pixels, max(page.imagelength, page.tilelength) * max(page.imagewidth, page.tilewidth))
    most = most * samples * page.dtype.itemsize
    for data, *_ in file.filehandle.read_segments(page.dataoffsets, page.databytecounts):
        if data and len(zlib.decompressobj().decompress(data, most + 1)) > most:
            raise ValueError("a strip inflates to more than its pixels")
