"""What a reproduction is asked for, and all that it measured."""

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
    """What to reproduce, from what, and where the report goes."""

    out: Path
    data_root: Path | None = None
    checkpoints: Path | None = None
    """Folder of the paper's 35.pt, 37.pt, 38.pt and its log."""
    judge: str | None = "builtin"
    judge_path: Path | None = None
    retrain: bool = False
    """Train our weights anew instead of taking those that ship."""
    quick: bool = False
    """A thousand images, short trainings."""
    seed: int = 0


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    request: ReproductionRequest
    setting: MeasurementSettings
    checkpoints: dict[str, MeasuredModel]
    ours: dict[str, MeasuredModel]
    speeds: list[EpochTime]
    studies: list[StudyOutcome]
    log: list[dict[str, Any]]
    """The paper's log, row by row; empty where it was not given."""
    checks: list[ToleranceCheck]

    @property
    def missed(self) -> list[ToleranceCheck]:
        """The tolerances that are not kept."""
        return [check for check in self.checks if not check.holds]
