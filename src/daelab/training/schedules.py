"""Learning-rate schedules: functions of the progress of a training."""

from __future__ import annotations

import math
from collections.abc import Callable

from daelab.evaluation.classifiers.recipe import ClassifierTrainingConfig
from daelab.training.recipe import TrainingConfig


def _constant(_: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(progress: float, peak: float = 0.3) -> float:
    """Rise to 1 at `peak`, then fall to 0, both along a cosine (Smith and Topin, 2018)."""
    if progress < peak:
        return 0.04 + 0.96 * (1 - _cosine(progress / peak))
    return _cosine((progress - peak) / (1 - peak))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
}
"""Name -> function from the progress in [0, 1] to a share of the learning rate."""


def compute_learning_rate(training: TrainingConfig, progress: float) -> float:
    """Return the learning rate of a denoiser's training.

    Args:
        training: The training table of the recipe.
        progress: The share of the training that is over, from 0; values above 1 count as 1.
    """
    if progress < training.warmup:
        return training.lr * max(progress / training.warmup, 1e-3)
    left = (progress - training.warmup) / (1 - training.warmup)
    share = SCHEDULES[training.schedule](min(left, 1.0))
    return training.lr * (training.final_lr + (1 - training.final_lr) * share)


def compute_classifier_rate(training: ClassifierTrainingConfig, progress: float) -> float:
    """Return the share of a classifier's peak learning rate: a linear rise, then a linear fall.

    Args:
        training: The training table of the recipe.
        progress: The share of the training that is over, from 0 to 1.
    """
    if progress < training.peak:
        return training.start_lr + (1 - training.start_lr) * progress / training.peak
    return training.final_lr + (1 - training.final_lr) * (1 - progress) / (1 - training.peak)


def compute_one_cycle(step: int, steps: int, peak_lr: float) -> tuple[float, float]:
    """Return the learning rate and the momentum of PyTorch's `OneCycleLR`, bit for bit.

    The rate rises from a 25th of its peak over the first 30% of the steps and then falls to almost zero; the momentum
    falls from 0.95 to 0.85 and rises again (Smith and Topin, 2018).

    Args:
        step: Steps done so far, from 0 to `steps`.
        steps: Steps of the whole training.
        peak_lr: The highest learning rate.
    """
    first_lr = peak_lr / 25
    peak, last = 0.3 * steps - 1, steps - 1
    if step <= peak:
        share = step / peak
        return _anneal(first_lr, peak_lr, share), _anneal(0.95, 0.85, share)
    share = (step - peak) / (last - peak)
    return _anneal(peak_lr, first_lr / 1e4, share), _anneal(0.85, 0.95, share)


def _anneal(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along a cosine, rounded as PyTorch rounds."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
