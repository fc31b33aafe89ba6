"""The one evaluation path: noisy batches that depend on (seed, image index) alone, and their scores.

Shapes: images are (N, C, H, W) float32 in [0, 1].
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daelab._util.distributed import merge_results, select_share
from daelab.datasets.base import Images
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.f1 import Ints, macro_f1
from daelab.evaluation.metrics import (
    EVALUATION_BATCH,
    METRICS,
    Floats,
    MetricSummary,
    compute_batch_psnr,
    convert_mse_to_psnr,
    mse,
    summarize_metric,
)
from daelab.noise.base import Noise
from daelab.noise.random_streams import IndexedStream

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(denoised, clean) images (N, C, H, W) -> a scalar."""
DenoiseFunction = Callable[[Tensor], Tensor]
"""Noisy images -> denoised ones, both (N, C, H, W) float32; in [0, 1], but for a noise that is not clipped (`awgn`)."""

Columns = dict[str, Tensor]
"""What was found in each image of a batch, by name; (N,) but for pixels and a batch's loss."""


@dataclass(frozen=True)
class NoisyBatch:
    """Clean images and the noisy ones made of them."""

    clean: Tensor
    noisy: Tensor
    component: Tensor
    """(N,) int64 on the CPU: which option of the noise each image drew."""


def iterate_noisy_batches(
    images: Images,
    noise: Noise,
    seed: int,
    batch: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    *,
    shared: bool = False,
) -> Iterator[NoisyBatch]:
    """Every image once, in order, under the noise of (seed, its index); `shared`: this process's batches alone."""
    groups = images.groups(batch)
    for indices in select_share(groups) if shared else groups:
        clean = torch.from_numpy(images.batch(indices)).to(device).float().div_(255)
        noisy = noise.apply(clean, IndexedStream(indices, seed, device))
        yield NoisyBatch(clean, noisy, noise.component(IndexedStream(indices, seed)))


@dataclass(frozen=True)
class ValidationScores:
    """What a training looks at after an epoch."""

    loss: float
    psnr: float
    """dB, mean over images."""
    psnr_batch: float
    """dB, the paper's."""


@torch.inference_mode()
def validate_denoiser(denoise: DenoiseFunction, batches: Iterable[NoisyBatch], loss: LossFunction) -> ValidationScores:
    """Mean loss and PSNR over batches; the host waits for the device only at the end."""

    def seen(batch: NoisyBatch) -> Columns:
        denoised = denoise(batch.noisy)
        return {
            "loss": loss(denoised, batch.clean)[None] * len(denoised),
            "error": mse(denoised, batch.clean),
            "peak": batch.clean.flatten(1).amax(1),
        }

    found = _columns(merge_results(map(seen, batches)))
    # a blank image can be met exactly: 120 dB then, since no JSON holds an infinity
    error, peak = found["error"].clamp_min(1e-12), found["peak"].clamp_min(1 / 255)
    by_batch = compute_batch_psnr(error.cpu().numpy(), peak.cpu().double().numpy())
    mean = float(found["loss"].sum()) / len(error)
    return ValidationScores(mean, float(convert_mse_to_psnr(error).mean()), float(by_batch.mean()))


@torch.inference_mode()
def score_with_classifier(
    denoise: DenoiseFunction, batches: Iterable[NoisyBatch], judge: Classifier, labels: Ints
) -> float:
    """Macro F1 of a judge that knows the classes, on denoised images in the order of their labels."""
    said = _columns(merge_results({"class": judge(denoise(batch.noisy).clamp(0, 1))} for batch in batches))
    return macro_f1(labels, said["class"].numpy(), len(judge.classes))


def _columns(results: Iterable[Columns]) -> Columns:
    """What was found batch after batch, as one tensor for each name."""
    columns: dict[str, list[Tensor]] = {}
    for found in results:
        for name, column in found.items():
            columns.setdefault(name, []).append(column)
    return {name: torch.cat(column) for name, column in columns.items()}


