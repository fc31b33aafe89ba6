"""Evaluation of a model, given by its name, on the test images of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from daelab._util.distributed import run_first_on_each_host
from daelab._util.hardware import keep_freed_memory
from daelab.datasets.base import Dataset
from daelab.datasets.registry import check_dataset_name, load_dataset
from daelab.datasets.splits import split_dataset
from daelab.denoising.automatic import AnyDenoiser, load_model
from daelab.denoising.backends import CPU_DEVICE, make_network_backend
from daelab.denoising.classical import (
    CLASSICAL_PREFIX,
    ConfiguredMethod,
    TunedMethod,
    parse_classical_method,
    tune_classical_method,
)
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.named_models import load_named_network
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.registry import load_classifier
from daelab.evaluation.evaluate import EvaluationScores, evaluate_denoiser
from daelab.evaluation.image_selection import select_test_images, use_all_images
from daelab.evaluation.metrics import METRICS, check_requested_metrics
from daelab.experiments.reports.table import Table
from daelab.models.int8 import choose_ranges
from daelab.models.model_file import round_to_half
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise


def load_half_precision(name: str | Path) -> Denoiser:
    """Load a denoiser with its weights rounded to half precision, which a file of half the size stores exactly.

    Args:
        name: A model file, the name of a shipped model, or the name of a run.

    Raises:
        FileNotFoundError: There is no such model or run.
        ValueError: The file is not a model.
    """
    network, card = load_named_network(name)
    round_to_half(network)
    return Denoiser(make_network_backend(network, card))


@dataclass(frozen=True)
class ModelEvaluation:
    """The scores of a model on the test images of a data set."""

    model: str
    """The name of the model."""
    parameters: int
    """The number of its parameters."""
    data: str
    """The name of the data set."""
    scores: EvaluationScores
    """The scores."""
    tuned: TunedMethod | None = None
    """The tuned settings of a classical method, and how they were found."""
    selection: str = ""
    """Which part of the data set the test images are; empty for a whole test part."""
    precision: str = "float32"
    """The precision of the computation: float32, int8, or both if the models of several images differ."""

    def to_dict(self) -> dict[str, Any]:
        """Return the output of `daelab evaluate --json`."""
        head = {"model": self.model, "parameters": self.parameters, "data": self.data, "precision": self.precision}
        tuned = {"baseline": self.tuned.to_dict()} if self.tuned else {}
        return head | self.scores.to_dict() | tuned | ({"selection": self.selection} if self.selection else {})

    @property
    def table(self) -> Table:
        """The metrics of the noisy and of the denoised images."""
        scores = self.scores.overall
        rows = [[METRICS[name].heading, one.noisy, one.denoised, *one.ci95] for name, one in scores.metrics.items()]
        columns = ["metric", "noisy", "denoised", "95% from", "95% to"]
        note = f"{scores.images:,} images of {self.data} under {scores.noise}, seed {self.scores.seed}"
        return Table(self.model, columns, rows, note)

    def to_dataframe(self) -> Any:
        """Return the table of metrics as a DataFrame of pandas."""
        return self.table.to_dataframe()

    def _repr_html_(self) -> str:
        """Return the table of metrics for a notebook."""
        return self.table._repr_html_()


def evaluate(
    model: AnyDenoiser | str | Path,
    data: str | Dataset = "cifar10",
    noise: Noise | str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    self_ensemble: bool = False,
    judge: Classifier | str | None = None,
    judge_path: str | Path | None = None,
    metrics: Sequence[str] = (),
    precision: str = "float32",
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning: Callable[[int, int], None] | None = None,
    download: Callable[[int, int], None] | None = None,
) -> ModelEvaluation:
    """Score a model on the test images of a data set, under noise that the seed and the image's index determine.

    Args:
        model: A denoiser, a name that `load_model` takes, or a classical method (`baseline:nlm`), whose open settings
            are tuned on validation images under this noise.
        data: The data set with the test images, loaded or by its name.
        noise: The noise or its text form. Default: the noise that the model was trained for; none for pairs.
        limit: The number of images: the first, or evenly spaced ones of a set that is sorted by class. Default: all.
        seed: The seed of the noise and of the bootstrap.
        self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
        judge: A classifier whose macro F1 is added, or a text that `load_classifier` takes.
        judge_path: The path of the weights of the classifier `vit`.
        metrics: Metrics that are computed only on request: `lpips`, `dists` or `niqe`, which need the package pyiqa.
        precision: `float32`, so that scores are the same on every machine, or as in `load_model`; for a model's name.
        data_root: The folder of downloaded data sets.
        progress: Called with the numbers of images done and of all images.
        tuning: Called with the numbers of combinations of settings done and of all combinations.
        download: Called with the numbers of bytes done and of all bytes.

    Raises:
        ValueError: A data set, noise or classifier is unknown, or data are missing.
    """
    # Cheap checks come first, so that a mistake is found before anything is loaded or computed.
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    metrics = check_requested_metrics(metrics)
    if isinstance(data, str):
        check_dataset_name(data)
    if isinstance(judge, str):
        judge = load_classifier(judge, judge_path)
    subject = _load_subject(model, precision)
    dataset = load_evaluated_dataset(data, data_root, train=isinstance(subject, ConfiguredMethod), download=download)
    trained = subject.method.noise if isinstance(subject, Denoiser) else None
    # Pairs have noise of their own.
    noise = noise or parse_noise("none" if dataset.test.paired else trained or "published-code")
    tuned = None
    if isinstance(subject, ConfiguredMethod):
        if not len(dataset.train):
            raise ValueError(
                f"{model} is tuned on training images, and {dataset.name} has none besides those that are tested; "
                "give all settings of the method"
            )
        tuned = tune_classical_method(subject, *split_dataset(dataset, None, None, seed=0), noise, tuning)
        subject = Denoiser(tuned.baseline.method())
    images, selection = select_test_images(dataset, limit)
    keep_freed_memory()
    denoise = partial(subject.batch, self_ensemble=self_ensemble)
    scores = evaluate_denoiser(
        denoise, images, noise, seed=seed, device=subject.device, judge=judge, metrics=metrics, progress=progress
    )
    return ModelEvaluation(
        str(model if isinstance(model, str | Path) else subject.name),
        subject.parameters,
        dataset.name,
        scores,
        tuned,
        selection,
        subject.precision,
    )


def load_evaluated_dataset(
    data: str | Dataset,
    root: str | Path | None = None,
    *,
    train: bool = False,
    whole: bool = False,
    download: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set for an evaluation; of several processes on a host, the first one loads it before the others.

    Args:
        data: The data set, loaded or by its name.
        root: The folder of downloaded data sets.
        train: Whether the training part is needed, to tune a classical method.
        whole: Whether to test all images of a set that has no test part, instead of a fixed tenth.
        download: Called with the numbers of bytes done and of all bytes.

    Raises:
        ValueError: The data set is unknown or missing; or `whole` is set and it has a test part.
    """
    if isinstance(data, str):
        data = run_first_on_each_host(partial(load_dataset, data, root, train=train, progress=download))
    return use_all_images(data) if whole else data


