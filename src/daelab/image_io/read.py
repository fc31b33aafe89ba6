"""A picture's file -> Picture. Sizes are checked by the header, before a pixel is decoded."""

from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from daelab._util.files import BoundedFile
from daelab.image_io.bundled_photos import find_photo
from daelab.image_io.decode import UnsupportedSamples, decode_page, lift_pillow_limits
from daelab.image_io.picture import SUFFIXES, Picture, convert_resolution
from daelab.image_io.png import check_png_complete, read_kept_chunks
from daelab.image_io.tiff import convert_tags_to_info, read_tiff_samples, read_tiff_tags

MAX_PIXELS = 300_000_000
"""Larger pictures are refused unless a caller says otherwise."""
_MOST_PAGES = 1024
_NPY = b"\x93NUMPY"
_FORMS = sorted({*SUFFIXES.values()} - {"NPY"})
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_picture(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "standard input") -> Picture:
    """Read a picture: a file, its bytes, or `photo:NAME` for one of the bundled photographs.

    Args:
        max_pixels: refuse larger pictures, by their header.
        name: of the file that the bytes came from; errors say it, and its suffix must not belie them.

    Raises:
        ValueError: it is no picture, a broken one, one whose suffix belies it, or has too many pixels;
            names it and says why.
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, bytes):
        return _read(BytesIO(source), name, Path(name).suffix.lower(), max_pixels)
    path = find_picture(source)
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a picture")
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}")
    with BoundedFile(path) as stream:
        return _read(stream, str(path), path.suffix.lower(), max_pixels)


def find_picture(source: str | Path) -> Path:
    """Where a picture's file is; `photo:NAME` is one of the bundled photographs.

    Raises:
        ValueError: no such photograph, or the package that holds it is not installed.
    """
    kind, _, photo = str(source).partition(":")
    return find_photo(photo) if kind == "photo" else Path(source)


def _read(stream: IO[bytes], name: str, suffix: str, max_pixels: int) -> Picture:
    head = stream.read(len(_NPY))
    stream.seek(0)
    try:
        if not head:
            raise ValueError("it is empty")
        found = _npy(stream, max_pixels) if head == _NPY else _pillow(stream, max_pixels)
        if SUFFIXES.get(suffix, found.form) != found.form:
            raise ValueError(f"it holds a {found.form}, which {suffix} does not say; rename it")
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not a picture, or of a kind that is not read") from None
    except _Refused as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError:
        raise ValueError(f"{name}: too large for the memory that is free") from None
    except Exception as error:  # decoders raise nearly every kind; none may reach the user raw
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: a broken picture: {reason}") from None
    return found


class _Refused(Exception):
    """A picture that is whole, and is not read all the same."""


def _check_size(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise _Refused(f"it has {pixels:,} pixels; at most {max_pixels:,} are read (--max-pixels)")
    if pixels == 0:
        raise ValueError("it has no pixels")


def _npy(stream: IO[bytes], max_pixels: int) -> Picture:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if not (len(shape) == 2 or (len(shape) in (3, 4) and shape[-1] == 3)) or dtype.kind not in "uif":
        raise _Refused(f"an array must be (H, W), (H, W, 3) or (N, H, W, 3) of numbers, not {shape} of {dtype}")
    _check_size(math.prod(shape[: 2 if len(shape) == 2 else -1]), max_pixels)
    begin, end = stream.tell(), stream.seek(0, 2)
    if end - begin < math.prod(shape) * dtype.itemsize:  # known before it is allocated
        raise ValueError("its pixels end before its last row")
    stream.seek(0)
    return Picture(np.load(stream, allow_pickle=False), form="NPY")


def _pillow(stream: IO[bytes], max_pixels: int) -> Picture:
    with lift_pillow_limits():
        image = _opened(stream)
        if image is None:
            return _tiff(stream, max_pixels)
        with image:
            if image.format == "TIFF":
                return _tiff(stream, max_pixels)
            _check_size(image.width * image.height, max_pixels)
            return _single(stream, image)


def _opened(stream: IO[bytes], number: int = 0) -> Image.Image | None:
    """A file's page in Pillow; None for a TIFF's page whose samples it does not know."""
    stream.seek(0)
    is_tiff = stream.read(4) in _TIFF
    stream.seek(0)
    try:
        image = Image.open(stream, formats=["TIFF"] if is_tiff else _FORMS)
        image.seek(number)
    except (UnidentifiedImageError, SyntaxError):
        if is_tiff:
            return None
        raise
    return image


def _single(stream: IO[bytes], image: Image.Image) -> Picture:
    """The picture of a file that is no TIFF; the first frame of several."""
    form = "JPEG" if image.format == "MPO" else str(image.format)
    frames = getattr(image, "n_frames", 1)
    found = decode_page(image, lambda: Image.open(stream))
    # Pillow knows some of it only after decoding
    found = replace(found, form=form, info=_info(image))
    if frames > 1:
        found = replace(found, note=f"the first of {frames} frames")
    if form == "PNG":
        check_png_complete(stream)
        return replace(found, native=read_kept_chunks(stream))
    if form == "JPEG":
        return replace(found, encoding=_jpeg_encoding(image))
    if form == "WEBP":
        return replace(found, encoding={"lossless": _is_lossless(stream)})
    return found


def _tiff(stream: IO[bytes], max_pixels: int) -> Picture:
    """All pages of a TIFF: by Pillow, or by tifffile where Pillow does not know the samples."""
    order, directories = read_tiff_tags(stream)
    _check_size(sum(height * width for height, width in (found.size for found in directories)), max_pixels)
    if len(directories) > _MOST_PAGES:
        raise _Refused(f"it has {len(directories):,} pages; at most {_MOST_PAGES:,} are read")
    image = _opened(stream)
    pages = [
        replace(
            _tiff_page(stream, number, image),
            form="TIFF",
            native=(order, found.kept),
            info=convert_tags_to_info(order, found.kept),
            encoding={"compressed": found.compressed, "extrasample": found.extrasample},
        )
        for number, found in enumerate(directories)
    ]
    return replace(pages[0], more=tuple(pages[1:]))


def _tiff_page(stream: IO[bytes], number: int, first: Image.Image | None) -> Picture:
    """A page, from the file as it was opened at its first one, since Pillow walks to each from the beginning."""
    image = first or _opened(stream, number)
    if image is not None:
        try:
            image.seek(number)
            return decode_page(image, lambda: _opened(stream, number) or image)
        except (UnsupportedSamples, UnidentifiedImageError, SyntaxError):  # samples that Pillow does not know
            pass
    return read_tiff_samples(stream, number)


def _info(image: Image.Image) -> dict[str, Any]:
    kept = {key: image.info[key] for key in ("exif", "icc_profile", "xmp", "comment", "dpi") if image.info.get(key)}
    for key in ("exif", "xmp", "comment"):
        if isinstance(kept.get(key), str):
            kept[key] = kept[key].encode("utf-8")
    if "dpi" in kept:
        kept["dpi"] = convert_resolution(*kept["dpi"])
    if "exif" in kept:  # with a head in a JPEG, without one in a WebP
        kept["exif"] = b"Exif\0\0" + kept["exif"].removeprefix(b"Exif\0\0")
    return {key: value for key, value in kept.items() if value}


def _jpeg_encoding(image: Any) -> dict[str, Any]:
    from PIL.JpegImagePlugin import get_sampling

    sampling = get_sampling(image) if image.mode in ("RGB", "YCbCr") else -1
    options = {"qtables": image.quantization, "progressive": bool(image.info.get("progressive"))}
    return options | ({"subsampling": sampling} if sampling >= 0 else {})


def _is_lossless(stream: IO[bytes]) -> bool:
    """Whether a WebP's pixels are in a lossless chunk; Pillow does not say."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        length = int.from_bytes(head[4:], "little")
        stream.seek(length + length % 2, 1)
    return False
