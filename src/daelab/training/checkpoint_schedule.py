"""The interval between checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointSchedule:
    """A number of epochs, or of minutes, between two checkpoints; minutes also apply in the middle of an epoch."""

    epochs: int | None = 1
    """Epochs from one checkpoint to the next; None where minutes count."""
    minutes: float | None = None
    """Minutes from one checkpoint to the next; None where epochs count."""

    def due(self, *, epochs: int | None = None, minutes: float | None = None) -> bool:
        """Return whether a checkpoint is due.

        Args:
            epochs: Epochs done, from 1, where an epoch has just ended.
            minutes: Minutes since the last checkpoint, where a step has just ended.
        """
        if epochs is not None:
            return self.epochs is not None and epochs % self.epochs == 0
        return self.minutes is not None and minutes is not None and minutes >= self.minutes


def parse_checkpoint_schedule(text: str) -> CheckpointSchedule:
    """Return the schedule that a text means.

    Args:
        text: A number of epochs, such as `5`, or of minutes, such as `10m` or `0.5m`.

    Raises:
        ValueError: The text is neither.

    >>> parse_checkpoint_schedule("10m")
    CheckpointSchedule(epochs=None, minutes=10.0)
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)m", text.strip())
    if match is None or float(match[1] or match[2]) <= 0:
        raise ValueError(f"--checkpoint-every {text}: write a number of epochs, such as 5, or of minutes, such as 10m")
    return CheckpointSchedule(int(match[1])) if match[1] else CheckpointSchedule(None, float(match[2]))
