"""The record of a training: its folder, its row of the ledger and its progress. Only the first process keeps one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from daelab._util.distributed import LostProcessError
from daelab._util.files import write_text
from daelab.errors import describe_error
from daelab.runs.database import DatabaseError
from daelab.runs.folder import RunFolder, write_environment
from daelab.runs.ledger import get_utc_time
from daelab.runs.process_lock import describe_process
from daelab.runs.run_row import RunRow
from daelab.training.callbacks.progress import TrainingProgress
from daelab.training.checkpoint import TrainingState
from daelab.training.tasks.base import TrainingTask


class TrainingInterrupted(Exception):
    """The end of a training by a signal, after a batch; the state is saved.

    Args:
        run: The name of the run.
        signum: The number of the signal.
        command: The command that resumes the run; empty where none can.
    """

    def __init__(self, run: str, signum: int, command: str = "train") -> None:
        """Make the message for people."""
        super().__init__(
            f"interrupted and saved; go on with: daelab {command} --resume {run}" if command else "interrupted"
        )
        self.signum = signum


def classify_end(error: BaseException) -> str:
    """Return the ledger's status of a training that an error ended.

    Args:
        error: What ended the training.

    Returns:
        `interrupted` or `failed`.
    """
    return "interrupted" if isinstance(error, TrainingInterrupted | LostProcessError | KeyboardInterrupt) else "failed"


@dataclass
class RunRecord:
    """The record of a run: its folder, its row of the ledger, and its observer."""

    task: TrainingTask[Any]
    """What is trained."""
    run: RunFolder
    """The folder of the run."""
    row: RunRow
    """The row of the run in the ledger."""
    progress: TrainingProgress
    """The observer of the training."""

    @contextmanager
    def opened(self, state: TrainingState) -> Iterator[None]:
        """Record the run before its first step, and how it ended.

        Args:
            state: The state of the training.

        Raises:
            DatabaseError: The training is done, but its row could not be written.
        """
        self.row.mark_dead_runs()
        self.row.record(status="running", reason="", **describe_process(), **self._describe(state))
        try:
            write_text(self.run.recipe, self.task.recipe.to_toml())
            write_environment(self.run)
            yield
        except BaseException as error:
            reason = describe_error(error).partition("\n")[0]
            self.row.record(status=classify_end(error), reason=reason, finished=get_utc_time())
            raise
        try:
            self.row.finish(status="finished", finished=get_utc_time(), seconds=state.seconds)
        except DatabaseError as error:
            later = f"; write it with: daelab {self.task.command} --resume {self.run.name}" if self.task.command else ""
            raise DatabaseError(
                f"the training is done and its files are in {self.run.path}, but not its row in the {error}{later}"
            ) from None

    def start(self, state: TrainingState, seconds: float) -> None:
        """Report what is trained.

        Args:
            state: The state before the first step.
            seconds: Seconds left of the time budget; infinity where there is none.
        """
        self.progress.start(self.run.name, self.task.epochs, self.task.steps, self.task.describe(state), seconds)

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Report a step.

        Args:
            epoch: The epoch, from 1.
            step: The step of the epoch, from 1.
            images_per_second: The mean speed.
        """
        self.progress.step(epoch, step, images_per_second)

    def best(self, state: TrainingState) -> None:
        """Write the network of the last epoch as the best so far.

        Args:
            state: The state of the training.
        """
        self.task.save_best(state, self.run)

    def checkpoint(self, state: TrainingState) -> None:
        """Write the checkpoint; a state that is not finite never replaces one that is.

        Args:
            state: The state of the training.
        """
        if bool(state.sums.isfinite().all()):
            state.save(self.run.checkpoint, self.task.recipe)

    def rows(self, state: TrainingState) -> None:
        """Write the rows so far into metrics.csv, and their summary into the ledger.

        Args:
            state: The state of the training; it has at least one row.
        """
        self.run.write_metrics(state.rows)
        self.row.record(
            epochs_done=len(state.rows),
            seconds=state.seconds,
            images_per_second=state.rows[-1]["images_per_second"],
            **self.task.summarize(state),
        )

    def epoch(self, state: TrainingState) -> None:
        """Report the last epoch.

        Args:
            state: The state of the training.
        """
        self.progress.epoch(state.rows[-1], state.best)

    def test(self, done: int, images: int) -> None:
        """Report the test of the finished network.

        Args:
            done: Test images scored so far.
            images: All test images.
        """
        self.progress.test(done, images)

    def _describe(self, state: TrainingState) -> dict[str, Any]:
        recipe = self.task.recipe
        return {
            **self.task.describe_for_ledger(state),
            "epochs": self.task.epochs,
            "comments": recipe.note,
            "precision": self.task.precision,
            "folder": str(self.run.path.resolve()),
            "recipe": recipe.to_dict(),
            "recipe_sha256": recipe.sha256,
        }


class NullRecord(RunRecord):
    """The record of a process that writes and reports nothing."""

    def __init__(self) -> None:
        """Keep nothing."""

    @contextmanager
    def opened(self, state: TrainingState) -> Iterator[None]:
        """Do nothing.

        Args:
            state: Not used.
        """
        yield

    def start(self, state: TrainingState, seconds: float) -> None:
        """Do nothing.

        Args:
            state: Not used.
            seconds: Not used.
        """

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Do nothing.

        Args:
            epoch: Not used.
            step: Not used.
            images_per_second: Not used.
        """

    def best(self, state: TrainingState) -> None:
        """Do nothing.

        Args:
            state: Not used.
        """

    def checkpoint(self, state: TrainingState) -> None:
        """Do nothing.

        Args:
            state: Not used.
        """

    def rows(self, state: TrainingState) -> None:
        """Do nothing.

        Args:
            state: Not used.
        """

    def epoch(self, state: TrainingState) -> None:
        """Do nothing.

        Args:
            state: Not used.
        """

    def test(self, done: int, images: int) -> None:
        """Do nothing.

        Args:
            done: Not used.
            images: Not used.
        """
