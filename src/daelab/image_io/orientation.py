"""The orientation in EXIF, and pictures turned upright by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from daelab.image_io.picture import Array

EXIF_ORIENTATION = 274
"""The EXIF tag of the orientation, from 1 to 8. Values above 4 exchange height and width."""
_TURNS: dict[int, Callable[[Array], Array]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""The function that turns pixels (H, W) or (H, W, C) upright, by the orientation."""


def read_orientation(info: Mapping[str, Any]) -> int:
    """Return the orientation of a picture, or 1, for upright, if there is none.

    Args:
        info: The metadata of the picture; see `Picture.info`.
    """
    exif = Image.Exif()
    try:
        exif.load(info.get("exif", b""))
        orientation = exif.get(EXIF_ORIENTATION)
    except Exception:  # Pillow raises errors of nearly every class for damaged EXIF, which says nothing of the pixels
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def turn_upright(pixels: Array, info: Mapping[str, Any]) -> Array:
    """Turn an array of a page upright as its EXIF says.

    Args:
        pixels: (H, W) or (H, W, C).
        info: The metadata of the page; see `Picture.info`.
    """
    turn = _TURNS.get(read_orientation(info))
    return pixels if turn is None else turn(pixels)
