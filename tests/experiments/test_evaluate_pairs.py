"""The automatic choice is evaluated as a model is, also on pairs with real noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from daelab.denoising.automatic import AutomaticDenoiser
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noisy_images import make_noisy
from daelab.experiments.evaluate_model import evaluate
from daelab.image_io.read import read_picture
from daelab.noise.grammar import parse_noise


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs")
    pixels = read_picture("photo:cat").colour().pixels[60:188, 100:228]
    for number, noise in enumerate(("awgn(12) > quantised", "camera(0.01, 0.005)")):
        Image.fromarray(pixels).save(folder / f"{number}_mean.png")
        Image.fromarray(make_noisy(pixels, parse_noise(noise), 0)).save(folder / f"{number}_real.png")
    return f"paired:{folder}"


@pytest.mark.parametrize("name", ["auto", "automatic"])
def test_the_default_is_a_model(name: str, pairs: str) -> None:
    scores = evaluate(name, pairs).scores
    psnr = scores.overall.metrics["psnr"]
    assert (scores.overall.noise, scores.overall.images) == ("none", 2)
    assert psnr.denoised > psnr.noisy + 2
    assert np.array_equal(scores.psnrs, evaluate("photo-m", pairs).scores.psnrs)


def test_pairs_take_no_noise(pairs: str) -> None:
    with pytest.raises(ValueError, match="paired data hold noise of their own"):
        evaluate("photo-s", pairs, "awgn(10)")


def test_a_batch_has_a_choice_for_each_image() -> None:
    pixels = read_picture("photo:cat").colour().pixels[60:188, 100:228]
    noisy = make_noisy(pixels, parse_noise("awgn(12)"), 0)
    x = torch.from_numpy(np.stack([pixels, noisy])).permute(0, 3, 1, 2).float() / 255
    automatic = AutomaticDenoiser()
    denoised = automatic.batch(x)
    assert torch.equal(denoised[0], x[0])
    assert torch.equal(denoised[1:], Denoiser.load("photo-m").batch(x[1:]))
    assert automatic.batch(x[:0]).shape == (0, 3, 128, 128)
