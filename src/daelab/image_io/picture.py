"""Pictures in memory: pixels, alpha and metadata, without the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BAND = 1 << 22
"""The number of pixels that are converted at once, so that a large picture is never copied as a whole."""


@dataclass(frozen=True)
class Picture:
    """A picture in memory: its pixels, its alpha, and everything else that its file stores."""

    pixels: Array
    """(H, W) grey, (H, W, 3) color or (H, W, 4) CMYK; uint8, uint16, another integer type, or float."""
    alpha: Array | None = None
    """(H, W), of the type of the pixels. Denoising never changes it."""
    info: dict[str, Any] = field(default_factory=dict)
    """The metadata that formats share: exif, icc_profile, xmp, comment (bytes), and dpi (x, y)."""
    kind: str = ""
    """"1" for black and white, "P" for a palette, else empty: the shape of the pixels says what they are."""
    form: str = ""
    """The format of the file that it was read from, such as "PNG"."""
    native: Any = None
    """The metadata as that format stores it, byte by byte: the chunks of a PNG, the tags of a TIFF."""
    encoding: dict[str, Any] = field(default_factory=dict)
    """How that file was encoded: the tables of a JPEG, or whether it was lossless or compressed."""
    note: str = ""
    """A remark on the reading for the user, such as "the first of 12 frames"."""
    more: tuple[Picture, ...] = ()
    """The further pages of a TIFF."""

    @property
    def pages(self) -> tuple[Picture, ...]:
        """The picture itself and its further pages."""
        return (self, *self.more)

    @property
    def size(self) -> tuple[int, int]:
        """The height and the width in pixels."""
        height, width = self.pixels.shape if self.pixels.ndim == 2 else self.pixels.shape[-3:-1]
        return height, width

    @property
    def samples(self) -> int:
        """The number of values per pixel, alpha included."""
        return (1 if self.pixels.ndim == 2 else self.pixels.shape[-1]) + (self.alpha is not None)

    def with_pixels(self, pixels: Array) -> Picture:
        """Return the same picture with other pixels.

        Args:
            pixels: An array of a shape and type that `Picture.pixels` may have.
        """
        return replace(self, pixels=pixels)

    def with_page_pixels(self, pixels: Sequence[Array]) -> Picture:
        """Return the same picture with other pixels on every page.

        Args:
            pixels: One array for each page, of a shape and type that `Picture.pixels` may have.
        """
        pages = [replace(page, pixels=own, more=()) for page, own in zip(self.pages, pixels, strict=True)]
        return replace(pages[0], more=tuple(pages[1:]))

    def stripped(self) -> Picture:
        """Return the same picture without metadata."""
        return replace(self, info={}, native=None, more=tuple(page.stripped() for page in self.more))

    def colour(self) -> Picture:
        """Return the same picture as (H, W, 3) uint8.

        Grey becomes three equal channels, and CMYK becomes RGB without a color profile. Integers of more bits are
        scaled by the range of their type, floats outside [0, 1] by their own range.
        """
        pixels = _eight_bits(self.pixels)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            light = 255 - pixels.astype(np.uint32)
            pixels = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
        return self.with_pixels(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels)

    def bands(self, rows: int = 0) -> Iterator[Array]:
        """Yield (h, W, samples) from top to bottom, with alpha as the last sample.

        Args:
            rows: The height of a band; if 0, as many rows as have `BAND` pixels.
        """
        height, width = self.size
        rows = rows or max(1, BAND // width)
        for top in range(0, height, rows):
            part = self.pixels[top : top + rows]
            part = part[..., None] if part.ndim == 2 else part
            yield part if self.alpha is None else np.dstack([part, self.alpha[top : top + rows]])


def convert_resolution(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution that every format can hold, or None if no picture can have it.

    Args:
        across: Pixels per inch from left to right.
        down: Pixels per inch from top to bottom.
    """
    sides = float(across), float(down)
    return sides if all(0 < side < 2**16 for side in sides) else None


def _eight_bits(pixels: Array) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        # A step of 8 bits is 257 steps of 16 bits: 65535 / 255.
        return (pixels / np.float32(257)).round().astype(np.uint8)
    low, high = get_value_range(pixels)
    scaled = (pixels.astype(np.float64) - low) / (high - low)
    return (scaled * 255).round().clip(0, 255).astype(np.uint8)


def get_value_range(pixels: Array) -> tuple[float, float]:
    """Return the values that stand for black and white: 0 and 1 for floats in [0, 1], else the extremes.

    Args:
        pixels: Any shape; integers or floats.

    Returns:
        The value of black, and the value of white, which is larger.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it holds NaN or infinite values")
    if np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1:
        return 0.0, 1.0
    # A flat picture has no range of its own, and a range of zero would divide by zero.
    return low, high if high > low else low + 1
