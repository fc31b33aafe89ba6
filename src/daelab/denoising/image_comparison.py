"""Comparison of pictures with a noise-free one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab.evaluation.metrics import METRICS, SI_PSNR, Metric
from daelab.image_io.orientation import turn_upright
from daelab.image_io.picture import Picture

_CHANNELS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("cyan", "magenta", "yellow", "black")}
IMAGE_SCORES = {metric.name: metric for metric in (METRICS["psnr"], METRICS["ssim"], SI_PSNR)}
"""The metrics of a comparison by name."""


def compare_images(
    clean: Picture, other: Picture, clean_name: str, name: str, scores: Sequence[str] = tuple(IMAGE_SCORES)
) -> dict[str, dict[str, float | None]]:
    """Compute the PSNR, SSIM and scale-invariant PSNR of a picture over all channels and of each; alpha is left out.

    Both pictures are turned upright as their EXIF says. Values are scaled to [0, 1] by the range of the noise-free
    picture, or each by its own range if the types differ.

    Args:
        clean: The noise-free picture.
        other: The picture to compare, of the same size, channels and pages.
        clean_name: The name of the noise-free picture, for errors.
        name: The name of the other picture, for errors.
        scores: The names of the metrics.

    Returns:
        The metrics of "all" channels, if there are several, and of each; of every page, if there are several. A metric
        without a finite value is None: the PSNR of equal pictures, and the SSIM of a picture smaller than its window.

    Raises:
        ValueError: The pictures differ in size, channels or pages, or hold NaN or infinite values. The error names
            the file.
    """
    pairs = list(zip(*(_list_pages(one, own) for one, own in ((clean, clean_name), (other, name))), strict=False))
    counts = [_count_pages(one) for one in (clean, other)]
    if counts[0] != counts[1]:
        raise ValueError(f"{clean_name} and {name} cannot be compared: {counts[0]} and {counts[1]} pages")
    truth_range, image_range = clean.find_value_range(), _choose_range(other, clean)
    parts: dict[str, dict[str, float | None]] = {}
    for number, (truth, image) in enumerate(pairs, 1):
        if truth.shape != image.shape:
            shapes = f"{_format_shape(truth)} and {_format_shape(image)}"
            raise ValueError(f"{clean_name} and {name} cannot be compared: {shapes} pixels x channels")
        page = f"page {number}, " if len(pairs) > 1 else ""
        scaled = _scale(image, *image_range), _scale(truth, *truth_range)
        for channel, pair in _split_channels(*scaled).items():
            parts[f"{page}{channel}"] = {key: _compute_score(IMAGE_SCORES[key], *pair) for key in scores}
    return parts


def _count_pages(picture: Picture) -> int:
    return len(picture.pixels) if picture.pixels.ndim == 4 else len(picture.pages)


def _list_pages(picture: Picture, name: str) -> Iterator[npt.NDArray[Any]]:
    """Yield the pixels of each page, (H, W) or (H, W, C), upright and checked to be finite."""
    for page in picture.pages:
        if not np.isfinite(page.pixels).all():
            raise ValueError(f"{name} holds NaN or infinite values, so it cannot be scored")
        if page.pixels.ndim == 4:
            yield from page.pixels
        else:
            yield turn_upright(page.pixels, page.info)


def _split_channels(image: Tensor, truth: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the pairs of all channels, if there are several, and of each channel."""
    count = truth.shape[1]
    names = _CHANNELS.get(count) or tuple(f"channel {number}" for number in range(1, count + 1))
    pairs = {name: (image[:, [at]], truth[:, [at]]) for at, name in enumerate(names)}
    # A single channel needs no row for all channels, which would be the same.
    return pairs if count == 1 else {"all": (image, truth)} | pairs


def _compute_score(metric: Metric, image: Tensor, truth: Tensor) -> float | None:
    try:
        value = float(metric.function(image, truth)[0])
    except ValueError:  # the picture is smaller than the window of SSIM
        return None
    return value if math.isfinite(value) else None


def _choose_range(picture: Picture, clean: Picture) -> tuple[float, float]:
    """Return the values of a picture that stand for black and white."""
    kind, clean_kind = picture.pixels.dtype.kind, clean.pixels.dtype.kind
    if picture.pixels.dtype == clean.pixels.dtype or kind == clean_kind == "f":
        # The range of the clean picture counts for both, or a change of brightness would go unnoticed.
        return clean.find_value_range()
    # Noisy floats may leave their range, which is then not that of their values.
    return (0.0, 1.0) if kind == "f" else picture.find_value_range()


def _scale(pixels: npt.NDArray[Any], low: float, high: float) -> Tensor:
    """Convert pixels, (H, W) or (H, W, C), to (1, C, H, W) float32."""
    values = ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)
    return torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]


def _format_shape(pixels: npt.NDArray[Any]) -> str:
    return "x".join(map(str, pixels.shape))
