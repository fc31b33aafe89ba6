"""A model, its cost and its scores; how far one is ahead of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.evaluate import EvaluationScores
from daelab.evaluation.metrics import Floats, bootstrap_interval

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LeaderboardRow:
    """A model, its cost and its scores."""

    name: str
    parameters: int
    macs: float | None
    """Multiplications for each pixel; None for a classical method."""
    size: int | None
    """Bytes of its file."""
    scores: Mapping[str, EvaluationScores]
    """By noise."""
    judged: Mapping[str, ClassifierScores]
    """By judge, under the first noise."""
    crops: Mapping[str, tuple[Bytes, Bytes]] = field(default_factory=dict)
    """By what it shows, each of the board's crops, (3, H, W): clean, and as the model gave it back."""
    method: str = ""
    """Of a classical method, its text form as tuned to the first noise."""
    images_per_second: float = 0.0
    """Under the first noise, on this machine; all rows are timed in turns, in the same run."""

    def psnrs(self, noises: Iterable[str]) -> Floats:
        """dB of every image under these noises, one noise after the other."""
        return np.concatenate([self.scores[noise].psnrs for noise in noises])


@dataclass(frozen=True)
class Lead:
    """How far a model is ahead of another on the same noisy images."""

    mean: float
    """dB, mean over images."""
    ci95: tuple[float, float]
    """Bootstrap interval of the mean; images are resampled in pairs."""

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


def compute_lead(row: LeaderboardRow, other: LeaderboardRow, noises: Iterable[str], seed: int = 0) -> Lead:
    """The paired comparison of two rows by PSNR."""
    noises = tuple(noises)
    apart = row.psnrs(noises) - other.psnrs(noises)
    return Lead(float(apart.mean()), bootstrap_interval(apart, seed=seed))
