"""The evaluation of a denoiser on noisy images that depend on the seed and the image's index alone.

Shapes: images are (N, C, H, W) float32 in [0, 1].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab._util.text import replace_non_finite
from daelab._util.work_sharing import merge_results, select_share
from daelab.datasets.base import Images
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.f1 import Ints, macro_f1
from daelab.evaluation.metrics import (
    EVALUATION_BATCH,
    Floats,
    Metric,
    MetricSummary,
    compute_batch_psnr,
    convert_mse_to_psnr,
    list_metrics,
    mse,
    summarize_metric,
)
from daelab.noise.base import Noise
from daelab.noise.basic import Clean
from daelab.noise.random_streams import IndexedStream, RandomStream

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""A function of the denoised and the clean images, both (N, C, H, W), to a scalar."""
DenoiseFunction = Callable[[Tensor], Tensor]
"""A function of noisy images to denoised ones, both (N, C, H, W) float32.

Noisy images lie in [0, 1], except under a noise that is not clipped (`awgn`).
"""

Columns = dict[str, Tensor]
"""The measured values of a batch's images by name: (N,) each, except the pixels."""


@dataclass(frozen=True)
class NoisyBatch:
    """A batch of clean images and their noisy versions."""

    clean: Tensor
    noisy: Tensor
    component: Tensor
    """(N,) int64 on the CPU: the index of the noise's component that each image was given."""


def iterate_noisy_batches(
    images: Images,
    noise: Noise,
    seed: int,
    batch: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    *,
    shared: bool = False,
) -> Iterator[NoisyBatch]:
    """Yield every image once, in order, under the noise that its index and the seed determine.

    Args:
        images: The clean images.
        noise: The noise.
        seed: The seed of the noise.
        batch: The number of images in a batch.
        device: The device of the batches.
        shared: Yield only the batches of this process, where several processes share the work.
    """
    groups = images.groups(batch)
    for indices in select_share(groups) if shared else groups:
        pixels = torch.from_numpy(images.batch(indices)).to(device).float().div_(255)
        clean, noisy = make_noisy_batch(pixels, noise, IndexedStream(indices, seed, device), images.channels)
        yield NoisyBatch(clean, noisy, noise.component(IndexedStream(indices, seed)))


