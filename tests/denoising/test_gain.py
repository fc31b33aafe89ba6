"""The estimate of the gain of denoising, and the recognition of graphics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from daelab._util.tensor_file import write_tensors
from daelab.denoising.automatic import AutomaticDenoiser, denoise_image
from daelab.denoising.noise_identification.gain import (
    FEATURES,
    TILE_SIDE,
    TILES,
    GainEstimator,
    GainNetwork,
    compute_gain_features,
    cut_tiles,
    load_gain_estimator,
    save_gain_network,
)
from daelab.denoising.noise_identification.graphics import is_graphic
from daelab.denoising.noisy_images import make_noisy
from daelab.image_io.read import read_picture
from daelab.noise.grammar import parse_noise
from graphics import GRAPHICS, make_graphics

TEXTURES = ("sand", "foliage", "gradient", "scanned text", "line art")
"""Graphics that the guard may leave to the estimator."""


@pytest.fixture(scope="module")
def estimator() -> GainEstimator:
    return load_gain_estimator()


@pytest.fixture(scope="module")
def automatic() -> AutomaticDenoiser:
    return AutomaticDenoiser()


def photo(text: str = "none", name: str = "cat", side: int = 192) -> np.ndarray:
    pixels = read_picture(f"photo:{name}").colour().pixels
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return make_noisy(np.ascontiguousarray(pixels[top : top + side, left : left + side]), parse_noise(text), seed=3)


def to_tiles(image: np.ndarray) -> torch.Tensor:
    return cut_tiles(torch.from_numpy(image).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((1, 1), (1, 8, 8)),
        ((7, 40), (1, 8, 40)),
        ((32, 32), (1, 32, 32)),
        ((130, 250), (1, TILE_SIDE, TILE_SIDE)),
        ((256, 256), (4, TILE_SIDE, TILE_SIDE)),
        ((321, 481), (6, TILE_SIDE, TILE_SIDE)),
        ((4000, 6000), (TILES, TILE_SIDE, TILE_SIDE)),
        ((100, 9000), (12, 96, TILE_SIDE)),
        ((9000, 100), (12, TILE_SIDE, 96)),
    ],
)
def test_a_picture_of_any_size_has_a_bounded_number_of_tiles(
    size: tuple[int, int], tiles: tuple[int, int, int]
) -> None:
    picture = torch.arange(size[0] * size[1]).view(1, *size).expand(3, -1, -1)
    found = cut_tiles(picture)
    assert (len(found), *found.shape[2:]) == tiles
    if min(size) >= 8:
        # They begin on the grid of JPEG's blocks.
        assert all(int(at) // size[1] % 8 == 0 and int(at) % size[1] % 8 == 0 for at in found[:, 0, 0, 0])


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 16, 128), (1, 3, 128, 128)])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_statistics_of_flat_tiles_are_finite(shape: tuple[int, ...], value: float) -> None:
    flat = torch.full(shape, value)
    found = compute_gain_features(flat, flat)
    assert found.shape == (FEATURES,)
    assert found.isfinite().all()


@pytest.mark.parametrize("noise", ["awgn(10)", "camera(0.002, 0.002)", "demosaicked(0.005, 0.005) > jpeg(90)"])
def test_more_noise_promises_more_gain(noise: str, estimator: GainEstimator) -> None:
    gain, level = estimator.estimate(to_tiles(photo(noise)).float() / 255)
    plain, low = estimator.estimate(to_tiles(photo()).float() / 255)
    assert gain > 0.5 > plain
    assert level > 2 * low


@pytest.mark.parametrize("sigma", [5, 15, 40])
def test_the_level_is_about_right(sigma: int, estimator: GainEstimator) -> None:
    _, level = estimator.estimate(to_tiles(photo(f"awgn({sigma})")).float() / 255)
    assert level == pytest.approx(sigma, rel=0.35)


def test_an_estimate_is_repeated_exactly(estimator: GainEstimator) -> None:
    tiles = to_tiles(photo("awgn(15)")).float() / 255
    assert estimator.estimate(tiles) == estimator.estimate(tiles.clone())


def test_a_file_is_read_as_it_was_written_and_others_are_refused(tmp_path: Path) -> None:
    network = GainNetwork()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    save_gain_network(network, tmp_path / "a.safetensors", {"seed": 1})
    features = torch.randn(2, FEATURES)
    again = load_gain_estimator(tmp_path / "a.safetensors").network
    assert torch.equal(again(features), network.eval()(features))
    write_tensors(tmp_path / "b.safetensors", network.state_dict(), {"kind": "other"})
    with pytest.raises(ValueError, match=r"b.safetensors: not a gain estimator of this version"):
        load_gain_estimator(tmp_path / "b.safetensors")


@pytest.mark.parametrize("kind", GRAPHICS)
def test_graphics_come_back_untouched(kind: str, automatic: AutomaticDenoiser) -> None:
    for seed in (0, 1):
        image = make_graphics(kind, seed)
        assert kind in TEXTURES or is_graphic(to_tiles(image))
        assert np.array_equal(denoise_image(image, automatic).pixels, image)


@pytest.mark.parametrize("convert", [np.uint16, np.float32])
def test_graphics_of_other_types_are_graphics(convert: type) -> None:
    image = make_graphics("pixel art", 0)
    other = image.astype(np.uint16) * 257 if convert is np.uint16 else (image / 255).astype(np.float32)
    assert is_graphic(to_tiles(other))


@pytest.mark.parametrize(
    "noise", ["awgn(3) > quantised", "camera(0.001, 0.001)", "salt-and-pepper(0.05)", "awgn(8) > jpeg(90)"]
)
@pytest.mark.parametrize("gray", [False, True])
def test_a_noisy_photograph_is_no_graphic(noise: str, gray: bool) -> None:
    image = photo(noise)
    assert not is_graphic(to_tiles(np.repeat(image[..., 1:2], 3, axis=2) if gray else image))


@pytest.mark.parametrize("noise", ["none", "awgn(2)"])
def test_a_photograph_out_of_focus_is_no_graphic_even_when_compressed(noise: str) -> None:
    blurred = Image.fromarray(photo()).filter(ImageFilter.GaussianBlur(12))
    image = make_noisy(np.asarray(blurred), parse_noise(f"{noise} > jpeg(70)"), 0)
    equal = (image[:, 1:] == image[:, :-1]).all(2).mean()
    assert equal > 0.3
    assert not is_graphic(to_tiles(image))


def test_a_noisy_picture_of_few_shades_is_no_graphic() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    noisy = make_noisy(flat, parse_noise("awgn(6) > quantised"), 0)
    assert not is_graphic(to_tiles(np.repeat(noisy[..., :1], 3, axis=2)))
    assert is_graphic(to_tiles(flat))
