"""The training engine: the only loop, which trains any task, saves it and resumes it exactly."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import nn

from daelab._util.config import ConfigDocument
from daelab._util.distributed import (
    count_processes,
    detect_lost_process,
    gather_values,
    get_group_id,
    is_first_process,
    run_on_first,
    sum_values,
    wrap_data_parallel,
)
from daelab._util.hardware import choose_device, synchronize
from daelab.runs.folder import RunFolder, choose_run_name, find_runs_of_group, get_run_folder, get_runs_root
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import lock_run
from daelab.runs.run_row import RunRow
from daelab.training.callbacks.progress import SilentProgress, TrainingProgress
from daelab.training.callbacks.record import NullRecord, RunRecord, TrainingInterrupted
from daelab.training.checkpoint import BestEpoch
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.tasks.base import TrainingTask


@dataclass(frozen=True)
class TrainingResult:
    """The result of a finished training."""

    run: RunFolder
    """The folder of the run."""
    rows: list[dict[str, float]]
    """The rows of metrics.csv."""
    best: BestEpoch
    """The epoch with the lowest validation loss."""
    seconds: float
    """The time that the training took, without interruptions."""
    product: object = None
    """The result of the task, in addition to its files."""


@dataclass(frozen=True)
class TrainingOptions:
    """The options for storing and observing a run; none of them changes the trained network."""

    name: str | None = None
    """The name of the run; it must be new unless the run is resumed. Default: `run-N` with the first unused N."""
    resume: bool = False
    """Whether to go on from the run's last checkpoint, exactly."""
    runs_root: Path | None = None
    """The folder of all runs. Default: $DAELAB_RUNS, or `runs`."""
    ledger: Ledger | None = None
    """Where the run is recorded. Default: the default ledger."""
    progress: TrainingProgress | None = None
    """The observer of the training."""
    device: torch.device | None = None
    """The device. Default: a GPU if there is one."""
    checkpoint_every: CheckpointSchedule | None = None
    """The interval between checkpoints. Default: after every epoch. There is always one at the end."""


def run_training(
    recipe: ConfigDocument, make_task: Callable[[torch.device], TrainingTask[Any]], options: TrainingOptions
) -> TrainingResult:
    """Train a task, and write all files of the training to the run's folder.

    Args:
        recipe: The recipe of the task.
        make_task: Makes the task for a device; called after the run's name has been checked.
        options: The options for storing and observing the run.

    Raises:
        ValueError: A mistake in the recipe or the data, or a loss that is not finite.
        RunInUseError: Another process is training the run.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    with ExitStack() as locked:
        run, resume = run_on_first(lambda: _open_run(recipe, options, locked))
        row = RunRow(options.ledger or Ledger(), run.name) if is_first_process() else None
        task = make_task(options.device or choose_device())
        trainer = Trainer(task, run, options.checkpoint_every or CheckpointSchedule())
        if resume and run_on_first(run.checkpoint.is_file):
            trainer.state.restore(run.checkpoint, recipe)
        else:
            task.initialize(trainer.state)
        record = RunRecord(task, run, row, options.progress or SilentProgress()) if row else NullRecord()
        lost = f"another process of this training has gone; go on with: daelab {task.command} --resume {run.name}"
        with record.opened(trainer.state), detect_lost_process(lost):
            product = trainer.train(record)
    return TrainingResult(run, trainer.state.rows, trainer.state.best, trainer.state.seconds, product)


def find_begun_run(recipe: ConfigDocument, runs_root: Path | None = None) -> str | None:
    """Return the run of a recipe that this group of processes began before torchrun started it again.

    Args:
        recipe: The recipe.
        runs_root: The folder of all runs. Default: $DAELAB_RUNS, or `runs`.

    Returns:
        The name of the run, or None.
    """
    for name in find_runs_of_group(get_group_id(), runs_root):
        path = get_run_folder(name, runs_root).recipe
        if path.is_file() and path.read_text(encoding="utf-8") == recipe.to_toml():
            return name
    return None


def _open_run(recipe: ConfigDocument, options: TrainingOptions, locked: ExitStack) -> tuple[RunFolder, bool]:
    """Lock a run's folder until `locked` is closed; return the folder, and whether the run is resumed."""
    name, root, resume = options.name, options.runs_root, options.resume
    run = get_run_folder(name or choose_run_name("run", root), root)
    # First of all, since two trainings in one folder would spoil each other's files.
    locked.enter_context(lock_run(run.path))
    if run.recipe.exists() and not resume:
        if find_begun_run(recipe, root) != run.name:
            raise ValueError(
                f"run {name} exists in {run.path}; continue it with --resume {name}, or choose another --name"
            )
        resume = True
    if resume:
        run.clear()
    return run, resume


