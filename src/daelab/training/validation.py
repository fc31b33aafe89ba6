"""Validation of a denoiser after an epoch: on the same noisy images every time, and with a classifier."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daelab._util.distributed import count_processes
from daelab._util.files import write_file
from daelab._util.work_sharing import select_share
from daelab.datasets.base import Images
from daelab.evaluation.classifiers.registry import load_classifier
from daelab.evaluation.evaluate import NoisyBatch, iterate_noisy_batches, score_with_classifier
from daelab.evaluation.metrics import EVALUATION_BATCH
from daelab.runs.samples import read_samples
from daelab.training.objective import make_network_input
from daelab.training.recipe import Recipe

SAMPLES = 8
"""Images in the samples of a run."""
_CACHE_BYTES = 2 << 30


class NoisyValidationSet:
    """The fixed noisy validation images of a run, cached where they fit in memory; each process has its own batches.

    Args:
        images: The validation images.
        recipe: The recipe.
        device: The device of the batches.
    """

    def __init__(self, images: Images, recipe: Recipe, device: torch.device) -> None:
        """Make the noisy images, if they fit in memory."""
        self.images, self.recipe, self.device = images, recipe, device
        height, width = images.size
        # A recipe with a buffer is for folders larger than memory, so the cache stays small.
        room = _CACHE_BYTES if recipe.data.buffer is None else _CACHE_BYTES // 16
        # Clean and noisy images have channels of 4 bytes, and each process keeps only its own share.
        fits = 2 * 4 * images.channels * height * width * len(images) <= room * count_processes()
        self.cache = list(self._make_batches()) if fits else None

    def batches(self) -> Iterator[NoisyBatch]:
        """Return this process's batches."""
        return iter(self.cache) if self.cache is not None else self._make_batches()

    def _make_batches(self) -> Iterator[NoisyBatch]:
        images, noise, seed = self.images, self.recipe.noise, self.recipe.seed
        for batch in iterate_noisy_batches(images, noise, seed, device=self.device, shared=True):
            yield replace(batch, noisy=make_network_input(self.recipe.spec, batch.clean, batch.noisy))

    def write_samples(self, path: Path, denoise: Callable[[Tensor], Tensor], epoch: int) -> None:
        """Write a few clean, noisy and denoised images for the report, as uint8 (N, 3, H, W).

        Of other than three channels, the first three are written, and of fewer the first one three times. The file
        also keeps the denoised images of about one epoch in each of 1, 2-3, 4-7, 8-15, ... as `epoch_N`, so that it
        stays small however long the training is.

        Args:
            path: The file, in NumPy's format npz.
            denoise: The denoiser.
            epoch: The epoch after which it denoises, from 1.
        """
        batch = next(self.batches())
        with torch.inference_mode():
            denoised = denoise(batch.noisy[:SAMPLES])
        pictures = {"clean": batch.clean, "noisy": batch.noisy[:, : batch.clean.shape[1]], "denoised": denoised}
        arrays: dict[str, Any] = {
            kind: _show_colors(images[:SAMPLES]).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
            for kind, images in pictures.items()
        }
        history: dict[str, Any] = {name: part for name, part in read_samples(path).items() if name.startswith("epoch_")}
        if epoch.bit_length() not in (int(name.removeprefix("epoch_")).bit_length() for name in history):
            history[f"epoch_{epoch}"] = arrays["denoised"]
        write_file(path, lambda part: np.savez(part, **arrays, **history))


def _show_colors(images: Tensor) -> Tensor:
    """Return three channels of images (N, C, H, W), to show them."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


class ClassifierValidation:
    """The classifier that a recipe names, and when it scores.

    Args:
        recipe: A recipe with a classifier.
        images: The validation images.
        device: The device of the classifier.

    Raises:
        ValueError: The classifier does not load, or does not know the classes.
        FileNotFoundError: There is no such classifier.
    """

    def __init__(self, recipe: Recipe, images: Images, device: torch.device) -> None:
        """Load the classifier."""
        assert recipe.judge is not None
        self.config, self.epochs = recipe.judge, recipe.training.epochs
        self.classifier = load_classifier(self.config.name, self.config.path, device).on(images.classes, images.name)
        batches = -(-(self.config.images or len(images)) // EVALUATION_BATCH)
        # Only whole cached batches are scored, so there may be a few images more than the recipe asks for.
        self.batches = min(batches, -(-len(images) // EVALUATION_BATCH))
        self.labels = images.labels[: self.batches * EVALUATION_BATCH]

    def due(self, epoch: int) -> bool:
        """Return whether the classifier scores an epoch.

        Args:
            epoch: The epoch, from 1.
        """
        return epoch % self.config.every == 0 or epoch == self.epochs

    def f1(self, denoise: Callable[[Tensor], Tensor], noisy: NoisyValidationSet) -> float:
        """Return the macro F1 of the classifier on denoised images.

        Args:
            denoise: The denoiser.
            noisy: The noisy validation images.
        """
        count = len(list(select_share(range(self.batches))))
        return score_with_classifier(denoise, itertools.islice(noisy.batches(), count), self.classifier, self.labels)