def make_noisy_batch(pixels: Tensor, noise: Noise, stream: RandomStream, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return the clean images of a batch, and the noisy ones: those of the data set if it is paired.

    Args:
        pixels: (N, C, H, W) clean images, or (N, 2 C, H, W) pairs of a clean and a noisy image.
        noise: The noise, which must be `none` for pairs.
        stream: The random numbers of the noise.
        channels: C, the channels of an image.

    Raises:
        ValueError: Noise would be added to the noise that pairs have.
    """
    clean = pixels[:, :channels]
    if pixels.shape[1] == channels:
        return clean, noise.apply(clean, stream)
    if not isinstance(noise, Clean):
        raise ValueError(f"paired data hold noise of their own, so the noise must be none, not {noise}")
    return clean, pixels[:, channels:]


@dataclass(frozen=True)
class ValidationScores:
    """The scores of the validation images after an epoch."""

    loss: float
    psnr: float
    """The PSNR in dB, mean over images."""
    psnr_batch: float
    """The paper's batch PSNR in dB, mean over batches."""


@torch.inference_mode()
def validate_denoiser(denoise: DenoiseFunction, batches: Iterable[NoisyBatch], loss: LossFunction) -> ValidationScores:
    """Compute the mean loss and PSNR over batches; the host waits for the device only at the end.

    Args:
        denoise: The denoiser.
        batches: Batches of validation images.
        loss: The loss of the training.
    """
    # A loss of noisy images alone measures the network itself.
    of_network: Callable[[DenoiseFunction, Tensor], Tensor] | None = getattr(loss, "validate", None)

    def measure_loss(denoised: Tensor, batch: NoisyBatch) -> Tensor:
        return of_network(denoise, batch.noisy) if of_network else loss(denoised, batch.clean)

    def measure(batch: NoisyBatch) -> Columns:
        denoised = denoise(batch.noisy)
        return {
            # The mean of a batch counts for its images, since the last batch may be smaller.
            "loss": measure_loss(denoised, batch)[None] * len(denoised),
            "error": mse(denoised, batch.clean),
            "peak": batch.clean.flatten(1).amax(1),
        }

    columns = _columns(merge_results(map(measure, batches)))
    # A blank image can be restored exactly. It counts as 120 dB, since JSON has no infinity.
    error, peak = columns["error"].clamp_min(1e-12), columns["peak"].clamp_min(1 / 255)
    by_batch = compute_batch_psnr(error.cpu().numpy(), peak.cpu().double().numpy())
    mean = float(columns["loss"].sum()) / len(error)
    return ValidationScores(mean, float(convert_mse_to_psnr(error).mean()), float(by_batch.mean()))


@torch.inference_mode()
def score_with_classifier(
    denoise: DenoiseFunction, batches: Iterable[NoisyBatch], judge: Classifier, labels: Ints
) -> float:
    """Compute the macro F1 of a classifier on denoised images.

    Args:
        denoise: The denoiser.
        batches: The images, in the order of `labels`.
        judge: A classifier whose classes are those of the labels.
        labels: (N,) the classes of the images.
    """
    columns = _columns(merge_results({"class": judge(denoise(batch.noisy).clamp(0, 1))} for batch in batches))
    return macro_f1(labels, columns["class"].numpy(), len(judge.classes))


def _columns(results: Iterable[Columns]) -> Columns:
    """Join the values of all batches into one tensor for each name."""
    columns: dict[str, list[Tensor]] = {}
    for batch in results:
        for name, column in batch.items():
            columns.setdefault(name, []).append(column)
    return {name: torch.cat(column) for name, column in columns.items()}


@dataclass(frozen=True)
class NoiseScores:
    """The metrics of a set of images under one noise."""

    noise: str
    images: int
    metrics: dict[str, MetricSummary]
    judged: ClassifierScores | None = None
    """The scores of the classifier, if there is one."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a number that is not finite becomes null."""
        values = {name: summary.to_dict() for name, summary in self.metrics.items()}
        judged = self.judged.summary() if self.judged else {}
        return {"noise": self.noise, "images": self.images, **replace_non_finite(values), **judged}


@dataclass(frozen=True)
class EvaluationScores:
    """The scores over all images and for each component of the noise."""

    overall: NoiseScores
    components: tuple[NoiseScores, ...]
    seed: int
    noisy_sha256: str
    """The SHA-256 of the noisy pixels, clipped and rounded to 8 bits, image after image, channels first."""
    psnrs: Floats = field(repr=False, compare=False)
    """(N,) the PSNR in dB of each denoised image, in order."""
    requested: Mapping[str, Floats] = field(default_factory=dict, repr=False, compare=False)
    """(N,) the values of each denoised image, by the names of the metrics that were asked for beside the usual ones."""

    def values(self, metric: str) -> Floats:
        """Return the values of each denoised image, in order.

        Args:
            metric: `psnr`, or a metric that was asked for.
        """
        return self.psnrs if metric == "psnr" else self.requested[metric]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        judged = self.overall.judged
        return {
            **self.overall.to_dict(),
            **(judged.to_dict() if judged else {}),
            "seed": self.seed,
            "noisy_sha256": self.noisy_sha256,
            "components": [scores.to_dict() for scores in self.components],
        }


@torch.inference_mode()
def evaluate_denoiser(
    denoise: DenoiseFunction,
    images: Images,
    noise: Noise,
    *,
    seed: int = 0,
    batch: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    judge: Classifier | None = None,
    metrics: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationScores:
    """Score a denoiser on every image of a set.

    Args:
        denoise: The denoiser, a function of noisy images (N, C, H, W).
        images: The clean images.
        noise: The noise. An image's noise depends on the seed and its index, whatever the batch size.
        seed: The seed of the noise and of the bootstrap.
        batch: The number of images in a batch.
        device: The device of the batches.
        judge: A classifier that scores the clean, the noisy and the denoised images.
        metrics: The names of metrics beside those of every evaluation; see `check_requested_metrics`.
        progress: Called with the numbers of images done and of all images.

    Raises:
        ValueError: The classifier does not know the images' classes.
    """
    # Checked before anything is computed, so that a classifier of other classes fails at once.
    judge = judge and judge.on(images.classes, images.name)
    digest, done = hashlib.sha256(), 0

    def measure(batch: NoisyBatch) -> Columns:
        denoised = denoise(batch.noisy).clamp(0, 1)
        pixels = batch.noisy.clamp(0, 1).mul(255).round().to(torch.uint8)
        columns = {"pixels": pixels, "component": batch.component, "peak": batch.clean.flatten(1).amax(1)}
        for metric in list_metrics("image", requested=metrics):
            columns[f"noisy {metric.name}"] = metric.function(batch.noisy, batch.clean)
            columns[f"denoised {metric.name}"] = metric.function(denoised, batch.clean)
        if judge:
            # The clean images are the same for every model, so their classes are cached.
            columns["clean class"] = judge.remembered(batch.clean)
            columns |= {"noisy class": judge.remembered(batch.noisy.clamp(0, 1)), "denoised class": judge(denoised)}
        return columns

    def count(columns: Columns) -> Columns:
        # Results arrive here in the order of the images, also where several processes share the work.
        nonlocal done
        digest.update(columns.pop("pixels").cpu().numpy().tobytes())
        done += len(columns["peak"])
        if progress:
            progress(done, len(images))
        return columns

    batches = iterate_noisy_batches(images, noise, seed, batch, device, shared=True)
    columns = _columns(map(count, merge_results(map(measure, batches))))
    values = {name: column.cpu().double().numpy() for name, column in columns.items()}
    judged = _score_classes(judge, images, values, seed) if judge else None
    return _summarize(values, noise, seed, digest.hexdigest(), judged, metrics)


def _score_classes(judge: Classifier, images: Images, values: dict[str, Floats], seed: int) -> ClassifierScores:
    predictions = {kind: values[f"{kind} class"].astype(np.int64) for kind in ("clean", "noisy", "denoised")}
    return ClassifierScores(judge.name, images.classes, images.labels, seed=seed, **predictions)


def _summarize(
    values: dict[str, Floats],
    noise: Noise,
    seed: int,
    sha256: str,
    judged: ClassifierScores | None,
    requested: Sequence[str],
) -> EvaluationScores:
    all_images = np.ones(len(values["peak"]), dtype=bool)
    of_images = list_metrics("image", requested=requested)
    metrics = {
        metric.name: _summarize_batches(metric, values, seed)
        if metric.scope == "batch"
        else _summarize_images(metric, values, all_images, seed)
        for metric in list_metrics("image", "batch", requested=requested)
    }
    components = []
    for number, option in enumerate(noise.options()):
        mine = values["component"] == number
        # In a small set, a rare component may have been given to no image.
        if mine.any():
            # The images of a component form no batches of their own, so it has no metric of batches.
            parts = {metric.name: _summarize_images(metric, values, mine, seed) for metric in of_images}
            components.append(NoiseScores(str(option), int(mine.sum()), parts, judged and judged.only(mine)))
    scores = NoiseScores(str(noise), len(values["peak"]), metrics, judged)
    single = {name: values[f"denoised {name}"] for name in requested}
    return EvaluationScores(scores, tuple(components), seed, sha256, values["denoised psnr"], single)


def _summarize_images(
    metric: Metric, values: dict[str, Floats], mask: npt.NDArray[np.bool_], seed: int
) -> MetricSummary:
    noisy, denoised = (values[f"{kind} {metric.name}"][mask] for kind in ("noisy", "denoised"))
    return summarize_metric(noisy, denoised, seed)


def _summarize_batches(metric: Metric, values: dict[str, Floats], seed: int) -> MetricSummary:
    noisy, denoised = (metric.function(values[f"{kind} mse"], values["peak"]) for kind in ("noisy", "denoised"))
    return summarize_metric(noisy, denoised, seed)
