"""What the inspector sees of a picture: statistics of its patches, above all of what no smooth surface has.

Shapes: N pictures, P patches of each, 3 channels, SIDE x SIDE pixels; values are float32 in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.tiles import reflected

SIDE = 32
"""Side of a patch, in pixels; a smaller picture is mirrored up to it."""
MOST = 16
"""Patches along a side of a picture, at most: a larger picture is sampled."""
LEVELS = 16
"""Bins of brightness, in each of which the residual is measured."""
BINS = 32
"""Bins of the histogram of values."""
_BLOCK = 7
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
_LAG = 3
COUNT = 4 * LEVELS + BINS + 4 + len(_QUANTILES) + 3 + 2
"""Features of a picture."""


def patches(picture: Tensor) -> Tensor:
    """(3, H, W) of any size -> (P, 3, SIDE, SIDE): side by side, or spread evenly where there are too many."""
    for axis in (1, 2):
        if (length := picture.shape[axis]) < SIDE:
            picture = picture.index_select(axis, torch.from_numpy(reflected(0, SIDE, length)))
    tops, lefts = (_starts(length) for length in picture.shape[1:])
    return torch.stack([picture[:, top : top + SIDE, left : left + SIDE] for top in tops for left in lefts])


def _starts(length: int) -> list[int]:
    count = min(MOST, length // SIDE)
    return [int(at) for at in np.linspace(0, length - SIDE, count)] if count > 1 else [(length - SIDE) // 2]


def features(x: Tensor) -> Tensor:
    """(N, P, 3, SIDE, SIDE) -> (N, COUNT).

    By brightness: how much of the picture has it, how large the residual is there, and how its
    distribution is shaped (noise that grows with brightness, clipping); the histogram of values; what is
    black or white, alone or in company (salt and pepper); the smallest local spreads (texture is not
    everywhere); correlations between channels and neighbours (noise has none).
    """
    count = len(x)
    flat = x.flatten(0, 1)
    residual, mean = _residual(flat), F.avg_pool2d(flat, 5, stride=1)
    inner = flat[..., 2:-2, 2:-2]
    return torch.cat(
        [
            _by_brightness(residual.abs(), mean, count),
            _histogram(flat, count),
            _extremes(inner, mean, count),
            _spreads(residual, count),
            _correlations(residual, count),
        ],
        dim=1,
    )


def _residual(x: Tensor) -> Tensor:
    """(M, 3, 32, 32) -> (M, 3, 28, 28): second differences both ways (Immerkaer, 1996), of noise's own variance."""
    line = torch.tensor([1.0, -2.0, 1.0])
    kernel = (line[:, None] * line / 6).expand(3, 1, 3, 3)
    return F.conv2d(x, kernel, groups=3)[..., 1:-1, 1:-1]


def _by_brightness(size: Tensor, mean: Tensor, count: int) -> Tensor:
    level = (mean * LEVELS).long().clamp_(0, LEVELS - 1).reshape(count, -1)
    place = level + LEVELS * torch.arange(count)[:, None]
    size = size.reshape(count, -1)

    def total(values: Tensor) -> Tensor:
        return torch.bincount(place.flatten(), values.flatten(), count * LEVELS).float().reshape(count, LEVELS)

    pixels = total(torch.ones_like(size))
    few = pixels + 1
    first, second, root = total(size) / few, total(size.square()) / few, total(size.sqrt()) / few
    heavy = second.sqrt() / (first + 1e-3)  # 1.25 where it is Gaussian
    light = root.square() / (first + 1e-3)
    share = pixels / pixels.sum(1, keepdim=True)
    return torch.cat([share.sqrt(), first.sqrt(), heavy, light], dim=1)


def _histogram(x: Tensor, count: int) -> Tensor:
    place = (x * BINS).long().clamp_(0, BINS - 1).reshape(count, -1) + BINS * torch.arange(count)[:, None]
    return (
        torch.bincount(place.flatten(), minlength=count * BINS).float().reshape(count, BINS) / place.shape[1]
    ).sqrt()


def _extremes(x: Tensor, mean: Tensor, count: int) -> Tensor:
    black, white = x <= 0.5 / 255, x >= 254.5 / 255
    found = (black, white, black & (mean > 0.25), white & (mean < 0.75))
    return torch.stack([kind.reshape(count, -1).float().mean(1).sqrt() for kind in found], dim=1)


def _spreads(residual: Tensor, count: int) -> Tensor:
    blocks = F.avg_pool2d(residual.square(), _BLOCK).sqrt().reshape(count, -1)
    return torch.quantile(blocks, torch.tensor(_QUANTILES), dim=1).T.sqrt()


def _correlations(residual: Tensor, count: int) -> Tensor:
    def mean(product: Tensor) -> Tensor:
        return product.reshape(count, -1).mean(1)

    power = [mean(residual[:, c].square()) for c in range(3)]
    pairs = [
        mean(residual[:, a] * residual[:, b]) / (power[a] * power[b]).sqrt().add(1e-6)
        for a, b in ((0, 1), (1, 2), (0, 2))
    ]
    whole = mean(residual.square()) + 1e-6
    lags = [
        mean(residual[..., _LAG:, :] * residual[..., :-_LAG, :]) / whole,
        mean(residual[..., _LAG:] * residual[..., :-_LAG]) / whole,
    ]
    return torch.stack([*pairs, *lags], dim=1)
