"""Strength, the strength of the colors, and recovered detail, with arrays and files of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import daelab
from daelab.denoising.automatic import load_denoiser
from daelab.denoising.backends import Backend, make_network_backend
from daelab.denoising.blending import Blend, find_detail, limit_change
from daelab.denoising.denoiser import Denoiser
from daelab.image_io.read import read_picture
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata


def blur(x: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


BLUR = Denoiser(Backend("blur", blur, multiple=2, halo=2))
KINDS: dict[str, tuple[tuple[int, ...], str]] = {
    "grey": ((20, 30), "uint8"),
    "grey, 16 bits": ((20, 30), "uint16"),
    "color": ((20, 30, 3), "uint8"),
    "color, 16 bits": ((20, 30, 3), "uint16"),
    "color, floats": ((20, 30, 3), "float32"),
    "a stack": ((2, 9, 8, 3), "uint8"),
    "one pixel": ((1, 1, 3), "uint8"),
}


def make_image(kind: str) -> np.ndarray:
    shape, dtype = KINDS[kind]
    values = np.random.default_rng(0).random(shape)
    return (values * (np.iinfo(dtype).max if dtype.startswith("u") else 1)).astype(dtype)


def to_luma(image: np.ndarray) -> Any:
    return image @ np.array([0.299, 0.587, 0.114]) if image.shape[-1] == 3 else image.astype(np.float64)


def step(image: np.ndarray) -> float:
    return 1.0 if image.dtype.kind == "u" else 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_strength_of_the_colors_is_that_of_both_by_default(kind: str) -> None:
    image = make_image(kind)
    for strength in (0.0, 0.3, 1.0):
        same = BLUR(image, strength=strength, chroma=strength).astype(np.float64)
        assert np.abs(same - BLUR(image, strength=strength)).max() <= step(image)


@pytest.mark.parametrize("kind", KINDS)
def test_colors_and_brightness_are_mixed_apart(kind: str) -> None:
    image = make_image(kind)
    full = BLUR(image)
    # clipping would move the brightness a little, and blurred noise is far from black and white
    colors, brightness = BLUR(full, strength=0, chroma=1), BLUR(full, chroma=0)
    twice = BLUR(full)
    assert colors.shape == image.shape
    assert colors.dtype == image.dtype
    np.testing.assert_allclose(to_luma(colors), to_luma(full), rtol=0, atol=2 * step(image))
    np.testing.assert_allclose(to_luma(brightness), to_luma(twice), rtol=0, atol=2 * step(image))
    if image.shape[-1] == 3 and image.size > 3:
        difference = twice.astype(np.float64) - to_luma(twice)[..., None]
        np.testing.assert_allclose(colors - to_luma(colors)[..., None], difference, rtol=0, atol=3 * step(image))
        assert np.abs(brightness.astype(np.float64) - twice).max() > 2 * step(image)


@pytest.mark.parametrize("kind", KINDS)
def test_detail_comes_from_the_source(kind: str) -> None:
    image = make_image(kind).astype(np.float64)
    given = make_image(kind)
    errors = [np.abs(BLUR(given, detail=detail).astype(np.float64) - image).mean() for detail in (0, 0.5, 1)]
    if image.size > 3:
        assert errors[0] > errors[1] > errors[2]
    assert BLUR(given, detail=1).dtype == given.dtype


def test_detail_is_recovered_where_the_picture_has_structure() -> None:
    noise = 0.02 * torch.randn(1, 1, 64, 128, generator=torch.Generator().manual_seed(0))
    denoised = torch.full((1, 1, 64, 128), 0.5)
    denoised[..., 64:] += 0.3 * (torch.arange(64) % 6 < 3)
    detail = find_detail(noise, denoised)
    flat, structured = (detail[..., part].std() / noise.std() for part in (slice(0, 40), slice(80, 128)))
    assert flat < 0.05
    assert structured > 0.5
    assert not find_detail(torch.zeros_like(noise), torch.zeros_like(noise)).any()


@pytest.mark.parametrize("options", [{"detail": 1.0}, {"detail": 0.4, "chroma": 0.2, "strength": 0.7}, {"chroma": 0.0}])
def test_tiles_equal_the_whole(options: dict[str, float]) -> None:
    image = np.random.default_rng(0).random((150, 131, 3), dtype=np.float32)
    whole = BLUR(image, **options)
    for tile in (32, 50):
        tiled = Denoiser(Backend("blur", blur, multiple=2, halo=2), tile=tile)(image, **options)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("options", [{"detail": 1.0}, {"detail": 0.4, "chroma": 0.2, "strength": 0.7}, {"chroma": 0.0}])
def test_tiles_of_a_network_that_crops_its_features_equal_the_whole(options: dict[str, float]) -> None:
    spec = UNet((4, 4), (1, 1), block="gated", norm="none")
    network = build_network(spec, seed=1)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    backend = make_network_backend(network.eval(), ModelMetadata(spec=spec, name="crops"), "cpu")
    image = np.random.default_rng(0).random((157, 61, 3), dtype=np.float32)
    whole = Denoiser(backend, tile=256)(image, **options)
    assert np.abs(whole - image).mean() > 1e-3
    for tile in (16, 48):
        np.testing.assert_allclose(Denoiser(backend, tile=tile)(image, **options), whole, rtol=0, atol=5e-6)


def test_a_strength_above_one_multiplies_the_noise_level() -> None:
    spec = UNet((4, 6), (1, 1), conditioned=True)
    network = build_network(spec, seed=1)
    torch.nn.init.normal_(network.get_submodule("out").weight, generator=torch.Generator().manual_seed(0))
    backend = make_network_backend(network.eval(), ModelMetadata(spec=spec, name="told"), "cpu")
    image = make_image("color, floats")
    stronger = Denoiser(backend, sigma=20)(image, strength=1.5)
    np.testing.assert_allclose(stronger, Denoiser(backend, sigma=30)(image), rtol=0, atol=1e-6)
    assert not np.array_equal(stronger, Denoiser(backend, sigma=20)(image))
    estimated = Denoiser(backend)
    assert not np.array_equal(estimated(image, strength=2), estimated(image))


def test_the_noise_level_stays_within_those_of_the_training() -> None:
    spec = UNet((4, 6), (1, 1), conditioned=True)
    network, seen = build_network(spec, seed=1), list[float]()
    backend = make_network_backend(network, ModelMetadata(spec=spec, name="told", noise="awgn(5..30) | awgn(9) | real"))
    told = replace(backend, run=lambda x: seen.append(255 * float(x[:, 3].max())) or x[:, :3], run_inside=None)
    for sigma, strength in ((10, 1.5), (20, 1.5), (20, 2)):
        Denoiser(told, sigma=sigma)(make_image("color"), strength=strength)
    assert seen == pytest.approx([15, 30, 30])
    with pytest.raises(ValueError, match=r"sigma must lie in \[0, 30\], the levels that told was trained for, not 31"):
        Denoiser(told, sigma=31)


@pytest.mark.parametrize("model", ["automatic", "model-b-35"])
def test_a_strength_above_one_needs_a_model_that_takes_the_noise_level(model: str) -> None:
    blend = Blend(1.5)
    with pytest.raises(
        ValueError, match=rf"^strength must lie in \[0, 1\] for {model}.*, not 1\.5; a model that takes"
    ):
        load_denoiser(model, tile=None, memory=None, sigma=None, blend=blend)


WRONG = [-0.1, 1.1, float("nan"), float("inf"), "half", True, [1], np.array([0.5])]


@pytest.mark.parametrize("name", ["strength", "chroma", "detail"])
def test_wrong_numbers_are_named(name: str, tmp_path: Path) -> None:
    wrong: list[Any] = [*WRONG, *([None] if name != "chroma" else [])]
    for value in wrong if name != "strength" else [*wrong, 2.1]:
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\][^\n]*, not ") as error:
            BLUR(make_image("color"), **{name: value})
        assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match=f"^{name} must lie"):
        daelab.denoise_file(tmp_path / "none.png", model=BLUR, **{name: -1})


@pytest.mark.parametrize("mode", ["LA", "RGBA", "I;16", "CMYK"])
def test_files_keep_alpha_and_type(mode: str, tmp_path: Path) -> None:
    shape = {"LA": (24, 20, 2), "RGBA": (24, 20, 4), "I;16": (24, 20), "CMYK": (24, 20, 4)}[mode]
    values = np.random.default_rng(0).integers(0, 65536 if mode == "I;16" else 256, shape)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else Image.fromarray(values.astype("u1"), mode)
    image.save(path)
    result = daelab.denoise_file(path, model=BLUR, strength=0.8, chroma=0.5, detail=0.5)
    before, after = read_picture(path), read_picture(result.result)
    assert after.pixels.dtype == before.pixels.dtype
    assert after.pixels.shape == before.pixels.shape
    assert not np.array_equal(after.pixels, before.pixels)
    if before.alpha is not None:
        assert after.alpha is not None
        assert np.array_equal(after.alpha, before.alpha)


@pytest.mark.parametrize("options", [{"sigma": 20}, {"force": True}])
def test_what_a_loaded_denoiser_would_ignore_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sigma and force are for a model's name"):
        daelab.denoise(make_image("grey"), model=BLUR, **options)


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_no_more_is_removed_than_the_noise_that_was_found(dtype: str, white: int) -> None:
    rng = np.random.default_rng(0)
    noise, detail = rng.normal(0, 1.5 / 255, (300, 200, 3)), rng.normal(0, 2 / 255, (300, 200, 3))
    source, denoised = (((0.5 + part) * white) for part in (noise + detail, np.zeros_like(noise)))
    if dtype != "float32":
        source, denoised = source.round(), denoised.round()
    source, denoised = source.astype(dtype), denoised.astype(dtype)
    limited = limit_change(source, denoised, 1.5)
    assert limited.dtype == dtype
    clean = (0.5 + detail) * white
    errors = [float(np.square((x - clean) * 255 / white).mean()) for x in (source, denoised, limited)]
    # The least error of a mixture is n d / (n + d) for noise n and lost detail d, both squared; 8 bits round it.
    assert errors[2] == pytest.approx(1.5**2 * 2**2 / (1.5**2 + 2**2), abs=0.15 if dtype == "uint8" else 0.02)
    assert errors[2] < min(errors[:2]) - 0.5


def test_a_change_within_the_noise_or_far_beyond_lost_detail_stays() -> None:
    source, denoised = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 103, np.uint8)
    assert limit_change(source, denoised, 3.5) is denoised
    assert np.array_equal(limit_change(source, denoised, 1.5), np.full((8, 8, 3), 101))
    assert limit_change(source, denoised + 2, 1.5)[0, 0, 0] == 105
    # 3 at strength 0.8 are 3.75 at full strength.
    assert limit_change(source, denoised, 3.2) is denoised
    assert np.array_equal(limit_change(source, denoised, 3.2, strength=0.8), np.full((8, 8, 3), 102))
    assert limit_change(source, source, 1.5, strength=0) is source
    assert limit_change(source[:0], denoised[:0], 1.5).shape == (0, 8, 3)
