"""One worker: takes trials of a study, trains each as a run like any other, until nothing is left."""

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
from daelab.runs.folder import get_run_folder
from daelab.training.callbacks.record import SilentProgress, TrainingInterrupted
from daelab.training.checkpoint import BestEpoch
from daelab.training.engine import catch_signals, fit_denoiser
from daelab.training.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from optuna.trial import Trial

_WAIT = 1.0
"""Seconds between two looks for a trial."""
_MOST_FAILURES = 3
"""A worker whose trials failed so often in a row ends: what is wrong is not the trial."""


class _Paused(Exception):
    """The worker must stop now; the trial goes on another time."""


class _Pruned(Exception):
    """Others were better at this epoch."""


class _Lost(Exception):
    """Another worker took this one for dead and does its trial."""


@dataclass
class SearchWorker:
    """What one process does for a study."""

    study: Study
    data_root: Path | None = None
    deadline: float | None = None
    """On `time.monotonic`'s clock."""
    look: Callable[[], None] = lambda: None
    """Called after each epoch and each trial."""
    download: Callable[[int, int], None] | None = None
    _datasets: dict[tuple[str, int], Dataset] = field(default_factory=dict)
    _failures: int = 0

    def work(self) -> int | None:
        """Do trials until none is left, nothing runs elsewhere, or it is time to stop.

        Returns:
            the number of the signal that ended it; None where none did.

        Raises:
            ValueError: three trials failed in a row, or the data or the database are not there.
            OSError: a run cannot be written.
        """
        space = self.study.space
        with catch_signals() as caught:
            while not caught and not self._due(space):
                trial = self.study.take(space)
                if trial is not None:
                    try:
                        self._do(trial, space)
                    except TrainingInterrupted as error:
                        return error.signum
                elif any(row.state == "running" for row in self.study.rows()):
                    # its worker may yet be killed
                    time.sleep(_WAIT)
                else:
                    break
                self.look()
            return caught[0] if caught else None

    def _due(self, space: SearchSpace) -> bool:
        """Whether no further trial is to be begun."""
        spent, limit = sum(row.epochs for row in self.study.rows()), space.search.total_epochs
        return self.over() or (limit is not None and spent >= limit)

    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.study.stopped or (self.deadline is not None and time.monotonic() >= self.deadline)

    def _do(self, trial: Trial, space: SearchSpace) -> None:
        """Train one trial to whatever end it comes."""
        from optuna.trial import TrialState

        number, run = trial.number, f"{self.study.name}-{trial.number}"
        with self._put_back_unless_done(number), self.study.beating(number):
            try:
                recipe = self._recipe(trial, space)
            except ValueError as error:
                self._failed(number, error)
                return
            # what is wrong here is wrong for every trial: nothing to fail one for
            dataset = self.dataset(recipe.data.name, recipe.data.crop)
            try:
                result = self._train(trial, space, recipe, dataset)
            except _Pruned as pruned:
                self.study.ledger.record(run, status="pruned", reason=str(pruned))
                self.study.end(number, TrialState.PRUNED, str(pruned))
            except ValueError as error:
                self._failed(number, error)
            else:
                self._failures = 0
                self.study.finish(trial, space, result)

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
        except BaseException:
            self.study.put_back(number)
            raise

    def _recipe(self, trial: Trial, space: SearchSpace) -> Recipe:
        point = {VARIANT: trial.suggest_categorical(VARIANT, list(space.variants))} if space.variants else {}
        for name, dim in space.dimensions(str(point.get(VARIANT, ""))).items():
            point[name] = dim.suggest(trial, name)  # type: ignore[assignment]
        # a sampler may come back to a point, which then says how far its seeds lie apart
        seed = self.study.seed(trial)
        note = f"Study {self.study.name}, trial {trial.number}: {format_point(point)}, seed {seed}"
        return space.recipe(point, seed, note)

    def _train(self, trial: Trial, space: SearchSpace, recipe: Recipe, dataset: Dataset) -> dict[str, float]:
        run = f"{self.study.name}-{trial.number}"
        there = get_run_folder(run).recipe
        if there.is_file() and load_recipe(there).sha256 != recipe.sha256:
            raise ValueError(f"run {run} exists in {there.parent} and has another recipe; move it away")
        try:
            done = fit_denoiser(
                recipe,
                run,
                resume=there.is_file(),
                ledger=self.study.ledger,
                progress=_Watch(self, trial, space, recipe),
                dataset=dataset,
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

    def dataset(self, name: str, crop: int) -> Dataset:
        """A data set, loaded once."""
        if (name, crop) not in self._datasets:
            self._datasets[name, crop] = load_dataset(name, self.data_root, crop=crop, progress=self.download)
        return self._datasets[name, crop]


class _Watch(SilentProgress):
    """Tells a study how a run goes, and the run when to end."""

    def __init__(self, worker: SearchWorker, trial: Trial, space: SearchSpace, recipe: Recipe) -> None:
        self.worker, self.trial, self.space, self.recipe = worker, trial, space, recipe

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        study, number = self.worker.study, self.trial.number
        epoch, epochs = int(row["epoch"]), self.recipe.training.epochs
        if not study.owned(number):
            raise _Lost
        study.note(number, epochs=epoch, psnr=best.val_psnr)
        prune = study.prunes(self.space, self.trial, epoch, row["val_psnr"], epochs)
        self.worker.look()
        if epoch == epochs:
            return
        if prune:
            raise _Pruned(f"pruned after epoch {epoch} of {epochs}: other trials were better by then")
        if self.worker.over():
            raise _Paused(f"paused after epoch {epoch} of {epochs}; study {study.name} goes on with it")
