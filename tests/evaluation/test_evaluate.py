"""The evaluation gives the numbers of images that are scored one by one, with any batch size."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from daelab.datasets.base import ImageSet
from daelab.datasets.registry import load_dataset
from daelab.denoising.noisy_images import make_noisy
from daelab.evaluation.evaluate import EvaluationScores, evaluate_denoiser, iterate_noisy_batches, validate_denoiser
from daelab.evaluation.metrics import METRICS, compute_batch_psnr, list_metrics
from daelab.models.model_file import load_network
from daelab.noise.base import PRESETS
from daelab.noise.grammar import parse_noise
from daelab.noise.random_streams import IndexedStream
from daelab.training.losses import LOSSES, parse_loss
from daelab.training.self_supervised import SelfSupervisedLoss

PER_IMAGE = [metric.name for metric in list_metrics("image")]
MIXED = parse_noise("none | gaussian(0.1, 0.05) | poisson(20) > gaussian(0, 0.05)")


def dimmer(x: Tensor) -> Tensor:
    """Return a denoiser that treats every image alike, and leaves [0, 1]."""
    return 1.3 * x - 0.1


def one_by_one(images: ImageSet, seed: int) -> tuple[Tensor, Tensor]:
    """Return all images with their noise, each made on its own."""
    clean = torch.from_numpy(images.images).float() / 255
    noisy = [MIXED.apply(clean[i : i + 1], IndexedStream([i], seed)) for i in range(len(images))]
    return clean, torch.cat(noisy)


def means(found: EvaluationScores) -> list[float]:
    scores = (found.overall, *found.components)
    return [value for s in scores for m in s.metrics.values() for value in (m.noisy, m.denoised, *m.ci95)]


def test_it_equals_a_loop_over_single_images(pictures: ImageSet) -> None:
    clean, noisy = one_by_one(pictures, seed=4)
    denoised = dimmer(noisy).clamp(0, 1)
    found = evaluate_denoiser(dimmer, pictures, MIXED, seed=4, batch=7)
    summaries = found.overall.metrics
    for metric in list_metrics("image"):
        name = metric.name
        assert summaries[name].noisy == pytest.approx(float(metric.function(noisy, clean).mean()), rel=1e-6)
        assert summaries[name].denoised == pytest.approx(float(metric.function(denoised, clean).mean()), rel=1e-6)
        low, high = summaries[name].ci95
        assert low < summaries[name].denoised < high
    # all 60 in one of the paper's batches of 128
    peak = clean.flatten(1).amax(1).double().numpy()
    by_batch = compute_batch_psnr(METRICS["mse"].function(denoised, clean).numpy(), peak)
    assert summaries["psnr_batch"].denoised == pytest.approx(float(by_batch.mean()), rel=1e-6)
    pixels = noisy.mul(255).round().byte().numpy().tobytes()
    assert found.noisy_sha256 == hashlib.sha256(pixels).hexdigest()


@pytest.mark.parametrize("batch", [1, 13, 60, 1000])
def test_the_batch_size_changes_nothing(pictures: ImageSet, batch: int) -> None:
    one, other = (evaluate_denoiser(dimmer, pictures, MIXED, seed=1, batch=size) for size in (32, batch))
    assert other.noisy_sha256 == one.noisy_sha256
    assert [s.images for s in other.components] == [s.images for s in one.components]
    np.testing.assert_allclose(means(other), means(one), rtol=1e-6)


def test_the_components_add_up_to_the_whole(pictures: ImageSet) -> None:
    found = evaluate_denoiser(dimmer, pictures, MIXED)
    assert [scores.noise for scores in found.components] == [str(option) for option in MIXED.options()]
    assert sum(scores.images for scores in found.components) == found.overall.images == len(pictures)
    for name in PER_IMAGE:
        if name != "psnr":  # of the clean ones it is infinite
            parts = [scores.images * scores.metrics[name].denoised for scores in found.components]
            assert sum(parts) / len(pictures) == pytest.approx(found.overall.metrics[name].denoised)
    assert found.components[0].metrics["mse"].noisy == 0
    assert found.components[0].metrics["psnr"].noisy == math.inf


def test_seed_and_noise_are_what_the_hash_tells_apart(pictures: ImageSet) -> None:
    hashes = {
        (noise, seed): evaluate_denoiser(dimmer, pictures, PRESETS[noise], seed=seed).noisy_sha256
        for noise in ("type-1", "type-2")
        for seed in (0, 1)
    }
    assert len(set(hashes.values())) == len(hashes)
    assert evaluate_denoiser(torch.zeros_like, pictures, PRESETS["type-1"]).noisy_sha256 == hashes["type-1", 0]


def test_a_part_of_a_set_has_the_noise_of_its_own_indices(pictures: ImageSet) -> None:
    whole = torch.cat([batch.noisy for batch in iterate_noisy_batches(pictures, MIXED, 0)])
    first = pictures.take(np.arange(10))
    assert torch.equal(
        torch.cat([batch.noisy for batch in iterate_noisy_batches(first, MIXED, 0, batch=3)]), whole[:10]
    )


def test_json_has_the_promised_keys_and_no_infinity(pictures: ImageSet) -> None:
    found = json.loads(json.dumps(evaluate_denoiser(lambda x: x, pictures, MIXED).to_dict(), allow_nan=False))
    assert {"images", "noise", "seed", "noisy_sha256", "components"} <= set(found)
    for name in ("mse", "psnr", "psnr_batch", "ssim"):
        assert set(found[name]) == {"noisy", "denoised", "ci95"}
    assert found["psnr"]["noisy"] is None
    assert found["components"][0]["psnr"] == {"noisy": None, "denoised": None, "ci95": [None, None]}
    assert all(set(PER_IMAGE) <= set(component) for component in found["components"])


def test_unclipped_noise_has_the_literatures_psnr_and_a_clipped_hash(pictures: ImageSet) -> None:
    noise = parse_noise("awgn(25)")
    seen: list[Tensor] = []
    found = evaluate_denoiser(lambda x: (seen.append(x), x)[1], pictures, noise)
    given = torch.cat(seen)
    assert given.min() < 0
    # of unclipped noise, whatever the pictures
    assert found.overall.metrics["psnr"].noisy == pytest.approx(-20 * math.log10(25 / 255), abs=0.05)
    assert found.overall.metrics["psnr"].denoised > found.overall.metrics["psnr"].noisy + 0.1
    pixels = given.clamp(0, 1).mul(255).round().byte().numpy().tobytes()
    assert found.noisy_sha256 == hashlib.sha256(pixels).hexdigest()


def test_a_picture_under_unclipped_noise_is_a_picture() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    noisy = make_noisy(black, parse_noise("awgn(25)"))
    assert 0 < noisy.mean() < 20  # -1 would have become 255


def test_progress_counts_the_images(pictures: ImageSet) -> None:
    seen: list[tuple[int, int]] = []
    evaluate_denoiser(dimmer, pictures, MIXED, batch=25, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(25, 60), (50, 60), (60, 60)]


def test_nothing_is_left_for_a_gradient(pictures: ImageSet) -> None:
    weight = torch.ones((), requires_grad=True)
    evaluate_denoiser(lambda x: x * weight, pictures, MIXED)
    assert weight.grad is None


# Validation


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if not isinstance(loss, SelfSupervisedLoss)])
def test_validation_is_the_mean_over_images(pictures: ImageSet, loss: str) -> None:
    function = parse_loss(loss)
    batches = list(iterate_noisy_batches(pictures, PRESETS["table-1"], seed=0, batch=25))
    found = validate_denoiser(dimmer, batches, function)
    clean, noisy = (torch.cat([getattr(b, kind) for b in batches]) for kind in ("clean", "noisy"))
    assert found.loss == pytest.approx(float(function(dimmer(noisy), clean)), rel=1e-5)
    assert found.psnr == pytest.approx(float(METRICS["psnr"].function(dimmer(noisy), clean).mean()), rel=1e-6)
    peak, error = float(clean.max()), float((dimmer(noisy) - clean).square().mean())
    assert found.psnr_batch == pytest.approx(10 * math.log10(peak**2 / error), rel=1e-5)


def test_an_image_met_exactly_counts_120_db() -> None:
    black = ImageSet("black", np.zeros((3, 3, 16, 16), np.uint8), np.zeros(3, np.int64), ("black",))
    found = validate_denoiser(lambda x: x, iterate_noisy_batches(black, parse_noise("none"), 0), parse_loss("mse"))
    assert (found.loss, found.psnr) == pytest.approx((0, 120))
    assert math.isfinite(found.psnr_batch)


def test_validation_shows_a_loss_that_is_no_number(pictures: ImageSet) -> None:
    batches = list(iterate_noisy_batches(pictures, PRESETS["type-1"], 0))
    assert math.isnan(validate_denoiser(lambda x: x * math.nan, batches, parse_loss("mse")).loss)


# The paper's weights on the paper's data: what was measured of them (mean squared error, batch PSNR)

MEASURED = {"35": (0.00326, 24.88), "37": (0.00226, 26.47), "38": (0.00204, 26.92)}


@pytest.mark.parametrize("test", MEASURED)
def test_the_papers_checkpoints_on_cifar10(test: str, paper: Path, cifar_root: Path) -> None:
    images = load_dataset("cifar10", cifar_root, download=False, train=False).test.take(np.arange(2000))
    network, _ = load_network(paper / f"{test}.pt")
    found = evaluate_denoiser(network, images, PRESETS["published-code"]).overall.metrics
    error, by_batch = MEASURED[test]
    assert found["mse"].denoised == pytest.approx(error, abs=0.0001)
    assert found["psnr_batch"].denoised == pytest.approx(by_batch, abs=0.2)
