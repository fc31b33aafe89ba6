"""What a Python user calls: load, train, evaluate. The commands call these too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab import data as datasets
from daelab import evaluation, modelfile, report, runs, training
from daelab import judge as judges
from daelab import recipe as recipes
from daelab.denoiser import Denoiser, find
from daelab.noise import IndexedDraws, Noise, parse
from daelab.recipe import Recipe

__all__ = ["Denoiser", "Evaluated", "Noise", "Recipe", "evaluate", "evaluate_levels", "load", "train"]


def load(name: str | Path) -> Denoiser:
    """A denoiser from a model file, the name of a shipped model, or the name of a run.

    Raises:
        FileNotFoundError: it is none of these; lists the names and the nearest match.
        ValueError: the file is not a model; names it and says what is wrong.
    """
    return Denoiser.load(name)


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
) -> training.Trained:
    """Train by a recipe, record the run in the ledger, and draw its report where matplotlib is.

    Args:
        recipe: a recipe, the name of a shipped one (`paper/38`), or a path to a TOML file.
        name: of the run; made from the recipe's name where it is not given.
        resume: go on with the run of this name from its last checkpoint, exactly.
        data_root: where downloaded data sets are.
        checkpoint_every: None for after every epoch.

    Raises:
        ValueError: a mistake in the recipe or the data; one line that says what to do.
        FileNotFoundError: there is no such recipe.
    """
    if not isinstance(recipe, Recipe):
        name = name or runs.free_name(str(recipe).removesuffix(".toml"))
        recipe = recipes.load(recipe)
    trained = training.fit(
        recipe,
        name,
        resume=resume,
        data_root=data_root,
        ledger=ledger,
        progress=progress,
        download=download,
        checkpoint_every=checkpoint_every,
    )
    if report.available():
        report.write_run(trained.run)
    return trained


def make_noisy(image: npt.NDArray[np.uint8], noise: Noise, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture (H, W, 3) uint8 under the noise that evaluation gives image 0 of a set."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous().float().div_(255)
    noisy = noise.apply(x, IndexedDraws([0], seed))
    return noisy[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@dataclass(frozen=True)
class Evaluated:
    """A model's scores on a data set's test images."""

    model: str
    parameters: int
    data: str
    scores: evaluation.Evaluation

    def to_dict(self) -> dict[str, Any]:
        """What `daelab evaluate --json` prints, in full."""
        head = {"model": self.model, "parameters": self.parameters, "data": self.data}
        return head | self.scores.to_dict()


def evaluate(
    model: Denoiser | str | Path,
    data: str | datasets.Images = "cifar10",
    noise: Noise | str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    judge: judges.Judge | str | None = None,
    judge_path: str | Path | None = None,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    download: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Score a model on the test images of a data set, under a noise that (seed, image) fixes.

    Args:
        model: a denoiser, or what `load` takes.
        data: a data set whose test images are used, or images.
        noise: the model's own where it is not given.
        limit: only the first so many images.
        judge: a classifier whose macro F1 is added, or what `judge.load` takes.
        judge_path: of the weights of the judge `vit`.

    Raises:
        ValueError: an unknown data set, noise or judge, or missing data.
    """
    if isinstance(judge, str):
        judge = judges.load(judge, judge_path)
    denoiser = model if isinstance(model, Denoiser) else load(model)
    if noise is None:
        noise = denoiser.card.noise or "published-code"
    noise = parse(noise) if isinstance(noise, str) else noise
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if isinstance(data, str):
        images = datasets.load(data, data_root, train=False, progress=download).test
    else:
        images, data = data, data.name
    if limit is not None:
        images = images.take(np.arange(min(limit, len(images))))
    training.keep_memory()
    scores = evaluation.evaluate(
        denoiser.batch, images, noise, seed=seed, device=denoiser.device, judge=judge, progress=progress
    )
    return Evaluated(
        str(model if not isinstance(model, Denoiser) else denoiser.name), denoiser.parameters, data, scores
    )


def evaluate_levels(
    model: Denoiser | str | Path, levels: Iterable[float], data: str | datasets.Images = "cbsd68", **options: Any
) -> tuple[Evaluated, ...]:
    """Score a model under `awgn(sigma)`, unclipped, at each level: the table of the literature.

    Args:
        levels: sigmas, in 8-bit units.
        options: those of `evaluate`, but for the noise.

    Raises:
        ValueError: as `evaluate`, or a level below 0.
    """
    return tuple([evaluate(model, data, parse(f"awgn({level!r})"), **options) for level in levels])


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


def save_scored(model: str | Path, found: Evaluated, path: str | Path) -> None:
    """Write a model's file anew, with these scores on test images in its header: what ships.

    Of a run, the header also gets the time it took and its curve, epoch by epoch.

    Raises:
        ValueError: another suffix than .safetensors.
        FileExistsError: the file exists.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a model file ends in .safetensors")
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it first, or write another")
    source = find(model)
    network, card = modelfile.load(source)
    metrics = card.metrics | {"test": found.to_dict()}
    training = card.training | _history(runs.RunFolder(source.parent).read_metrics())
    modelfile.save(path, network, replace(card, name=path.stem, metrics=metrics, training=training))


def _history(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Time and curve of a run; nothing where there are no rows."""
    if not rows:
        return {}
    curve = {key: [float(f"{row[key]:.5g}") for row in rows] for key in ("train_loss", "val_loss", "val_psnr")}
    seconds = sorted(row["seconds"] for row in rows)
    # the median: other work on the machine, or a pause, is no time of the training's
    return {"epochs": len(rows), "seconds_per_epoch": seconds[len(seconds) // 2], "curve": curve}
