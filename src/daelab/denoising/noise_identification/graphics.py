"""The recognition of graphics: screenshots, pixel art, line art and dithered pictures, which hold no noise."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

_COLOURS = 256
"""The largest number of colours of a picture with a palette, such as a GIF."""
_GRAYS = 8
"""The largest number of shades of gray that count as few; a faint gray picture with noise has more."""
_EQUAL = 0.35
"""The share of exactly equal neighbors, where a picture is not flat, above which it is drawn."""
_BLOCK = 8
_SAMPLE = 4096
"""The number of pixels whose colours are counted first."""


def is_graphic(tiles: Tensor) -> bool:
    """Return whether a picture is drawn: it has few colours, or exactly equal pixels next to its edges.

    Noise makes nearly every pixel differ from its neighbors, so a picture with noise is not recognised as drawn.

    Args:
        tiles: (T, 3, h, w), parts of the picture, with its own values.
    """
    return _has_few_colours(tiles) or _has_flat_runs(tiles)


def _has_few_colours(tiles: Tensor) -> bool:
    # Floats are told apart as files of 16 bits tell them.
    values = (tiles if not tiles.is_floating_point() else tiles.mul(65535).round()).long()
    red, green, blue = (channel.flatten().numpy() for channel in values.unbind(1))
    few = min(_COLOURS, len(red) // 8)
    if (red == green).all() and (red == blue).all():
        return len(np.unique(red)) <= min(few, _GRAYS)
    return len(np.unique((red << 32) | (green << 16) | blue)) <= few


def _has_flat_runs(tiles: Tensor) -> bool:
    """Return whether many pixels are equal to their left neighbor in blocks that are not flat."""
    equal = (tiles[..., 1:] == tiles[..., :-1]).all(1, keepdim=True).float()
    blocks = F.avg_pool2d(equal, min(_BLOCK, *equal.shape[2:]))
    busy = blocks[blocks < 1]
    return bool(len(busy) and busy.mean() > _EQUAL)
