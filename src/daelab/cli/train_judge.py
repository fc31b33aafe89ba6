"""train-judge, and what a judge said, as tables."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import ConsoleProgress, format_duration, print_json, print_note, print_result, show_progress
from daelab.cli.help import complete_classifiers, complete_runs
from daelab.cli.options import DataRoot, Json

if TYPE_CHECKING:
    from daelab.evaluation.evaluate import EvaluationScores
    from daelab.experiments.train import TrainedClassifier
    from daelab.training.checkpoint import BestEpoch


class ClassifierConsoleProgress(ConsoleProgress):
    """A line per epoch on stderr, as a training's."""

    def epoch(self, row: dict[str, float], best: BestEpoch | None = None) -> None:
        """One line for the epoch."""
        number = int(row["epoch"])
        wipe = "\r\x1b[2K" if self.live else ""
        print_note(
            f"{wipe}epoch {number:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {row['train_loss']:.4f}  right {row['train_accuracy']:.2%} of the training images"
            f"  {row['images_per_second']:,.0f} images/s  left {self._left(number * self.steps, time.monotonic())}"
        )

    def test(self, done: int, images: int) -> None:
        """Where the last look at the test images is."""
        if done == images:
            print_note(f"tested on {images:,} images")


def train_judge(
    recipe: Annotated[
        str | None,
        typer.Option(
            help="judge/cifar10, judge/holdout, judge/photos, or a file; else the first.",
            autocompletion=complete_classifiers,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; its folder is runs/NAME.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run, exactly.", autocompletion=complete_runs)
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Also write the judge here (.safetensors).")] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Train a judge: a classifier that scores denoised images; its test accuracy is printed.

    Example: daelab train-judge --recipe judge/photos --name mine
    """
    from daelab.evaluation.classifiers.recipe import DEFAULT_CLASSIFIER_RECIPE, load_classifier_recipe
    from daelab.experiments.train import train_classifier

    if resume and (recipe or changes or name):
        raise ValueError("--resume goes on with the run's own recipe; it takes no --recipe, --set or --name")
    if save is not None and save.suffix != ".safetensors":
        raise ValueError(f"--save {save}: a judge's file ends in .safetensors")
    if save is not None and save.exists():
        raise FileExistsError(f"{save} exists; remove it first, or write another")
    wanted = None if resume else load_classifier_recipe(recipe or DEFAULT_CLASSIFIER_RECIPE, changes or ())
    with show_progress("downloading", "bytes") as download:
        made = train_classifier(
            wanted,
            resume or name,
            resume=resume is not None,
            data_root=data_root,
            progress=ClassifierConsoleProgress(),
            download=download,
        )
    if save is not None:
        made.save(save)
    if as_json:
        print_json({"run": made.run.name, "judge": str(save or made.path), **made.file.card.model_dump(mode="json")})
    else:
        _say_trained(made, save or made.path)


def _say_trained(made: TrainedClassifier, path: Path) -> None:
    card = made.file.card
    test, training = card.metrics["test"], card.training
    print_result(f"run {made.run.name}: {training['epochs']} epochs in {format_duration(training['seconds'])}")
    for tta, accuracy in test["accuracy"].items():
        used = "  (as it judges)" if tta == card.tta else ""
        print_result(f"  accuracy {accuracy:.2%} of {test['images']:,} test images, test-time augmentation {tta}{used}")
    print_result(f"  judge    {path}")
    print_result(f"  next     daelab evaluate MODEL --data {card.data['name']} --judge {path}")


def print_classifier_scores(scores: EvaluationScores) -> None:
    """Macro F1 over all images, by component and by class; nothing where no judge looked."""
    from daelab.experiments.reports.table import Table

    judged = scores.overall.judged
    if judged is None:
        return
    kinds = ("clean", "noisy", "denoised")
    rows = [
        [title, *(_percent(values.get(kind)) for kind in (*kinds, "recovered"))]
        for title, values in (
            ("macro F1", judged.macro_f1),
            ("macro F1 of batches of 4 (the paper's)", judged.macro_f1_batch4),
            ("accuracy", judged.accuracy),
        )
    ]
    if len(scores.components) > 1:
        rows += [
            [f"macro F1, {part.noise}", *(_percent(part.judged.macro_f1[kind]) for kind in (*kinds, "recovered"))]
            for part in scores.components
            if part.judged
        ]
    print_result()
    print_result(Table("judge", [f"judge {judged.judge}, %", *kinds, "recovered"], rows).to_text())
    print_result()
    by_class = judged.to_dict()["per_class"]
    classes = [
        [name, *(_percent(found[kind]["f1"]) for kind in kinds), *_percents(found["denoised"], "precision", "recall")]
        for name, found in by_class.items()
    ]
    columns = ["F1 by class, %", *kinds, "precision", "recall (denoised)"]
    print_result(Table("by class", columns, classes).to_text())


def _percents(found: dict[str, float], *keys: str) -> list[str]:
    return [_percent(found[key]) for key in keys]


def _percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"
