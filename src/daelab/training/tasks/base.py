"""The interface between the training engine and what it trains. To add a task, write a subclass of `TrainingTask`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from daelab._util.config import ConfigDocument
from daelab.runs.folder import RunFolder
from daelab.training.checkpoint import BestEpoch, TrainingState

ProgressAt = Callable[[int], float]
"""Step -> the share of the training that is over by then, from 0 to 1."""


class Batch(Protocol):
    """The input of one step, or this process's part of it."""

    @property
    def size(self) -> int:
        """Images of the whole batch, over all processes."""


BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True)
class EpochScores:
    """The scores of an epoch."""

    columns: dict[str, float]
    """The columns of metrics.csv that belong to the task, in order."""
    best: BestEpoch | None = None
    """This epoch, where it is the best so far."""


class TrainingTask(ABC, Generic[BatchT]):
    """A task that the engine trains: images, network, loss, validation and what is kept at the end.

    Everything random that a task does must follow from (seed, epoch, step), so that a resumed run repeats it.
    """

    command: ClassVar[str]
    """The command that resumes an interrupted run; empty where none can."""
    accumulates: ClassVar[bool] = False
    """Whether a step has several losses, whose gradients are added before the optimizer's step."""
    recipe: ConfigDocument
    """The recipe, which is written into the run's folder and identifies its checkpoints."""
    device: torch.device
    """The device that the network is on."""
    precision: str
    """`float32` or `bf16`."""
    epochs: int
    """The largest number of epochs."""
    minutes: float | None = None
    """The time budget, in minutes, or None."""
    learning_rate: float
    """The peak learning rate, which is named where a training diverges."""
    steps: int
    """Steps of an epoch."""
    epoch_images: int
    """Images of an epoch."""
    compile: bool = False
    """Whether `torch.compile` is used."""

    @abstractmethod
    def create_state(self) -> TrainingState:
        """Return the state before the first step."""

    def initialize(self, state: TrainingState) -> None:
        """Change the state of a new training before its first step; the default leaves it as it is.

        Args:
            state: The state of `create_state`.
        """

    @abstractmethod
    def describe(self, state: TrainingState) -> dict[str, str]:
        """Return what is trained and how, for people.

        Args:
            state: The state before the first step.

        Returns:
            Title -> text.
        """

    @abstractmethod
    def describe_for_ledger(self, state: TrainingState) -> dict[str, Any]:
        """Return the columns of the ledger that are known before the first step.

        Args:
            state: The state before the first step.
        """

    def start_epoch(self, state: TrainingState, epoch: int) -> None:
        """Prepare the network for an epoch; the default does nothing.

        Args:
            state: The state of the training.
            epoch: The epoch, from 0.
        """

    @abstractmethod
    def load_batches(self, epoch: int, start: int, progress_at: ProgressAt) -> Iterator[BatchT]:
        """Yield this process's part of every batch of an epoch.

        Args:
            epoch: The epoch, from 0.
            start: The first step, from 0; earlier ones were done before the run was interrupted.
            progress_at: The progress of the training at a step, counted from the beginning of the training.
        """

    @abstractmethod
    def compute_losses(
        self, module: nn.Module, batch: BatchT, state: TrainingState, progress: float
    ) -> Iterator[Tensor]:
        """Yield the losses of a batch; the engine calls `backward` on each before it asks for the next.

        The task adds what it measures to `state.sums`.

        Args:
            module: The network as it is trained: compiled, or wrapped for several processes.
            batch: This process's part of a batch.
            state: The state of the training.
            progress: The share of the training that is over, from 0 to 1.
        """

    @abstractmethod
    def compute_learning_rate(self, step: int, progress: float) -> float:
        """Return the learning rate of a step, which is multiplied by the `scale` of a parameter group.

        Args:
            step: The step, from 0.
            progress: The share of the training that is over, from 0 to 1.
        """

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
        """Set the optimizer's numbers for a step; the default sets the learning rate.

        Args:
            optimizer: The optimizer.
            step: The step, from 0.
            progress: The share of the training that is over, from 0 to 1.
        """
        rate = self.compute_learning_rate(step, progress)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"] if "scale" in group else rate

    @abstractmethod
    def score_epoch(self, state: TrainingState, last: bool) -> EpochScores:
        """Score the network after an epoch.

        Args:
            state: The state of the training; `state.rows` does not have the epoch yet.
            last: Whether the training ends with this epoch.
        """

    def save_best(self, state: TrainingState, run: RunFolder) -> None:
        """Write the network of the last epoch, which is the best so far; called in the first process only.

        Args:
            state: The state of the training; its last row is the epoch's.
            run: The folder of the run.
        """

    def summarize(self, state: TrainingState) -> dict[str, Any]:
        """Return the columns of the ledger for the rows so far; the default has none of its own.

        Args:
            state: The state of the training; it has at least one row.
        """
        return {}

    def finish(self, state: TrainingState, run: RunFolder, report: Callable[[int, int], None]) -> object:
        """Run once after the last epoch. The default does nothing.

        Args:
            state: The state at the end of the training.
            run: The folder of the run.
            report: A function that is called with (scored test images, all test images). It raises
                an exception if the training was interrupted.

        Returns:
            The result of the training in addition to its files, or None.
        """
        return None
