"""A row of the leaderboard: a model with its cost and its scores; and the lead of one model over another."""

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
    """A row of the leaderboard."""

    name: str
    """The name of the model."""
    parameters: int
    """The number of its parameters."""
    macs: float | None
    """The multiplications per pixel; None for a classical method."""
    size: int | None
    """The size of its file in bytes."""
    scores: Mapping[str, EvaluationScores]
    """The scores by noise."""
    judged: Mapping[str, ClassifierScores]
    """The scores of each classifier under the first noise, by the classifier's name."""
    crops: Mapping[str, tuple[Bytes, Bytes]] = field(default_factory=dict)
    """The board's crops by title, (3, H, W) each: the clean crop and the denoised one."""
    method: str = ""
    """The text form of a classical method as tuned to the first noise; empty for a network."""
    images_per_second: float = 0.0
    """The speed under the first noise on this computer; all rows are timed alternately, in the same run."""

    def values(self, metric: str, noises: Iterable[str]) -> Floats:
        """Return the values of every image under several noises, one noise after the other.

        Args:
            metric: `psnr`, or a metric that the leaderboard was asked for.
            noises: The text forms of the noises.
        """
        return np.concatenate([self.scores[noise].values(metric) for noise in noises])

    def psnrs(self, noises: Iterable[str]) -> Floats:
        """Return the PSNR in dB of every image under several noises, one noise after the other.

        Args:
            noises: The text forms of the noises.
        """
        return self.values("psnr", noises)


@dataclass(frozen=True)
class Lead:
    """The lead of a model over another on the same noisy images."""

    mean: float
    """The difference of the metric, mean over images."""
    ci95: tuple[float, float]
    """The 95% bootstrap interval of the mean, with paired resampling of the images."""

    @property
    def certain(self) -> bool:
        """Whether the interval excludes zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


def compute_lead(
    row: LeaderboardRow, other: LeaderboardRow, noises: Iterable[str], metric: str = "psnr", seed: int = 0
) -> Lead:
    """Compute the lead of a row over another by a paired comparison.

    Args:
        row: The row.
        other: The other row.
        noises: The text forms of the noises.
        metric: The metric: `psnr`, or one that the leaderboard was asked for.
        seed: The seed of the bootstrap.
    """
    noises = tuple(noises)
    differences = row.values(metric, noises) - other.values(metric, noises)
    return Lead(float(differences.mean()), bootstrap_interval(differences, seed=seed))
