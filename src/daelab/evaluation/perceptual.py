"""Perceptual metrics, which the package pyiqa computes.

daelab does not install pyiqa, since it is free for non-commercial use only. pyiqa downloads the weights of a metric
when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from daelab._util.text import summarize_error

PYIQA = "pyiqa"
"""The name of the package."""


class PyiqaMetric:
    """A metric of pyiqa, which is loaded when it is first called.

    Args:
        name: The name of the metric in pyiqa.
        reference: Whether it compares an image with the clean one. The others rate the image alone.
    """

    def __init__(self, name: str, *, reference: bool = True) -> None:
        """Remember the name."""
        self.name, self.reference = name, reference
        self._models: dict[torch.device, Any] = {}

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return the value of each image.

        Args:
            image: (N, 3, H, W) images. They are limited to [0, 1].
            clean: (N, 3, H, W) their clean images.

        Returns:
            (N,) float64.

        Raises:
            ValueError: pyiqa cannot load or compute the metric, such as for images that are too small.
        """
        try:
            model = self._models.get(image.device) or self._load(image.device)
            images = (image.clamp(0, 1), clean.clamp(0, 1))[: 1 + self.reference]
            # One image at a time, since some metrics return one value for a batch.
            values = [float(model(*(one[n : n + 1] for one in images))) for n in range(len(image))]
        except Exception as error:  # pyiqa and what it calls raise errors of every class
            reason = summarize_error(error)
            size = "x".join(map(str, image.shape[-2:]))
            raise ValueError(f"{self.name} of images of {size} pixels: pyiqa fails: {reason}") from None
        return torch.tensor(values, dtype=torch.float64, device=image.device)

    def _load(self, device: torch.device) -> Any:
        with torch.inference_mode(False):
            self._models[device] = importlib.import_module(PYIQA).create_metric(self.name, device=device)
        return self._models[device]
