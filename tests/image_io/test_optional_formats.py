"""Formats that need packages of their own: they are written without loss or refused, and a missing package is named."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import daelab
from daelab.cli import main
from daelab.denoising.backends import Backend
from daelab.denoising.sources import find_files
from daelab.image_io import optional_formats
from daelab.image_io.formats import FORMATS
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import encode_to_bytes, write_picture


def _make_mosaic() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((8, 8), np.uint16), photometric="cfa", extratags=[(50706, "B", 4, b"\1\4\0\0")])
    return stream.getvalue()


RNG = np.random.default_rng(0)
OPTIONAL = [row for row in FORMATS.values() if row.package]
HEADS = {
    "HEIF": b"\0\0\0\x1cftypheic\0\0\0\0mif1heic",
    "JXL": b"\xff\x0a\x89\x41",
    "EXR": b"v/1\x01\x02\0\0\0",
    "FITS": b"SIMPLE  =                    T",
    "DNG": _make_mosaic(),
    "RAW": b"FUJIFILMCCD-RAW 0201FF383501",
}
IDENTITY = daelab.Denoiser(Backend("identity", lambda x: x.clone()))


def denoise(source: Path, target: Path) -> Picture:
    daelab.denoise_file(source, target, model=IDENTITY)
    return read_picture(target)


# Without the package


@pytest.mark.parametrize("row", OPTIONAL, ids=lambda row: row.name)
def test_an_absent_package_is_named_with_its_extra(
    row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optional_formats, "find_spec", lambda name: None)
    source = Path(f"a{row.suffixes[0]}")
    source.write_bytes(HEADS[row.name] + bytes(100))
    Image.new("RGB", (8, 8)).save("a.png")
    for words in (str(source), "--format=png"), ("a.png", f"--format={row.suffixes[0]}"):
        monkeypatch.setattr(sys, "argv", ["daelab", "denoise", "--model", "model-c", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        line = capsys.readouterr().err
        assert ended.value.code == 2
        assert f"pip install 'daelab[{row.extra}]'" in line
        assert line.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", source.name] or row.suffixes[0] < ".png"
    assert find_files(".", False, None).unread == [source]


def test_every_optional_format_has_an_extra_and_a_signature() -> None:
    assert {row.name for row in OPTIONAL} == HEADS.keys()
    # The first bytes of a DNG are those of any TIFF.
    assert [row.name for row in OPTIONAL if not (row.extra and row.signature)] == ["DNG"]


# AVIF and JPEG 2000, which Pillow has


@pytest.mark.parametrize(("name", "error"), [("AVIF", 3), ("JPEG2000", 0)])
def test_pictures_of_pillow_come_back(name: str, error: int, tmp_path: Path) -> None:
    suffix = FORMATS[name].suffixes[0]
    at = np.linspace(0, 6, 40)
    color = (np.sin(at)[:, None, None] * np.cos(at[:30])[None, :, None] * [90, 60, 30] + 128).astype(np.uint8)
    alpha = np.full((40, 30), 255, np.uint8)
    alpha[:5] = 0
    for number, picture in enumerate([Picture(color), Picture(color[..., 0]), Picture(color, alpha)]):
        path = tmp_path / f"{number}{suffix}"
        write_picture(path, picture)
        found = denoise(path, tmp_path / f"{number}_clean{suffix}")
        assert found.form == name
        # AVIF stores grey as color.
        pixels = found.pixels if found.pixels.shape == picture.pixels.shape else found.pixels[..., 0]
        assert np.abs(pixels.astype(int) - picture.pixels).max() <= 2 * error
        if picture.alpha is not None:
            np.testing.assert_array_equal(found.alpha, alpha)


def test_the_metadata_and_the_turn_of_avif_are_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.avif", exif=exif, quality=95)
    found = denoise(tmp_path / "a.avif", tmp_path / "b.avif")
    assert found.size == (10, 20)
    with Image.open(tmp_path / "a.avif") as one, Image.open(tmp_path / "b.avif") as other:
        assert dict(one.getexif()) == dict(other.getexif())
        assert one.getexif()[0x010E] == "a cat"


def patch(data: bytes, find: bytes, offset: int, change: Callable[[int], int]) -> bytes:
    at = data.index(find) + offset
    return data[:at] + bytes([change(data[at])]) + data[at + 1 :]


def test_more_bits_than_pillow_decodes_are_refused() -> None:
    avif, jp2 = (encode_to_bytes(Picture(np.zeros((8, 8, 3), np.uint8)), name) for name in ("AVIF", "JPEG2000"))
    assert read_picture(avif).size == read_picture(jp2).size == (8, 8)
    cases = {
        "of 10 bits": patch(avif, b"av1C", 6, lambda flags: flags | 0x40),
        "of 12 bits": patch(jp2, b"\xff\x4f\xff\x51", 42, lambda depth: 11),
        "signed samples": patch(jp2, b"\xff\x4f\xff\x51", 42, lambda depth: depth | 0x80),
    }
    for message, data in cases.items():
        with pytest.raises(ValueError, match=message):
            read_picture(data)


# FITS


def test_fits_keeps_header_type_and_slices(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    for dtype in ("u1", "i2", "u2", "f4", "f8"):
        for shape in ((12, 9), (3, 12, 9), (1, 12, 9)):
            data = (RNG.random(shape) * 100).astype(dtype)
            data[..., 0, 0] = 255
            hdu = fits.PrimaryHDU(data)
            hdu.header["OBJECT"] = "M42"
            hdu.writeto(tmp_path / "a.fits", overwrite=True)
            daelab.denoise_file(tmp_path / "a.fits", tmp_path / "b.fits", model=IDENTITY, overwrite=True)
            with fits.open(tmp_path / "b.fits") as parts:
                assert parts[0].header["OBJECT"] == "M42"
                assert parts[0].data.dtype.newbyteorder("=") == np.dtype(dtype)
                np.testing.assert_allclose(parts[0].data, data, atol=1e-4)


def test_fits_of_several_parts_and_too_large_is_refused(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    parts = fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4))), fits.ImageHDU(np.zeros((4, 4)))])
    parts.writeto(tmp_path / "a.fits")
    with pytest.raises(ValueError, match="2 parts"):
        read_picture(tmp_path / "a.fits")
    fits.PrimaryHDU(np.zeros(4)).writeto(tmp_path / "b.fits")
    with pytest.raises(ValueError, match="2 or 3 axes, not 1"):
        read_picture(tmp_path / "b.fits")
    fits.PrimaryHDU(np.zeros((40, 40))).writeto(tmp_path / "c.fits")
    with pytest.raises(ValueError, match="1,600 pixels"):
        read_picture(tmp_path / "c.fits", max_pixels=100)
    with pytest.raises(ValueError, match=r"d\.fits"):
        (tmp_path / "d.fits").write_bytes((tmp_path / "c.fits").read_bytes()[:3000])
        read_picture(tmp_path / "d.fits")
    with pytest.raises(ValueError, match="FITS cannot hold"):
        write_picture(tmp_path / "e.fits", Picture(np.zeros((4, 4, 3), np.uint8)))


# OpenEXR


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_openexr_keeps_header_type_and_alpha(dtype: str, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    color = (RNG.random((12, 9, 3)) * 4).astype(dtype)
    alpha = np.ones((12, 9), dtype)
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage, "owner": "me"}
    for channels in ({"RGB": color}, {"Y": color[..., 0].copy()}, {"RGBA": np.dstack([color, alpha])}):
        openexr.File(header, channels).write(str(tmp_path / "a.exr"))
        daelab.denoise_file(tmp_path / "a.exr", tmp_path / "b.exr", model=IDENTITY, overwrite=True)
        one, other = (openexr.File(str(tmp_path / name), separate_channels=True) for name in ("a.exr", "b.exr"))
        assert other.header()["owner"] == "me"
        assert one.channels().keys() == other.channels().keys()
        for name, channel in one.channels().items():
            assert other.channels()[name].pixels.dtype == np.dtype(dtype)
            np.testing.assert_allclose(other.channels()[name].pixels, channel.pixels, rtol=2e-3)


def test_openexr_of_other_channels_is_refused(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    plane = np.zeros((4, 4), np.float32)
    openexr.File(header, {"R": plane, "G": plane, "B": plane, "Z": plane}).write(str(tmp_path / "a.exr"))
    with pytest.raises(ValueError, match="only R, G, B or Y, and A"):
        read_picture(tmp_path / "a.exr")
    with pytest.raises(ValueError, match="16 pixels"):
        read_picture(tmp_path / "a.exr", max_pixels=10)
    (tmp_path / "b.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b\.exr"):
        read_picture(tmp_path / "b.exr")


# JPEG XL and HEIC


def test_jpeg_xl_is_kept_without_loss(tmp_path: Path) -> None:
    codec = pytest.importorskip("pylibjxl")
    for shape in ((12, 9), (12, 9, 3), (12, 9, 4)):
        values = RNG.integers(0, 256, shape, np.uint8)
        exif = Image.Exif()
        exif[0x010E] = "a cat"
        data = codec.encode(values, lossless=True, exif=b"\0\0\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"))
        (tmp_path / "a.jxl").write_bytes(data)
        daelab.denoise_file(tmp_path / "a.jxl", tmp_path / "b.jxl", model=IDENTITY, overwrite=True)
        again, metadata = codec.decode((tmp_path / "b.jxl").read_bytes(), metadata=True)
        np.testing.assert_array_equal(again, values)
        assert b"a cat" in metadata["exif"]
    (tmp_path / "c.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    with pytest.raises(ValueError, match=r"c\.jxl"):
        read_picture(tmp_path / "c.jxl")
    with pytest.raises(ValueError, match="108 pixels"):
        read_picture(tmp_path / "a.jxl", max_pixels=100)


def test_heic_is_read_and_written(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    color = np.full((32, 24, 3), 90, np.uint8)
    color[8:16] = 160
    heif.from_pillow(Image.fromarray(color)).save(tmp_path / "a.heic", quality=95)
    found = denoise(tmp_path / "a.heic", tmp_path / "b.heic")
    assert (found.form, found.size) == ("HEIF", (32, 24))
    assert np.abs(found.pixels.astype(int) - color).mean() < 4
    deep = io.BytesIO()
    ten = heif.from_bytes("RGB;16", (8, 8), bytes(8 * 8 * 6))
    ten.save(deep, bit_depth=10)
    with pytest.raises(ValueError, match="10 bits"):
        read_picture(deep.getvalue())
