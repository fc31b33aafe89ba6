"""Losses from noisy images alone: what they see, what they estimate, and that a network learns to denoise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import daelab
from daelab.datasets.arrays import make_dataset
from daelab.training.losses import parse_loss
from daelab.training.recipe import Recipe, parse_recipe
from daelab.training.self_supervised import BlindSpotLoss, NeighborLoss, SteinLoss

NAMES = ("noise2void", "neighbor2neighbor", "sure")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_blind_spots_are_neighbors_and_count_alone() -> None:
    loss, noisy = BlindSpotLoss(every=4), torch.rand(3, 2, 40, 40, generator=generator())
    drawn = loss.draw(noisy, generator())
    hidden = (drawn != noisy).any(1)
    assert 0.2 < hidden.float().mean() < 0.3
    for n, row, column in hidden.nonzero()[:50].tolist():
        rows, columns = (slice(max(0, at - 1), at + 2) for at in (row, column))
        around = noisy[n, :, rows, columns].flatten(1)
        assert (around == drawn[n, :, row, column, None]).all(0).any()
    # A network that copies sees another pixel there, and one that knows the answer elsewhere only has no error.
    assert loss.compute(lambda x: x, noisy, drawn) > 0.1
    assert loss.compute(lambda x: torch.where((drawn != noisy), noisy, 7.0), noisy, drawn) == 0


def test_the_halves_are_neighbors_and_never_the_same_pixel() -> None:
    noisy = torch.arange(64.0).view(1, 1, 8, 8)
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    loss = NeighborLoss()
    value = loss.compute(network, noisy, loss.draw(noisy, generator()))
    half = next(x for x in seen if x.shape[-1] == 4)
    cells = noisy.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (cells == half[..., None]).any(-1).all()
    # For the identity, the second term is zero, and the first is the squared difference of neighbors: 1 or 64.
    assert 1 <= value <= 64


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.0])
def test_sure_estimates_the_error_against_the_clean_image(factor: float) -> None:
    at = torch.linspace(0, 3, 256)
    clean = (0.5 + 0.3 * torch.sin(at)[:, None] * torch.cos(at)).expand(2, 1, -1, -1)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator())

    def network(x: Tensor) -> Tensor:
        return factor * x + (1 - factor) * 0.5

    loss = SteinLoss()
    estimated = loss.compute(network, noisy, loss.draw(noisy, generator()))
    assert float(estimated) == pytest.approx(float((network(noisy) - clean).square().mean()), abs=5e-4)


def make_recipe(loss: str, **fields: object) -> Recipe:
    training = {"epochs": 4, "batch": 8, "precision": "float32", "lr": 0.01}
    spec = {"kind": "unet", "widths": [8], "blocks": [1], "unshuffle": 1}
    return parse_recipe({"spec": spec, "noise": "gaussian(0, 0.15)", "loss": loss, "training": training} | fields)


@pytest.mark.parametrize("loss", NAMES)
def test_a_network_learns_to_denoise_without_clean_images(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daelab.experiments.train.write_run_report", lambda run: None)
    flat = np.random.default_rng(0).integers(60, 200, (160, 1, 1, 1), np.uint8)
    dataset = make_dataset(np.broadcast_to(flat, (160, 16, 16, 3)).copy())
    result = daelab.train(make_recipe(loss), "a", dataset=dataset)
    scores = daelab.evaluate("a", dataset, "gaussian(0, 0.15)").scores.overall.metrics["psnr"]
    assert scores.denoised > scores.noisy + 2
    assert all(np.isfinite(row["val_loss"]) for row in result.rows)


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("0.5 * sure", "noise2void + mse"):
        with pytest.raises(ValueError, match="takes no weight and no other loss"):
            parse_loss(text)
    dataset = make_dataset(np.zeros((40, 18, 18, 3), np.uint8))
    recipe = make_recipe("neighbor2neighbor", spec={"kind": "unet", "widths": [8, 8], "blocks": [1, 1], "decoder": [1]})
    with pytest.raises(ValueError, match="18x18 images"):
        daelab.train(recipe, "b", dataset=dataset)
    with pytest.raises(ValueError, match="allows no teacher"):
        daelab.train(make_recipe("sure", teacher={"model": "model-c"}), "c", dataset=dataset)
