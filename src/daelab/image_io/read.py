"""Reading of picture files. Sizes are checked by the header, before a pixel is decoded."""

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
from daelab.image_io.decode import UnsupportedSamplesError, decode_page, lift_pillow_limits
from daelab.image_io.formats import find_format, list_formats
from daelab.image_io.picture import Picture, convert_resolution
from daelab.image_io.png import check_png_complete, read_kept_chunks
from daelab.image_io.tiff import convert_tags_to_info, read_tiff_samples, read_tiff_tags

MAX_PIXELS = 300_000_000
"""The largest picture that is read by default, in pixels."""
_MOST_PAGES = 1024
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_picture(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "standard input") -> Picture:
    """Read a picture: a file, its bytes, or `photo:NAME` for one of the bundled photographs.

    Args:
        source: A path, `photo:NAME`, or the bytes of a file.
        max_pixels: The largest picture to accept, in pixels. It is checked from the file header.
        name: The name of the file that bytes came from. Errors name it, and its suffix must fit the bytes.

    Returns:
        The first frame of the file, or every page of a TIFF.

    Raises:
        ValueError: The file is not a picture, or damaged, or of another format than its suffix says, or too large.
        FileNotFoundError: The file does not exist.
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
    """Return the path of a picture.

    Args:
        source: A path, or `photo:NAME` for one of the bundled photographs.

    Raises:
        ValueError: No photograph has this name, or the package that ships it is not installed.
    """
    kind, _, photo = str(source).partition(":")
    return find_photo(photo) if kind == "photo" else Path(source)


def _read(stream: IO[bytes], name: str, suffix: str, max_pixels: int) -> Picture:
    head = stream.read(len(_NPY))
    stream.seek(0)
    try:
        # An empty file gets an error of its own, since Pillow would call it an unknown format.
        if not head:
            raise ValueError("it is empty")
        picture = _read_npy(stream, max_pixels) if head == _NPY else _read_by_pillow(stream, max_pixels)
        row = find_format(suffix)
        # The result is written by its suffix, so a wrong one would silently change the format.
        if row is not None and row.name != picture.form:
            raise ValueError(f"it holds a {picture.form}, but its suffix is {suffix}; rename it")
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not a picture, or its format is not supported") from None
    except _RefusedError as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError:
        raise ValueError(f"{name}: the picture is too large for the free memory") from None
    except Exception as error:  # decoders raise exceptions of nearly every class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: a broken picture: {reason}") from None
    return picture


class _RefusedError(Exception):
    """An error for a picture that is not damaged but is not read either."""


def _check_size(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise _RefusedError(f"it has {pixels:,} pixels; at most {max_pixels:,} are read (--max-pixels)")
    if pixels == 0:
        raise ValueError("it has no pixels")


def _read_npy(stream: IO[bytes], max_pixels: int) -> Picture:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if not (len(shape) == 2 or (len(shape) in (3, 4) and shape[-1] == 3)) or dtype.kind not in "uif":
        raise _RefusedError(f"an array must be (H, W), (H, W, 3) or (N, H, W, 3) of numbers, not {shape} of {dtype}")
    _check_size(math.prod(shape[: 2 if len(shape) == 2 else -1]), max_pixels)
    # The header of a hostile file may claim any shape, so the file's size decides.
    begin, end = stream.tell(), stream.seek(0, 2)
    if end - begin < math.prod(shape) * dtype.itemsize:  # checked before memory is allocated
        raise ValueError("its pixels end before its last row")
    stream.seek(0)
    # Never unpickled, since a pickle can run any code.
    return Picture(np.load(stream, allow_pickle=False), form="NPY")


def _read_by_pillow(stream: IO[bytes], max_pixels: int) -> Picture:
    with lift_pillow_limits():
        image = _open(stream)
        if image is None:
            return _read_tiff(stream, max_pixels)
        with image:
            if image.format == "TIFF":
                return _read_tiff(stream, max_pixels)
            _check_size(image.width * image.height, max_pixels)
            return _read_first_frame(stream, image)


def _open(stream: IO[bytes], number: int = 0) -> Image.Image | None:
    """Open a page with Pillow. None for a page of a TIFF whose samples Pillow does not know."""
    stream.seek(0)
    is_tiff = stream.read(4) in _TIFF
    pillow = [row.name for row in list_formats() if row.name != "NPY"]
    stream.seek(0)
    try:
        # Only the formats of the table, so that no other decoder of Pillow ever sees the file.
        image = Image.open(stream, formats=["TIFF"] if is_tiff else pillow)
        image.seek(number)
    except (UnidentifiedImageError, SyntaxError):
        if is_tiff:
            return None
        raise
    return image


def _read_first_frame(stream: IO[bytes], image: Image.Image) -> Picture:
    """Read the first frame of a file that is not a TIFF."""
    form = "JPEG" if image.format == "MPO" else str(image.format)
    frames = getattr(image, "n_frames", 1)
    picture = decode_page(image, lambda: Image.open(stream))
    # Pillow reads some metadata only when it decodes
    picture = replace(picture, form=form, info=_read_info(image))
    if frames > 1:
        picture = replace(picture, note=f"the first of {frames} frames")
    if form == "PNG":
        check_png_complete(stream)
        return replace(picture, native=read_kept_chunks(stream))
    if form == "JPEG":
        return replace(picture, encoding=_read_jpeg_encoding(image))
    if form == "WEBP":
        return replace(picture, encoding={"lossless": _is_lossless(stream)})
    return picture


def _read_tiff(stream: IO[bytes], max_pixels: int) -> Picture:
    """Read every page of a TIFF: by Pillow, or by tifffile if Pillow does not know the samples."""
    order, directories = read_tiff_tags(stream)
    # All pages count together, since they are in memory at the same time.
    _check_size(sum(height * width for height, width in (directory.size for directory in directories)), max_pixels)
    if len(directories) > _MOST_PAGES:
        raise _RefusedError(f"it has {len(directories):,} pages; at most {_MOST_PAGES:,} are read")
    image = _open(stream)
    pages = [
        replace(
            _read_tiff_page(stream, number, image),
            form="TIFF",
            native=(order, directory.kept),
            info=convert_tags_to_info(order, directory.kept),
            encoding={"compressed": directory.compressed, "extrasample": directory.extrasample},
        )
        for number, directory in enumerate(directories)
    ]
    return replace(pages[0], more=tuple(pages[1:]))


def _read_tiff_page(stream: IO[bytes], number: int, first: Image.Image | None) -> Picture:
    """Read a page from the image opened at the first page: a new one would walk through all pages before it."""
    image = first or _open(stream, number)
    if image is not None:
        try:
            image.seek(number)
            return decode_page(image, lambda: _open(stream, number) or image)
        except (UnsupportedSamplesError, UnidentifiedImageError, SyntaxError):  # tifffile knows more kinds of samples
            pass
    return read_tiff_samples(stream, number)


def _read_info(image: Image.Image) -> dict[str, Any]:
    kept = {key: image.info[key] for key in ("exif", "icc_profile", "xmp", "comment", "dpi") if image.info.get(key)}
    for key in ("exif", "xmp", "comment"):
        # Pillow returns text for some formats and bytes for others.
        if isinstance(kept.get(key), str):
            kept[key] = kept[key].encode("utf-8")
    if "dpi" in kept:
        kept["dpi"] = convert_resolution(*kept["dpi"])
    if "exif" in kept:  # Pillow gives it with its header for a JPEG, without it for a WebP
        kept["exif"] = b"Exif\0\0" + kept["exif"].removeprefix(b"Exif\0\0")
    return {key: value for key, value in kept.items() if value}


def _read_jpeg_encoding(image: Any) -> dict[str, Any]:
    from PIL.JpegImagePlugin import get_sampling

    sampling = get_sampling(image) if image.mode in ("RGB", "YCbCr") else -1
    options = {"qtables": image.quantization, "progressive": bool(image.info.get("progressive"))}
    return options | ({"subsampling": sampling} if sampling >= 0 else {})


def _is_lossless(stream: IO[bytes]) -> bool:
    """Return whether the pixels of a WebP are in a lossless chunk. Pillow does not tell."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        # The chunks of RIFF are padded to an even length.
        length = int.from_bytes(head[4:], "little")
        stream.seek(length + length % 2, 1)
    return False
