"""How far a picture is from a clean one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab.evaluation.metrics import psnr, si_psnr, ssim
from daelab.image_io.picture import Picture, get_value_range

_NAMES = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("cyan", "magenta", "yellow", "black")}
IMAGE_SCORES = {"psnr": psnr, "ssim": ssim, "si_psnr": si_psnr}


def compare_images(
    clean: Picture, other: Picture, clean_name: str, name: str, scores: Sequence[str] = tuple(IMAGE_SCORES)
) -> dict[str, dict[str, float | None]]:
    """PSNR, SSIM and scale-invariant PSNR, or some of `SCORES`, over all channels and of each; alpha is left out.

    Values are scaled to [0, 1] by what each picture's type can hold, floats that leave it both by the
    clean picture's range. None stands where there is no number: a PSNR where nothing differs, an
    SSIM of a picture that is smaller than its window.

    Raises:
        ValueError: the pictures differ in size or channels; names both.
    """
    if clean.pixels.shape != other.pixels.shape or clean.pixels.ndim == 4:
        shapes = f"{_shape(clean.pixels)} and {_shape(other.pixels)}"
        raise ValueError(f"{clean_name} and {name} cannot be compared: {shapes} pixels x channels")
    span = get_value_range(clean.pixels) if clean.pixels.dtype not in (np.uint8, np.uint16) else (0.0, 1.0)
    truth, found = (_unit(picture.pixels, span) for picture in (clean, other))
    names = _NAMES[truth.shape[1]]
    parts = {name: (found[:, [at]], truth[:, [at]]) for at, name in enumerate(names)}
    if len(parts) > 1:
        parts = {"all": (found, truth)} | parts
    return {part: {key: _score(IMAGE_SCORES[key], *pair) for key in scores} for part, pair in parts.items()}


def _score(score: Any, found: Tensor, truth: Tensor) -> float | None:
    try:
        value = float(score(found, truth)[0])
    except ValueError:  # smaller than SSIM's window
        return None
    return value if math.isfinite(value) else None


def _unit(pixels: npt.NDArray[Any], span: tuple[float, float]) -> Tensor:
    """(1, C, H, W) float32."""
    if pixels.dtype in (np.uint8, np.uint16):
        values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    else:
        values = ((pixels.astype(np.float64) - span[0]) / (span[1] - span[0])).astype(np.float32)
    return torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]


def _shape(pixels: npt.NDArray[Any]) -> str:
    return "x".join(map(str, pixels.shape))
