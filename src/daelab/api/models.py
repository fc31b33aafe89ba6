"""Load a model, score it, write it as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from daelab import baselines, evaluation, modelfile, processes, training
from daelab import data as datasets
from daelab import export as onnx
from daelab import judge as judges
from daelab.denoiser import Denoiser, find
from daelab.files import written_beside
from daelab.method import of_network
from daelab.model import Network, inference
from daelab.noise import Noise, parse
from daelab.tiles import reflected


def load(
    name: str | Path,
    device: torch.device | str | None = None,
    *,
    tile: int | None = None,
    memory: int | str | None = None,
    sigma: float | None = None,
) -> Denoiser:
    """A denoiser from a model file, the name of a shipped model, or the name of a run.

    Args:
        name: of the model.
        device: where it computes; a GPU where there is one.
        tile: side of a tile in pixels; up to 512 where it is not given.
        memory: what the computing of a tile may take, in bytes or as text ("512MB"); a quarter of
            the free memory where it is not given.
        sigma: the noise's standard deviation, in steps of 8 bits, for a model that is told it; estimated
            from each picture where it is not given.

    Raises:
        FileNotFoundError: it is none of these; lists the names and the nearest match.
        ValueError: the file is not a model; names it and says what is wrong.

    >>> clean = load("model-c", tile=256)(np.full((5, 7), 128, np.uint8))
    >>> clean.shape, str(clean.dtype)
    ((5, 7), 'uint8')
    """
    return Denoiser.load(name, device, tile=tile, memory=memory, sigma=sigma)


def load_half(name: str | Path) -> Denoiser:
    """A denoiser with its weights rounded to half precision, as `save_scored` may store them; a file half as large.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    network, card = modelfile.load(find(name))
    modelfile.round_to_half(network)
    return Denoiser(of_network(network, card))


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
    self_ensemble: bool = False,
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
        self_ensemble: average over the eight flips and rotations; eight times the work.
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
    loading = partial(_loaded, data, data_root, train=baseline is not None, progress=download)
    found = processes.first_here_first(loading)
    tuned = None
    if denoiser is None:
        assert baseline is not None
        tuned = baselines.tune(baseline, *datasets.split(found, None, None, seed=0), noise, tuning)
        denoiser = Denoiser(tuned.baseline.method())
    images = found.test if limit is None else found.test.take(np.arange(min(limit, len(found.test))))
    training.keep_memory()
    denoise = partial(denoiser.batch, self_ensemble=self_ensemble)
    scores = evaluation.evaluate(
        denoise, images, noise, seed=seed, device=denoiser.device, judge=judge, progress=progress
    )
    return Evaluated(
        str(model if not isinstance(model, Denoiser) else denoiser.name),
        denoiser.parameters,
        found.name,
        scores,
        tuned,
    )


def _loaded(data: str | datasets.Dataset, root: str | Path | None, **options: Any) -> datasets.Dataset:
    return data if isinstance(data, datasets.Dataset) else datasets.load(data, root, **options)


def evaluate_levels(
    model: Denoiser | str | Path, levels: Iterable[float], data: str | datasets.Dataset = "cbsd68", **options: Any
) -> tuple[Evaluated, ...]:
    """Score a model under `awgn(sigma)`, unclipped, at each level: the table of the literature.

    Args:
        levels: sigmas, in 8-bit units.
        options: those of `evaluate`, but for the noise.

    Raises:
        ValueError: as `evaluate`, or a level below 0.
    """
    return tuple([evaluate(model, data, parse(f"awgn({level!r})"), **options) for level in levels])


def _baseline(model: Denoiser | str | Path) -> baselines.Baseline | None:
    """The classical method that a model's name stands for, where something of it is left to tune."""
    if not str(model).startswith(baselines.PREFIX):
        return None
    found = baselines.parse(str(model))
    return None if found.complete else found


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
        parity = onnx.compare(onnx.OnnxModel(part), _whole(network), channels=card.spec.inputs)
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
