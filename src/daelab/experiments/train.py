"""Train denoisers, classifiers and noise identifications, and write model files with their scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import nn

from daelab._util.config import read_toml
from daelab._util.distributed import is_first_process, run_on_first
from daelab._util.files import check_parent_folder
from daelab._util.plugins import name_object
from daelab.datasets.arrays import make_dataset
from daelab.datasets.base import Dataset
from daelab.datasets.registry import HANDED_OVER, USAGE_TERMS
from daelab.denoising.named_models import find_model, load_named_network, load_storable_network
from daelab.denoising.noise_identification.network import NoiseIdentifier
from daelab.evaluation.classifiers.recipe import DEFAULT_CLASSIFIER_RECIPE, ClassifierRecipe, load_classifier_recipe
from daelab.evaluation.evaluate import LossFunction
from daelab.experiments.evaluate_model import ModelEvaluation
from daelab.experiments.reports.run import write_run_report
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.external import ExternalNetwork, load_factory, split_model_name, wrap_module
from daelab.models.layers import Network
from daelab.models.model_file import save_model
from daelab.noise.base import Noise
from daelab.runs.folder import RunFolder, choose_run_name, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress, TrainingProgress
from daelab.training.callbacks.trackers import TrackedProgress
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.engine import TrainingResult
from daelab.training.recipe import Recipe, is_classifier_recipe, list_recipes, load_recipe, parse_recipe
from daelab.training.seeds import derive_seed
from daelab.training.tasks.classification import TrainedClassifier, fit_classifier
from daelab.training.tasks.denoising import fit_denoiser
from daelab.training.tasks.noise_identification import EXAMPLES, train_noise_identifier


def train(
    recipe: Recipe | str | Path,
    name: str | None = None,
    *,
    network: nn.Module | Callable[[], nn.Module] | str | None = None,
    dataset: Dataset | ArrayLike | None = None,
    loss: LossFunction | str | None = None,
    noise: Noise | str | None = None,
    resume: bool = False,
    data_root: str | Path | None = None,
    ledger: Ledger | None = None,
    progress: TrainingProgress | None = None,
    download: Callable[[int, int], None] | None = None,
    checkpoint_every: CheckpointSchedule | None = None,
    track: Sequence[str] = (),
    report: bool = True,
    warn: Callable[[str], object] = warnings.warn,
) -> TrainingResult:
    """Train a denoiser by a recipe, record the run in the ledger, and draw its report if matplotlib is installed.

    Args:
        recipe: A recipe, the name of a shipped one (`paper/38`), or the path of a TOML file.
        name: The name of the run. Default: made from the recipe's name.
        network: A network of your own instead of the recipe's `spec`: a module, which is trained in place, a class or
            a function that makes one, or its name `package.module:factory`. The model file holds its weights and this
            name, and `load_model("package.module:factory@RUN")` loads it.
        dataset: Images of your own instead of the recipe's `data.name`: a data set, or an array of clean images,
            uint8 (N, H, W, C) or (N, C, H, W), where C is the channels of the network.
        loss: A loss instead of the recipe's: a text, or a function of (images, clean images) to a scalar.
        noise: A noise instead of the recipe's, or its text form.
        resume: Whether to go on from the run's last checkpoint, exactly. What was handed over is handed over again.
        data_root: The folder of downloaded data sets.
        ledger: The database in which the run is recorded. Default: the default ledger.
        progress: The observer of the training.
        download: A function that is called with (bytes, all bytes) while a data set is downloaded.
        checkpoint_every: The interval between checkpoints. Default: after every epoch.
        track: Trackers that the training also reports to, such as `tensorboard` or `mlflow=URI`.
        report: Whether to draw the report. It can be drawn later: a finished run that is resumed gets its report.
        warn: A function that is called with the message of a tracker that failed.

    Raises:
        ValueError: A mistake in the recipe, the data or the trackers; one line that says what to do.
        FileNotFoundError: There is no such recipe.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    if not isinstance(recipe, Recipe):
        source = str(recipe)
        recipe = run_on_first(lambda: load_recipe(source))
        name = run_on_first(lambda: name or choose_run_name(source.removesuffix(".toml")))
    recipe, own = attach_network(recipe, network)
    images = dataset
    if images is not None and not isinstance(images, Dataset):
        images = make_dataset(images, channels=recipe.spec.channels)
    function = loss if callable(loss) else None
    changes: dict[str, Any] = {
        "noise": noise and str(noise),
        "loss": name_object(loss) if function else loss,
        "data": images and recipe.to_dict()["data"] | {"name": f"{HANDED_OVER}:{images.name}"},
    }
    recipe = _change_recipe(recipe, changes)
    tracked = TrackedProgress(progress or SilentProgress(), recipe, track if is_first_process() else (), warn)
    with tracked.report_end():
        trained = fit_denoiser(
            recipe,
            name,
            dataset=images,
            network=own,
            loss=function,
            resume=resume,
            data_root=data_root,
            ledger=ledger,
            progress=tracked,
            download=download,
            checkpoint_every=checkpoint_every,
        )
    if report and is_matplotlib_installed() and is_first_process():
        write_run_report(trained.run)
    return trained


