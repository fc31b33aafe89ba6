"""How often a checkpoint is written."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointSchedule:
    """After so many epochs, or after so many minutes, in the middle of an epoch too."""

    epochs: int | None = 1
    minutes: float | None = None

    def due(self, *, epochs: int | None = None, minutes: float | None = None) -> bool:
        """Whether a checkpoint is due after an epoch (counted from 1), or so long after the last one."""
        if epochs is not None:
            return self.epochs is not None and epochs % self.epochs == 0
        return self.minutes is not None and minutes is not None and minutes >= self.minutes


def parse_checkpoint_schedule(text: str) -> CheckpointSchedule:
    """`5`: epochs; `10m` or `0.5m`: minutes.

    Raises:
        ValueError: neither.

    >>> parse_checkpoint_schedule("10m")
    Every(epochs=None, minutes=10.0)
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)m", text.strip())
    if match is None or float(match[1] or match[2]) <= 0:
        raise ValueError(f"--checkpoint-every {text}: write a number of epochs, as 5, or of minutes, as 10m")
    return CheckpointSchedule(int(match[1])) if match[1] else CheckpointSchedule(None, float(match[2]))
