"""Examples for training a noise identification: noise of every family is added to clean pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from daelab.datasets.base import Images
from daelab.denoising.noise_identification.families import make_family_mixture, measure_effects
from daelab.denoising.noise_identification.features import PATCH_SIDE, compute_features, extract_patches
from daelab.noise.random_streams import BatchStream

BATCH = 50
"""Examples that are made at a time."""
CROP = 6 * PATCH_SIDE
"""Side of the crops of a folder's pictures, in pixels; examples are of this size or smaller."""
SIZES = (1, 1, 1, 2, 2, 3, 4, 6)
"""Sides of the examples in patches; each batch draws one of them."""
GRAY = 0.15
"""Share of the batches that are gray: three equal channels with equal noise."""

ExampleProgress = Callable[[int, int], None]
"""A function that is called with (finished examples, all examples)."""


@dataclass(frozen=True)
class NoiseExamples:
    """The features of noisy pictures, and the noise that was added to them."""

    seen: Tensor
    """The features (N, COUNT)."""
    family: Tensor
    """The places (N,) of the families in FAMILIES, int64."""
    effect: Tensor
    """Level, gain and offset (N, 3)."""


class ExampleCounter:
    """A count of the examples made, which it reports.

    Args:
        total: All examples.
        progress: A function that is called with (finished examples, all examples).
    """

    def __init__(self, total: int, progress: ExampleProgress | None) -> None:
        """Begin at 0."""
        self.total, self.progress, self.done = total, progress, 0

    def add(self, count: int) -> None:
        """Count examples, and report them.

        Args:
            count: Examples made since the last call.
        """
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def make_examples(
    images: Images, count: int, seed: int, purpose: str, counter: ExampleCounter | None = None
) -> NoiseExamples:
    """Make noisy pictures, each with noise of a random family, and compute their features.

    Args:
        images: Clean pictures.
        count: The number of examples, rounded up to whole batches.
        seed: The seed.
        purpose: A text; the same seed and purpose give the same examples.
        counter: Counts the examples.
    """
    rng = np.random.default_rng([seed, *purpose.encode()])
    noise, parts = make_family_mixture(), []
    for _ in range(-(-count // BATCH)):
        clean, gray = _draw_pictures(images, rng)
        stream_seed = int(rng.integers(2**62))
        noisy = noise.apply(clean, BatchStream(len(clean), stream_seed)).clamp(0, 1).mul(255).round().div(255)
        # A second stream of the same seed repeats the choice that `apply` made.
        family = noise.component(BatchStream(len(clean), stream_seed))
        if gray:
            # The noise of one channel, so that a gray picture has as much noise as a color picture's green.
            noisy = noisy[:, 1:2].expand(-1, 3, -1, -1)
        features = compute_features(torch.stack([extract_patches(image) for image in noisy]))
        parts.append(NoiseExamples(features, family, measure_effects(clean, noisy)))
        if counter:
            counter.add(len(clean))
    return join_examples(parts)


def _draw_pictures(images: Images, rng: np.random.Generator) -> tuple[Tensor, bool]:
    """Return clean pictures (BATCH, 3, S, S), and whether they are gray."""
    batch = images.batch(rng.integers(len(images), size=BATCH), rng)
    side = PATCH_SIDE * int(rng.choice(SIZES))
    top, left = (int(rng.integers(max(1, length - side + 1))) for length in batch.shape[2:])
    clean = torch.from_numpy(batch[:, :, top : top + side, left : left + side]).float().div_(255)
    gray = rng.random() < GRAY
    return clean.mean(1, keepdim=True).expand(-1, 3, -1, -1) if gray else clean, gray


def join_examples(parts: Sequence[NoiseExamples]) -> NoiseExamples:
    """Return all examples of several parts, in their order.

    Args:
        parts: At least one part.
    """
    seen, family, effect = (torch.cat([getattr(part, key) for part in parts]) for key in ("seen", "family", "effect"))
    return NoiseExamples(seen, family, effect)
