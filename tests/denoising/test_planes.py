"""Pixels of every type become arrays that denoisers take, and back: ranges, outliers, and hidden pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import daelab
from daelab.denoising.backends import Backend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.planes import split_planes
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture

RAMP = np.linspace(0, 1, 4096).reshape(64, 64)
DARKER = Denoiser(Backend("darker", lambda x: x * 0.5))
TYPES = {
    "8 bits": (RAMP * 255).astype(np.uint8),
    "10 bits": (RAMP * 1023).astype(np.uint16),
    "12 bits in color": np.dstack([RAMP * 4095, RAMP.T * 4095, RAMP * 999]).astype(np.uint16),
    "16 bits": (RAMP * 65535).astype(np.uint16),
    "int8": (RAMP * 255 - 128).astype(np.int8),
    "tomography": (RAMP * 4095 - 1024).astype(np.int16),
    "uint32": (RAMP * 1e9).astype(np.uint32),
    "uint64": (RAMP * (2.0**64 - 4096)).astype(np.uint64),
    "half": RAMP.astype(np.float16),
    "double": RAMP * 40000.0,
    "negative": RAMP * 2 - 1,
    "inks": (np.random.default_rng(0).random((9, 7, 4)) * 255).astype(np.uint8),
    "10-bit inks": (np.random.default_rng(0).random((90, 7, 4)) * 1023).astype(np.uint16),
}


@pytest.mark.parametrize("name", TYPES)
def test_what_is_not_denoised_comes_back(name: str) -> None:
    pixels = TYPES[name]
    planes = split_planes(Picture(pixels))
    for array in planes.arrays:
        assert array.dtype in (np.uint8, np.uint16) or (array.min() >= 0 and array.max() <= 1)
        assert array.max() > 0.5 * (np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1)
    found = planes.join(planes.arrays)
    assert found.dtype == pixels.dtype
    # float32 has 24 bits
    np.testing.assert_allclose(found.astype(float), pixels.astype(float), rtol=0, atol=float(np.ptp(pixels)) * 2e-7)
    assert bool(planes.note) == (name not in ("8 bits", "16 bits", "half", "inks"))


def test_ten_bits_are_denoised_in_their_range() -> None:
    found = DARKER(TYPES["10 bits"])
    assert np.abs(found - TYPES["10 bits"] / 2.0).max() <= 0.5
    np.testing.assert_allclose(DARKER(TYPES["tomography"]), TYPES["tomography"] / 2.0 - 512, rtol=0, atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_outliers_pass_and_the_rest_is_as_without_them(dtype: type) -> None:
    pixels = (RAMP * 1000).astype(dtype)
    hot = pixels.copy()
    hot[20, 30] = 30000
    planes = split_planes(Picture(hot))
    assert "outliers were left unchanged: 1 values" in planes.note
    # The pixel is filled, so that the network does not see it.
    assert planes.arrays[0].max() <= 1
    found = DARKER(hot)
    assert found[20, 30] == 30000
    elsewhere = np.arange(4096).reshape(64, 64) != 20 * 64 + 30
    np.testing.assert_array_equal(found[elsewhere], DARKER(pixels)[elsewhere])


def hidden(below: object, dtype: str) -> Picture:
    """Return a noisy disc on a background that alpha hides."""
    y, x = np.mgrid[:64, :64] - 32
    seen = y**2 + x**2 < 500
    noise = np.random.default_rng(0).random((64, 64, 3))
    scale = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
    pixels = np.where(seen[..., None], noise * scale, below).astype(dtype)
    return Picture(pixels, (seen * scale).astype(dtype))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_what_alpha_hides_is_returned_and_changes_nothing(dtype: str) -> None:
    blur = Denoiser(Backend("blur", lambda x: x.mean((2, 3), keepdim=True).expand_as(x) / 2 + x / 2, halo=None))
    seen = hidden(0, dtype).alpha.astype(bool)  # type: ignore[union-attr]
    grounds = [0, 200, np.random.default_rng(1).random((64, 64, 3)) * 255]
    results = []
    for ground in [*grounds, np.nan, np.inf] if dtype == "f4" else grounds:
        picture = hidden(ground, dtype)
        planes = split_planes(picture)
        found = planes.join([blur(planes.arrays[0])])
        np.testing.assert_array_equal(found[~seen], picture.pixels[~seen])
        results.append((found[seen], planes.samples[0]))
    for found, sample in results[1:]:
        np.testing.assert_array_equal(found, results[0][0])
        np.testing.assert_array_equal(sample, results[0][1])


def test_noise_identification_sees_the_visible_blocks() -> None:
    pixels = np.zeros((130, 200), np.uint8)
    pixels[32:96, 64:160] = 7
    picture = Picture(pixels, np.where(pixels > 0, 255, 0).astype(np.uint8))
    (sample,) = split_planes(picture).samples
    assert sample.shape == (64, 64)
    assert (sample == 7).all()
    # without any visible block, the filled picture
    tiny = Picture(pixels[:40, :70], picture.alpha[:40, :70])  # type: ignore[index]
    assert (split_planes(tiny).samples[0] == 7).all()


def test_a_picture_that_is_hidden_altogether_stays(tmp_path: Path) -> None:
    picture = Picture(np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8), np.zeros((9, 8), np.uint8))
    write_picture(tmp_path / "a.png", picture)
    found = daelab.denoise_file(tmp_path / "a.png", model=DARKER)
    np.testing.assert_array_equal(read_picture(found.result).pixels, picture.pixels)


def test_the_report_names_the_range(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", Picture(TYPES["10 bits"]))
    found = daelab.denoise_file(tmp_path / "a.tif", model=DARKER)
    assert found.note == "the values 0 to 1023 were taken for black to white"
    write_picture(tmp_path / "b.tif", Picture(TYPES["16 bits"]))
    assert daelab.denoise_file(tmp_path / "b.tif", model=DARKER).note == ""
