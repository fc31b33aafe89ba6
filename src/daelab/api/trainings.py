"""Train networks, judges and inspectors; write what ships."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daelab import baselines, inspector, modelfile, processes, report, runs, trackers, training
from daelab import data as datasets
from daelab import judge as judges
from daelab import recipe as recipes
from daelab.api.models import Evaluated
from daelab.denoiser import find
from daelab.recipe import Recipe


def train(
    recipe: Recipe | str | Path,
    name: str | None = None,
    *,
    resume: bool = False,
    data_root: str | Path | None = None,
    ledger: runs.Ledger | None = None,
    progress: training.Progress | None = None,
    download: Callable[[int, int], None] | None = None,
    checkpoint_every: training.Every | None = None,
    track: Sequence[str] = (),
    warn: Callable[[str], object] = warnings.warn,
) -> training.Trained:
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
        recipe = processes.from_first(lambda: recipes.load(source))
        name = processes.from_first(lambda: name or runs.free_name(source.removesuffix(".toml")))
    watched = trackers.Tracked(progress or training.Silent(), recipe, track if processes.first() else (), warn)
    with watched.told():
        trained = training.fit(
            recipe,
            name,
            resume=resume,
            data_root=data_root,
            ledger=ledger,
            progress=watched,
            download=download,
            checkpoint_every=checkpoint_every,
        )
    if report.available() and processes.first():
        report.write_run(trained.run)
    return trained


@dataclass(frozen=True)
class TrainedJudge:
    """A judge, and the folder of its run, where its file is `judge.safetensors`."""

    run: runs.RunFolder
    file: judges.JudgeFile

    @property
    def path(self) -> Path:
        """The judge's file."""
        return self.run.path / "judge.safetensors"

    def save(self, path: str | Path) -> None:
        """Write the judge elsewhere, under the name of its new file."""
        path = Path(path)
        card = self.file.card.model_copy(update={"name": path.stem})
        replace(self.file, card=card).save(path)


def train_judge(
    recipe: judges.JudgeRecipe | str | Path | None = None,
    name: str | None = None,
    *,
    resume: bool = False,
    data_root: str | Path | None = None,
    progress: judges.Progress | None = None,
    download: Callable[[int, int], None] | None = None,
) -> TrainedJudge:
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
    run = runs.folder(name or runs.free_name("judge"))
    if resume and not run.recipe.is_file():
        raise FileNotFoundError(f"no run {run.name} in {run.path.parent}")
    if run.recipe.exists() and not resume:
        raise ValueError(f"run {run.name} exists in {run.path}; go on with --resume {run.name}, or take another --name")
    if not isinstance(recipe, judges.JudgeRecipe):
        recipe = judges.recipe.load(recipe or (run.recipe if resume else judges.recipe.DEFAULT))
    data = datasets.load(recipe.data.name, data_root, crop=recipe.data.crop, progress=download)
    with training.noted_signals() as caught:
        try:
            made = judges.train(recipe, data, run.path, resume=resume, progress=progress, stop=lambda: bool(caught))
        except judges.Stopped:
            raise training.Interrupted(run.name, caught[0], "train-judge") from None
    runs.write_environment(run)
    return TrainedJudge(run, made)


def train_inspector(
    path: str | Path,
    data: Sequence[str] = ("photos",),
    *,
    examples: int | None = None,
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> inspector.InspectorFile:
    """Train an inspector on clean pictures of data sets, and write it.

    Raises:
        ValueError: another suffix than .safetensors, an unknown or a missing data set.
        FileExistsError: the file exists.
    """
    path = _free(path, "an inspector's file")
    made = inspector.train(data, data_root, examples=examples or inspector.EXAMPLES, seed=seed, progress=progress)
    made.save(path)
    return made


def save_scored(model: str | Path, found: Evaluated, path: str | Path, *, half: bool = False) -> None:
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
    if str(model).startswith(baselines.PREFIX) or str(model).lower().endswith(".onnx"):
        raise ValueError(f"{model} has no model file that could be written anew")
    source = find(model)
    network, card = modelfile.load(source)
    metrics = card.metrics | {"test": found.to_dict()}
    training = card.training | _history(runs.RunFolder(source.parent).read_metrics())
    made = next((name for name in recipes.shipped() if recipes.load(name).sha256 == card.recipe_sha256), None)
    training |= {"command": f"daelab train --recipe {made}"} if made else {}
    terms = datasets.TERMS.get(card.data.get("name", ""))
    data = card.data | ({"terms": terms} if terms else {})
    scored = replace(card, name=path.stem, data=data, metrics=metrics, training=training)
    modelfile.save(path, network, replace(scored, stored="float16") if half else scored)


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
