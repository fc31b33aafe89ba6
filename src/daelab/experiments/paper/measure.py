"""The measurements: the scores of every model under its noise, and the seconds per epoch on this computer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab.datasets.base import Dataset
from daelab.denoising.denoiser import Denoiser
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.experiments.evaluate_model import ModelEvaluation, evaluate
from daelab.experiments.paper.published import TABLE_3, PublishedRuntime
from daelab.models.model_file import ModelMetadata, load_network
from daelab.runs.ledger import Ledger
from daelab.training.recipe import load_recipe, parse_recipe
from daelab.training.tasks.denoising import fit_denoiser

QUICK = 1_000
"""The number of images of a quick reproduction."""

ReportMessage = Callable[[str], None]
"""A function that is called with one line on the next step."""
ReportCount = Callable[[int, int], None]
"""A function that is called with the numbers of images done and of all images."""


@dataclass(frozen=True)
class MeasurementSettings:
    """The settings that all measurements share."""

    dataset: Dataset
    """CIFAR-10."""
    judge: Classifier | None
    """The classifier; None for no F1."""
    judging: Mapping[str, str | None]
    """The classifier as a recipe names it: name and path."""
    quick: bool
    """Whether a thousand images and short trainings suffice."""
    seed: int = 0
    """The seed of the noise."""

    @property
    def limit(self) -> int | None:
        """The number of test images; None for all."""
        return QUICK if self.quick else None


@dataclass(frozen=True)
class MeasuredModel:
    """A model and its scores."""

    name: str
    """The name of the model."""
    card: ModelMetadata
    """The metadata of the model."""
    found: ModelEvaluation
    """The scores."""

    def metric(self, name: str) -> float:
        """Return a metric of the denoised images.

        Args:
            name: A name of `METRICS`, of an image or batch metric.
        """
        return self.found.scores.overall.metrics[name].denoised

    @property
    def f1(self) -> Mapping[str, float]:
        """The macro F1 on clean, noisy and denoised images, and the recovered F1; empty without a classifier."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1 if judged else {}

    @property
    def f1_batch4(self) -> Mapping[str, float]:
        """The paper's macro F1, by batches of four images; empty without a classifier."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1_batch4 if judged else {}


def measure_models(
    models: Mapping[str, Path], setting: MeasurementSettings, say: ReportMessage, count: ReportCount
) -> dict[str, MeasuredModel]:
    """Score every model on the test images, under the noise that it was trained for.

    Args:
        models: The files of the models, by name.
        setting: The settings of the measurements.
        say: Called with one line on the next step.
        count: Called with the numbers of images done and of all images, for each model.
    """
    measured = {}
    for name, path in models.items():
        say(f"evaluating {name}")
        denoiser, (_, card) = Denoiser.load(path), load_network(path)
        scores = evaluate(
            denoiser,
            setting.dataset,
            limit=setting.limit,
            seed=setting.seed,
            judge=setting.judge,
            progress=count,
        )
        measured[name] = MeasuredModel(name, card, scores)
    return measured


@dataclass(frozen=True)
class EpochTime:
    """The seconds per epoch on this computer, scaled from a few steps."""

    row: PublishedRuntime
    """The row of the paper's table."""
    seconds: float
    """The seconds per epoch."""
    images_per_second: float
    """The training images per second."""
    steps: int
    """The number of timed steps."""


def measure_epoch_times(setting: MeasurementSettings, say: ReportMessage) -> list[EpochTime]:
    """Time each row of the paper's Table 3 over a few steps and validation images, scaled to the row's sizes.

    Args:
        setting: The settings of the measurements.
        say: Called with one line on the next step.
    """
    times = []
    for row in TABLE_3:
        if row.judged and setting.judge is None:
            continue
        say(f"timing {row.title}, batches of {row.batch}")
        times.append(_time_recipe(row, setting))
    return times


def _time_recipe(row: PublishedRuntime, setting: MeasurementSettings) -> EpochTime:
    steps, val = (4, 128) if setting.quick else (40, 1_000)
    fields = load_recipe(row.recipe).to_dict()
    fields["training"] |= {"batch": row.batch, "epochs": 2}
    fields["data"] |= {"train": steps * row.batch, "val": val}
    if row.judged and setting.judge:
        fields["judge"] = dict(setting.judging)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        done = fit_denoiser(
            parse_recipe(fields), "timed", runs_root=Path(folder), ledger=ledger, dataset=setting.dataset
        )
    # The first epoch is slower, since memory is allocated in it.
    last: dict[str, Any] = done.rows[-1]
    in_training = steps * row.batch / last["images_per_second"]
    per_image = (last["seconds"] - in_training) / val
    seconds = row.train / last["images_per_second"] + row.val * per_image
    return EpochTime(row, seconds, last["images_per_second"], steps)
