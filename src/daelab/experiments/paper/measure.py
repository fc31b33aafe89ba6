"""What is measured: every model under a noise, with a judge; and seconds per epoch on this machine."""

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
from daelab.training.engine import fit_denoiser
from daelab.training.recipe import load_recipe, parse_recipe

QUICK = 1_000
"""Images of a quick look."""

ReportMessage = Callable[[str], None]
ReportCount = Callable[[int, int], None]


@dataclass(frozen=True)
class MeasurementSettings:
    """What all measurements share."""

    dataset: Dataset
    judge: Classifier | None
    judging: Mapping[str, str | None]
    """The judge as a recipe names it: name and path."""
    quick: bool
    seed: int = 0

    @property
    def limit(self) -> int | None:
        """Test images to look at; all for None."""
        return QUICK if self.quick else None


@dataclass(frozen=True)
class MeasuredModel:
    """A model and its scores."""

    name: str
    card: ModelMetadata
    found: ModelEvaluation

    def metric(self, name: str) -> float:
        """Of the denoised images, over all of them."""
        return self.found.scores.overall.metrics[name].denoised

    @property
    def f1(self) -> Mapping[str, float]:
        """Full-set macro F1: clean, noisy, denoised, recovered; empty without a judge."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1 if judged else {}

    @property
    def f1_batch4(self) -> Mapping[str, float]:
        """The paper's macro F1."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1_batch4 if judged else {}


def measure_models(
    models: Mapping[str, Path], setting: MeasurementSettings, say: ReportMessage, count: ReportCount
) -> dict[str, MeasuredModel]:
    """Every model on the test images, under the noise it was trained for.

    Args:
        models: name -> file.
        say: told what comes next.
        count: told (images done, images in all) of each.
    """
    found = {}
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
        found[name] = MeasuredModel(name, card, scores)
    return found


@dataclass(frozen=True)
class EpochTime:
    """Seconds per epoch on this machine, scaled from a few steps."""

    row: PublishedRuntime
    seconds: float
    images_per_second: float
    """In training."""
    steps: int
    """That were timed."""


def measure_epoch_times(setting: MeasurementSettings, say: ReportMessage) -> list[EpochTime]:
    """The paper's Table 3 here: each row's recipe for a few steps and validation images, scaled to its sizes."""
    found = []
    for row in TABLE_3:
        if row.judged and setting.judge is None:
            continue
        say(f"timing {row.title}, batches of {row.batch}")
        found.append(_speed(row, setting))
    return found


def _speed(row: PublishedRuntime, setting: MeasurementSettings) -> EpochTime:
    steps, val = (4, 128) if setting.quick else (40, 1_000)
    wanted = load_recipe(row.recipe).to_dict()
    wanted["training"] |= {"batch": row.batch, "epochs": 2}
    wanted["data"] |= {"train": steps * row.batch, "val": val}
    if row.judged and setting.judge:
        wanted["judge"] = dict(setting.judging)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        done = fit_denoiser(
            parse_recipe(wanted), "timed", runs_root=Path(folder), ledger=ledger, dataset=setting.dataset
        )
    # the first epoch is slower: memory is touched for the first time
    last: dict[str, Any] = done.rows[-1]
    in_training = steps * row.batch / last["images_per_second"]
    per_image = (last["seconds"] - in_training) / val
    seconds = row.train / last["images_per_second"] + row.val * per_image
    return EpochTime(row, seconds, last["images_per_second"], steps)
