"""Trains the inspector on clean pictures: noise of every family is put on them, which gives the labels for free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab._util.hardware import collect_versions
from daelab.datasets.base import Images
from daelab.datasets.registry import load_dataset
from daelab.denoising.noise_identification.families import FAMILIES, make_family_mixture, measure_effects
from daelab.denoising.noise_identification.features import SIDE, compute_features, extract_patches
from daelab.denoising.noise_identification.network import (
    SURE,
    TARGETS,
    NoiseEstimator,
    NoiseIdentifier,
    decode_effects,
    encode_effects,
)
from daelab.evaluation.f1 import confusion_matrix
from daelab.noise.random_streams import BatchStream

EXAMPLES = 60_000
TEST = 2_000
"""Examples of each data set's test part that the finished inspector is scored on."""
BATCH = 50
CROP = 6 * SIDE
"""Of a folder's pictures; examples are of this size, and smaller ones."""
SIZES = (1, 1, 1, 2, 2, 3, 4, 6)
"""Sides of the examples, in patches; which is drawn for each batch."""
GREY = 0.15
"""Share of the batches that are grey: three equal channels, noise and all."""
EPOCHS = 60
_WEIGHTS = (0.5, 2.0, 4.0)
"""Of the errors in the level's logarithm, the gain and the offset, beside the family's cross entropy."""

ExampleProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class NoiseExamples:
    """Features of noisy pictures, and what was done to them."""

    seen: Tensor
    """(N, COUNT)."""
    family: Tensor
    """(N,) int64, places in FAMILIES."""
    effect: Tensor
    """(N, 3): level, gain, offset."""


def train_noise_identifier(
    names: Sequence[str],
    data_root: str | Path | None = None,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    progress: ExampleProgress | None = None,
) -> NoiseIdentifier:
    """Train an inspector, and score it on the sets' test parts.

    Args:
        names: data sets, as `data.load` takes them.
        examples: noisy pictures to learn from, shared out evenly between the sets.
        progress: called with (examples made, examples in all).

    Raises:
        ValueError: an unknown or a missing data set, or too few examples.
    """
    if examples < BATCH or not names:
        raise ValueError(f"an inspector learns from a data set and at least {BATCH} examples, not {examples}")
    sets = {name: load_dataset(name, data_root, crop=CROP) for name in names}
    each = -(-examples // (BATCH * len(sets))) * BATCH
    count = ExampleCounter((each + min(TEST, each)) * len(sets), progress)
    learned = [
        make_examples(found.train, each, seed, f"train {place}", count) for place, found in enumerate(sets.values())
    ]
    estimator = fit_estimator(join_examples(learned), seed)
    tests = {}
    for place, (name, found) in enumerate(sets.items()):
        seen = make_examples(found.test, min(TEST, each), seed, f"test {place}", count)
        # of a folder, not where it was
        label = f"folder of {len(found.train) + len(found.test):,}" if ":" in name else name
        tests[label] = score_estimator(estimator, seen)
    card = {"examples": each * len(sets), "seed": seed, "test": tests, "versions": collect_versions()}
    return NoiseIdentifier(estimator, card)


class ExampleCounter:
    """Adds up what is done, and says so."""

    def __init__(self, total: int, progress: ExampleProgress | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def add(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def make_examples(
    images: Images, count: int, seed: int, purpose: str, counter: ExampleCounter | None = None
) -> NoiseExamples:
    """So many noisy pictures, each of a random family, as their features; the same for the same seed and purpose."""
    rng = np.random.default_rng([seed, *purpose.encode()])
    noise, parts = make_family_mixture(), []
    for _ in range(-(-count // BATCH)):
        clean, grey = _clean(images, rng)
        draws = int(rng.integers(2**62))
        noisy = noise.apply(clean, BatchStream(len(clean), draws)).clamp(0, 1).mul(255).round().div(255)
        family = noise.component(BatchStream(len(clean), draws))
        if grey:  # what a colour picture's green has, in all three
            noisy = noisy[:, 1:2].expand(-1, 3, -1, -1)
        seen = compute_features(torch.stack([extract_patches(image) for image in noisy]))
        parts.append(NoiseExamples(seen, family, measure_effects(clean, noisy)))
        if counter:
            counter.add(len(clean))
    return join_examples(parts)


def _clean(images: Images, rng: np.random.Generator) -> tuple[Tensor, bool]:
    """(BATCH, 3, S, S), and whether they are grey."""
    batch = images.batch(rng.integers(len(images), size=BATCH), rng)
    side = SIDE * int(rng.choice(SIZES))
    top, left = (int(rng.integers(max(1, length - side + 1))) for length in batch.shape[2:])
    clean = torch.from_numpy(batch[:, :, top : top + side, left : left + side]).float().div_(255)
    grey = rng.random() < GREY
    return clean.mean(1, keepdim=True).expand(-1, 3, -1, -1) if grey else clean, grey


def join_examples(parts: Sequence[NoiseExamples]) -> NoiseExamples:
    seen, family, effect = (torch.cat([getattr(part, key) for part in parts]) for key in ("seen", "family", "effect"))
    return NoiseExamples(seen, family, effect)


def fit_estimator(examples: NoiseExamples, seed: int) -> NoiseEstimator:
    """The network that knows these examples: AdamW, the rate falling along a cosine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = NoiseEstimator()
    estimator.mean.copy_(examples.seen.mean(0))
    estimator.scale.copy_(examples.seen.std(0).clamp_min(1e-3))
    wanted, steps = encode_effects(examples.effect), EPOCHS * -(-len(examples.family) // 256)
    optimiser = torch.optim.AdamW(estimator.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for places in torch.split(torch.randperm(len(wanted), generator=generator), 256):
            scores, values = estimator(examples.seen[places])
            far = (values - wanted[places]).abs().mean(0)
            loss = F.cross_entropy(scores, examples.family[places]) + (far * torch.tensor(_WEIGHTS)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return estimator.eval().requires_grad_(False)


def score_estimator(estimator: NoiseEstimator, examples: NoiseExamples) -> dict[str, Any]:
    """Accuracy, the confusion table, and mean absolute errors, of examples it has not seen."""
    scores, values = estimator(examples.seen)
    said = scores.argmax(1)
    sure = scores.softmax(1).amax(1)
    errors = (decode_effects(values) - examples.effect).abs().mean(0)
    table = confusion_matrix(examples.family.numpy(), said.numpy(), len(FAMILIES))
    right = said == examples.family
    return {
        "examples": len(said),
        "accuracy": float(right.float().mean()),
        "accuracy_where_sure": float(right[sure >= SURE].float().mean()),
        "share_sure": float((sure >= SURE).float().mean()),
        "mean_absolute_error": dict(zip(TARGETS, errors.tolist(), strict=True)),
        "confusion": table.tolist(),
    }
