"""Pictures keep their mode, alpha and metadata; what cannot be read or written is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab import imagefiles

RNG = np.random.default_rng(0)


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".jpg"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_round_trip(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 100, np.uint8)
    imagefiles.write(tmp_path / f"a{suffix}", imagefiles.Picture(image))
    found = imagefiles.read(tmp_path / f"a{suffix}")
    expected = found.colour().pixels if found.pixels.ndim != image.ndim else found.pixels
    assert np.abs(expected.astype(int) - 100).max() <= 2
    if suffix in (".png", ".tif", ".bmp"):
        assert np.array_equal(found.pixels, image)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype", "alpha"),
    [
        ("L", (9, 7), np.uint8, False),
        ("LA", (9, 7), np.uint8, True),
        ("RGB", (9, 7, 3), np.uint8, False),
        ("RGBA", (9, 7, 3), np.uint8, True),
        ("P", (9, 7, 3), np.uint8, False),
        ("1", (9, 7), np.uint8, False),
        ("CMYK", (9, 7, 3), np.uint8, False),
        ("I;16", (9, 7), np.uint16, False),
    ],
)
def test_modes(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: type, alpha: bool) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source = Image.fromarray(pixels(9, 7, dtype=np.uint16)) if mode == "I;16" else Image.new(mode, (7, 9))
    source.save(path)
    found = imagefiles.read(path)
    assert (found.pixels.shape, found.pixels.dtype) == (shape, dtype)
    assert (found.alpha is not None) == alpha


def test_sixteen_bits_and_alpha_survive(tmp_path: Path) -> None:
    wide = imagefiles.Picture(pixels(5, 6, dtype=np.uint16))
    imagefiles.write(tmp_path / "wide.png", wide)
    assert np.array_equal(imagefiles.read(tmp_path / "wide.png").pixels, wide.pixels)
    glass = imagefiles.Picture(pixels(5, 6, 3), pixels(5, 6))
    imagefiles.write(tmp_path / "glass.png", glass)
    found = imagefiles.read(tmp_path / "glass.png")
    assert np.array_equal(found.pixels, glass.pixels)
    assert found.alpha is not None
    assert np.array_equal(found.alpha, glass.alpha)


def test_metadata_survives(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010E] = "a cat"
    Image.fromarray(pixels(8, 9, 3)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300), icc_profile=b"profile")
    imagefiles.write(tmp_path / "b.jpg", imagefiles.read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x0112] == 6
        assert image.getexif()[0x010E] == "a cat"
        assert image.info["dpi"] == (300, 300)
        assert image.info["icc_profile"] == b"profile"


def test_bundled_photographs() -> None:
    assert imagefiles.read("photo:cat").pixels.shape == (300, 451, 3)
    with pytest.raises(ValueError, match="did you mean 'coffee'"):
        imagefiles.read("photo:cofee")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_no_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png"):
        imagefiles.read(tmp_path / "a.png")


def test_cut_short(tmp_path: Path) -> None:
    Image.fromarray(pixels(64, 64, 3)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.png: a broken picture"):
        imagefiles.read(tmp_path / "a.png")


def test_nothing_is_overwritten_or_half_written(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        imagefiles.write(path, imagefiles.Picture(pixels(4, 4)))
    assert path.read_bytes() == b"mine"
    with pytest.raises(ValueError, match="16-bit"):
        imagefiles.write(tmp_path / "b.jpg", imagefiles.Picture(pixels(4, 4, dtype=np.uint16)))
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
