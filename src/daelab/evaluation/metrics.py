"""The table of metrics; MSE, PSNR and SSIM of each image as pure functions; means with confidence intervals.

Shapes: images are (N, C, H, W) float in [0, 1]. The data range is always 1; it is never estimated from a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab._util.plugins import PluginTable
from daelab.errors import make_unknown_name_error
from daelab.evaluation.f1 import accuracy, macro_f1, macro_f1_batch4
from daelab.evaluation.perceptual import PYIQA, PyiqaMetric

Floats = npt.NDArray[np.float64]

EVALUATION_BATCH = 128
"""The number of images in a batch of the paper's batch PSNR: the paper's last batch size."""


def mse(image: Tensor, clean: Tensor) -> Tensor:
    """Return the mean squared error of each image.

    Args:
        image: (N, C, H, W) images in [0, 1].
        clean: (N, C, H, W) their clean images.

    Returns:
        (N,) float64.
    """
    # Summed in float64, since the sum over many pixels loses digits in float32.
    return (image - clean).square().flatten(1).mean(1, dtype=torch.float64)


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Return the PSNR of each image, in dB: 10 log10(1 / MSE).

    Args:
        image: (N, C, H, W) images in [0, 1].
        clean: (N, C, H, W) their clean images.

    Returns:
        (N,) float64; infinite for an image that equals its clean one.

    >>> psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5)).round().tolist()
    [20.0]
    """
    return convert_mse_to_psnr(mse(image, clean))


