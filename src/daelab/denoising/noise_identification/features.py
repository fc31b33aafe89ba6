"""The features of noise identification: statistics of a picture's patches, mostly of its high frequencies.

Shapes: N pictures, P patches of each, 3 channels, SIDE x SIDE pixels; values are float32 in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.denoising.tiling import reflect_indices

PATCH_SIDE = 32
"""The side of a patch in pixels; a smaller picture is extended to it by reflection."""
_MOST = 16
"""The largest number of patches along a side of a picture; a larger picture is sampled."""
LEVELS = 16
"""The number of brightness bins; the residual is measured in each of them."""
BINS = 32
"""The number of bins of the histogram of values."""
_BLOCK = 7
"""The side in pixels of the blocks whose local standard deviations are measured."""
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
_LAGS = (1, 2, 3)
"""The distances in pixels of the autocorrelations. The residual's own kernel correlates white noise up to 2."""
_GRID = 8
"""The side of JPEG's blocks; patches begin at its multiples, so that all patches have the same blocks."""
COUNT = 4 * LEVELS + BINS + 4 + 2 * len(_QUANTILES) + 3 + 2 * len(_LAGS) + 4
"""The number of features of a picture."""


def extract_patches(picture: Tensor) -> Tensor:
    """Cut a picture into patches, side by side, or evenly spaced if there would be too many.

    Args:
        picture: (3, H, W) of any size.

    Returns:
        (P, 3, SIDE, SIDE).
    """
    for axis in (1, 2):
        # A patch needs its full side, so a smaller picture is continued by reflection.
        if (length := picture.shape[axis]) < PATCH_SIDE:
            picture = picture.index_select(axis, torch.from_numpy(reflect_indices(0, PATCH_SIDE, length)))
    tops, lefts = (_starts(length) for length in picture.shape[1:])
    return torch.stack([picture[:, top : top + PATCH_SIDE, left : left + PATCH_SIDE] for top in tops for left in lefts])


def _starts(length: int) -> list[int]:
    count = min(_MOST, length // PATCH_SIDE)
    places = np.linspace(0, length - PATCH_SIDE, count) if count > 1 else [(length - PATCH_SIDE) // 2]
    # Patches begin on the grid of JPEG's blocks, or their steps would be spread over all places of it.
    return [int(at) // _GRID * _GRID for at in places]


def compute_features(x: Tensor) -> Tensor:
    """Compute the features of pictures.

    For each bin of brightness: the share of its pixels, and the size and the shape of the residual's distribution
    (noise that grows with brightness, clipping). Then the histogram of values; black and white pixels, all and isolated
    ones (salt and pepper); the quantiles of the local standard deviation (some parts have no texture), also at half the
    size, where smoothed noise remains; correlations between channels and neighboring pixels (sensor noise has none);
    and steps on a grid of 8 pixels (JPEG).

    Args:
        x: (N, P, 3, SIDE, SIDE) float32 in [0, 1], the patches of each picture.

    Returns:
        (N, COUNT).
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
            _spreads(_residual(F.avg_pool2d(flat, 2)), count),
            _correlations(residual, count),
            _steps(flat, count),
        ],
        dim=1,
    )


def _residual(x: Tensor) -> Tensor:
    """Compute second differences in both directions (Immerkaer, 1996), scaled to the variance of the noise.

    (M, 3, S, S) -> (M, 3, S - 4, S - 4).
    """
    # The sum of the squares of the kernel's values is 36, so the division by 6 keeps the variance of white noise.
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
    # A bin without pixels must not divide by zero.
    few = pixels + 1
    first, second, root = total(size) / few, total(size.square()) / few, total(size.sqrt()) / few
    heavy = second.sqrt() / (first + 1e-3)  # 1.25 for a Gaussian distribution
    light = root.square() / (first + 1e-3)
    share = pixels / pixels.sum(1, keepdim=True)
    return torch.cat([share.sqrt(), first.sqrt(), heavy, light], dim=1)


def _histogram(x: Tensor, count: int) -> Tensor:
    place = (x * BINS).long().clamp_(0, BINS - 1).reshape(count, -1) + BINS * torch.arange(count)[:, None]
    return (
        torch.bincount(place.flatten(), minlength=count * BINS).float().reshape(count, BINS) / place.shape[1]
    ).sqrt()


def _extremes(x: Tensor, mean: Tensor, count: int) -> Tensor:
    # Half a step of 8 bits, so that floats and rounded pixels count alike.
    black, white = x <= 0.5 / 255, x >= 254.5 / 255
    kinds = (black, white, black & (mean > 0.25), white & (mean < 0.75))
    return torch.stack([kind.reshape(count, -1).float().mean(1).sqrt() for kind in kinds], dim=1)


def _spreads(residual: Tensor, count: int) -> Tensor:
    # The residual has mean zero, so the mean of its squares is its variance.
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
    # The constant keeps flat pictures, which have no residual, from dividing by zero.
    whole = mean(residual.square()) + 1e-6
    down = [mean(residual[..., lag:, :] * residual[..., :-lag, :]) / whole for lag in _LAGS]
    across = [mean(residual[..., lag:] * residual[..., :-lag]) / whole for lag in _LAGS]
    return torch.stack([*pairs, *down, *across], dim=1)


def _steps(x: Tensor, count: int) -> Tensor:
    """Compare the steps between pixels at each place of a grid of 8 with the average: the largest, and the last."""
    ratios = []
    for size in (x.diff(dim=-1).abs().mean((1, 2)), x.diff(dim=-2).abs().mean((1, 3))):
        # A patch of n pixels has n - 1 steps; the missing one is NaN, which the mean leaves out.
        places = F.pad(size.reshape(count, -1, PATCH_SIDE - 1).mean(1), (0, 1), value=torch.nan).reshape(
            count, -1, _GRID
        )
        phases = places.nanmean(1)
        ratio = ((phases + _STEP) / (phases.mean(1, keepdim=True) + _STEP)).log()
        ratios += [ratio.amax(1), ratio[:, -1]]
    return torch.stack(ratios, dim=1)


_STEP = 1e-3
"""A constant added to the steps, so that flat pictures have ratios near 1."""
