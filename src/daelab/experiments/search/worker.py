"""A worker of a search: it takes trials of a study and trains each of them as a run, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from daelab.datasets.base import Dataset
from daelab.datasets.registry import load_dataset
from daelab.errors import describe_error
from daelab.experiments.reports.run import write_run_report
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.experiments.search.search_space import VARIANT, SearchSpace, format_point
from daelab.experiments.search.study import Study
from daelab.experiments.train import attach_network
from daelab.models.layers import Network
from daelab.runs.database import DatabaseError, wait_for_database
from daelab.runs.folder import get_run_folder
from daelab.runs.process_lock import RunInUseError
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.callbacks.record import TrainingInterrupted
from daelab.training.checkpoint import BestEpoch
from daelab.training.engine import catch_signals
from daelab.training.recipe import Recipe, load_recipe
from daelab.training.tasks.denoising import fit_denoiser

if TYPE_CHECKING:
    from optuna.trial import Trial

_WAIT = 1.0
"""The seconds between two requests for a trial."""
_MOST_FAILURES = 3
"""The number of failed trials in a row after which a worker ends: the trials are not the cause."""


class _Paused(Exception):
    """An interruption of a trial that is resumed later."""


class _Pruned(Exception):
    """The end of a trial whose PSNR is lower than that of others at this epoch."""


class _Lost(Exception):
    """The end of a trial that another worker took over, since it declared this one dead."""


@dataclass
class SearchWorker:
    """A worker of a study: one process that trains trials."""

    study: Study
    data_root: Path | None = None
    """The folder of downloaded data sets."""
    deadline: float | None = None
    """The time of `time.monotonic` at which the worker stops."""
    look: Callable[[], None] = lambda: None
    """A function that is called after each epoch and each trial."""
    _datasets: dict[tuple[str, int, int | None, int], Dataset] = field(default_factory=dict)
    _failures: int = 0

    def work(self) -> int | None:
        """Train trials until none waits and none runs elsewhere, or until it is time to stop.

        Returns:
            the number of the signal that ended the work, or None.

        Raises:
            ValueError: Three trials failed in a row, or the data or the database is not available.
            OSError: A run cannot be written.
        """
        space = self.study.space
        with catch_signals() as caught:
            while not caught and not self._is_over(space):
                trial = wait_for_database(lambda: self.study.take(space))
                if trial is not None:
                    try:
                        self._run_trial(trial, space)
                    except TrainingInterrupted as error:
                        return error.signum
                elif any(row.state == "running" for row in self.study.rows()):
                    # The worker of that trial may be killed, and then the trial waits again.
                    time.sleep(_WAIT)
                else:
                    break
                self.look()
            return caught[0] if caught else None

    def _is_over(self, space: SearchSpace) -> bool:
        """Return whether no further trial may start."""
        spent, limit = sum(row.epochs for row in self.study.rows()), space.search.total_epochs
        return self.over() or (limit is not None and spent >= limit)

    def over(self) -> bool:
        """Return whether it is time to stop."""
        return self.study.stopped or (self.deadline is not None and time.monotonic() >= self.deadline)

    def _run_trial(self, trial: Trial, space: SearchSpace) -> None:
        """Train one trial, and store how it ended."""
        from optuna.trial import TrialState

        number, run = trial.number, f"{self.study.name}-{trial.number}"
        with self._put_back_unless_done(number), self.study.keep_alive(number):
            try:
                # A search trains only what its user named; see `run_search`.
                recipe, network = attach_network(self._recipe(trial, space))
            except ValueError as error:
                self._failed(number, error)
                return
            # Missing data are an error of the whole search, so that the trial does not fail.
            dataset = self.dataset(recipe)
            try:
                result = self._train(trial, space, recipe, network, dataset)
            except _Pruned as pruned:
                reason = str(pruned)
                wait_for_database(lambda: self.study.ledger.record(run, status="pruned", reason=reason))
                wait_for_database(lambda: self.study.end(number, TrialState.PRUNED, reason))
            except RunInUseError:
                # A worker that counted as dead still trains it, and ends when it finds that the trial is not its own.
                self.study.put_back(number)
                time.sleep(_WAIT)
            except DatabaseError:  # the trial is not at fault
                raise
            except ValueError as error:
                self._failed(number, error)
            else:
                # Only failures in a row count, since a single trial may fail by its own point.
                self._failures = 0
                wait_for_database(lambda: self.study.finish(trial, space, result))

    def _failed(self, number: int, error: ValueError) -> None:
        from optuna.trial import TrialState

        self.study.end(number, TrialState.FAIL, describe_error(error))
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise ValueError(f"{self._failures} trials failed in a row; the last: {describe_error(error)}")

    @contextmanager
    def _put_back_unless_done(self, number: int) -> Iterator[None]:
        try:
            yield
        except _Lost:
            return
        except _Paused:
            self.study.put_back(number)
        # Signals as well, so that the trial does not wait for this process to count as dead.
        except BaseException:
            self.study.put_back(number)
            raise

    def _recipe(self, trial: Trial, space: SearchSpace) -> Recipe:
        point = {VARIANT: trial.suggest_categorical(VARIANT, list(space.variants))} if space.variants else {}
        for name, dim in space.dimensions(str(point.get(VARIANT, ""))).items():
            point[name] = dim.suggest(trial, name)  # type: ignore[assignment]
        # A sampler may return to a point, and a run with another seed shows the range of the seeds.
        seed = self.study.seed(trial)
        note = f"Study {self.study.name}, trial {trial.number}: {format_point(point)}, seed {seed}"
        return space.recipe(point, seed, note)

    def _train(
        self, trial: Trial, space: SearchSpace, recipe: Recipe, network: Network | None, dataset: Dataset
    ) -> dict[str, float]:
        run = f"{self.study.name}-{trial.number}"
        stored = get_run_folder(run).recipe
        if stored.is_file() and load_recipe(stored, trusted=True).sha256 != recipe.sha256:
            raise ValueError(f"run {run} exists in {stored.parent} with another recipe; move it to another folder")
        try:
            done = fit_denoiser(
                recipe,
                run,
                resume=stored.is_file(),
                ledger=self.study.ledger,
                progress=_TrialProgress(self, trial, space, recipe),
                dataset=dataset,
                network=network,
            )
        except _Paused as paused:
            self.study.ledger.record(run, status="interrupted", reason=str(paused))
            raise
        if is_matplotlib_installed():
            write_run_report(done.run)
        return {
            "psnr": done.best.val_psnr,
            "loss": done.best.val_loss,
            "macs": recipe.spec.macs(),
            "parameters": recipe.spec.parameters,
            "images_per_second": sorted(row["images_per_second"] for row in done.rows)[len(done.rows) // 2],
            "seconds": done.seconds,
            "epochs": len(done.rows),
        }

    def dataset(self, recipe: Recipe) -> Dataset:
        """Return the data set of a recipe, which is loaded once.

        Args:
            recipe: The recipe, whose network says how many channels the images have.
        """
        data, channels = recipe.data, recipe.spec.channels
        key = data.name, data.crop, data.buffer, channels
        if key not in self._datasets:
            self._datasets[key] = load_dataset(
                data.name, self.data_root, crop=data.crop, buffer=data.buffer, channels=channels
            )
        return self._datasets[key]


class _TrialProgress(SilentProgress):
    """A progress observer that reports the epochs of a run to the study, and ends the run when it should end."""

    def __init__(self, worker: SearchWorker, trial: Trial, space: SearchSpace, recipe: Recipe) -> None:
        self.worker, self.trial, self.space, self.recipe = worker, trial, space, recipe

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """Report a finished epoch.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far.
        """
        try:
            self._report(row, best)
        except DatabaseError as error:
            # The lock on the run's folder keeps other workers out, so the training goes on without its study meanwhile.
            if not error.transient:
                raise

    def _report(self, row: dict[str, float], best: BestEpoch) -> None:
        study, number = self.worker.study, self.trial.number
        epoch, epochs = int(row["epoch"]), self.recipe.training.epochs
        # Another worker trains this trial now, and two must not write into the same run.
        if not study.owns(number):
            raise _Lost
        study.note(number, epochs=epoch, psnr=best.val_psnr)
        # A recipe may validate only some epochs, and only those can be compared.
        prune = "val_psnr" in row and study.prunes(self.space, self.trial, epoch, row["val_psnr"], epochs)
        self.worker.look()
        # A run that is complete is neither pruned nor paused.
        if epoch == epochs:
            return
        if prune:
            raise _Pruned(f"pruned after epoch {epoch} of {epochs}: other trials were better at this epoch")
        if self.worker.over():
            raise _Paused(f"paused after epoch {epoch} of {epochs}; study {study.name} resumes it")
