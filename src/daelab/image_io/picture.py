"""A picture apart from its file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".npy": "NPY",
}
"""File name suffix -> format."""
BAND = 1 << 22
"""Pixels that are converted at once, so that no second copy of a large picture is made."""


@dataclass(frozen=True)
class Picture:
    """A picture apart from its file: what is seen, and all that its file says beside."""

    pixels: Array
    """(H, W) grey, (H, W, 3) colour or (H, W, 4) CMYK; uint8, uint16, another integer, or float."""
    alpha: Array | None = None
    """(H, W), of the pixels' type; never touched."""
    info: dict[str, Any] = field(default_factory=dict)
    """What every format has a place for, if it has one: exif, icc_profile, xmp, comment (bytes), dpi (x, y)."""
    kind: str = ""
    """"1" for black and white, "P" for a palette, else what the pixels say."""
    form: str = ""
    """The format that it was read from."""
    native: Any = None
    """What only that format has a place for, byte by byte: a PNG's chunks, a TIFF's tags."""
    encoding: dict[str, Any] = field(default_factory=dict)
    """How that format stored it: a JPEG's tables, whether it was lossless or compressed."""
    note: str = ""
    """What a user should know of the reading: "the first of 12 frames"."""
    more: tuple[Picture, ...] = ()
    """A TIFF's further pages."""

    @property
    def pages(self) -> tuple[Picture, ...]:
        """This one and those that follow."""
        return (self, *self.more)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape if self.pixels.ndim == 2 else self.pixels.shape[-3:-1]
        return height, width

    @property
    def samples(self) -> int:
        """Values per pixel, alpha included."""
        return (1 if self.pixels.ndim == 2 else self.pixels.shape[-1]) + (self.alpha is not None)

    def with_pixels(self, pixels: Array) -> Picture:
        """The same picture with other pixels."""
        return replace(self, pixels=pixels)

    def stripped(self) -> Picture:
        """The same picture without anything that is not seen."""
        return replace(self, info={}, native=None, more=tuple(page.stripped() for page in self.more))

    def colour(self) -> Picture:
        """The same picture as (H, W, 3) uint8: grey becomes three equal channels, CMYK the plain RGB of its inks.

        Integers of more bits are scaled by what they can hold; floats outside [0, 1] by their range.
        """
        pixels = _eight_bits(self.pixels)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            light = 255 - pixels.astype(np.uint32)
            pixels = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
        return self.with_pixels(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels)

    def bands(self, rows: int = 0) -> Iterator[Array]:
        """(h, W, samples) from top to bottom, pixels and alpha together, `rows` at a time."""
        height, width = self.size
        rows = rows or max(1, BAND // width)
        for top in range(0, height, rows):
            part = self.pixels[top : top + rows]
            part = part[..., None] if part.ndim == 2 else part
            yield part if self.alpha is None else np.dstack([part, self.alpha[top : top + rows]])


def convert_resolution(across: float, down: float) -> tuple[float, float] | None:
    """Pixels per inch as every format can hold them; None for a resolution that no picture has."""
    sides = float(across), float(down)
    return sides if all(0 < side < 2**16 for side in sides) else None


def _eight_bits(pixels: Array) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return (pixels / np.float32(257)).round().astype(np.uint8)
    low, high = get_value_range(pixels)
    scaled = (pixels.astype(np.float64) - low) / (high - low)
    return (scaled * 255).round().clip(0, 255).astype(np.uint8)


def get_value_range(pixels: Array) -> tuple[float, float]:
    """What stands for black and for white: 0 and 1 for floats that lie between them, else the smallest and the largest.

    Raises:
        ValueError: a value is no number, or infinite.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it holds values that are no numbers, or infinite")
    if np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1
