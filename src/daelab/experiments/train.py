"""Train networks, judges and inspectors; write what ships."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daelab._util.distributed import is_first_process, run_on_first
from daelab.datasets.registry import TERMS, load_dataset
from daelab.denoising.classical import CLASSICAL_PREFIX
from daelab.denoising.denoiser import find_model
from daelab.denoising.noise_identification.network import NoiseIdentifier
from daelab.evaluation.classifiers.classifier_file import ClassifierFile
from daelab.evaluation.classifiers.recipe import DEFAULT_CLASSIFIER_RECIPE, ClassifierRecipe, load_classifier_recipe
from daelab.experiments.evaluate_model import ModelEvaluation
from daelab.experiments.reports.run import write_run_report
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.models.model_file import load_network, save_model
from daelab.runs.folder import RunFolder, choose_run_name, get_run_folder, write_environment
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.record import SilentProgress, TrainingInterrupted, TrainingProgress
from daelab.training.callbacks.trackers import TrackedProgress
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.engine import TrainingResult, catch_signals, fit_denoiser
from daelab.training.recipe import Recipe, list_recipes, load_recipe
from daelab.training.tasks.classification import ClassifierProgress, TrainingStopped, fit_classifier
from daelab.training.tasks.noise_identification import EXAMPLES, train_noise_identifier


def train(
    recipe: Recipe | str | Path,
    name: str | None = None,
    *,
    resume: bool = False,
    data_root: str | Path | None = None,
    ledger: Ledger | None = None,
    progress: TrainingProgress | None = None,
    download: Callable[[int, int], None] | None = None,
    checkpoint_every: CheckpointSchedule | None = None,
    track: Sequence[str] = (),
    warn: Callable[[str], object] = warnings.warn,
) -> TrainingResult:
    """Train by a recipe, record the run in the ledger, and draw its report where matplotlib is.

    Args:
        recipe: a recipe, the name of a shipped one (`paper/38`), or a path to a TOML file.
        name: of the run; made from the recipe's name where it is not given.
        resume: go on with the run of this name from its last checkpoint, exactly.
        data_root: where downloaded data sets are.
        checkpoint_every: None for after every epoch.
        track: trackers that are told too, as `tensorboard` or `mlflow=URI`.
        warn: takes the line of a tracker that failed.

    Raises:
        ValueError: a mistake in the recipe, the data or the trackers; one line that says what to do.
        FileNotFoundError: there is no such recipe.
    """
    if not isinstance(recipe, Recipe):
        source = str(recipe)
        recipe = run_on_first(lambda: load_recipe(source))
        name = run_on_first(lambda: name or choose_run_name(source.removesuffix(".toml")))
    watched = TrackedProgress(progress or SilentProgress(), recipe, track if is_first_process() else (), warn)
    with watched.told():
        trained = fit_denoiser(
            recipe,
            name,
            resume=resume,
            data_root=data_root,
            ledger=ledger,
            progress=watched,
            download=download,
            checkpoint_every=checkpoint_every,
        )
    if is_matplotlib_installed() and is_first_process():
        write_run_report(trained.run)
    return trained


@dataclass(frozen=True)
class TrainedClassifier:
    """A judge, and the folder of its run, where its file is `judge.safetensors`."""

    run: RunFolder
    file: ClassifierFile

    @property
    def path(self) -> Path:
        """The judge's file."""
        return self.run.path / "judge.safetensors"

    def save(self, path: str | Path) -> None:
        """Write the judge elsewhere, under the name of its new file."""
        path = Path(path)
        card = self.file.card.model_copy(update={"name": path.stem})
        replace(self.file, card=card).save(path)


