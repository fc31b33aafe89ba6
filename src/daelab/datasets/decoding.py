"""Image files as RGB pixels, and a cache that may keep them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from daelab.datasets.base import Pixels
from daelab.errors import describe_error
from daelab.image_io.fill import fill_pixels
from daelab.image_io.orientation import turn_upright
from daelab.image_io.read import read_picture, read_picture_size


class ImageCache:
    """A reader of images that decodes each image once if it keeps them."""

    channels = 3
    """The number of channels of an image."""

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
            picture = pad_by_reflection(self.decode(path), self.crop)
            if self.keeps:
                self._images[path] = picture
        return picture

    def decode(self, path: Path) -> Pixels:
        """Decode an image without storing it; see `decode_rgb`."""
        return decode_rgb(path)


def read_image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image, upright as its EXIF says, from its header.

    Args:
        path: The image file.

    Returns:
        (H, W) in pixels.

    Raises:
        ValueError: The file is not an image. The message names it.
    """
    with _explain_failure():
        return read_picture_size(path)


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
    height, width = read_image_size(path)
    return max(height, crop) * max(width, crop)


def decode_rgb(path: Path) -> Pixels:
    """Decode an image of any mode as RGB, turned upright as its EXIF says.

    It is read as `daelab denoise` reads it, so that a model sees the same values in training and in use. Pixels that
    alpha hides are filled from those beside them.

    Args:
        path: The image file.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: The file is not an image, or is damaged. The message names it.
    """
    with _explain_failure():
        picture = read_picture(path, training=True)
        try:
            pixels = picture.colour().pixels
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    hidden = picture.hidden
    pixels = pixels if hidden is None else fill_pixels(pixels, hidden)
    return np.ascontiguousarray(turn_upright(pixels, picture.info))


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
def _explain_failure() -> Iterator[None]:
    """Turn an error of reading into a ValueError that says what to do."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{describe_error(error)}; remove or replace it") from None
