"""Experiment trackers, which the first process of a training reports to. To add one: a class and a row.

    tensorboard[=DIR]   scalars, images, graph and hparams, into runs/NAME/tensorboard, or DIR/NAME
    mlflow[=URI]        parameters, metrics and files, to a tracking URI, or that of $MLFLOW_TRACKING_URI
    wandb[=PROJECT]     parameters and metrics, into runs/NAME/wandb; to the service if $WANDB_MODE is online
    trackio[=PROJECT]   parameters and metrics, into the local database of Trackio

If a tracker fails, one line is printed and the training continues without it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from daelab._util.config import ConfigDocument
from daelab._util.plugins import PluginTable
from daelab._util.text import shorten_error
from daelab.errors import make_unknown_name_error
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.build import build_network
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.runs.samples import read_samples
from daelab.training.callbacks.progress import TrainingProgress
from daelab.training.callbacks.record import classify_end
from daelab.training.callbacks.service_trackers import MLflow, Trackio, WandB, flatten_recipe
from daelab.training.checkpoint import BestEpoch
from daelab.training.recipe import Recipe


class Tracker(Protocol):
    """An experiment tracker. It is created after the first epoch."""

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """Record a finished epoch.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far; its number is 0 where the task has no validation.
        """

    def end(self, status: str, best: BestEpoch) -> None:
        """Take note of the end of the training.

        Args:
            status: The ledger's status of the run.
            best: The best epoch; its number is 0 where there is none.
        """


class TensorBoard:
    """A tracker that writes scalars, images, the graph and hparams for TensorBoard.

    Args:
        place: The folder of all runs. Default: the run's own folder.
        run: The folder of the run.
        recipe: The recipe of the training.
        first: The first epoch to report, from 1; what an earlier process wrote of it and later ones is dropped.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: ConfigDocument, first: int) -> None:
        """Open the files and write the graph of a denoiser's network."""
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(place) / run.name if place else run.path / "tensorboard"
        self.run, self.recipe = run, recipe
        self.writer: Any = SummaryWriter(str(folder), purge_step=first)
        # The code of a user's own module is not imported a second time.
        if isinstance(recipe, Recipe) and not isinstance(recipe.spec, ModuleArchitecture):
            side = max(32, recipe.spec.multiple)
            with warnings.catch_warnings():
                # Tracing warns that it fixes the size of the images, which a graph for people may do.
                warnings.simplefilter("ignore")
                self.writer.add_graph(
                    build_network(recipe.spec, 0).eval(), torch.zeros(1, recipe.spec.inputs, side, side)
                )

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """Write scalars under `loss`, `psnr` and so on, and the sample images of the best epoch.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far.
        """
        number = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(f"{_find_family(name)}/{name}", value, number)
        if best.epoch == number:
            self.writer.add_image("clean, noisy, denoised", load_sample_images(self.run), number, dataformats="HWC")
        self.writer.flush()

    def end(self, status: str, best: BestEpoch) -> None:
        """Write the recipe's fields as hparams, with the scores of the best epoch.

        Args:
            status: The ledger's status of the run.
            best: The best epoch; its number is 0 where there is none.
        """
        scores = {"hparam/val_loss": best.val_loss, "hparam/val_psnr": best.val_psnr} if best.epoch else {}
        self.writer.add_hparams({**flatten_recipe(self.recipe), "status": status}, scores, run_name=".")
        self.writer.close()


@dataclass(frozen=True)
class TrackerKind:
    """A row of the table of trackers."""

    make: Callable[[str | None, RunFolder, ConfigDocument, int], Tracker]
    """A function from (place, run, recipe, first epoch) to the tracker."""
    package: str
    """The Python package that it needs."""
    extra: str
    """The extra of daelab that installs the package."""
    place: str = ""
    """The environment variable that names the place, for a tracker that needs one."""


TRACKERS = PluginTable(
    "trackers",
    {
        "tensorboard": TrackerKind(TensorBoard, "tensorboard", "track"),
        "mlflow": TrackerKind(MLflow, "mlflow", "mlflow", "MLFLOW_TRACKING_URI"),
        "wandb": TrackerKind(WandB, "wandb", "wandb"),
        "trackio": TrackerKind(Trackio, "trackio", "trackio"),
    },
    TrackerKind,
)
"""Name -> tracker. A new tracker is a row here, or of an installed plugin."""