@dataclass(frozen=True)
class NoiseScores:
    """Metrics of a set of images under one noise."""

    noise: str
    images: int
    metrics: dict[str, MetricSummary]
    judged: ClassifierScores | None = None
    """Where a judge looked at the images."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not finite becomes null."""
        values = {name: summary.to_dict() for name, summary in self.metrics.items()}
        judged = self.judged.summary() if self.judged else {}
        return {"noise": self.noise, "images": self.images, **_finite(values), **judged}


@dataclass(frozen=True)
class EvaluationScores:
    """Scores over all images and for each component of the noise."""

    overall: NoiseScores
    components: tuple[NoiseScores, ...]
    seed: int
    noisy_sha256: str
    """SHA-256 of the noisy pixels, clipped and rounded to 8 bits, image after image, channels first."""
    psnrs: Floats = field(repr=False, compare=False)
    """(N,) dB: of each denoised image, in order."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationScores:
    """Score a denoiser on every image of a set.

    Args:
        denoise: see `Denoise`.
        noise: each image gets the noise of (seed, its index), whatever the batch size.
        seed: of the noise, and of the bootstrap.
        judge: a classifier that scores the clean, the noisy and the denoised images.
        progress: called with (images done, images in all).

    Raises:
        ValueError: the judge does not know the images' classes.
    """
    judge = judge and judge.on(images.classes, images.name)
    digest, done = hashlib.sha256(), 0

    def scored(made: NoisyBatch) -> Columns:
        denoised = denoise(made.noisy).clamp(0, 1)
        pixels = made.noisy.clamp(0, 1).mul(255).round().to(torch.uint8)
        found = {"pixels": pixels, "component": made.component, "peak": made.clean.flatten(1).amax(1)}
        for name, metric in METRICS.items():
            found[f"noisy {name}"] = metric(made.noisy, made.clean)
            found[f"denoised {name}"] = metric(denoised, made.clean)
        if judge:
            found["clean class"] = judge.remembered(made.clean)
            found |= {"noisy class": judge.remembered(made.noisy.clamp(0, 1)), "denoised class": judge(denoised)}
        return found

    def counted(found: Columns) -> Columns:
        nonlocal done
        digest.update(found.pop("pixels").cpu().numpy().tobytes())
        done += len(found["peak"])
        if progress:
            progress(done, len(images))
        return found

    batches = iterate_noisy_batches(images, noise, seed, batch, device, shared=True)
    columns = _columns(map(counted, merge_results(map(scored, batches))))
    values = {name: column.cpu().double().numpy() for name, column in columns.items()}
    judged = _judged(judge, images, values, seed) if judge else None
    return _evaluation(values, noise, seed, digest.hexdigest(), judged)


def _judged(judge: Classifier, images: Images, values: dict[str, Floats], seed: int) -> ClassifierScores:
    said = {kind: values[f"{kind} class"].astype(np.int64) for kind in ("clean", "noisy", "denoised")}
    return ClassifierScores(judge.name, images.classes, images.labels, seed=seed, **said)


def _evaluation(
    values: dict[str, Floats], noise: Noise, seed: int, sha256: str, judged: ClassifierScores | None
) -> EvaluationScores:
    whole = {name: summarize_metric(values[f"noisy {name}"], values[f"denoised {name}"], seed) for name in METRICS}
    noisy, denoised = (compute_batch_psnr(values[f"{kind} mse"], values["peak"]) for kind in ("noisy", "denoised"))
    by_batch = summarize_metric(noisy, denoised, seed)
    overall = {"mse": whole.pop("mse"), "psnr": whole.pop("psnr"), "psnr_batch": by_batch}
    components = []
    for number, option in enumerate(noise.options()):
        mine = values["component"] == number
        if mine.any():
            metrics = {
                name: summarize_metric(values[f"noisy {name}"][mine], values[f"denoised {name}"][mine], seed)
                for name in METRICS
            }
            components.append(NoiseScores(str(option), int(mine.sum()), metrics, judged and judged.only(mine)))
    scores = NoiseScores(str(noise), len(values["peak"]), overall | whole, judged)
    return EvaluationScores(scores, tuple(components), seed, sha256, values["denoised psnr"])


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of equal images becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
