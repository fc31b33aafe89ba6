"""A picture's file as RGB pixels, and a shelf that may keep them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from daelab._util.files import BoundedFile
from daelab.datasets.base import Pixels

TRAINING_SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp"
"""Files with another suffix are taken for no pictures."""
_ORIENTATION = 0x0112
"""The EXIF tag; above 4, height and width are exchanged."""
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""What those files may hold, in Pillow's words; one of its further kinds, EPS, would start another program."""


class ImageCache:
    """Decoded pictures, each decoded once if they are kept."""

    def __init__(self, crop: int, keeps: bool) -> None:
        self.crop = crop
        self.keeps = keeps
        self._pictures: dict[Path, Pixels] = {}

    def picture(self, path: Path) -> Pixels:
        """uint8 (H, W, 3), both sides at least `crop`.

        Raises:
            ValueError: the file is no picture or is damaged; names it.
        """
        picture = self._pictures.get(path)
        if picture is None:
            picture = pad_by_reflection(decode_rgb(path), self.crop)
            if self.keeps:
                self._pictures[path] = picture
        return picture


def read_image_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture, upright as its EXIF says; reads only its header.

    Raises:
        ValueError: the file is no picture; names it.
    """
    try:
        with _opened(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) > 4
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # decoders raise nearly every kind; none may reach the user raw
        raise _broken(path, error) from error


def count_pixels(path: Path, crop: int) -> int:
    """Pixels of a picture once it is decoded and mirrored up to `crop`; reads only its header.

    Raises:
        ValueError: the file is no picture; names it.
    """
    try:
        with _opened(path) as image:
            return max(image.width, crop) * max(image.height, crop)
    except Exception as error:  # decoders raise nearly every kind; none may reach the user raw
        raise _broken(path, error) from error


def decode_rgb(path: Path) -> Pixels:
    """A picture of any mode as RGB, uint8 (H, W, 3), turned upright as its EXIF says.

    Raises:
        ValueError: the file is no picture or is damaged; names it.
    """
    try:
        with _opened(path) as image:
            return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise nearly every kind; none may reach the user raw
        raise _broken(path, error) from error


def pad_by_reflection(picture: Pixels, crop: int) -> Pixels:
    """The picture with its smaller sides mirrored, right and below, up to `crop`."""
    below, right = (max(0, crop - side) for side in picture.shape[:2])
    # "symmetric", since "reflect" is not defined for a side of one pixel.
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else picture


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    Image.init()
    with (
        BoundedFile(path) as file,
        Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN]) as image,
    ):
        yield image


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith(("I", "F")):
        grey = _eight_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about transparency
    return np.array(image.convert("RGB"))


def _eight_bits(grey: NDArray[Any]) -> Pixels:
    """Grey of 16 or 32 bits or float -> uint8; Pillow itself would clip at 255."""
    values = np.nan_to_num(grey.astype(np.float64))
    top = values.max(initial=0.0)
    if np.issubdtype(grey.dtype, np.floating):
        scale = 255.0 if top <= 1.0 else 1.0
    else:
        scale = 255.0 / 65535.0 if grey.dtype.itemsize == 2 or top > 255.0 else 1.0
    return np.rint(values * scale).clip(0, 255).astype(np.uint8)


def _broken(path: Path, error: Exception) -> ValueError:
    if isinstance(error, MemoryError):
        return ValueError(f"{path} is too large for the memory that is free")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path} is a broken picture ({reason}); remove or replace it")
