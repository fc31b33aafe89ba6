"""Pictures are compared upright, page by page and in one range; one that cannot be scored is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab.denoising.image_comparison import compare_images
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture

RNG = np.random.default_rng(0)
CLEAN = RNG.integers(0, 256, (20, 31, 3), dtype=np.uint8)
NOISY = (CLEAN // 2 + 40).astype(np.uint8)
EQUAL = {"psnr": None, "si_psnr": None}
# How stored pixels must be made from upright ones, by Pillow, for each orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    turned = Image.fromarray(CLEAN).transpose(STORED[orientation])
    turned.save(tmp_path / f"turned{suffix}", exif=exif, lossless=True)
    upright, stored = Picture(CLEAN), read_picture(tmp_path / f"turned{suffix}")
    for one, other in ((upright, stored), (stored, upright), (stored, stored)):
        scores = compare_images(one, other, "a", "b", ["psnr", "si_psnr"])
        assert list(scores.values()) == [EQUAL] * 4


def test_a_damaged_exif_means_upright() -> None:
    assert (
        compare_images(Picture(CLEAN, info={"exif": b"Exif\0\0nonsense"}), Picture(CLEAN), "a", "b")["all"]["psnr"]
        is None
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_values_that_are_no_numbers_are_refused_by_the_name_of_the_file(value: float, position: int) -> None:
    good, bad = np.zeros((12, 12), np.float32), np.zeros((12, 12), np.float32)
    bad[3, 4] = value
    names = ["a.npy", "b.npy"]
    pictures = [Picture(bad if number == position else good) for number in range(2)]
    with pytest.raises(ValueError, match=f"^{names[position]} holds NaN or infinite values, so it cannot be scored$"):
        compare_images(*pictures, *names)


def test_every_page_is_compared() -> None:
    two = Picture(CLEAN, more=(Picture(CLEAN[:15]),))
    scores = compare_images(two, Picture(CLEAN, more=(Picture(NOISY[:15]),)), "a", "b", ["psnr"])
    assert list(scores)[:2] == ["page 1, all", "page 1, red"]
    assert scores["page 1, all"]["psnr"] is None
    assert scores["page 2, all"] == compare_images(Picture(CLEAN[:15]), Picture(NOISY[:15]), "a", "b", ["psnr"])["all"]
    stack = Picture(np.stack([CLEAN, NOISY]))
    assert list(compare_images(stack, stack, "a", "b"))[-1] == "page 2, blue"
    for other in (Picture(CLEAN), Picture(CLEAN, more=(Picture(CLEAN),) * 2)):
        with pytest.raises(ValueError, match="a and b cannot be compared: 2 and [13] pages"):
            compare_images(two, other, "a", "b")


@pytest.mark.parametrize(
    ("kind", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 1023), (np.float32, 1.0), (np.float64, 4000.0)]
)
def test_scores_do_not_depend_on_how_the_values_are_stored(kind: type, white: float) -> None:
    truth, image = (pixels / 255 * white for pixels in (CLEAN, NOISY))
    truth[0, 0] = white
    image[0, 0] = white / 2
    expected = -10 * np.log10(np.mean((truth / white - image / white) ** 2))
    found = compare_images(Picture(truth.astype(kind)), Picture(image.astype(kind)), "a", "b", ["psnr"])["all"]["psnr"]
    assert found == pytest.approx(expected, abs=0.05)


def test_eight_and_sixteen_bits_are_compared() -> None:
    deep = CLEAN.astype(np.uint16) * 257
    for one, other in ((CLEAN, deep), (deep, CLEAN)):
        assert compare_images(Picture(one), Picture(other), "a", "b", ["psnr"])["all"]["psnr"] is None
    ten_bits = (CLEAN / 255 * 1023).round().astype(np.uint16)
    assert (compare_images(Picture(CLEAN), Picture(ten_bits), "a", "b")["all"]["psnr"] or 0) > 60


def test_noisy_floats_may_leave_the_range() -> None:
    noisy = CLEAN / 255 + 0.25
    for one in (Picture(CLEAN), Picture((CLEAN / 255).astype(np.float32))):
        found = compare_images(one, Picture(noisy), "a", "b")["all"]["psnr"]
        assert found == pytest.approx(-20 * np.log10(0.25), abs=1e-3)
