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

from daelab import data as datasets
from daelab import judge as judges
from daelab import processes
from daelab.evaluation import Batch, judged_f1, noisy_batches
from daelab.files import write_with
from daelab.metrics import BATCH
from daelab.recipe import Recipe
from daelab.training.lesson import given

SAMPLES = 8
_CACHE_BYTES = 2 << 30


class NoisySet:
    """The one fixed noisy validation set of a run, kept in memory where it fits; each process has its own batches."""

    def __init__(self, images: datasets.Images, recipe: Recipe, device: torch.device) -> None:
        self.images, self.recipe, self.device = images, recipe, device
        height, width = images.size
        room = _CACHE_BYTES if recipe.data.buffer is None else _CACHE_BYTES // 16
        fits = 2 * 4 * 3 * height * width * len(images) <= room * processes.count()
        self.kept = list(self._made()) if fits else None

    def batches(self) -> Iterator[Batch]:
        return iter(self.kept) if self.kept is not None else self._made()

    def _made(self) -> Iterator[Batch]:
        images, noise, seed = self.images, self.recipe.noise, self.recipe.seed
        for batch in noisy_batches(images, noise, seed, device=self.device, shared=True):
            yield replace(batch, noisy=given(self.recipe.spec, batch.clean, batch.noisy))

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
        write_with(path, lambda part: np.savez(part, **arrays))


class Referee:
    """The judge that a recipe names, and when it looks.

    Raises:
        ValueError, FileNotFoundError: the judge does not load, or does not know the classes.
    """

    def __init__(self, recipe: Recipe, images: datasets.Images, device: torch.device) -> None:
        assert recipe.judge is not None
        self.wanted, self.epochs = recipe.judge, recipe.training.epochs
        self.judge = judges.load(self.wanted.name, self.wanted.path, device).on(images.classes, images.name)
        batches = -(-(self.wanted.images or len(images)) // BATCH)
        # whole batches, as they are kept: a few images more than asked for
        self.batches = min(batches, -(-len(images) // BATCH))
        self.labels = images.labels[: self.batches * BATCH]

    def looks(self, epoch: int) -> bool:
        """Whether it is this epoch's turn; epochs count from 1."""
        return epoch % self.wanted.every == 0 or epoch == self.epochs

    def f1(self, denoise: Callable[[Tensor], Tensor], noisy: NoisySet) -> float:
        """Macro F1 on the denoised images."""
        mine = len(list(processes.shared(range(self.batches))))
        return judged_f1(denoise, itertools.islice(noisy.batches(), mine), self.judge, self.labels)
