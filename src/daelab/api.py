"""What a Python user calls: load, train, evaluate. The commands call these too."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab import baselines, evaluation, imagefiles, inspector, modelfile, report, runs, training
from daelab import data as datasets
from daelab import export as onnx
from daelab import judge as judges
from daelab import recipe as recipes
from daelab.cleaning import Cleaned, denoise_file, mapped
from daelab.denoiser import Denoiser, find
from daelab.files import written_beside
from daelab.model import Network, inference
from daelab.noise import IndexedDraws, Noise, parse
from daelab.recipe import Recipe
from daelab.tiles import reflected

__all__ = [
    "Cleaned",
    "Denoiser",
    "Evaluated",
    "Exported",
    "Noise",
    "Recipe",
    "denoise_file",
    "evaluate",
    "export",
    "inspect",
    "load",
    "train",
]


def load(
    name: str | Path,
    device: torch.device | str | None = None,
    *,
    tile: int | None = None,
    memory: int | str | None = None,
) -> Denoiser:
    """A denoiser from a model file, the name of a shipped model, or the name of a run.

    Args:
        name: of the model.
        device: where it computes; a GPU where there is one.
        tile: side of a tile in pixels; up to 512 where it is not given.
        memory: what the computing of a tile may take, in bytes or as text ("512MB"); a quarter of
            the free memory where it is not given.

    Raises:
        FileNotFoundError: it is none of these; lists the names and the nearest match.
        ValueError: the file is not a model; names it and says what is wrong.

    >>> clean = load("model-c", tile=256)(np.full((5, 7), 128, np.uint8))
    >>> clean.shape, str(clean.dtype)
    ((5, 7), 'uint8')
    """
    return Denoiser.load(name, device, tile=tile, memory=memory)


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


def make_noisy(image: npt.NDArray[Any], noise: Noise, seed: int = 0, index: int = 0) -> npt.NDArray[Any]:
    """A picture under the noise that evaluation gives image `index` of a set.

    Args:
        image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16, or floats in [0, 1].

    Returns:
        the same shape and type.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    pixels = image if image.ndim == 4 else image[None, ..., None] if image.ndim == 2 else image[None]
    x = torch.from_numpy(np.array(pixels, np.float32)).div_(white).permute(0, 3, 1, 2).contiguous()
    noisy = noise.apply(x, IndexedDraws(list(range(index, index + len(x))), seed)).mul(white).permute(0, 2, 3, 1)
    return (noisy.round() if white > 1 else noisy).numpy().astype(image.dtype).reshape(image.shape)


def noise_index(src: str) -> int:
    """Which image of an evaluation a picture is: its name says, so that its place among others is no matter."""
    return zlib.crc32(Path(src).name.encode())


def noise_file(src: str, dst: Path, noise: Noise, seed: int = 0, *, overwrite: bool = False) -> Cleaned:
    """Write a picture's file under noise, of the same kind; its noise follows from seed and name. See `make_noisy`."""
    index = noise_index(src)
    imagefiles.check_place(dst, overwrite=overwrite)
    picture = imagefiles.read(src)
    noisy, _ = mapped(picture, lambda image: (make_noisy(image, noise, seed, index), None))
    imagefiles.write(dst, noisy, overwrite=overwrite)
    return Cleaned(src, str(dst), "made noisy", note=picture.note, height=picture.size[0], width=picture.size[1])


@dataclass(frozen=True)
class Evaluated:
    """A model's scores on a data set's test images."""

    model: str
    parameters: int
    data: str
    scores: evaluation.Evaluation
    tuned: baselines.Tuned | None = None
    """Of a classical method: the settings that were chosen, and how."""

    def to_dict(self) -> dict[str, Any]:
        """What `daelab evaluate --json` prints, in full."""
        head = {"model": self.model, "parameters": self.parameters, "data": self.data}
        tuned = {"baseline": self.tuned.to_dict()} if self.tuned else {}
        return head | self.scores.to_dict() | tuned


