"""TIFF: tiles, planes and BigTIFF are read, BigTIFF is written, and tags are kept byte by byte."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from daelab.image_io import tiff
from daelab.image_io.picture import Array, Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture

RGB: dict[str, Any] = {"photometric": "rgb"}


def make_pixels(*shape: int, dtype: Any = np.uint16) -> Array:
    return (np.random.default_rng(0).random(shape) * 60_000).astype(dtype)


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tile": (16, 16)},
    "planes": {"planarconfig": "separate"},
    "planes of tiles": {"planarconfig": "separate", "tile": (16, 16)},
    "BigTIFF": {"bigtiff": True},
    "BigTIFF, big-endian, tiles": {"bigtiff": True, "byteorder": ">", "tile": (16, 16)},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(layout: str, dtype: Any, tmp_path: Path) -> None:
    options = dict(LAYOUTS[layout])
    values = make_pixels(45, 37, 3, dtype=dtype)
    stored = np.moveaxis(values, -1, 0) if "planarconfig" in options else values
    tifffile.imwrite(tmp_path / "a.tif", stored, **RGB, **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels, values)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_large_file_is_written_as_big_tiff(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC", 1000)
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E] = "a cat"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    second = Picture(make_pixels(20, 30))
    first = Picture(make_pixels(45, 37, 3), make_pixels(45, 37), info={"exif": exif.tobytes()}, more=(second,))
    write_picture(tmp_path / "a.tif", first)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_bigtiff, file.byteorder, len(file.pages)) == (True, order, 2)
        np.testing.assert_array_equal(file.pages[0].asarray(), np.dstack([first.pixels, first.alpha]))
        np.testing.assert_array_equal(file.pages[1].asarray(), second.pixels)
        tags = file.pages[0].tags  # type: ignore[union-attr]
        assert tags[0x010E].value == "a cat"
        assert tags[0x8769].value["DateTimeOriginal"] == "2020:01:01 00:00:00"
    again = read_picture(tmp_path / "a.tif")
    assert [page.pixels.shape for page in again.pages] == [(45, 37, 3), (20, 30)]


def test_tags_are_kept_byte_by_byte(tmp_path: Path) -> None:
    """The tags have types and values that tifffile would normalize or leave out, in directories two levels deep."""
    interoperability = {1: (2, b"R98\0")}
    native = {
        270: (2, b"no zero at its end"),
        282: (10, struct.pack(">ii", -3, 7)),
        305: (2, b"Camera 1.0\0"),
        34665: (4, {36864: (7, b"0231"), 37500: (7, bytes(range(99))), 40965: (4, interoperability)}),
        34853: (4, {0: (1, b"\2\3\0\0"), 2: (5, struct.pack(">IIIIII", 1, 2, 3, 4, 5, 6))}),
        65000: (12, struct.pack(">d", 0.1)),
    }
    write_picture(tmp_path / "a.tif", Picture(make_pixels(9, 7), native=(">", native), form="TIFF"))
    found = read_picture(tmp_path / "a.tif")
    assert found.native == (">", native)
    write_picture(tmp_path / "b.tif", found)
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "a.tif").read_bytes()


def test_nothing_is_added_to_a_picture_without_metadata(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", Picture(make_pixels(9, 7)))
    order, directories = tiff.read_tiff_tags(BytesIO((tmp_path / "a.tif").read_bytes()))
    assert (order, [directory.kept for directory in directories]) == ("<", [{}])


def test_alpha_is_never_joined_to_all_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiff, "_STRIP", 37 * 4)
    values, alpha = make_pixels(45, 37, 3), make_pixels(45, 37)
    write_picture(tmp_path / "a.tif", Picture(values, alpha))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert page.rowsperstrip == 4  # type: ignore[union-attr]
        np.testing.assert_array_equal(page.asarray(), np.dstack([values, alpha]))
