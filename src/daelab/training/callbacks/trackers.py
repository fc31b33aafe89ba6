"""Trackers that people already use, told of a training by its first process. To add one: a class and a row.

    tensorboard[=DIR]   scalars, images, graph and hparams, into runs/NAME/tensorboard, or DIR/NAME
    mlflow[=URI]        parameters, metrics and files, to a tracking URI, or that of $MLFLOW_TRACKING_URI

A tracker that fails is dropped with one line; the training goes on.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from daelab._util.hardware import shorten_error
from daelab.errors import unknown_name
from daelab.models.build import build_network
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.training.callbacks.record import TrainingProgress, classify_end
from daelab.training.checkpoint import BestEpoch
from daelab.training.recipe import Recipe


class Tracker(Protocol):
    """What is told of a training. Each is made when the first epoch is over, or at the end of one that had none."""

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """After an epoch: its row of metrics.csv, and the best epoch so far."""

    def end(self, status: str, best: BestEpoch) -> None:
        """At the end, with the ledger's word for how it ended; epoch 0 is the best where there was none."""


class TensorBoard:
    """Scalars, images, graph and hparams, each where TensorBoard shows it best.

    Args:
        place: the folder of all runs; None is the run's own.
        first: the first epoch that is told; what an earlier process told of it and later ones no longer counts.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: Recipe, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(place) / run.name if place else run.path / "tensorboard"
        self.run, self.recipe = run, recipe
        self.writer: Any = SummaryWriter(str(folder), purge_step=first)
        side = max(32, recipe.spec.multiple)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing remarks on sizes that a picture of another size would change
            self.writer.add_graph(build_network(recipe.spec, 0).eval(), torch.zeros(1, 3, side, side))

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """Scalars under `loss`, `psnr` and so on, and the sample images of the best epoch."""
        number = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(f"{_family(name)}/{name}", value, number)
        if best.epoch == number:
            self.writer.add_image("clean, noisy, denoised", load_sample_images(self.run), number, dataformats="HWC")
        self.writer.flush()

    def end(self, status: str, best: BestEpoch) -> None:
        """The recipe's fields as hparams, with what they led to."""
        scores = {"hparam/val_loss": best.val_loss, "hparam/val_psnr": best.val_psnr} if best.epoch else {}
        self.writer.add_hparams({**flatten_recipe(self.recipe), "status": status}, scores, run_name=".")
        self.writer.close()


class MLflow:
    """Parameters, metrics by epoch, and at the end the recipe and the best model as artifacts.

    Args:
        place: the tracking URI; None is $MLFLOW_TRACKING_URI. The experiment is $MLFLOW_EXPERIMENT_NAME, or `daelab`.
        first: the first epoch that is told; from the second on, the MLflow run of the earlier epochs goes on.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: Recipe, first: int) -> None:
        # it reports to its maker unless told not to; a server that does not answer is not waited for
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.run, self.metric = run, Metric
        self.client: Any = MlflowClient(place or os.environ["MLFLOW_TRACKING_URI"])
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "daelab")
        found = self.client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self.client.create_experiment(name)
        tags = {"daelab.run": run.name, "daelab.recipe_sha256": recipe.sha256}
        same = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        earlier = self.client.search_runs([experiment], same, max_results=1) if first > 1 else []
        begun = earlier[0] if earlier else self.client.create_run(experiment, run_name=run.name, tags=tags)
        self.id = begun.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        params = [Param(key, str(value)) for key, value in flatten_recipe(recipe).items()]
        self.client.log_batch(self.id, params=params)

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """The row's columns as metrics."""
        now, step = time.time_ns() // 1_000_000, int(row["epoch"])
        self.client.log_batch(self.id, [self.metric(key, float(value), now, step) for key, value in row.items()])

    def end(self, status: str, best: BestEpoch) -> None:
        """Files, and how it ended."""
        for path in (self.run.recipe, self.run.best, self.run.metrics):
            if path.is_file():
                self.client.log_artifact(self.id, str(path))
        words = {"finished": "FINISHED", "interrupted": "KILLED"}
        self.client.set_terminated(self.id, words.get(status, "FAILED"))


