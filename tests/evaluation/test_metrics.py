"""Metrics equal independent references: scikit-image, torchmetrics, and the paper's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional import image as torchmetrics

from daelab.evaluation.metrics import (
    METRICS,
    bootstrap_interval,
    compute_batch_psnr,
    convert_mse_to_psnr,
    list_metrics,
    mse,
    psnr,
    ssim,
    summarize_metric,
)


def pair(shape: tuple[int, ...], noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return noisy and clean smooth pictures."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, shape[-1])
    clean = 0.5 + 0.4 * np.sin(9 * at * rng.uniform(0.5, 2, (*shape[:-1], 1)) + np.linspace(0, 5, shape[-2])[:, None])
    noisy = np.clip(clean + rng.normal(0, noise, shape), 0, 1)
    return torch.from_numpy(noisy).float(), torch.from_numpy(clean).float()


PAIRS = {
    "one": pair((1, 3, 32, 32), 0.1),
    "many": pair((9, 3, 32, 32), 0.3),
    "faint": pair((3, 3, 16, 24), 0.001),
    "grey": pair((2, 1, 11, 11), 0.1),
    "long": pair((2, 3, 200, 139), 0.1),
    "flat": (torch.full((2, 3, 16, 16), 0.9), torch.full((2, 3, 16, 16), 0.9001)),
    "black": (torch.zeros(2, 3, 16, 16), torch.rand(2, 3, 16, 16)),
}


def reference_ssim(image: np.ndarray, clean: np.ndarray) -> float:
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    return float(structural_similarity(image, clean, data_range=1, channel_axis=0, **options))


PER_IMAGE = [metric.name for metric in list_metrics("image")]
REFERENCES = {
    "mse": (mean_squared_error, 1e-9),
    "psnr": (lambda image, clean: peak_signal_noise_ratio(clean, image, data_range=1), 1e-4),
    "ssim": (reference_ssim, 1e-5),
}


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("name", PER_IMAGE)
def test_each_metric_equals_scikit_image(name: str, case: str) -> None:
    image, clean = PAIRS[case]
    reference, tolerance = REFERENCES[name]
    found = METRICS[name].function(image, clean)
    expected = [reference(a, b) for a, b in zip(image.double().numpy(), clean.double().numpy(), strict=True)]
    assert (found.shape, found.dtype) == ((len(image),), torch.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("case", ["one", "many"])
def test_psnr_and_ssim_equal_torchmetrics(case: str) -> None:
    image, clean = PAIRS[case]
    each = {"data_range": 1.0, "reduction": "none"}
    torch.testing.assert_close(
        psnr(image, clean).float(),
        torchmetrics.peak_signal_noise_ratio(image, clean, dim=(1, 2, 3), **each),
    )
    # torchmetrics averages over mirrored edges too; the pixels whose window fits are ours
    _, maps = torchmetrics.structural_similarity_index_measure(image, clean, return_full_image=True, **each)
    inside = maps[..., 5:-5, 5:-5].flatten(1).mean(1)
    torch.testing.assert_close(ssim(image, clean).float(), inside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_each_image_is_scored_alone(name: str) -> None:
    image, clean = PAIRS["many"]
    whole = METRICS[name].function(image, clean)
    alone = torch.cat([METRICS[name].function(image[i : i + 1], clean[i : i + 1]) for i in range(len(image))])
    torch.testing.assert_close(whole, alone, rtol=1e-6, atol=1e-7)
    assert len(whole.unique()) == len(image)


BEST = {"mse": 0.0, "psnr": math.inf, "ssim": 1.0}


@pytest.mark.parametrize("name", PER_IMAGE)
def test_equal_images_score_best(name: str) -> None:
    clean = PAIRS["many"][1]
    assert METRICS[name].function(clean, clean.clone()).tolist() == pytest.approx([BEST[name]] * len(clean))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", PER_IMAGE)
def test_any_precision_of_the_images_is_taken(name: str, dtype: torch.dtype) -> None:
    image, clean = PAIRS["many"]
    found = METRICS[name].function(image.to(dtype), clean.to(dtype))
    torch.testing.assert_close(found, METRICS[name].function(image, clean), rtol=0.05, atol=0.02)


def test_ssim_has_a_gradient_that_points_to_the_clean_image() -> None:
    image, clean = pair((1, 3, 32, 32), 0.1)
    (gradient,) = torch.autograd.grad(ssim(image.requires_grad_(), clean).sum(), image)
    assert float((gradient * (clean - image.detach())).sum()) > 0


@pytest.mark.parametrize("size", [(10, 32), (32, 10)])
def test_ssim_of_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"ssim: a picture of {size[0]}x{size[1]} pixels .* window of 11"):
        ssim(torch.zeros(1, 3, *size), torch.zeros(1, 3, *size))


@pytest.mark.parametrize("images, batch", [(10, 4), (8, 4), (3, 4), (1, 1), (130, 128)])
def test_psnr_batch_is_the_papers(images: int, batch: int) -> None:
    noisy, clean = pair((images, 3, 8, 8), 0.1)
    clean = clean * torch.linspace(0.4, 1, images)[:, None, None, None]
    # as the published code has it: per batch, 10 log10(max(clean)^2 / MSE), then the mean
    starts = range(0, images, batch)
    batches = [(noisy[at : at + batch], clean[at : at + batch]) for at in starts]
    written_out = [10 * math.log10(float(y.max()) ** 2 / float(((x - y) ** 2).mean())) for x, y in batches]
    peaks = clean.flatten(1).amax(1).double().numpy()
    found = compute_batch_psnr(mse(noisy, clean).numpy(), peaks, batch)
    np.testing.assert_allclose(found, written_out, rtol=1e-6)


def test_psnr_batch_without_error_is_infinite_and_silent() -> None:
    assert compute_batch_psnr(np.zeros(4), np.ones(4), 4).tolist() == [math.inf]


def test_psnr_of() -> None:
    assert convert_mse_to_psnr(torch.tensor([1.0, 0.1, 0.001])).tolist() == pytest.approx([0, 10, 30])


def test_bootstrap_is_the_interval_of_the_mean_and_seeded() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    error = values.std() / len(values) ** 0.5
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval(np.ones(5)) == (1, 1)


def test_bootstrap_of_an_infinity_is_not_a_number() -> None:
    assert all(map(math.isnan, bootstrap_interval(np.array([1.0, math.inf, -math.inf]))))


def test_summary() -> None:
    summary = summarize_metric(np.array([1.0, 3.0]), np.array([5.0, 5.0]))
    assert summary.to_dict() == {"noisy": 2, "denoised": 5, "ci95": [5, 5]}


@pytest.mark.parametrize("values", [1, 5_000, 60_000])
def test_ssim_is_the_same_in_bands_of_rows(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, clean = PAIRS["long"]
    whole = ssim(image, clean)
    monkeypatch.setattr("daelab.evaluation.metrics._SSIM_VALUES", values)
    assert torch.allclose(ssim(image, clean), whole, rtol=0, atol=1e-6)
