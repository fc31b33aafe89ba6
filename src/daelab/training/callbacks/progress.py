"""The progress that a training of any task reports."""

from __future__ import annotations

import math
from typing import Protocol

from daelab.training.checkpoint import BestEpoch


class TrainingProgress(Protocol):
    """An observer that a training calls as it goes."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Record the start of the training, before its first step.

        Args:
            run: The name of the run.
            epochs: Epochs of the whole training.
            steps: Steps of an epoch.
            facts: What is trained and how, for people: title -> text.
            seconds: Seconds left of the recipe's time budget; infinity where it has none.
        """
        return

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Record a finished step.

        Args:
            epoch: The present epoch, from 1.
            step: The step of the epoch, from 1.
            images_per_second: The mean speed since the epoch began or was resumed.
        """
        return

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """Record a finished epoch.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far; its number is 0 where the task has no validation.
        """
        return

    def test(self, done: int, images: int) -> None:
        """Record a test of the finished network.

        Args:
            done: Test images scored so far.
            images: All test images.
        """
        return


class SilentProgress(TrainingProgress):
    """A progress that shows nothing; a base for observers that need only some of the calls."""
