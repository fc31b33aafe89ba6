"""The request of a reproduction, and all its measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab.experiments.paper.checks import ToleranceCheck
from daelab.experiments.paper.comparisons import StudyOutcome
from daelab.experiments.paper.measure import (
    EpochTime,
    MeasuredModel,
    MeasurementSettings,
)


@dataclass(frozen=True)
class ReproductionRequest:
    """The request of a reproduction."""

    out: Path
    """The folder of the report."""
    data_root: Path | None = None
    """The folder of downloaded data sets."""
    checkpoints: Path | None = None
    """The folder of the paper's 35.pt, 37.pt, 38.pt and its log; None to leave them out."""
    judge: str | None = "builtin"
    """The classifier; None for no F1."""
    judge_path: Path | None = None
    """The path of the weights of the classifier `vit`."""
    retrain: bool = False
    """Whether to train our models again instead of using the shipped ones."""
    quick: bool = False
    """Whether a thousand images and short trainings suffice."""
    seed: int = 0
    """The seed of the noise."""


@dataclass(frozen=True)
class Measurements:
    """All measurements of a reproduction."""

    request: ReproductionRequest
    """The request."""
    setting: MeasurementSettings
    """The settings of the measurements."""
    checkpoints: dict[str, MeasuredModel]
    """The paper's checkpoints, by file name."""
    ours: dict[str, MeasuredModel]
    """Our models, by name."""
    speeds: list[EpochTime]
    """The times of the paper's Table 3 on this computer."""
    studies: list[StudyOutcome]
    """The outcomes of the study's runs."""
    log: list[dict[str, Any]]
    """The rows of the paper's log; empty if it was not given."""
    checks: list[ToleranceCheck]
    """The checked tolerances."""

    @property
    def missed(self) -> list[ToleranceCheck]:
        """The checks that failed."""
        return [check for check in self.checks if not check.holds]