def _change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values of some fields; None leaves a field as it is."""
    changes = {key: value for key, value in changes.items() if value is not None}
    return parse_recipe(recipe.to_dict() | changes) if changes else recipe


def attach_network(
    recipe: Recipe, network: nn.Module | Callable[[], nn.Module] | str | None = None
) -> tuple[Recipe, Network | None]:
    """Return the recipe with the architecture of a user's own network, and the network; None for daelab's own.

    Args:
        recipe: The recipe. The code that it names is run, so only its user may have named it.
        network: The network, what makes it, or its name. Default: what the recipe names.

    Raises:
        ValueError: The user's code failed.
    """
    spec = recipe.spec
    if network is None and not isinstance(spec, ModuleArchitecture):
        return recipe, None
    # The names of code in a recipe are those that the user gave; `load_recipe` refuses them from a file.
    named = spec.factory if network is None else network
    if isinstance(named, nn.Module):
        module, factory = named, name_object(named)
    else:
        factory = named if isinstance(named, str) else name_object(named)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(recipe.seed, "weights"))
            module = load_factory(factory) if isinstance(named, str) else named()
    if isinstance(spec, ModuleArchitecture) and spec != ModuleArchitecture(spec.factory) and spec.factory == factory:
        # Measured when the run began, and part of its recipe.
        return recipe, ExternalNetwork(spec, module)
    wrapped, _ = wrap_module(module, factory)
    return _change_recipe(recipe, {"spec": wrapped.spec.to_dict()}), wrapped


def train_classifier(
    recipe: ClassifierRecipe | str | Path | None = None,
    name: str | None = None,
    *,
    resume: bool = False,
    data_root: str | Path | None = None,
    ledger: Ledger | None = None,
    progress: TrainingProgress | None = None,
    download: Callable[[int, int], None] | None = None,
    track: Sequence[str] = (),
    warn: Callable[[str], object] = warnings.warn,
) -> TrainedClassifier:
    """Train a classifier by a recipe, and record the run in the ledger.

    Args:
        recipe: A recipe, the name of a shipped one (`judge/photos`), or the path of a TOML file. Default: the run's own
            recipe with `resume`, else `judge/cifar10`.
        name: The name of the run. Default: `judge-N` with the first unused N.
        resume: Whether to go on from the run's last checkpoint, exactly.
        data_root: The folder of downloaded data sets.
        ledger: The database in which the run is recorded. Default: the default ledger.
        progress: The observer of the training.
        download: A function that is called with (bytes, all bytes) while a data set is downloaded.
        track: Trackers that the training also reports to, such as `tensorboard` or `mlflow=URI`.
        warn: A function that is called with the message of a tracker that failed.

    Raises:
        ValueError: A mistake in the recipe, the data or the trackers; one line that says what to do.
        FileNotFoundError: There is no such recipe, or no such run.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    if not isinstance(recipe, ClassifierRecipe):
        source = recipe
        recipe = run_on_first(lambda: _find_classifier_recipe(source, name if resume else None))
    tracked = TrackedProgress(progress or SilentProgress(), recipe, track if is_first_process() else (), warn)
    with tracked.report_end():
        return fit_classifier(
            recipe,
            name,
            resume=resume,
            data_root=data_root,
            ledger=ledger,
            progress=tracked,
            download=download,
        )


