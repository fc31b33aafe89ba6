"""The values that stand for black and white, and the filling of hidden pixels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import tifffile

from daelab.image_io.fill import fill_pixels
from daelab.image_io.picture import Picture, find_value_range, invert_grey
from daelab.image_io.read import read_picture
from daelab.image_io.write import encode_to_bytes

RAMP = np.linspace(0, 1, 4096).reshape(64, 64)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((RAMP * 100).astype(np.uint8), (0, 255)),
        *(((RAMP * (2**bits - 1)).round().astype(np.uint16), (0, 2**bits - 1)) for bits in range(8, 17)),
        ((RAMP * 100).astype(np.uint16), (0, 255)),
        ((RAMP * 5_000_000).astype(np.int32), (0, 2**23 - 1)),
        ((RAMP * 4095 - 1024).astype(np.int16), (-1024, 3071)),
        (RAMP.astype(np.float16), (0, 1)),
        (RAMP * 0.1, (0, 1)),
        (RAMP * 0.001, (0, 0.001)),
        (RAMP * 255, (0, 255)),
        (RAMP * 40000.0, (0, 40000)),
        (RAMP * 3 - 1, (-1, 2)),
        (RAMP * 0, (0, 1)),
        (RAMP * 0 - 5, (-5, 0)),
        (np.zeros((0, 4)), (0, 1)),
        (np.array([[7]], np.uint16), (0, 255)),
    ],
)
def test_the_range_follows_from_the_values(values: np.ndarray, expected: tuple[float, float]) -> None:
    assert find_value_range(values) == expected


@pytest.mark.parametrize("scale", [1, 255, 40000.0])
@pytest.mark.parametrize("outlier", [1e9, -1e9])
def test_outliers_do_not_count(scale: float, outlier: float) -> None:
    values = RAMP * scale
    values[3, 3:7] = outlier
    low, high = find_value_range(values)
    assert (low, high) == pytest.approx((0, scale))


def test_a_hot_pixel_does_not_hide_the_bits() -> None:
    values = (RAMP * 1023).astype(np.uint16)
    values[0, 0] = 65535
    assert find_value_range(values) == (0, 1023)


def test_many_bright_values_are_no_outliers() -> None:
    values = RAMP * 255
    values[::8, ::8] = 5000
    assert find_value_range(values) == (0, 5000)


def test_the_range_is_the_same_for_large_pictures() -> None:
    values = np.tile(RAMP * 255, (8, 8))
    values[300, 300] = 1e6
    assert find_value_range(values) == (0, 255)


def test_a_declared_range_holds_if_the_values_keep_to_it() -> None:
    values = (RAMP * 300).astype(np.uint16)
    assert find_value_range(values, (0, 4095)) == (0, 4095)
    assert find_value_range(values, (0, 100)) == (0, 511)
    values[0, 0] = 65535
    assert find_value_range(values, (0, 4095)) == (0, 4095)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(fault: float) -> None:
    values = RAMP.copy()
    values[5, 5] = fault
    with pytest.raises(ValueError, match="NaN or infinite"):
        find_value_range(values)
    with pytest.raises(ValueError, match="NaN or infinite"):
        find_value_range(np.array([[1e308, -1e308]]))


def test_hidden_values_do_not_count() -> None:
    values = (RAMP * 1023).astype(np.float32)
    values[:, :8] = np.nan
    alpha = np.ones((64, 64), np.float32)
    alpha[:, :8] = 0
    assert Picture(values, alpha).find_value_range() == (0, 1023)


def test_a_tiff_keeps_the_range_that_it_declares(tmp_path) -> None:  # type: ignore[no-untyped-def]
    values = (RAMP * 300).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(281, 3, 1, 4095, True)])
    picture = read_picture(tmp_path / "a.tif")
    assert picture.find_value_range() == (0, 4095)
    again = read_picture(encode_to_bytes(picture, "TIFF"))
    assert again.declared_range == (0, 4095)
    assert read_picture(encode_to_bytes(picture, "PNG")).declared_range is None


def test_white_is_zero_is_inverted_within_the_bits_that_are_used(tmp_path) -> None:  # type: ignore[no-untyped-def]
    values = (RAMP * 4095).round().astype(np.uint16)
    for name, more in (("a.tif", {}), ("b.tif", {"compression": "zlib", "predictor": True})):
        tifffile.imwrite(tmp_path / name, values, photometric="miniswhite", **more)
        assert np.array_equal(read_picture(tmp_path / name).pixels, 4095 - values)
    assert np.array_equal(invert_grey(values, 65535), 65535 - values)
    assert np.array_equal(invert_grey(invert_grey(values)), values)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_white_is_zero_is_black_is_zero_after_writing(dtype: str) -> None:
    black = {"u": np.iinfo(dtype).max if dtype[0] == "u" else 0, "i": 100, "f": 1}[dtype[0]]
    values = (RAMP * (2 * black if dtype[0] == "i" else black) - (black if dtype[0] == "i" else 0)).astype(dtype)
    stream = BytesIO()
    tifffile.imwrite(stream, values, photometric="miniswhite")
    inverted = read_picture(stream.getvalue()).pixels
    assert inverted.dtype == dtype
    np.testing.assert_allclose(inverted + values.astype(float), 0 if dtype[0] == "i" else black, rtol=1e-3)
    with tifffile.TiffFile(BytesIO(encode_to_bytes(Picture(inverted), "TIFF"))) as file:
        assert file.pages[0].photometric == 1  # type: ignore[union-attr]


# Filling


@pytest.mark.parametrize(
    ("row", "missing", "expected"),
    [
        ([0, 0, 1, 2, 3, 0, 0], "xx...xx", [2, 1, 1, 2, 3, 3, 2]),
        ([1, 0, 0, 0, 0, 0, 9], ".xxxxx.", [1, 1, 1, 1, 9, 9, 9]),
        ([1, 2, 0, 0, 0, 0, 0], "..xxxxx", [1, 2, 2, 1, 1, 2, 2]),
        ([1, 2, 3], "...", [1, 2, 3]),
        ([1, 2, 3], "xxx", [1, 2, 3]),
    ],
)
def test_a_gap_is_filled_with_mirror_images(row: list[int], missing: str, expected: list[int]) -> None:
    mask = np.array([[letter == "x" for letter in missing]])
    pixels = np.array([row], np.uint8)
    for turn in (lambda array: array, lambda array: array.T):
        assert turn(fill_pixels(turn(pixels), turn(mask))).tolist() == [expected]


def test_filling_takes_nothing_from_missing_pixels() -> None:
    rng = np.random.default_rng(0)
    missing = rng.random((40, 50)) < 0.6
    missing[10:20] = True
    pixels = rng.integers(1, 256, (40, 50, 3), dtype=np.uint8)
    pixels[missing] = 0
    filled = fill_pixels(pixels, missing)
    assert filled.min() > 0
    assert np.array_equal(filled[~missing], pixels[~missing])
