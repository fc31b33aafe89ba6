"""Conversion of pixels of every type to arrays that denoisers take, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab.image_io.fill import fill_pixels
from daelab.image_io.picture import Picture

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]

_BLOCK = 32
"""The side in pixels of the blocks of which the visible part of a picture is made: that of a patch that noise
identification looks at."""
_MOST_BLOCKS = 16
"""The largest number of blocks along a side of that part."""
_VISIBLE = 0.75
"""The part of a block that must be visible."""


@dataclass(frozen=True)
class PixelPlanes:
    """The pixels of a page as one or two arrays that a denoiser takes."""

    arrays: tuple[_Array, ...]
    """Each (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16 or floats in [0, 1]."""
    samples: tuple[_Array, ...]
    """The visible part of each array, for noise identification."""
    pixels: _Array
    """The pixels of the page."""
    scale: tuple[float, float] | None = None
    """The values of black and white, if the pixels were scaled to [0, 1]."""
    unchanged: _Mask | None = None
    """Where the values of the page stay as they are: outliers, and what alpha hides. Its last axis may be 1."""
    note: str = ""
    """A remark for the user if values were scaled or left unchanged."""

    def join(self, arrays: Sequence[_Array]) -> _Array:
        """Convert arrays back to pixels of the page's shape and type.

        Args:
            arrays: As `PixelPlanes.arrays`, with other values.
        """
        # Two planes are the light of CMYK, and ink is its complement.
        values = _complement(np.dstack(list(arrays))) if len(arrays) == 2 else arrays[0]
        if self.scale is not None:
            values = _scale_back(values, *self.scale, self.pixels.dtype)
        return values if self.unchanged is None else np.where(self.unchanged, self.pixels, values)


def split_planes(page: Picture) -> PixelPlanes:
    """Convert the pixels of a page to arrays that a denoiser takes.

    CMYK becomes the light that its inks leave: cyan, magenta and yellow as color, black as grey, so that the separation
    is kept. Values are scaled by `find_value_range`, unless they have the full range of their type. Pixels that alpha
    hides and pixels with outliers are filled from those beside them.

    Args:
        page: The page, whose pixels are (H, W), (H, W, 3), (H, W, 4) or (N, H, W, 3).

    Raises:
        ValueError: A visible value is NaN or infinite.
    """
    pixels, (low, high) = page.pixels, page.find_value_range()
    whites = {"uint8": 255, "uint16": 65535}
    scale = None if (low, high) == (0, whites.get(pixels.dtype.name, 1)) else (low, high)
    notes = [f"the values {low:g} to {high:g} were taken for black to white"] if scale else []
    hidden = page.hidden
    unchanged = hidden[..., None] if hidden is not None and pixels.ndim == 3 else hidden
    # NaN, which hidden pixels may hold, is not within the range either.
    if pixels.size and not (pixels.min() >= low and pixels.max() <= high):
        outliers: _Mask = np.logical_not((pixels >= low) & (pixels <= high))
        outliers = outliers if unchanged is None else outliers & ~unchanged
        if count := int(np.count_nonzero(outliers)):
            notes.append(f"outliers were left unchanged: {count:,} values")
            unchanged = outliers if unchanged is None else outliers | unchanged
    filled = pixels if unchanged is None else _fill(pixels, unchanged)
    if scale:
        filled = _scale_to_floats(filled, low, high)
    arrays: tuple[_Array, ...] = (filled,)
    if filled.ndim == 3 and filled.shape[2] == 4:
        light = _complement(filled)
        arrays = (light[..., :3], light[..., 3])
    samples = arrays if hidden is None else tuple(_take_visible(array, ~hidden) for array in arrays)
    return PixelPlanes(arrays, samples, pixels, scale, unchanged, "; ".join(notes))


def _scale_to_floats(pixels: _Array, low: float, high: float) -> _Floats:
    scaled = np.empty(pixels.shape, np.float32)
    # Row by row and in float64, since the difference of large integers would lose digits in float32.
    for row, values in zip(scaled, pixels, strict=True):
        row[...] = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return scaled


def _scale_back(scaled: _Array, low: float, high: float, dtype: np.dtype[Any]) -> _Array:
    pixels = np.empty(scaled.shape, dtype)
    for row, values in zip(pixels, scaled, strict=True):
        wide = values.astype(np.float64) * (high - low) + low
        # The limit of 64 bits is no float, and the next float above it would wrap around.
        row[...] = wide.round().clip(low, np.nextafter(high + 0.5, low)) if dtype.kind in "ui" else wide
    return pixels


def _complement(values: _Array) -> _Array:
    # The complement is exact for unsigned integers, so the inks come back unchanged where nothing is denoised.
    return ~values if values.dtype.kind == "u" else 1 - values


def _fill(pixels: _Array, missing: _Mask) -> _Array:
    missing = np.asarray(missing if pixels.ndim == 2 else missing.any(-1))
    if missing.ndim == 2:
        return fill_pixels(pixels, missing)
    return np.stack([fill_pixels(*pair) for pair in zip(pixels, missing, strict=True)])


def _take_visible(array: _Array, visible: _Mask) -> _Array:
    """Return the blocks of a picture that are mostly visible, as one picture; the whole if there is none."""
    rows, columns = (side // _BLOCK for side in visible.shape)
    parts = visible[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).mean((1, 3))
    places = np.argwhere(parts >= _VISIBLE)
    if not len(places):
        return array
    # As many as fill a square, evenly chosen.
    side = min(_MOST_BLOCKS, math.isqrt(len(places)))
    chosen = places[np.linspace(0, len(places) - 1, side * side).astype(int)] * _BLOCK
    blocks = [array[top : top + _BLOCK, left : left + _BLOCK] for top, left in chosen]
    return np.concatenate([np.concatenate(blocks[at : at + side], 1) for at in range(0, len(blocks), side)])


def join_spreads(spreads: Sequence[_Floats | None]) -> _Floats | None:
    """Combine the uncertainty maps of the planes of a page.

    Args:
        spreads: One for each plane; the first of two is that of three channels.

    Returns:
        The root mean square over the channels, or None if the first map or the second is None.
    """
    if len(spreads) == 1 or spreads[0] is None or spreads[1] is None:
        return spreads[0]
    # The first map is the root mean square of three channels, so it counts three times.
    combined: _Floats = np.sqrt((3 * spreads[0] ** 2 + spreads[1] ** 2) / 4)
    return combined
