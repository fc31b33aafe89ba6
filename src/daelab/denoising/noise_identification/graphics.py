"""The recognition of graphics: screenshots, pixel art, line art and dithered pictures, which hold no noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COLOURS = 256
"""The largest number of colors of a picture with a palette, such as a GIF."""
_GRAYS = 8
"""The largest number of shades of gray that count as few; a faint gray picture with noise has more."""
_EQUAL = 0.35
"""The share of exactly equal neighbors, where a picture is not flat, above which it is drawn."""
_BLOCK = 8


def is_graphic(tiles: Tensor) -> bool:
    """Return whether a picture is drawn: it has few colors, or exactly equal pixels next to its edges.

    Noise makes nearly every pixel differ from its neighbors, so a picture with noise is not recognized as drawn.

    Args:
        tiles: (T, 3, h, w), parts of the picture, with its own values.
    """
    # Floats are rounded as in files of 16 bits, since the test needs whole values.
    return bool(find_graphic((tiles if not tiles.is_floating_point() else tiles.mul(65535).round()).long()))


def find_graphic(tiles: Tensor) -> Tensor:
    """Return whether a picture is drawn, by tensor operations alone, so that it can be traced.

    Args:
        tiles: (T, 3, h, w) int64, parts of the picture.

    Returns:
        () bool.
    """
    return _has_few_colours(tiles) | _has_flat_runs(tiles)


def _has_few_colours(tiles: Tensor) -> Tensor:
    red, green, blue = tiles.unbind(1)
    is_gray = ((red == green) & (red == blue)).all()
    colours = torch.unique((red * 65536 + green) * 65536 + blue).shape[0]
    few = torch.where(is_gray, _GRAYS, _COLOURS).clamp(max=red.numel() // 8)
    has_few: Tensor = few >= colours
    return has_few


def _has_flat_runs(tiles: Tensor) -> Tensor:
    """Return whether many pixels are equal to their left neighbor in blocks that are not flat."""
    equal = (tiles[..., 1:] == tiles[..., :-1]).all(1, keepdim=True).float()
    blocks = F.avg_pool2d(equal, min(_BLOCK, *equal.shape[2:]))
    busy = (blocks < 1).float()
    return (blocks * busy).sum() > _EQUAL * busy.sum()
