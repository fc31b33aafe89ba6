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
from daelab.runs.environment import write_environment
from daelab.runs.folder import RunFolder
from daelab.runs.ledger import get_utc_time
from daelab.runs.process_lock import describe_process
from daelab.runs.run_row import RunRow
from daelab.training.callbacks.progress import SilentProgress, TrainingProgress
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
        self.progress = SilentProgress()

    @contextmanager
    def opened(self, state: TrainingState) -> Iterator[None]:
        """Do nothing; see `RunRecord.opened`."""
        yield

    def best(self, state: TrainingState) -> None:
        """Do nothing; see `RunRecord.best`."""

    def checkpoint(self, state: TrainingState) -> None:
        """Do nothing; see `RunRecord.checkpoint`."""

    def rows(self, state: TrainingState) -> None:
        """Do nothing; see `RunRecord.rows`."""
