"""Load a model, score it, write it as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from daelab._util.distributed import run_first_on_each_host
from daelab._util.files import replace_file
from daelab._util.hardware import keep_freed_memory
from daelab.datasets.base import Dataset
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.denoising.backends import make_network_backend
from daelab.denoising.classical import (
    CLASSICAL_PREFIX,
    ConfiguredMethod,
    TunedMethod,
    parse_classical_method,
    tune_classical_method,
)
from daelab.denoising.denoiser import Denoiser, find_model
from daelab.denoising.tiling import reflect_indices
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.registry import load_classifier
from daelab.evaluation.evaluate import EvaluationScores, evaluate_denoiser
from daelab.models.layers import Network, prepare_inference
from daelab.models.model_file import ModelMetadata, load_network, round_to_half
from daelab.models.onnx import TOLERANCE, NetworkFunction, OnnxModel, OnnxParity, ParityError, compare_runs, write_onnx
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise


def load_model(
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

    >>> clean = load_model("model-c", tile=256)(np.full((5, 7), 128, np.uint8))
    >>> clean.shape, str(clean.dtype)
    ((5, 7), 'uint8')
    """
    return Denoiser.load(name, device, tile=tile, memory=memory, sigma=sigma)


def load_half_precision(name: str | Path) -> Denoiser:
    """A denoiser with its weights rounded to half precision, as `save_scored` may store them; a file half as large.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    network, card = load_network(find_model(name))
    round_to_half(network)
    return Denoiser(make_network_backend(network, card))


@dataclass(frozen=True)
class ModelEvaluation:
    """A model's scores on a data set's test images."""

    model: str
    parameters: int
    data: str
    scores: EvaluationScores
    tuned: TunedMethod | None = None
    """Of a classical method: the settings that were chosen, and how."""

    def to_dict(self) -> dict[str, Any]:
        """What `daelab evaluate --json` prints, in full."""
        head = {"model": self.model, "parameters": self.parameters, "data": self.data}
        tuned = {"baseline": self.tuned.to_dict()} if self.tuned else {}
        return head | self.scores.to_dict() | tuned


def evaluate(
    model: Denoiser | str | Path,
    data: str | Dataset = "cifar10",
    noise: Noise | str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    self_ensemble: bool = False,
    judge: Classifier | str | None = None,
    judge_path: str | Path | None = None,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning: Callable[[int, int], None] | None = None,
    download: Callable[[int, int], None] | None = None,
) -> ModelEvaluation:
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
        judge = load_classifier(judge, judge_path)
    baseline = _baseline(model)
    denoiser = None if baseline else model if isinstance(model, Denoiser) else load_model(model)
    if noise is None:
        noise = (denoiser and denoiser.method.noise) or "published-code"
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    loading = partial(_loaded, data, data_root, train=baseline is not None, progress=download)
    found = run_first_on_each_host(loading)
    tuned = None
    if denoiser is None:
        assert baseline is not None
        tuned = tune_classical_method(baseline, *split_dataset(found, None, None, seed=0), noise, tuning)
        denoiser = Denoiser(tuned.baseline.method())
    images = found.test if limit is None else found.test.take(np.arange(min(limit, len(found.test))))
    keep_freed_memory()
    denoise = partial(denoiser.batch, self_ensemble=self_ensemble)
    scores = evaluate_denoiser(
        denoise, images, noise, seed=seed, device=denoiser.device, judge=judge, progress=progress
    )
    return ModelEvaluation(
        str(model if not isinstance(model, Denoiser) else denoiser.name),
        denoiser.parameters,
        found.name,
        scores,
        tuned,
    )


def _loaded(data: str | Dataset, root: str | Path | None, **options: Any) -> Dataset:
    return data if isinstance(data, Dataset) else load_dataset(data, root, **options)


def evaluate_levels(
    model: Denoiser | str | Path, levels: Iterable[float], data: str | Dataset = "cbsd68", **options: Any
) -> tuple[ModelEvaluation, ...]:
    """Score a model under `awgn(sigma)`, unclipped, at each level: the table of the literature.

    Args:
        levels: sigmas, in 8-bit units.
        options: those of `evaluate`, but for the noise.

    Raises:
        ValueError: as `evaluate`, or a level below 0.
    """
    return tuple([evaluate(model, data, parse_noise(f"awgn({level!r})"), **options) for level in levels])


def _baseline(model: Denoiser | str | Path) -> ConfiguredMethod | None:
    """The classical method that a model's name stands for, where something of it is left to tune."""
    if not str(model).startswith(CLASSICAL_PREFIX):
        return None
    found = parse_classical_method(str(model))
    return None if found.complete else found


@dataclass(frozen=True)
class ExportedModel:
    """An ONNX file, and how far it is from PyTorch."""

    model: str
    path: Path
    card: ModelMetadata
    parity: OnnxParity

    def to_dict(self) -> dict[str, Any]:
        """What `daelab export --json` prints."""
        head = {"model": self.model, "file": str(self.path), "bytes": self.path.stat().st_size}
        return head | {"parameters": self.card.spec.parameters} | self.parity.to_dict()


def export_model(model: str | Path, path: str | Path, *, overwrite: bool = False) -> ExportedModel:
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
    path, source = Path(path), find_model(model)
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"{path}: an ONNX file ends in .onnx")
    if source.suffix.lower() == ".onnx":
        raise ValueError(f"{source} is an ONNX file already")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    network, card = load_network(source)
    with replace_file(path) as part:
        write_onnx(part, network, card)
        parity = compare_runs(OnnxModel(part), _whole(network), channels=card.spec.inputs)
        if not parity.holds:
            raise ParityError(
                f"{path} was not written: onnxruntime's pictures differ from PyTorch's by up to"
                f" {parity.largest:.1e}, more than {TOLERANCE:.0e}"
            )
    return ExportedModel(str(model), path, card, parity)


def _whole(network: Network) -> NetworkFunction:
    """A network as PyTorch runs it, in float32 and untiled, for any size."""
    run, multiple = prepare_inference(network), network.spec.multiple

    def padded(x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        for axis, side in ((2, height), (3, width)):
            x = x.index_select(axis, torch.from_numpy(reflect_indices(0, side + -side % multiple, side)))
        return run(x)[..., :height, :width]

    return padded