def si_psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Return the scale-invariant PSNR of each image, in dB.

    It is the PSNR after the gain and the offset that bring the image closest to the clean one, as in CARE (Weigert
    et al., 2018), for a data range of 1. It ignores errors that a change of brightness and contrast would correct,
    so it is at least `psnr`.

    Args:
        image: (N, C, H, W) images in [0, 1].
        clean: (N, C, H, W) their clean images.

    Returns:
        (N,) float64.

    >>> clean = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool(si_psnr(clean * 0.5 + 0.3, clean) > 100)
    True
    """
    x, y = (t.double().flatten(1) for t in (image, clean))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    energy = x.square().sum(1, keepdim=True)
    # A flat image has no gain that could bring it closer, and its energy must not divide by zero.
    gain = torch.where(energy > 0, (x * y).sum(1, keepdim=True) / energy.clamp_min(1e-300), 0)
    return convert_mse_to_psnr((gain * x - y).square().mean(1))


def convert_mse_to_psnr(errors: Tensor) -> Tensor:
    """Return the PSNR in dB of mean squared errors, for a data range of 1.

    Args:
        errors: mean squared errors, of any shape.
    """
    return -10 * torch.log10(errors)


def compute_batch_psnr(errors: Floats, peaks: Floats, batch: int = EVALUATION_BATCH) -> Floats:
    """Return the PSNR in dB of each batch of consecutive images, as the paper's code computes it.

    It is 10 log10(max(batch)^2 / MSE of the batch); the mean over the batches is the paper's "PSNR".

    Args:
        errors: (N,) the mean squared error of each image.
        peaks: (N,) the largest value of each clean image.
        batch: The number of images in a batch; the last batch may be smaller.
    """
    # The last batch may be smaller, so each error is divided by its own size.
    starts = np.arange(0, len(errors), batch)
    sizes = np.diff([*starts, len(errors)])
    error = np.add.reduceat(errors, starts) / sizes
    # A batch without any error has an infinite PSNR, which is meant.
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(np.maximum.reduceat(peaks, starts) ** 2 / error))


def ssim(image: Tensor, clean: Tensor, sigma: float = 1.5) -> Tensor:
    """Return the structural similarity (Wang et al., 2004) of each image, the mean over its channels.

    It equals scikit-image's `structural_similarity(..., data_range=1, gaussian_weights=True,
    use_sample_covariance=False)`: a Gaussian window of radius 5, and the mean over the pixels
    whose window lies inside the image.

    Args:
        image: (N, C, H, W) images in [0, 1].
        clean: (N, C, H, W) their clean images.
        sigma: The standard deviation of the window, in pixels.

    Returns:
        (N,) float64.

    Raises:
        ValueError: An image is smaller than the window, 11 x 11.
    """
    radius = int(3.5 * sigma + 0.5)
    if min(image.shape[-2:]) <= 2 * radius:
        size = "x".join(map(str, image.shape[-2:]))
        raise ValueError(f"ssim: a picture of {size} pixels is smaller than its window of {2 * radius + 1}")
    at = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float64)
    window = torch.exp(-0.5 * (at / sigma) ** 2)
    window = (window / window.sum()).float()
    # large pictures in bands of rows, or the maps would take a hundred bytes for each value of the picture
    rows = image.shape[-2] - 2 * radius
    centers = _choose_centers(image), _choose_centers(clean)
    band = max(1, min(rows, _SSIM_VALUES // image[..., 0, :].numel()))
    total = torch.zeros(len(image), dtype=torch.float64, device=image.device)
    for top in range(0, rows, band):
        part = slice(top, min(top + band, rows) + 2 * radius)
        similarity = _ssim_map(image[..., part, :], clean[..., part, :], window, centers)
        total += similarity.reshape(len(image), -1).mean(1, dtype=torch.float64) * (min(band, rows - top) / rows)
    return total


_SSIM_VALUES = 1 << 20
"""The number of values of a picture whose maps of means and variances are computed at once."""


def _choose_centers(image: Tensor) -> Tensor:
    """Return the value (N C, 1, 1) to subtract from each channel before its variances are computed."""
    low, high = image.detach().float().flatten(0, 1).flatten(1).aminmax(dim=1)
    # One half is precise enough, except in a flat channel, whose variance is smaller than the rounding errors.
    return torch.where(high == low, low, 0.5)[:, None, None]


def _ssim_map(image: Tensor, clean: Tensor, window: Tensor, centers: tuple[Tensor, Tensor]) -> Tensor:
    """Return the similarity (N C, H - 10, W - 10) around each pixel whose window lies inside the image."""
    x, y = (t.float().flatten(0, 1)[:, None] for t in (image, clean))
    # centered, since the variance E[x^2] - E[x]^2 loses digits in float32; the result is the same
    x, y = x - centers[0][:, None], y - centers[1][:, None]
    maps = torch.cat([x, y, x * x, y * y, x * y], dim=1)
    mx, my, xx, yy, xy = _blur(maps, window).unbind(1)
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = mx + centers[0], my + centers[1]
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mx * my) + c2) / (xx - mx**2 + yy - my**2 + c2)
    return luminance * structure


def _blur(maps: Tensor, window: Tensor) -> Tensor:
    """(..., H, W) -> (..., H - 10, W - 10): a separable window, where it fits."""
    return _slide(_slide(maps, window).transpose(-1, -2), window).transpose(-1, -2)


def _slide(x: Tensor, window: Tensor, longest: int = 64) -> Tensor:
    """Correlate the last axis with `window`, as products of overlapping blocks with a band matrix.

    A hundred times the speed of a convolution with one channel, on a CPU.
    """
    reach, outputs = len(window) - 1, x.shape[-1] - len(window) + 1
    block = min(outputs, longest)
    # Padded to whole blocks; the outputs of the padding are cut off again.
    blocks = F.pad(x, (0, -outputs % block)).unfold(-1, block + reach, block)
    band = torch.zeros(block + reach, block, device=x.device)
    for offset, weight in enumerate(window):
        band.diagonal(-offset)[:] = weight
    return (blocks @ band).flatten(-2)[..., :outputs]


@dataclass(frozen=True)
class MetricSummary:
    """The means of a metric over the noisy and over the denoised images."""

    noisy: float
    denoised: float
    ci95: tuple[float, float]
    """The 95% bootstrap confidence interval of `denoised`."""

    def to_dict(self) -> dict[str, object]:
        """Return the values for JSON, under the keys noisy, denoised and ci95."""
        return {"noisy": self.noisy, "denoised": self.denoised, "ci95": list(self.ci95)}


def summarize_metric(noisy: Floats, denoised: Floats, seed: int = 0) -> MetricSummary:
    """Average a metric over images or batches, with a percentile bootstrap of 1,000 resamples.

    Args:
        noisy: (N,) the values of the noisy images.
        denoised: (N,) the values of the denoised images.
        seed: The seed of the bootstrap.
    """
    return MetricSummary(float(noisy.mean()), float(denoised.mean()), bootstrap_interval(denoised, seed=seed))


def bootstrap_interval(values: Floats, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean of values that are resampled with replacement.

    Args:
        values: (N,) the values.
        draws: The number of resamples.
        seed: The seed of the resampling.

    Returns:
        the lower and the upper end; nan for both if a value is infinite.
    """
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):
        # One resample at a time, so that the memory does not grow with the number of resamples.
        means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975]) if np.isfinite(means).all() else (math.nan, math.nan)
    return float(low), float(high)


@dataclass(frozen=True)
class Metric:
    """A metric, with all that tables print and store of it. To add a metric, add a row to `METRICS`."""

    name: str
    """The key in JSON documents and CSV files."""
    title: str
    """The name in tables, without the unit."""
    function: Callable[..., Any]
    """A function of (image, clean), (errors, peaks) or (labels, predictions, classes), as `scope` says."""
    digits: int = 4
    """The number of decimals in tables."""
    unit: str = ""
    direction: Literal["higher", "lower"] = "higher"
    """Which values are better."""
    scope: Literal["image", "batch", "classes"] = "image"
    """What a value describes: an image, a batch of consecutive images, or the predicted classes of a whole set."""
    detail: str = ""
    """How the value is averaged, for tables that explain it."""
    package: str = ""
    """The package that computes it. Such a metric is slow and needs weights, so it is computed only on request."""

    @property
    def heading(self) -> str:
        """The title and the unit: `PSNR, dB`."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def explained(self) -> str:
        """The heading, and how the value is averaged: `PSNR, dB (mean over images)`."""
        return f"{self.heading} ({self.detail})" if self.detail else self.heading

    @property
    def axis(self) -> str:
        """The label of a figure's axis: `PSNR (dB)`."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def format(self, value: float | None) -> str:
        """Return a value as text with the metric's decimals, and a dash for None.

        Args:
            value: A value of the metric.
        """
        return "–" if value is None else f"{value:.{self.digits}f}"


METRICS: PluginTable[Metric] = PluginTable(
    "metrics",
    {
        metric.name: metric
        for metric in (
            Metric("mse", "MSE", mse, digits=5, direction="lower"),
            Metric("psnr", "PSNR", psnr, digits=2, unit="dB", detail="mean over images"),
            Metric(
                "psnr_batch",
                "batch PSNR",
                compute_batch_psnr,
                digits=2,
                unit="dB",
                scope="batch",
                detail="the paper's",
            ),
            Metric("ssim", "SSIM", ssim),
            Metric("macro_f1", "macro F1", macro_f1, digits=3, scope="classes"),
            Metric(
                "macro_f1_batch4", "macro F1 of batches of 4", macro_f1_batch4, 3, scope="classes", detail="the paper's"
            ),
            Metric("accuracy", "accuracy", accuracy, digits=3, scope="classes"),
            Metric("lpips", "LPIPS", PyiqaMetric("lpips"), direction="lower", package=PYIQA),
            Metric("dists", "DISTS", PyiqaMetric("dists"), direction="lower", package=PYIQA),
            Metric("niqe", "NIQE", PyiqaMetric("niqe", reference=False), 2, direction="lower", package=PYIQA),
        )
    },
    Metric,
)
"""Every metric of an evaluation by its name, in the order of tables."""

SI_PSNR = Metric("si_psnr", "scale-invariant PSNR", si_psnr, digits=2, unit="dB")
"""A metric of two pictures alone: `daelab compare` prints it, and evaluations leave it out."""


def list_metrics(*scopes: str, requested: Iterable[str] = ()) -> list[Metric]:
    """Return the metrics of these scopes, in the order of `METRICS`.

    Args:
        *scopes: `image`, `batch` or `classes`.
        requested: The names of metrics that are computed only on request.
    """
    names = tuple(requested)
    return [
        metric for metric in METRICS.values() if metric.scope in scopes and (not metric.package or metric.name in names)
    ]


def list_standard_metrics() -> list[str]:
    """Return the names of the metrics of every evaluation."""
    return [name for name, metric in METRICS.items() if not metric.package]


def list_requested_metrics() -> list[str]:
    """Return the names of the metrics that are computed only on request."""
    return [name for name, metric in METRICS.items() if metric.package]


def check_requested_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Check the metrics that a user asks for beside those of every evaluation.

    Args:
        names: Their names.

    Returns:
        The names, each once.

    Raises:
        ValueError: A name is unknown, or the package of a metric is not installed.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in list_requested_metrics():
            raise make_unknown_name_error("metric on request", name, list_requested_metrics())
        package = METRICS[name].package
        if find_spec(package) is None:
            terms = " (free for non-commercial use only)" if package == PYIQA else ""
            raise ValueError(f"the metric {name} needs {package}{terms}: pip install {package}")
    return names
