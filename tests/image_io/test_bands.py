"""No band, page, frame or pixel is lost silently: it is denoised, named in a note, or the file is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from daelab import denoise_file
from daelab.denoising.backends import Backend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noisy_images import make_noisy_picture
from daelab.image_io.picture import Array, Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture
from daelab.noise.grammar import parse_noise

DARKER = Denoiser(Backend("darker", lambda x: x * 0.5, multiple=4))
HEIGHT, WIDTH = 20, 16
PLANES = ("contig", "separate")


def make_bands(count: int, dtype: Any = "u1", height: int = HEIGHT, width: int = WIDTH) -> Array:
    values = np.random.default_rng(count).random((height, width, count))
    return (values if np.dtype(dtype).kind == "f" else values * 255).astype(dtype)


def write_bands(path: Path, values: Array, planes: str = "contig", **options: Any) -> None:
    stored = np.moveaxis(values, -1, 0) if planes == "separate" else values
    tifffile.imwrite(path, stored, planarconfig=planes, metadata=None, **options)


def look(path: Path) -> tuple[Array, tuple[Any, ...]]:
    """Return the values of a page as (H, W, samples), and how it is stored."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        values = np.moveaxis(page.asarray(), 0, -1) if page.planarconfig == 2 else page.asarray()
        return values, (page.photometric, page.planarconfig, page.bitspersample, page.sampleformat, page.extrasamples)


@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f2", "i2"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 13])
def test_every_band_is_denoised(count: int, dtype: str, planes: str, tmp_path: Path) -> None:
    path, values = tmp_path / "a.tif", make_bands(count, dtype)
    write_bands(path, values, planes, photometric="minisblack")
    _, stored = look(path)
    denoise_file(path, tmp_path / "same.tif", model=DARKER, strength=0)
    same, same_stored = look(tmp_path / "same.tif")
    assert (same_stored[:4], same.dtype, same.shape) == (stored[:4], values.dtype, values.shape)
    assert np.abs(same.astype(float) - values).max() <= 1e-3
    denoise_file(path, model=DARKER, in_place=True)
    darker, darker_stored = look(path)
    assert darker_stored[:4] == stored[:4]
    for band in range(count):
        assert darker[..., band].mean() < 0.7 * values[..., band].mean()


FURTHER: dict[str, tuple[str, tuple[str, ...], int]] = {
    "RGB and infrared": ("rgb", ("unspecified",), 3),
    "RGB, infrared and alpha": ("rgb", ("unspecified", "unassalpha"), 3),
    "RGB, alpha and infrared": ("rgb", ("unassalpha", "unspecified"), 3),
    "RGB with alpha multiplied in": ("rgb", ("assocalpha",), 3),
    "RGB with alpha multiplied in, and infrared": ("rgb", ("assocalpha", "unspecified"), 3),
    "CMYK and alpha": ("separated", ("unassalpha",), 4),
    "CMYK and two inks": ("separated", ("unspecified", "unspecified"), 4),
    "grey, depth and alpha": ("minisblack", ("unspecified", "unassalpha"), 1),
    "grey with alpha multiplied in": ("minisblack", ("assocalpha",), 1),
}


@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("case", FURTHER)
def test_alpha_and_further_bands_keep_their_place(case: str, dtype: str, planes: str, tmp_path: Path) -> None:
    photometric, extra, colors = FURTHER[case]
    path, values = tmp_path / "a.tif", make_bands(colors + len(extra), dtype)
    write_bands(path, values, planes, photometric=photometric, extrasamples=extra)
    _, stored = look(path)
    denoise_file(path, model=DARKER, in_place=True)
    darker, darker_stored = look(path)
    assert darker_stored == stored
    for at, kind in enumerate(extra, colors):
        if kind == "unspecified":
            assert darker[..., at].mean() < 0.7 * values[..., at].mean()
        else:
            np.testing.assert_array_equal(darker[..., at], values[..., at])


def test_bands_are_read_with_their_values_and_written_only_where_they_fit(tmp_path: Path) -> None:
    values = make_bands(5, "u2")
    write_bands(tmp_path / "a.tif", values, photometric="minisblack", compression="zlib", tile=(16, 16))
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(next(picture.bands()), values)
    assert [len(layer.extra) for layer in picture.layers] == [4, 0, 0, 0, 0]
    for suffix in (".png", ".npy"):
        with pytest.raises(ValueError, match="cannot hold further bands"):
            denoise_file(tmp_path / "a.tif", tmp_path / f"b{suffix}", model=DARKER)
    noisy = make_noisy_picture(picture, "a.tif", parse_noise("gaussian(0, 0.1)"))
    for before, after in zip(picture.layers, noisy.layers, strict=True):
        assert not np.array_equal(before.pixels, after.pixels)