class Trainer:
    """The loop over epochs and steps.

    Args:
        task: What is trained.
        run: The folder of the run.
        every: The interval between checkpoints.
    """

    def __init__(self, task: TrainingTask[Any], run: RunFolder, every: CheckpointSchedule) -> None:
        """Make the state before the first step."""
        self.task, self.run, self.every = task, run, every
        self.saved = time.monotonic()
        self.state = task.create_state()
        # The state keeps the plain network, since a compiled one prefixes the names in its state dict.
        # On a GPU the kernels of a small network take less time than their launches, which CUDA graphs save.
        mode = "reduce-overhead" if task.device.type == "cuda" else None
        compiled = torch.compile(self.state.network, mode=mode) if task.compile else self.state.network
        module = cast(nn.Module, compiled)
        # The gradients of several losses are exchanged once, after the last one: see `_step`.
        self.module = module if task.accumulates else wrap_data_parallel(module)

    def train(self, record: RunRecord) -> object:
        """Train from the present state to the end of the recipe.

        Args:
            record: The record of the run.

        Returns:
            The result of the task.

        Raises:
            ValueError: The loss is no longer finite.
            TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
        """
        state, epochs = self.state, self.task.epochs
        facts, left = self.task.describe(state), self._seconds_left()
        record.progress.start(self.run.name, epochs, self.task.steps, facts, left)
        # If the run was killed right after its last checkpoint, the rows may still be missing from metrics.csv.
        if state.rows:
            record.rows(state)
        # If the run was interrupted right after the last step of an epoch, the row needs that step's learning rate.
        if state.step:
            self.task.set_rates(state.optimizer, state.step - 1, self._progress(state.step - 1))
        with catch_signals() as caught:
            while len(state.rows) < epochs and self._seconds_left() > 0:
                signum = self._run_epoch(record, caught)
                # Before anything is saved, since the checkpoint must stay the last good one.
                if not bool(state.sums.isfinite().all()):
                    raise ValueError(self._explain_divergence())
                if signum:
                    self._save(record)
                    raise self._make_interruption(signum)
                self._finish_epoch(record)

            def report(done: int, images: int) -> None:
                record.progress.test(done, images)
                if caught:
                    raise self._make_interruption(caught[0])

            return self.task.finish(state, self.run, report)

    def _make_interruption(self, signum: int) -> TrainingInterrupted:
        # The command finds only runs in the usual folder. Another one may be temporary.
        is_found = self.run.path.parent.absolute() == get_runs_root().absolute()
        return TrainingInterrupted(self.run.name, signum, self.task.command if is_found else "")

    def _run_epoch(self, record: RunRecord, caught: list[int]) -> int:
        """Do the remaining steps of the epoch, and return a signal that ended it early, or 0."""
        state, task, steps = self.state, self.task, self.task.steps
        # Counted by rows, not by steps: a signal may come after the last step of an epoch and before its row.
        epoch = len(state.rows)
        start = state.step - epoch * steps
        self.module.train()
        task.start_epoch(state, epoch)
        began, before, images, signum = time.perf_counter(), state.epoch_seconds, 0, 0
        for number, batch in enumerate(task.load_batches(epoch, start, self._progress), 1):
            self._step(batch)
            images += batch.size
            seconds = time.perf_counter() - began
            record.progress.step(epoch + 1, state.step - epoch * steps, images / seconds)
            # Each process makes one batch per round, so the agreement comes once per round (decision 18).
            if number % count_processes() == 0:
                signum = self._agree(caught, before + seconds)
            if signum:
                break
            if self.every.due(minutes=(time.monotonic() - self.saved) / 60):
                self._save(record)
        # The kernels of a GPU run in the background, and the time of the epoch must include them.
        synchronize(task.device)
        return self._agree(caught, before + time.perf_counter() - began) or signum

    def _agree(self, caught: list[int], seconds: float) -> int:
        """Use the first process's time in all processes, and return a signal that any of them caught, or 0."""
        values = gather_values((seconds, *caught[:1]))
        self.state.epoch_seconds = values[0][0]
        return next((int(signum) for _, *signals in values for signum in signals), 0)

    def _step(self, batch: Any) -> None:
        """Do one step on this process's part of a batch."""
        state, task, progress = self.state, self.task, self._progress()
        state.optimizer.zero_grad(set_to_none=True)
        for loss in task.compute_losses(self.module, batch, state, progress):
            loss.backward()  # type: ignore[no-untyped-call]
        if task.accumulates:
            _sum_gradients(state.network)
        task.set_rates(state.optimizer, state.step, progress)
        state.optimizer.step()
        state.step += 1
        if state.average:
            state.average.update(state.step)

    def _progress(self, step: int | None = None) -> float:
        """Return the share of the training that is over, now or at a step."""
        task, state = self.task, self.state
        share = (state.step if step is None else step) / (task.steps * task.epochs)
        if task.minutes is None:
            return share
        # With a time budget, the steps or the time decide, whichever is further on.
        return min(1.0, max(share, (state.seconds + state.epoch_seconds) / (60 * task.minutes)))

    def _seconds_left(self) -> float:
        """Return the seconds left of the time budget, which the last epoch may exceed, or infinity."""
        return math.inf if self.task.minutes is None else 60 * self.task.minutes - self.state.seconds

    def _finish_epoch(self, record: RunRecord) -> None:
        """Score the epoch and keep the best network; then write checkpoint, metrics and ledger, in this order."""
        state, task, began = self.state, self.task, time.perf_counter()
        epoch = len(state.rows) + 1
        last = epoch == task.epochs or run_on_first(lambda: self._seconds_left() <= state.epoch_seconds)
        scores = task.score_epoch(state, last)
        if not math.isfinite(scores.columns.get("val_loss", 0.0)):
            raise ValueError(self._explain_divergence())
        row = {
            "epoch": epoch,
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            **scores.columns,
            "seconds": round(state.epoch_seconds + time.perf_counter() - began, 3),
            "images_per_second": round(task.epoch_images / state.epoch_seconds, 1),
        }
        # The clocks of several processes differ; that of the first counts.
        state.rows.append(run_on_first(lambda: row))
        state.seconds += state.rows[-1]["seconds"]
        state.epoch_seconds = 0.0
        state.sums.zero_()
        if scores.best:
            # The best model is written before the checkpoint that refers to its epoch.
            state.best = scores.best
            record.best(state)
        if self.every.due(epochs=epoch) or last:
            self._save(record)
        # After the checkpoint: if the run is killed in between, the resumed run writes these rows again.
        record.rows(state)
        record.progress.epoch(state.rows[-1], state.best)

    def _save(self, record: RunRecord) -> None:
        record.checkpoint(self.state)
        self.saved = time.monotonic()

    def _explain_divergence(self) -> str:
        done = len(self.state.rows)
        saved = "there is no checkpoint yet"
        if run_on_first(self.run.checkpoint.is_file):
            saved = f"the last good checkpoint is {self.run.checkpoint} (epoch {done})"
        rate = self.task.learning_rate
        return f"epoch {done + 1}: the loss became infinite or NaN; {saved}; try a lower training.lr than {rate:g}"


def _sum_gradients(network: nn.Module) -> None:
    """Replace every gradient by its sum over all processes."""
    if count_processes() == 1:
        return
    for parameter in network.parameters():
        if parameter.requires_grad:
            # A process that had no part of the batch has no gradient.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            sum_values(parameter.grad)


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT and SIGTERM instead of ending the process.

    Outside of the main thread, which alone receives signals, the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum: int, _frame: FrameType | None) -> None:
        # The signal is only noted, so that the loop can stop after a whole step and save the state.
        caught.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
