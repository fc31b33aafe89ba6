"""What a training looks at after an epoch: the same noisy validation images every time, and a judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daelab._util.distributed import count_processes, select_share
from daelab._util.files import write_file
from daelab.datasets.base import Images
from daelab.evaluation.classifiers.registry import load_classifier
from daelab.evaluation.evaluate import NoisyBatch, iterate_noisy_batches, score_with_classifier
from daelab.evaluation.metrics import EVALUATION_BATCH
from daelab.training.objective import make_network_input
from daelab.training.recipe import Recipe

SAMPLES = 8
_CACHE_BYTES = 2 << 30


class NoisyValidationSet:
    """The one fixed noisy validation set of a run, kept in memory where it fits; each process has its own batches."""

    def __init__(self, images: Images, recipe: Recipe, device: torch.device) -> None:
        self.images, self.recipe, self.device = images, recipe, device
        height, width = images.size
        room = _CACHE_BYTES if recipe.data.buffer is None else _CACHE_BYTES // 16
        fits = 2 * 4 * 3 * height * width * len(images) <= room * count_processes()
        self.kept = list(self._made()) if fits else None

    def batches(self) -> Iterator[NoisyBatch]:
        return iter(self.kept) if self.kept is not None else self._made()

    def _made(self) -> Iterator[NoisyBatch]:
        images, noise, seed = self.images, self.recipe.noise, self.recipe.seed
        for batch in iterate_noisy_batches(images, noise, seed, device=self.device, shared=True):
            yield replace(batch, noisy=make_network_input(self.recipe.spec, batch.clean, batch.noisy))

    def write_samples(self, path: Path, denoise: Callable[[Tensor], Tensor]) -> None:
        """A few clean, noisy and denoised images, uint8 (N, C, H, W), for the report."""
        batch = next(self.batches())
        with torch.inference_mode():
            denoised = denoise(batch.noisy[:SAMPLES])
        pictures = {"clean": batch.clean, "noisy": batch.noisy[:, : batch.clean.shape[1]], "denoised": denoised}
        arrays: dict[str, Any] = {
            kind: images[:SAMPLES].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
            for kind, images in pictures.items()
        }
        write_file(path, lambda part: np.savez(part, **arrays))


class ClassifierValidation:
    """The judge that a recipe names, and when it looks.

    Raises:
        ValueError, FileNotFoundError: the judge does not load, or does not know the classes.
    """

    def __init__(self, recipe: Recipe, images: Images, device: torch.device) -> None:
        assert recipe.judge is not None
        self.wanted, self.epochs = recipe.judge, recipe.training.epochs
        self.judge = load_classifier(self.wanted.name, self.wanted.path, device).on(images.classes, images.name)
        batches = -(-(self.wanted.images or len(images)) // EVALUATION_BATCH)
        # whole batches, as they are kept: a few images more than asked for
        self.batches = min(batches, -(-len(images) // EVALUATION_BATCH))
        self.labels = images.labels[: self.batches * EVALUATION_BATCH]

    def looks(self, epoch: int) -> bool:
        """Whether it is this epoch's turn; epochs count from 1."""
        return epoch % self.wanted.every == 0 or epoch == self.epochs

    def f1(self, denoise: Callable[[Tensor], Tensor], noisy: NoisyValidationSet) -> float:
        """Macro F1 on the denoised images."""
        mine = len(list(select_share(range(self.batches))))
        return score_with_classifier(denoise, itertools.islice(noisy.batches(), mine), self.judge, self.labels)