def evaluate(
    model: Denoiser | str | Path,
    data: str | datasets.Dataset = "cifar10",
    noise: Noise | str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    judge: judges.Judge | str | None = None,
    judge_path: str | Path | None = None,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning: Callable[[int, int], None] | None = None,
    download: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Score a model on the test images of a data set, under a noise that (seed, image) fixes.

    Args:
        model: a denoiser, or what `load` takes; or a classical method (`baseline:nlm`), of which the
            settings that are not given are tuned on validation images under this noise.
        data: the data set whose test images are used, by name or loaded.
        noise: the model's own where it is not given.
        limit: only the first so many images.
        judge: a classifier whose macro F1 is added, or what `judge.load` takes.
        judge_path: of the weights of the judge `vit`.

    Raises:
        ValueError: an unknown data set, noise or judge, or missing data.
    """
    if isinstance(judge, str):
        judge = judges.load(judge, judge_path)
    baseline = _baseline(model)
    denoiser = None if baseline else model if isinstance(model, Denoiser) else load(model)
    if noise is None:
        noise = (denoiser and denoiser.method.noise) or "published-code"
    noise = parse(noise) if isinstance(noise, str) else noise
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    found = data
    if isinstance(found, str):
        found = datasets.load(found, data_root, train=baseline is not None, progress=download)
    tuned = None
    if denoiser is None:
        assert baseline is not None
        tuned = baselines.tune(baseline, *datasets.split(found, None, None, seed=0), noise, tuning)
        denoiser = Denoiser(tuned.baseline.method())
    images = found.test if limit is None else found.test.take(np.arange(min(limit, len(found.test))))
    training.keep_memory()
    scores = evaluation.evaluate(
        denoiser.batch, images, noise, seed=seed, device=denoiser.device, judge=judge, progress=progress
    )
    return Evaluated(
        str(model if not isinstance(model, Denoiser) else denoiser.name),
        denoiser.parameters,
        found.name,
        scores,
        tuned,
    )


def _baseline(model: Denoiser | str | Path) -> baselines.Baseline | None:
    """The classical method that a model's name stands for, where something of it is left to tune."""
    if not str(model).startswith(baselines.PREFIX):
        return None
    found = baselines.parse(str(model))
    return None if found.complete else found


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
    if str(model).startswith(baselines.PREFIX) or str(model).lower().endswith(".onnx"):
        raise ValueError(f"{model} has no model file that could be written anew")
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


@dataclass(frozen=True)
class Exported:
    """An ONNX file, and how far it is from PyTorch."""

    model: str
    path: Path
    card: modelfile.Card
    parity: onnx.Parity

    def to_dict(self) -> dict[str, Any]:
        """What `daelab export --json` prints."""
        head = {"model": self.model, "file": str(self.path), "bytes": self.path.stat().st_size}
        return head | {"parameters": self.card.spec.parameters} | self.parity.to_dict()


def export(model: str | Path, path: str | Path, *, overwrite: bool = False) -> Exported:
    """Write a model as an ONNX file, after onnxruntime gave the same pictures as PyTorch.

    Pictures of several sizes are compared, whole, in float32. `load` takes the file.

    Args:
        model: what `load` takes, but for ONNX files.
        path: ends in .onnx.

    Raises:
        ValueError: another suffix, an ONNX file as the model, or the extra `export` is not installed.
        FileExistsError: the file exists and `overwrite` is False.
        ParityError: the two are more than `export.TOLERANCE` apart; nothing is written.
    """
    path, source = Path(path), find(model)
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"{path}: an ONNX file ends in .onnx")
    if source.suffix.lower() == ".onnx":
        raise ValueError(f"{source} is an ONNX file already")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    network, card = modelfile.load(source)
    with written_beside(path) as part:
        onnx.write(part, network, card)
        parity = onnx.compare(onnx.OnnxModel(part), _whole(network), channels=card.spec.channels)
        if not parity.holds:
            raise onnx.ParityError(
                f"{path} was not written: onnxruntime's pictures differ from PyTorch's by up to"
                f" {parity.largest:.1e}, more than {onnx.TOLERANCE:.0e}"
            )
    return Exported(str(model), path, card, parity)


def _whole(network: Network) -> onnx.Run:
    """A network as PyTorch runs it, in float32 and untiled, for any size."""
    run, multiple = inference(network), network.spec.multiple

    def padded(x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        for axis, side in ((2, height), (3, width)):
            x = x.index_select(axis, torch.from_numpy(reflected(0, side + -side % multiple, side)))
        return run(x)[..., :height, :width]

    return padded


def inspect(picture: str | Path | npt.NDArray[Any]) -> inspector.Inspection:
    """Estimate which noise is in a picture, and which shipped model was trained for it.

    Args:
        picture: a file, `photo:NAME`, or an array (H, W) or (H, W, 3); see `inspector.inspect`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture; names it and says why.
    """
    if isinstance(picture, str | Path):
        picture = imagefiles.read(picture).colour().pixels
    return inspector.inspect(picture)


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
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: an inspector's file ends in .safetensors")
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it first, or write another")
    made = inspector.train(data, data_root, examples=examples or inspector.EXAMPLES, seed=seed, progress=progress)
    made.save(path)
    return made