def train_classifier(
    recipe: ClassifierRecipe | str | Path | None = None,
    name: str | None = None,
    *,
    resume: bool = False,
    data_root: str | Path | None = None,
    progress: ClassifierProgress | None = None,
    download: Callable[[int, int], None] | None = None,
) -> TrainedClassifier:
    """Train a judge by a recipe, into a run's folder.

    Args:
        recipe: a recipe, the name of a shipped one (`judge/photos`), or a path; with `resume`,
            none: the run's own.
        name: of the run.
        resume: go on with the run of this name from its last checkpoint, exactly.

    Raises:
        ValueError: a mistake in the recipe or the data; one line that says what to do.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    run = get_run_folder(name or choose_run_name("judge"))
    if resume and not run.recipe.is_file():
        raise FileNotFoundError(f"no run {run.name} in {run.path.parent}")
    if run.recipe.exists() and not resume:
        raise ValueError(f"run {run.name} exists in {run.path}; go on with --resume {run.name}, or take another --name")
    if not isinstance(recipe, ClassifierRecipe):
        recipe = load_classifier_recipe(recipe or (run.recipe if resume else DEFAULT_CLASSIFIER_RECIPE))
    data = load_dataset(recipe.data.name, data_root, crop=recipe.data.crop, progress=download)
    with catch_signals() as caught:
        try:
            made = fit_classifier(recipe, data, run.path, resume=resume, progress=progress, stop=lambda: bool(caught))
        except TrainingStopped:
            raise TrainingInterrupted(run.name, caught[0], "train-judge") from None
    write_environment(run)
    return TrainedClassifier(run, made)


def train_noise_identification(
    path: str | Path,
    data: Sequence[str] = ("photos",),
    *,
    examples: int | None = None,
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NoiseIdentifier:
    """Train an inspector on clean pictures of data sets, and write it.

    Raises:
        ValueError: another suffix than .safetensors, an unknown or a missing data set.
        FileExistsError: the file exists.
    """
    path = _free(path, "an inspector's file")
    made = train_noise_identifier(data, data_root, examples=examples or EXAMPLES, seed=seed, progress=progress)
    made.save(path)
    return made


def save_evaluated_model(model: str | Path, found: ModelEvaluation, path: str | Path, *, half: bool = False) -> None:
    """Write a model's file anew, with these scores on test images in its header: what ships.

    Of a run, the header also gets the time it took and its curve, epoch by epoch; of one by a recipe that ships, the
    command that trains it anew.

    Args:
        half: write weights in half precision; the scores should be those of `load_half`.

    Raises:
        ValueError: another suffix than .safetensors, or a method that has no file.
        FileExistsError: the file exists.
    """
    path = _free(path, "a model file")
    if str(model).startswith(CLASSICAL_PREFIX) or str(model).lower().endswith(".onnx"):
        raise ValueError(f"{model} has no model file that could be written anew")
    source = find_model(model)
    network, card = load_network(source)
    metrics = card.metrics | {"test": found.to_dict()}
    training = card.training | _history(RunFolder(source.parent).read_metrics())
    made = next((name for name in list_recipes() if load_recipe(name).sha256 == card.recipe_sha256), None)
    training |= {"command": f"daelab train --recipe {made}"} if made else {}
    terms = TERMS.get(card.data.get("name", ""))
    data = card.data | ({"terms": terms} if terms else {})
    scored = replace(card, name=path.stem, data=data, metrics=metrics, training=training)
    save_model(path, network, replace(scored, stored="float16") if half else scored)


def _history(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Time and curve of a run; nothing where there are no rows."""
    if not rows:
        return {}
    curve = {key: [float(f"{row[key]:.5g}") for row in rows] for key in ("train_loss", "val_loss", "val_psnr")}
    seconds = sorted(row["seconds"] for row in rows)
    # the median: other work on the machine, or a pause, is no time of the training's
    return {"epochs": len(rows), "seconds_per_epoch": seconds[len(seconds) // 2], "curve": curve}


def _free(path: str | Path, what: str) -> Path:
    """A place where a file of ours may be written."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: {what} ends in .safetensors")
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it first, or write another")
    return path
