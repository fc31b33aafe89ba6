"""Reading of picture files. Sizes are checked by the header, before a pixel is decoded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from daelab._util.files import BoundedFile
from daelab._util.text import shorten_error
from daelab.image_io.bundled_photos import find_photo
from daelab.image_io.decode import UnsupportedSamplesError, decode_page, lift_pillow_limits
from daelab.image_io.formats import PictureFormat, find_format, list_formats, list_training_formats
from daelab.image_io.limits import check_work
from daelab.image_io.optional_formats import READERS, TIFF_MAGIC, check_depth, find_optional_format
from daelab.image_io.orientation import read_orientation
from daelab.image_io.picture import Picture, UnsupportedPictureError, convert_resolution
from daelab.image_io.png import check_png_complete, count_png_samples, read_kept_chunks
from daelab.image_io.thumbnails import drop_exif_thumbnail, drop_xmp_thumbnails
from daelab.image_io.tiff import TiffDirectory, read_tiff_tags
from daelab.image_io.tiff_metadata import convert_tags_to_info
from daelab.image_io.tiff_pages import check_pages, read_tiff_samples

MAX_PIXELS = 300_000_000
"""The largest picture that is read by default, in pixels."""
_NPY = b"\x93NUMPY"
_UNSUPPORTED = re.compile("unsupported|not supported|not implemented", re.IGNORECASE)
"""How Pillow says that a file is whole, but of a kind that it does not read."""


def read_picture(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "standard input",
    training: bool = False,
) -> Picture:
    """Read a picture: a file, its bytes, or `photo:NAME` for one of the bundled photographs.

    Args:
        source: A path, `photo:NAME`, or the bytes of a file.
        max_pixels: The largest picture to accept, in pixels. It is checked from the file header.
        name: The name of the file that bytes came from. Errors name it.
        training: Whether to read the formats of data sets, and only the first page.

    Returns:
        The first frame of the file, or every page of a TIFF.

    Raises:
        ValueError: The file is not a picture, or damaged, or not supported, or too large.
        FileNotFoundError: The file does not exist.
    """
    if isinstance(source, bytes):
        return _read(BytesIO(source), name, Path(name).suffix.lower(), max_pixels, training)
    path = find_picture(source)
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a picture")
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}")
    with BoundedFile(path) as stream:
        return _read(stream, str(path), path.suffix.lower(), max_pixels, training)


def read_picture_size(path: Path) -> tuple[int, int]:
    """Read the size of the first page of a file of a data set from its header, upright as its EXIF says.

    Args:
        path: The file.

    Returns:
        (H, W) in pixels.

    Raises:
        ValueError: The file is not a picture, or has too many pixels.
        FileNotFoundError: The file does not exist.
    """
    with BoundedFile(path) as stream, _explain_failure(str(path)), lift_pillow_limits():
        if stream.read(4) in TIFF_MAGIC:
            order, directories = read_tiff_tags(stream)
            size = directories[0].size
            orientation = read_orientation(convert_tags_to_info(order, directories[0].kept))
        else:
            image = _open(stream, training=True)
            assert image is not None
            _check_size(image.width * image.height, MAX_PIXELS)
            size = image.height, image.width
            # Pillow would decode a PNG to look for EXIF behind its pixels.
            exif = dict(read_kept_chunks(stream)).get(b"eXIf", b"") if image.format == "PNG" else image.info.get("exif")
            orientation = read_orientation({"exif": exif or b""})
    return size[::-1] if orientation > 4 else size


def find_picture(source: str | Path) -> Path:
    """Return the path of a picture.

    Args:
        source: A path, or `photo:NAME` for one of the bundled photographs.

    Raises:
        ValueError: No photograph has this name, or the package that ships it is not installed.
    """
    kind, _, photo = str(source).partition(":")
    return find_photo(photo) if kind == "photo" else Path(source)


def _read(stream: IO[bytes], name: str, suffix: str, max_pixels: int, training: bool) -> Picture:
    head = stream.read(len(_NPY))
    stream.seek(0)
    with _explain_failure(name):
        # An empty file gets an error of its own, since Pillow would call it an unknown format.
        if not head:
            raise ValueError("it is empty")
        with lift_pillow_limits():
            optional = None if training else find_optional_format(stream, suffix)
            if optional is not None and optional.name in READERS:
                picture = READERS[optional.name](stream, max_pixels, _check_size)
            elif head == _NPY:
                picture = _read_npy(stream, max_pixels)
            else:
                picture = _read_by_pillow(stream, max_pixels, training, optional)
        row = find_format(suffix)
        if row is not None and row.name != picture.form:
            misnamed = f"it is a {picture.form}, although its suffix is {suffix}"
            picture = replace(picture, note="; ".join(filter(None, (picture.note, misnamed))))
    return picture


@contextmanager
def _explain_failure(name: str) -> Iterator[None]:
    """Turn an error of reading into a ValueError that names the file and the fault in one line."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not a picture, or its format is not supported") from None
    except UnsupportedPictureError as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError:
        raise ValueError(f"{name}: the picture is too large for the free memory") from None
    except Exception as error:  # decoders raise exceptions of nearly every class
        reason = shorten_error(error)
        fault = "not supported" if _UNSUPPORTED.search(reason) else "a broken picture"
        raise ValueError(f"{name}: {fault}: {reason}") from None