def test_a_picture_with_fewer_samples_than_its_source_is_not_written(tmp_path: Path) -> None:
    write_bands(tmp_path / "a.tif", make_bands(3), photometric="rgb")
    picture = read_picture(tmp_path / "a.tif")
    for name in ("b.tif", "b.png", "b.jpg"):
        with pytest.raises(ValueError, match=r"page 1 has 320 of the 960 samples"):
            write_picture(tmp_path / name, picture.with_pixels(picture.pixels[..., 0]))
        with pytest.raises(ValueError, match=r"page 1 has 900 of the 960 samples"):
            write_picture(tmp_path / name, picture.with_pixels(picture.pixels[:, 1:]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_pages_of_several_sizes_and_bands_are_all_denoised(tmp_path: Path) -> None:
    pages = [make_bands(3), make_bands(5, "u2", 9, 7), make_bands(1, "f4", 30, 4)[..., 0], make_bands(4, "u1", 6, 6)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for values, photometric in zip(pages, ("rgb", "minisblack", "minisblack", "separated"), strict=True):
            file.write(values, photometric=photometric, planarconfig="contig", metadata=None)
    result = denoise_file(tmp_path / "a.tif", model=DARKER, in_place=True)
    assert result.pages == 4
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [page.shape for page in file.pages] == [values.shape for values in pages]


# What is not read is refused, or named in a note that keeps the file from being replaced


def make_frames(form: str) -> bytes:
    frames = [Image.fromarray(make_bands(3) // (n + 1)) for n in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, form, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def make_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(make_bands(3)).save(stream, "JPEG")
    return stream.getvalue()


def make_tiff(*pages: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for page in pages:
            file.write(**{"photometric": "minisblack", "metadata": None} | page)
    return stream.getvalue()


PYRAMID = make_tiff(
    {"data": make_bands(3, height=64), "photometric": "rgb", "subifds": 2},
    {"data": make_bands(3, height=32), "photometric": "rgb", "subfiletype": 1},
    {"data": make_bands(3, height=16), "photometric": "rgb", "subfiletype": 1},
)
NOTES: dict[str, tuple[bytes, str]] = {
    "a.gif": (make_frames("GIF"), "the first of 3 frames"),
    "a.webp": (make_frames("WEBP"), "the first of 3 frames"),
    "a.png": (make_frames("PNG"), "the first of 3 frames"),
    "two.jpg": (make_frames("MPO"), "the first of 3 frames"),
    "behind.jpg": (make_jpeg() * 2, "the first of several pictures"),
    "motion.jpg": (make_jpeg() + b"\0\0\0\x18ftypmp42" + bytes(99), "the first of several pictures"),
    "pyramid.tif": (PYRAMID, "without the 2 reduced copies in its SubIFDs"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_not_read_is_named_and_not_overwritten(name: str, tmp_path: Path) -> None:
    content, note = NOTES[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert note in denoise_file(path, tmp_path / f"b{path.suffix}", model=DARKER).note
    with pytest.raises(ValueError, match=f"cannot be replaced .{note}"):
        denoise_file(path, model=DARKER, in_place=True)
    assert path.read_bytes() == content


def test_zeros_behind_a_jpeg_are_no_picture() -> None:
    assert read_picture(make_jpeg() + bytes(512)).note == ""


def make_stack_of_imagej() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.moveaxis(make_bands(5, "u2"), -1, 0), imagej=True)
    content = stream.getvalue()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pointer = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)  # type: ignore[union-attr, arg-type]
    order = ">" if content[:2] == b"MM" else "<"
    # ImageJ writes one directory for files of more than 4 GB.
    return content[:pointer] + struct.pack(f"{order}I", 0) + content[pointer + 4 :]


def make_beyond() -> bytes:
    content = make_tiff({"data": make_bands(1)[..., 0]})
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pointer = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)  # type: ignore[union-attr, arg-type]
    return content[:pointer] + struct.pack("<I", 10**6) + content[pointer + 4 :]


SMALL, MASK = make_bands(3, height=8), make_bands(1)[..., 0] > 127
REFUSED: dict[str, tuple[bytes, str]] = {
    "thumbnail": (
        make_tiff(
            {"data": SMALL, "photometric": "rgb", "subfiletype": 1, "subifds": 1},
            {"data": make_bands(1, "u2", 64, 64)[..., 0]},
        ),
        "page 1 is a thumbnail",
    ),
    "mask": (make_tiff({"data": SMALL, "photometric": "rgb"}, {"data": MASK, "photometric": "mask"}), "not supported"),
    "marked mask": (make_tiff({"data": SMALL, "photometric": "rgb"}, {"data": MASK, "subfiletype": 4}), "is a mask"),
    "volume": (make_tiff({"data": make_bands(16), "volumetric": True, "tile": (16, 16, 16)}), "stack of several"),
    "stack of ImageJ": (make_stack_of_imagej(), "page 1 is a stack of several pictures"),
    "page beyond the end": (make_beyond(), "page 2 lies beyond its end"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused(case: str, tmp_path: Path) -> None:
    content, reason = REFUSED[case]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for options in ({"in_place": True}, {"dst": tmp_path / "b.png"}):
        with pytest.raises(ValueError, match=reason) as caught:
            denoise_file(path, model=DARKER, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_the_alpha_that_a_bmp_hides_in_its_fourth_byte_is_not_dropped(tmp_path: Path) -> None:
    values = make_bands(4)
    path = tmp_path / "a.bmp"
    Image.fromarray(values).save(path)
    picture = read_picture(path)
    np.testing.assert_array_equal(next(picture.bands()), values)
    with pytest.raises(ValueError, match="BMP cannot hold alpha"):
        denoise_file(path, model=DARKER, in_place=True)
    denoise_file(path, tmp_path / "b.png", model=DARKER)
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], values[..., 3])
    values[..., 3] = 255
    Image.fromarray(values).save(path)
    assert read_picture(path).alpha is None


def test_in_place_keeps_links_modes_and_long_names(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real, link, long = tmp_path / "store" / "a.png", tmp_path / "link.png", tmp_path / ("a" * 251 + ".png")
    for path in (real, long):
        Image.fromarray(make_bands(3)).save(path)
        path.chmod(0o600)
    link.symlink_to(real)
    for path in (link, long):
        denoise_file(path, model=DARKER, in_place=True)
    assert link.is_symlink()
    for path in (real, long):
        assert path.stat().st_mode & 0o777 == 0o600
        assert read_picture(path).pixels.mean() < 70


def test_a_picture_without_a_source_has_no_samples_to_lose() -> None:
    Picture(make_bands(3)).check_complete()
