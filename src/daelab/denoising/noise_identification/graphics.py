"""The recognition of graphics: screenshots, pixel art, line art and dithered pictures, which hold no noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COLOURS = 256
"""The largest number of colors of a picture with a palette, such as a GIF."""
_GRAYS = 8
"""The largest number of shades of gray that count as few; a faint gray picture with noise has more."""
_EQUAL = 0.25
"""The share of exactly equal neighbors in blocks of high contrast above which a picture is drawn.

Of 472 photographs, clean, noisy and as JPEG files of quality 30 and more, the highest share is 0.22. That of
screenshots, terminals, line art, plots and scanned text is 0.29 or more.
"""
_CONTRAST = 0.25
"""The range of values in a block, relative to white, from which its contrast is high."""
_BLOCK = 8


def is_graphic(tiles: Tensor) -> bool:
    """Return whether a picture is drawn: it has few colors, or exactly equal pixels next to its edges.

    Noise makes nearly every pixel differ from its neighbors, so a picture with noise is not recognized as drawn.

    Args:
        tiles: (T, 3, h, w), parts of the picture, with its own values.
    """
    # Floats are rounded as in files of 16 bits, since the test needs whole values.
    values = tiles.mul(65535).round() if tiles.is_floating_point() else tiles
    return bool(find_graphic(values.long(), 255 if tiles.dtype == torch.uint8 else 65535))


def find_graphic(tiles: Tensor, white: int = 255) -> Tensor:
    """Return whether a picture is drawn, by tensor operations alone, so that it can be traced.

    Args:
        tiles: (T, 3, h, w) int64, parts of the picture.
        white: The value of white.

    Returns:
        () bool.
    """
    return _has_few_colours(tiles) | _has_equal_neighbors(tiles, white)


def _has_few_colours(tiles: Tensor) -> Tensor:
    red, green, blue = tiles.unbind(1)
    is_gray = ((red == green) & (red == blue)).all()
    colours = torch.unique((red * 65536 + green) * 65536 + blue).shape[0]
    few = torch.where(is_gray, _GRAYS, _COLOURS).clamp(max=red.numel() // 8)
    has_few: Tensor = few >= colours
    return has_few


def _has_equal_neighbors(tiles: Tensor, white: int) -> Tensor:
    """Return whether many pixels are equal to their left neighbor in blocks of high contrast.

    In blocks of low contrast they are, too, in photographs that are out of focus or compressed.
    """
    equal = (tiles[..., 1:] == tiles[..., :-1]).all(1, keepdim=True).float()
    side = min(_BLOCK, *equal.shape[2:])
    values = tiles[..., 1:].amax(1, keepdim=True).float()
    contrast = F.max_pool2d(values, side) + F.max_pool2d(-values, side)
    busy = (contrast >= _CONTRAST * white).float()
    return (F.avg_pool2d(equal, side) * busy).sum() > _EQUAL * busy.sum()
