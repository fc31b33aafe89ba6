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

from daelab import processes
from daelab.data import Images
from daelab.judge import Judge, JudgeScores
from daelab.judge.f1 import Ints, macro_f1
from daelab.losses import Loss
from daelab.metrics import (
    BATCH,
    METRICS,
    Floats,
    Summary,
    mse,
    psnr_batch_of,
    psnr_of,
    summarise,
)
from daelab.noise import IndexedDraws, Noise

Denoise = Callable[[Tensor], Tensor]
"""Noisy images -> denoised ones, both (N, C, H, W) float32; in [0, 1], but for a noise that is not clipped (`awgn`)."""

Columns = dict[str, Tensor]
"""What was found in each image of a batch, by name; (N,) but for pixels and a batch's loss."""


@dataclass(frozen=True)
class Batch:
    """Clean images and the noisy ones made of them."""

    clean: Tensor
    noisy: Tensor
    component: Tensor
    """(N,) int64 on the CPU: which option of the noise each image drew."""


def noisy_batches(
    images: Images,
    noise: Noise,
    seed: int,
    batch: int = BATCH,
    device: torch.device | str = "cpu",
    *,
    shared: bool = False,
) -> Iterator[Batch]:
    """Every image once, in order, under the noise of (seed, its index); `shared`: this process's batches alone."""
    groups = images.groups(batch)
    for indices in processes.shared(groups) if shared else groups:
        clean = torch.from_numpy(images.batch(indices)).to(device).float().div_(255)
        noisy = noise.apply(clean, IndexedDraws(indices, seed, device))
        yield Batch(clean, noisy, noise.component(IndexedDraws(indices, seed)))


@dataclass(frozen=True)
class Validation:
    """What a training looks at after an epoch."""

    loss: float
    psnr: float
    """dB, mean over images."""
    psnr_batch: float
    """dB, the paper's."""


@torch.inference_mode()
def validate(denoise: Denoise, batches: Iterable[Batch], loss: Loss) -> Validation:
    """Mean loss and PSNR over batches; the host waits for the device only at the end."""

    def seen(batch: Batch) -> Columns:
        denoised = denoise(batch.noisy)
        return {
            "loss": loss(denoised, batch.clean)[None] * len(denoised),
            "error": mse(denoised, batch.clean),
            "peak": batch.clean.flatten(1).amax(1),
        }

    found = _columns(processes.together(map(seen, batches)))
    # a blank image can be met exactly: 120 dB then, since no JSON holds an infinity
    error, peak = found["error"].clamp_min(1e-12), found["peak"].clamp_min(1 / 255)
    by_batch = psnr_batch_of(error.cpu().numpy(), peak.cpu().double().numpy())
    mean = float(found["loss"].sum()) / len(error)
    return Validation(mean, float(psnr_of(error).mean()), float(by_batch.mean()))


@torch.inference_mode()
def judged_f1(denoise: Denoise, batches: Iterable[Batch], judge: Judge, labels: Ints) -> float:
    """Macro F1 of a judge that knows the classes, on denoised images in the order of their labels."""
    said = _columns(processes.together({"class": judge(denoise(batch.noisy).clamp(0, 1))} for batch in batches))
    return macro_f1(labels, said["class"].numpy(), len(judge.classes))


def _columns(results: Iterable[Columns]) -> Columns:
    """What was found batch after batch, as one tensor for each name."""
    columns: dict[str, list[Tensor]] = {}
    for found in results:
        for name, column in found.items():
            columns.setdefault(name, []).append(column)
    return {name: torch.cat(column) for name, column in columns.items()}


@dataclass(frozen=True)
class Scores:
    """Metrics of a set of images under one noise."""

    noise: str
    images: int
    metrics: dict[str, Summary]
    judged: JudgeScores | None = None
    """Where a judge looked at the images."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not finite becomes null."""
        values = {name: summary.to_dict() for name, summary in self.metrics.items()}
        judged = self.judged.summary() if self.judged else {}
        return {"noise": self.noise, "images": self.images, **_finite(values), **judged}


@dataclass(frozen=True)
class Evaluation:
    """Scores over all images and for each component of the noise."""

    overall: Scores
    components: tuple[Scores, ...]
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
def evaluate(
    denoise: Denoise,
    images: Images,
    noise: Noise,
    *,
    seed: int = 0,
    batch: int = BATCH,
    device: torch.device | str = "cpu",
    judge: Judge | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
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

    def scored(made: Batch) -> Columns:
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

    batches = noisy_batches(images, noise, seed, batch, device, shared=True)
    columns = _columns(map(counted, processes.together(map(scored, batches))))
    values = {name: column.cpu().double().numpy() for name, column in columns.items()}
    judged = _judged(judge, images, values, seed) if judge else None
    return _evaluation(values, noise, seed, digest.hexdigest(), judged)


def _judged(judge: Judge, images: Images, values: dict[str, Floats], seed: int) -> JudgeScores:
    said = {kind: values[f"{kind} class"].astype(np.int64) for kind in ("clean", "noisy", "denoised")}
    return JudgeScores(judge.name, images.classes, images.labels, seed=seed, **said)


def _evaluation(
    values: dict[str, Floats], noise: Noise, seed: int, sha256: str, judged: JudgeScores | None
) -> Evaluation:
    whole = {name: summarise(values[f"noisy {name}"], values[f"denoised {name}"], seed) for name in METRICS}
    noisy, denoised = (psnr_batch_of(values[f"{kind} mse"], values["peak"]) for kind in ("noisy", "denoised"))
    by_batch = summarise(noisy, denoised, seed)
    overall = {"mse": whole.pop("mse"), "psnr": whole.pop("psnr"), "psnr_batch": by_batch}
    components = []
    for number, option in enumerate(noise.options()):
        mine = values["component"] == number
        if mine.any():
            metrics = {
                name: summarise(values[f"noisy {name}"][mine], values[f"denoised {name}"][mine], seed)
                for name in METRICS
            }
            components.append(Scores(str(option), int(mine.sum()), metrics, judged and judged.only(mine)))
    scores = Scores(str(noise), len(values["peak"]), overall | whole, judged)
    return Evaluation(scores, tuple(components), seed, sha256, values["denoised psnr"])


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of equal images becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