def _find_classifier_recipe(source: str | Path | None, run_name: str | None) -> ClassifierRecipe:
    """Return the named recipe, or that of the run that is resumed."""
    if source is None and run_name is not None:
        run = get_run_folder(run_name)
        if not run.recipe.is_file():
            raise FileNotFoundError(f"no run {run.name} in {run.path.parent}")
        if not is_classifier_recipe(read_toml(run.recipe)):
            raise ValueError(f"run {run.name} is the training of a denoiser; use daelab train --resume {run.name}")
        source = run.recipe
    return load_classifier_recipe(source or DEFAULT_CLASSIFIER_RECIPE)


def train_noise_identification(
    path: str | Path,
    data: Sequence[str] = ("photos",),
    *,
    examples: int | None = None,
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NoiseIdentifier:
    """Train a noise identification on clean pictures of data sets, and write it to a file.

    Args:
        path: The file to write, which ends in .safetensors.
        data: The data sets, as `load_dataset` takes them.
        examples: The number of noisy pictures to learn from. Default: 60,000.
        seed: The seed; the same seed gives the same weights.
        data_root: The folder of downloaded data sets.
        progress: A function that is called with (finished pictures, all pictures).

    Raises:
        ValueError: The suffix is not .safetensors, or a data set is unknown or missing.
        FileExistsError: The file exists.
    """
    path = _check_free(path, "a noise identification's file")
    identifier = train_noise_identifier(data, data_root, examples=examples or EXAMPLES, seed=seed, progress=progress)
    identifier.save(path)
    return identifier


def save_evaluated_model(model: str | Path, found: ModelEvaluation, path: str | Path, *, half: bool = False) -> None:
    """Write a model to a new file, with its scores on test images in the header.

    For the model of a run, the header also gets the duration and the curves of the training; if the recipe ships, it
    also gets the command that trains the model again.

    Args:
        model: A model file, the name of a shipped model, or the name of a run.
        found: The scores.
        path: The file to write; its name ends in .safetensors.
        half: Store the weights in half precision; the scores should be those of `load_half_precision`.

    Raises:
        ValueError: The suffix is another, the model has no model file, or the scores are not those of float32.
        FileExistsError: The file exists.
    """
    if found.precision != "float32":
        raise ValueError(f"the scores of a model file are those of float32, and these are of {found.precision}")
    path, source = check_evaluated_model(model, path)
    network, card = load_named_network(model)
    metrics = card.metrics | {"test": found.to_dict()}
    training = card.training | _history(RunFolder(source.parent).read_metrics())
    shipped = next((name for name in list_recipes() if load_recipe(name).sha256 == card.recipe_sha256), None)
    training |= {"command": f"daelab train --recipe {shipped}"} if shipped else {}
    terms = USAGE_TERMS.get(card.data.get("name", ""))
    data = card.data | ({"terms": terms} if terms else {})
    scored = replace(card, name=path.stem, data=data, metrics=metrics, training=training)
    save_model(path, network, replace(scored, stored="float16") if half else scored)


def check_evaluated_model(model: str | Path, path: str | Path) -> tuple[Path, Path]:
    """Check that `save_evaluated_model` can write a model to a file, before the model is scored.

    Args:
        model: A model file, the name of a shipped model, or the name of a run.
        path: The file to write.

    Returns:
        The file to write, and the file of the model.

    Raises:
        ValueError: The suffix is another, or the model has no model file.
        FileExistsError: The file exists.
        FileNotFoundError: There is no such model.
        NotADirectoryError: The file would lie in something that is no folder.
    """
    path = _check_free(path, "a model file")
    load_storable_network(model)
    check_parent_folder(path)
    return path, find_model(split_model_name(model)[1])


def _history(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return the duration and the curves of a run; nothing if there are no rows."""
    if not rows:
        return {}
    curve = {key: [float(f"{row[key]:.5g}") for row in rows] for key in ("train_loss", "val_loss", "val_psnr")}
    seconds = sorted(row["seconds"] for row in rows)
    # The median excludes epochs that other work on the computer or a pause prolonged.
    return {"epochs": len(rows), "seconds_per_epoch": seconds[len(seconds) // 2], "curve": curve}


def _check_free(path: str | Path, what: str) -> Path:
    """Check that a file can be written: its suffix, and that it does not exist."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: the name of {what} must end in .safetensors")
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it, or write to another file")
    return path