def _check_size(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise UnsupportedPictureError(f"it has {pixels:,} pixels; at most {max_pixels:,} are read (--max-pixels)")
    if pixels == 0:
        raise ValueError("it has no pixels")


def _read_npy(stream: IO[bytes], max_pixels: int) -> Picture:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if not (len(shape) in (2, 3) or (len(shape) == 4 and shape[-1] == 3)) or dtype.kind not in "uif":
        raise UnsupportedPictureError(
            f"an array must be (H, W), (H, W, 3), (Z, H, W) or (N, H, W, 3) of numbers, not {shape} of {dtype}"
        )
    is_stack = len(shape) == 3 and shape[-1] != 3
    _check_size(math.prod(shape if is_stack or len(shape) == 2 else shape[:-1]), max_pixels)
    # The header of a hostile file may claim any shape, so the file's size decides.
    begin, end = stream.tell(), stream.seek(0, 2)
    if end - begin < math.prod(shape) * dtype.itemsize:  # checked before memory is allocated
        raise ValueError("its pixels end before its last row")
    stream.seek(0)
    # Never unpickled, since a pickle can run any code.
    pixels = np.load(stream, allow_pickle=False)
    return Picture(pixels[..., None] if is_stack else pixels, form="NPY", stored=math.prod(shape))


def _read_by_pillow(
    stream: IO[bytes], max_pixels: int, training: bool, optional: PictureFormat | None = None
) -> Picture:
    # Checked before Pillow opens the file, since that may already take minutes.
    note = check_work(stream)
    if not training:
        check_depth(stream)
    stream.seek(0)
    if stream.read(4) in TIFF_MAGIC:
        return _read_tiff(stream, max_pixels, training)
    image = _open(stream, training) if optional is None else Image.open(stream, formats=[optional.name])
    assert image is not None
    with image:
        _check_size(image.width * image.height, max_pixels)
        return _read_first_frame(stream, image, note)


def _open(stream: IO[bytes], training: bool = False) -> Image.Image | None:
    """Open a file with Pillow. None for a TIFF with a first page whose samples Pillow does not know."""
    stream.seek(0)
    is_tiff = stream.read(4) in TIFF_MAGIC
    names = ["TIFF"] if is_tiff else [row.name for row in (list_training_formats() if training else list_formats())]
    # Pillow's usual decoders come first, since the import of the others takes longer than many a picture.
    for load in (Image.preinit, Image.init):
        load()
        stream.seek(0)
        try:
            # Only the formats of the table, so that no other decoder of Pillow ever sees the file.
            return Image.open(stream, formats=[name for name in names if name in Image.OPEN])
        except (UnidentifiedImageError, SyntaxError):
            if load is Image.init and not is_tiff:
                raise
    return None


def _read_first_frame(stream: IO[bytes], image: Image.Image, note: str) -> Picture:
    """Read the first frame of a file that is not a TIFF."""
    form = "JPEG" if image.format == "MPO" else str(image.format)
    frames = getattr(image, "n_frames", 1)
    # Pillow opens grey of 16 bits with alpha as four bands of eight.
    samples = count_png_samples(stream) if form == "PNG" else len(image.getbands())
    stored = image.width * image.height * samples
    picture = decode_page(image, lambda: Image.open(stream))
    if frames > 1:
        note = f"the first of {frames} frames"
    # Pillow reads some metadata only when it decodes
    picture = replace(picture, form=form, info=_read_info(image), note=note, stored=stored)
    if form == "PNG":
        check_png_complete(stream)
        return replace(picture, native=read_kept_chunks(stream))
    if form == "JPEG":
        return replace(picture, encoding=_read_jpeg_encoding(image))
    if form == "WEBP":
        return replace(picture, encoding={"lossless": _is_lossless(stream)})
    return picture


def _read_tiff(stream: IO[bytes], max_pixels: int, training: bool) -> Picture:
    """Read every page of a TIFF: by Pillow, or by tifffile if Pillow does not know the samples."""
    order, directories = read_tiff_tags(stream)
    directories = directories[:1] if training else directories
    # All pages count together, since they are in memory at the same time.
    _check_size(sum(height * width for height, width in (directory.size for directory in directories)), max_pixels)
    note = check_pages(stream, order, directories)
    # Two images that go from page to page, since a new one would walk through all pages before it.
    images = [_open(stream) for _ in range(2)]
    pages = []
    for number, directory in enumerate(directories):
        page = _read_tiff_page(stream, number, directory, images)
        encoding = {"compressed": directory.compressed, "planar": directory.planar}
        pages.append(
            replace(
                page,
                form="TIFF",
                native=(order, directory.kept),
                info=convert_tags_to_info(order, directory.kept),
                encoding={"extrasamples": directory.extrasamples} | page.encoding | encoding,
                declared_range=directory.declared_range,
                note="" if number else note,
                stored=math.prod(directory.size) * directory.samples,
            )
        )
    return replace(pages[0], more=tuple(pages[1:]))


def _read_tiff_page(
    stream: IO[bytes], number: int, directory: TiffDirectory, images: list[Image.Image | None]
) -> Picture:
    image, other = images
    if image is not None and other is not None:
        try:
            # Pillow leaves out samples that it does not know, and cannot join such planes.
            joined = directory.planar and 1 in directory.extrasamples
            if len(_seek(image, number).getbands()) >= directory.samples and not joined:
                return decode_page(image, lambda: _seek(other, number))
        except (UnsupportedSamplesError, UnidentifiedImageError, SyntaxError):  # tifffile knows more kinds of samples
            pass
    return read_tiff_samples(stream, number)


def _seek(image: Image.Image, number: int) -> Image.Image:
    image.seek(number)
    return image


def _read_info(image: Image.Image) -> dict[str, Any]:
    kept = {key: image.info[key] for key in ("exif", "icc_profile", "xmp", "comment", "dpi") if image.info.get(key)}
    for key in ("exif", "xmp", "comment"):
        # Pillow returns text for some formats and bytes for others.
        if isinstance(kept.get(key), str):
            kept[key] = kept[key].encode("utf-8")
    if "dpi" in kept:
        kept["dpi"] = convert_resolution(*kept["dpi"])
    if "exif" in kept:  # Pillow gives it with its header for a JPEG, without it for a WebP
        kept["exif"] = drop_exif_thumbnail(b"Exif\0\0" + kept["exif"].removeprefix(b"Exif\0\0"))
    if "xmp" in kept:
        kept["xmp"] = drop_xmp_thumbnails(kept["xmp"])
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
