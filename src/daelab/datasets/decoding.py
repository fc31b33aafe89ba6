"""Image files as RGB pixels, and a cache that may keep them."""

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
from daelab.image_io.formats import list_training_formats

_ORIENTATION = 0x0112
"""The EXIF tag of the orientation. Values above 4 exchange height and width."""


class ImageCache:
    """A reader of images that decodes each image once if it keeps them."""

    def __init__(self, crop: int, keeps: bool) -> None:
        """Start with no images.

        Args:
            crop: The least side of an image, in pixels. Smaller images are mirrored at their edges.
            keeps: Whether decoded images are kept in memory.
        """
        self.crop = crop
        self.keeps = keeps
        self._images: dict[Path, Pixels] = {}

    def read_image(self, path: Path) -> Pixels:
        """Read an image, or return the copy that was kept.

        Args:
            path: The image file.

        Returns:
            uint8 (H, W, 3), with both sides at least `crop`.

        Raises:
            ValueError: The file is not an image, or is damaged. The message names it.
        """
        picture = self._images.get(path)
        if picture is None:
            picture = pad_by_reflection(decode_rgb(path), self.crop)
            if self.keeps:
                self._images[path] = picture
        return picture


def read_image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image, upright as its EXIF says, from its header.

    Args:
        path: The image file.

    Returns:
        (H, W) in pixels.

    Raises:
        ValueError: The file is not an image. The message names it.
    """
    try:
        with _open_image(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) > 4
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # decoders raise errors of nearly every class
        raise _describe_broken_image(path, error) from error


def count_pixels(path: Path, crop: int) -> int:
    """Count the pixels of an image, from its header.

    Args:
        path: The image file.
        crop: The smallest side to assume, in pixels. Smaller sides are rounded up to it.

    Returns:
        The number of pixels after mirroring at the edges.

    Raises:
        ValueError: The file is not an image. The message names it.
    """
    try:
        with _open_image(path) as image:
            return max(image.width, crop) * max(image.height, crop)
    except Exception as error:  # decoders raise errors of nearly every class
        raise _describe_broken_image(path, error) from error


def decode_rgb(path: Path) -> Pixels:
    """Decode an image of any mode as RGB, turned upright as its EXIF says.

    Args:
        path: The image file.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: The file is not an image, or is damaged. The message names it.
    """
    try:
        with _open_image(path) as image:
            return _convert_to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise errors of nearly every class
        raise _describe_broken_image(path, error) from error


def pad_by_reflection(picture: Pixels, crop: int) -> Pixels:
    """Mirror the smaller sides of an image, on the right and below.

    Args:
        picture: The image (H, W, C).
        crop: The least side, in pixels.

    Returns:
        The image with both sides at least `crop`.
    """
    below, right = (max(0, crop - side) for side in picture.shape[:2])
    # "symmetric", since "reflect" is not defined for a side of one pixel.
    return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else picture


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    Image.init()
    # Pillow knows further formats, one of which, EPS, would start another program
    formats = [row.name for row in list_training_formats() if row.name in Image.OPEN]
    with BoundedFile(path) as file, Image.open(file, formats=formats) as image:
        yield image


def _convert_to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith(("I", "F")):
        gray = _convert_to_8_bits(np.asarray(image))
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "P":
        image = image.convert("RGBA")  # Pillow warns about transparency if it converts directly to RGB
    return np.array(image.convert("RGB"))


def _convert_to_8_bits(gray: NDArray[Any]) -> Pixels:
    """Convert gray values of 16 or 32 bits, or floats, to uint8. Pillow itself would clip them at 255."""
    values = np.nan_to_num(gray.astype(np.float64))
    top = values.max(initial=0.0)
    if np.issubdtype(gray.dtype, np.floating):
        scale = 255.0 if top <= 1.0 else 1.0
    else:
        # Pillow decodes some 16-bit files to 32 bits, so values above 255 are taken for 16-bit ones.
        scale = 255.0 / 65535.0 if gray.dtype.itemsize == 2 or top > 255.0 else 1.0
    return np.rint(values * scale).clip(0, 255).astype(np.uint8)


def _describe_broken_image(path: Path, error: Exception) -> ValueError:
    if isinstance(error, MemoryError):
        return ValueError(f"{path} is too large for the free memory")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path} is a broken picture ({reason}); remove or replace it")
