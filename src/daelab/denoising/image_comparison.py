"""Comparison of pictures with a noise-free one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab.evaluation.metrics import METRICS, SI_PSNR, Metric
from daelab.image_io.picture import Picture, get_value_range

_CHANNELS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("cyan", "magenta", "yellow", "black")}
IMAGE_SCORES = {metric.name: metric for metric in (METRICS["psnr"], METRICS["ssim"], SI_PSNR)}
"""The metrics of a comparison by name."""


def compare_images(
    clean: Picture, other: Picture, clean_name: str, name: str, scores: Sequence[str] = tuple(IMAGE_SCORES)
) -> dict[str, dict[str, float | None]]:
    """Compute the PSNR, SSIM and scale-invariant PSNR of a picture over all channels and of each; alpha is left out.

    Values are scaled to [0, 1] by the range of their type. If the values of the noise-free picture are floats outside
    [0, 1] or integers of other types, both pictures are scaled by its range.

    Args:
        clean: The noise-free picture.
        other: The picture to compare, of the same size and channels.
        clean_name: The name of the noise-free picture, for errors.
        name: The name of the other picture, for errors.
        scores: The names of the metrics.

    Returns:
        The metrics of "all" channels, if there are several, and of each. A metric without a finite value is None: the
        PSNR of equal pictures, and the SSIM of a picture smaller than its window.

    Raises:
        ValueError: The pictures differ in size or channels. The error names both.
    """
    if clean.pixels.shape != other.pixels.shape or clean.pixels.ndim == 4:
        shapes = f"{_format_shape(clean.pixels)} and {_format_shape(other.pixels)}"
        raise ValueError(f"{clean_name} and {name} cannot be compared: {shapes} pixels x channels")
    # The range of the clean picture counts for both, or a change of brightness would go unnoticed.
    value_range = get_value_range(clean.pixels) if clean.pixels.dtype not in (np.uint8, np.uint16) else (0.0, 1.0)
    truth, image = (_scale(picture.pixels, value_range) for picture in (clean, other))
    channels = _CHANNELS[truth.shape[1]]
    pairs = {channel: (image[:, [at]], truth[:, [at]]) for at, channel in enumerate(channels)}
    if len(pairs) > 1:
        # A single channel needs no row for all channels, which would be the same.
        pairs = {"all": (image, truth)} | pairs
    return {part: {key: _compute_score(IMAGE_SCORES[key], *pair) for key in scores} for part, pair in pairs.items()}


def _compute_score(metric: Metric, image: Tensor, truth: Tensor) -> float | None:
    try:
        value = float(metric.function(image, truth)[0])
    except ValueError:  # the picture is smaller than the window of SSIM
        return None
    return value if math.isfinite(value) else None


def _scale(pixels: npt.NDArray[Any], value_range: tuple[float, float]) -> Tensor:
    """Convert pixels to (1, C, H, W) float32."""
    if pixels.dtype in (np.uint8, np.uint16):
        values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    else:
        low, high = value_range
        values = ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)
    return torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]


def _format_shape(pixels: npt.NDArray[Any]) -> str:
    return "x".join(map(str, pixels.shape))