@dataclass(frozen=True)
class TrackerKind:
    """How a tracker is made, and what it needs."""

    make: Callable[[str | None, RunFolder, Recipe, int], Tracker]
    """(place, run, recipe, first epoch) -> tracker."""
    package: str
    extra: str
    """Of daelab, that brings the package."""
    place: str = ""
    """The environment variable that says where, if a place is needed and none is given."""


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(TensorBoard, "tensorboard", "track"),
    "mlflow": TrackerKind(MLflow, "mlflow", "mlflow", "MLFLOW_TRACKING_URI"),
}
"""Name -> tracker. To add one is a row here."""


def parse_tracker(text: str) -> tuple[str, str | None]:
    """`tensorboard`, `mlflow=URI`: a tracker's name, and where it keeps things.

    Raises:
        ValueError: unknown, its package is not installed, or it needs a place.

    >>> parse_tracker("tensorbord")
    Traceback (most recent call last):
    ValueError: unknown tracker 'tensorbord'; did you mean 'tensorboard'? Valid: mlflow, tensorboard
    """
    name, _, place = text.partition("=")
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS)
    kind = TRACKERS[name]
    if importlib.util.find_spec(kind.package) is None:
        raise ValueError(f"--track {name} needs {kind.package}: pip install 'daelab[{kind.extra}]'")
    if kind.place and not place and kind.place not in os.environ:
        raise ValueError(f"--track {name}: say where, as {name}=URI or in ${kind.place}")
    return name, place or None


class TrackedProgress:
    """A training's progress that is told to trackers too.

    Args:
        progress: who else watches.
        wanted: texts of `parse`.
        warn: takes the one line of a tracker that failed.
        runs_root: where the run's folder is.

    Raises:
        ValueError: as `parse`.
    """

    def __init__(
        self,
        progress: TrainingProgress,
        recipe: Recipe,
        wanted: Iterable[str],
        warn: Callable[[str], object] = warnings.warn,
        runs_root: Path | None = None,
    ) -> None:
        self.progress, self.recipe, self.warn, self.runs_root = progress, recipe, warn, runs_root
        self.wanted = [parse_tracker(text) for text in wanted]
        self.trackers: dict[str, Tracker] = {}
        self.best = BestEpoch()

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Before the first step."""
        self.run = get_run_folder(run, self.runs_root)
        self.progress.start(run, epochs, steps, facts, seconds)

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """After a step."""
        self.progress.step(epoch, step, images_per_second)

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """After an epoch; before the first that is told, the trackers are made."""
        self.best = best
        for name, place in self.wanted:
            if name not in self.trackers:
                self._try(name, self._make, name, place, int(row["epoch"]))
        for name, tracker in list(self.trackers.items()):
            self._try(name, tracker.epoch, row, best)
        self.progress.epoch(row, best)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around the training: what follows tells the trackers how it ended, in the ledger's words."""
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
        except Exception as error:  # of a library or a server; whatever it is, the training is not to end by it
            self.trackers.pop(name, None)
            self.wanted = [one for one in self.wanted if one[0] != name]
            self.warn(f"{name} is told no more, since it failed: {shorten_error(error)}")


def flatten_recipe(recipe: Recipe) -> dict[str, str | int | float | bool]:
    """A recipe's fields with dotted names, as far as they are given."""
    found: dict[str, Any] = {}

    def take(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                take(f"{prefix}.{key}" if prefix else key, inner)
        elif value is not None:
            found[prefix] = value if isinstance(value, str | int | float | bool) else str(value)

    take("", recipe.to_dict())
    return found


def load_sample_images(run: RunFolder) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The sample images of a run's best epoch as uint8 (H, W, 3): clean above noisy above denoised."""
    with np.load(run.path / "samples.npz", allow_pickle=False) as kept:
        lines = [np.concatenate(list(kept[kind].transpose(0, 2, 3, 1)), 1) for kind in ("clean", "noisy", "denoised")]
    return np.concatenate(lines)


def _family(name: str) -> str:
    """What a column is laid beside: losses with losses, PSNRs with PSNRs."""
    return next((family for family in ("loss", "psnr", "f1") if family in name), "run")
