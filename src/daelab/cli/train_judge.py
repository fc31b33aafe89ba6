"""The command `daelab train-judge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab._util.distributed import is_first_process, join_group, run_on_first
from daelab.cli.console import (
    ConsoleProgress,
    format_command,
    format_count,
    format_duration,
    print_json,
    print_result,
    show_progress,
)
from daelab.cli.help import complete_classifiers
from daelab.cli.options import Changes, DataRoot, Device, Json, Resume

if TYPE_CHECKING:
    from daelab.training.tasks.classification import TrainedClassifier


@join_group()
def train_judge(
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe: judge/cifar10, judge/holdout, judge/unseen, judge/photos, or a file. Default: judge/cifar10.",
            autocompletion=complete_classifiers,
        ),
    ] = None,
    changes: Changes = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run. It is stored in runs/NAME. Default: judge-N.")
    ] = None,
    resume: Resume = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="Also write the classifier to this file.")
    ] = None,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Train a classifier that scores denoised images.

    The test accuracy is printed. `daelab evaluate --judge FILE` uses the classifier.

    Example: daelab train-judge --recipe judge/photos --name mine
    """
    from daelab.evaluation.classifiers.recipe import DEFAULT_CLASSIFIER_RECIPE, load_classifier_recipe
    from daelab.experiments.train import train_classifier

    if resume and (recipe or changes or name):
        raise ValueError("--resume uses the run's own recipe; it cannot be combined with --recipe, --set or --name")
    if save is not None and save.suffix != ".safetensors":
        raise ValueError(f"--save {save}: the file of a classifier must end in .safetensors")
    if save is not None and save.exists():
        raise FileExistsError(f"{save} exists; remove it first, or choose another file")
    parsed = run_on_first(
        lambda: None if resume else load_classifier_recipe(recipe or DEFAULT_CLASSIFIER_RECIPE, changes or ())
    )
    with show_progress("downloading", "bytes") as download:
        trained = train_classifier(
            parsed,
            resume or name,
            resume=resume is not None,
            data_root=data_root,
            progress=ConsoleProgress(),
            download=download,
        )
    if not is_first_process():
        return
    if save is not None:
        trained.save(save)
    path = save or trained.path
    if as_json:
        print_json({"run": trained.run.name, "judge": str(path), **trained.file.card.model_dump(mode="json")})
    else:
        _print_training(trained, path)


def _print_training(trained: TrainedClassifier, path: Path) -> None:
    metadata = trained.file.card
    test, training = metadata.metrics["test"], metadata.training
    print_result(
        f"run {trained.run.name}: {format_count(training['epochs'], 'epoch')} in {format_duration(training['seconds'])}"
    )
    for augmentation, accuracy in test["accuracy"].items():
        used = "  (used for scoring)" if augmentation == metadata.tta else ""
        print_result(
            f"  accuracy {accuracy:.2%} of {test['images']:,} test images, test-time augmentation {augmentation}{used}"
        )
    print_result(f"  file     {path}")
    command = format_command("evaluate", "model-c", "--data", metadata.data["name"], "--judge", path)
    print_result(f"  next     {command}")
