"""Conversion of pixels of every type to arrays that denoisers take, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab.image_io.picture import get_value_range

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PixelPlanes:
    """The pixels of a page as one or two arrays that a denoiser takes."""

    arrays: tuple[_Array, ...]
    """Each (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16 or floats in [0, 1]."""
    dtype: np.dtype[Any]
    """The type of the pixels."""
    scale: tuple[float, float] | None = None
    """The values of black and white, if the pixels were scaled to [0, 1]."""

    def join(self, arrays: Sequence[_Array]) -> _Array:
        """Convert arrays back to pixels of the page's shape and type.

        Args:
            arrays: As `PixelPlanes.arrays`, with other values.
        """
        if len(arrays) == 2:
            # Two planes are the light of CMYK, and ink is its complement.
            return ~np.dstack(list(arrays))
        if self.scale is None:
            return arrays[0]
        low, high = self.scale
        values = arrays[0].astype(np.float64) * (high - low) + low
        return (values.round() if self.dtype.kind in "ui" else values).astype(self.dtype)


def split_planes(pixels: _Array) -> PixelPlanes:
    """Convert the pixels of a page to arrays that a denoiser takes.

    CMYK becomes the light that its inks leave: cyan, magenta and yellow as color, black as grey, so that the separation
    is kept. Floats outside [0, 1] and integers of other types are scaled by their range.

    Args:
        pixels: (H, W), (H, W, 3), (H, W, 4) or (N, H, W, 3); integers or floats.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            # The complement is exact for unsigned integers, so the inks come back unchanged where nothing is denoised.
            light = ~pixels
            return PixelPlanes((light[..., :3], light[..., 3]), pixels.dtype)
        return PixelPlanes((pixels,), pixels.dtype)
    low, high = get_value_range(pixels)
    # Such floats have the range of a denoiser already, so they are not rounded by a conversion.
    if (low, high) == (0.0, 1.0) and pixels.dtype.kind == "f":
        return PixelPlanes((pixels,), pixels.dtype)
    # In float64, since the difference of large integers would lose digits in float32.
    scaled = ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)
    return PixelPlanes((scaled,), pixels.dtype, (low, high))


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