def parse_tracker(text: str) -> tuple[str, str | None]:
    """Return a tracker's name and its place, if one is given.

    Args:
        text: A name, or NAME=PLACE, such as `tensorboard` or `mlflow=URI`.

    Raises:
        ValueError: The tracker is unknown, its package is not installed, or it needs a place.

    >>> parse_tracker("tensorbord")
    Traceback (most recent call last):
    ValueError: unknown tracker 'tensorbord'; did you mean 'tensorboard'? Valid: mlflow, tensorboard, trackio, wandb
    """
    name, _, place = text.partition("=")
    if name not in TRACKERS:
        raise make_unknown_name_error("tracker", name, TRACKERS)
    kind = TRACKERS[name]
    if importlib.util.find_spec(kind.package) is None:
        raise ValueError(f"--track {name} needs {kind.package}: pip install 'daelab[{kind.extra}]'")
    if kind.place and not place and kind.place not in os.environ:
        raise ValueError(f"--track {name}: give its address as {name}=URI or in ${kind.place}")
    return name, place or None


class TrackedProgress:
    """A training's progress that also reports to trackers.

    Args:
        progress: The other observer.
        recipe: The recipe of the training.
        texts: The trackers, as `parse_tracker` reads them.
        warn: A function that is called with the message of a tracker that failed.

    Raises:
        ValueError: See `parse_tracker`.
    """

    def __init__(
        self,
        progress: TrainingProgress,
        recipe: ConfigDocument,
        texts: Iterable[str],
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        """Check the trackers' names; they are made after the first epoch."""
        self.progress, self.recipe, self.warn = progress, recipe, warn
        self._places = [parse_tracker(text) for text in texts]
        self.trackers: dict[str, Tracker] = {}
        self.best = BestEpoch()

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Record the start of the training, before its first step.

        Args:
            run: The name of the run.
            epochs: Epochs of the whole training.
            steps: Steps of an epoch.
            facts: What is trained and how, for people.
            seconds: Seconds left of the recipe's time budget.
        """
        self.run = get_run_folder(run)
        self.progress.start(run, epochs, steps, facts, seconds)

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Record a finished step.

        Args:
            epoch: The epoch, from 1.
            step: The step of the epoch, from 1.
            images_per_second: The mean speed.
        """
        self.progress.step(epoch, step, images_per_second)

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """Report a finished epoch; the first one makes the trackers.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far.
        """
        self.best = best
        for name, place in self._places:
            if name not in self.trackers:
                self._try(name, self._make, name, place, int(row["epoch"]))
        for name, tracker in list(self.trackers.items()):
            self._try(name, tracker.epoch, row, best)
        self.progress.epoch(row, best)

    def test(self, done: int, images: int) -> None:
        """Record a test of the finished network.

        Args:
            done: Test images scored so far.
            images: All test images.
        """
        self.progress.test(done, images)

    @contextmanager
    def report_end(self) -> Iterator[None]:
        """Report how the training ended that runs inside of this context, with the ledger's status."""
        status = "failed"
        try:
            yield
            status = "finished"
        except BaseException as error:
            status = classify_end(error)
            raise
        finally:
            for name, tracker in list(self.trackers.items()):
                self._try(name, tracker.end, status, self.best)

    def _make(self, name: str, place: str | None, first: int) -> None:
        self.trackers[name] = TRACKERS[name].make(place, self.run, self.recipe, first)

    def _try(self, name: str, work: Callable[..., object], *values: object) -> None:
        try:
            work(*values)
        # Whatever a library or a server raises, the training must not end by it.
        except Exception as error:
            self.trackers.pop(name, None)
            self._places = [one for one in self._places if one[0] != name]
            self.warn(f"{name} is not reported to any more, because it failed: {shorten_error(error)}")


def load_sample_images(run: RunFolder) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the sample images of a run's best epoch as uint8 (H, W, 3): clean above noisy above denoised.

    Args:
        run: The folder of the run.
    """
    samples = read_samples(run.samples)
    lines = [np.concatenate(list(samples[kind].transpose(0, 2, 3, 1)), 1) for kind in ("clean", "noisy", "denoised")]
    return np.concatenate(lines)


def _find_family(name: str) -> str:
    """Return the group that a column is shown in: losses with losses, PSNRs with PSNRs."""
    return next((family for family in ("loss", "psnr", "f1", "accuracy") if family in name), "run")
