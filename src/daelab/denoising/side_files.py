"""The pictures that are written beside a denoised one: a comparison with the source, and an uncertainty map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daelab.image_io.picture import Picture
from daelab.image_io.write import convert_picture

_Floats = npt.NDArray[np.float32]

COMPARISON, UNCERTAINTY = "_compare", "_uncertainty"
"""The suffixes of their names."""
_GAP = 4
"""The number of white columns between a picture and its denoised form."""


def join_side_by_side(picture: Picture, denoised: Picture) -> Picture:
    """Join the first pages of two pictures to one picture in color, with a white gap between them.

    Args:
        picture: The left one.
        denoised: The right one, of the same height.
    """
    left, right = (_take_first(convert_picture(page, "PNG")).colour().pixels for page in (picture, denoised))
    gap = np.full((left.shape[0], _GAP, 3), 255, np.uint8)
    return Picture(np.hstack([left, gap, right]))


def _take_first(picture: Picture) -> Picture:
    return picture.with_pixels(picture.pixels[0]) if picture.pixels.ndim == 4 else picture


def make_uncertainty_picture(spread: _Floats) -> Picture:
    """Show an uncertainty map as a grey picture of 16 bits, in which white stands for the largest value.

    Args:
        spread: (H, W) or (N, H, W), standard deviations as parts of the full range.

    Returns:
        The picture, with the largest value in its comment. The maps of a stack are below each other.
    """
    spread = spread.reshape(-1, spread.shape[-1])
    largest = float(spread.max())
    # A map without any spread stays black; to scale it would divide by zero.
    grey = (spread * (65535 / largest) if largest else spread).round().astype(np.uint16)
    comment = f"white: a standard deviation of {largest:.6f} of the full range"
    return Picture(grey, info={"comment": comment.encode()})