def evaluate_levels(
    model: AnyDenoiser | str | Path, levels: Iterable[float], data: str | Dataset = "cbsd68", **options: Any
) -> tuple[ModelEvaluation, ...]:
    """Score a model under additive white Gaussian noise, `awgn(sigma)`, at several levels, as the literature does.

    Args:
        model: A denoiser, a name that `load_model` takes, or a classical method.
        levels: The standard deviations of the noise, in 8-bit steps.
        data: The data set with the test images, loaded or by its name.
        **options: The options of `evaluate`, except the noise.

    Raises:
        ValueError: As in `evaluate`, or a level is below 0.
    """
    # All levels are parsed before the first one is evaluated.
    noises = [parse_noise(f"awgn({level!r})") for level in levels]
    return tuple([evaluate(model, data, noise, **options) for noise in noises])


def _load_subject(model: AnyDenoiser | str | Path, precision: str) -> AnyDenoiser | ConfiguredMethod:
    """Return a denoiser in a precision, or a classical method with a setting that is to be tuned."""
    if not isinstance(model, str | Path):
        if precision != "float32":
            raise ValueError("precision is for a model's name; a denoiser has its own")
        return model
    if str(model).startswith(CLASSICAL_PREFIX):
        method = parse_classical_method(str(model))
        if not method.complete:
            choose_ranges(precision, {}, CPU_DEVICE, str(model))
            return method
    return load_model(model, precision=precision)
