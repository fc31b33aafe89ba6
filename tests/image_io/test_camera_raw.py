"""Camera raw becomes a linear DNG with the same light, colors and metadata, or a developed picture."""

from __future__ import annotations

import io
import struct
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import daelab
from daelab.cli import main
from daelab.denoising.backends import Backend
from daelab.image_io import optional_formats
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.tiff import read_tiff_tags, write_tiff
from daelab.image_io.write import encode_to_bytes, write_picture

IDENTITY = daelab.Denoiser(Backend("identity", lambda x: x.clone()))
BLACK, WHITE = 512, 16383
MATRIX = [0.9, -0.3, -0.1, -0.4, 1.2, 0.2, -0.1, 0.2, 0.6]
NEUTRAL = [0.5, 1, 0.625]
LIGHT = np.random.default_rng(0).integers(BLACK, WHITE // 2, (48, 64)).astype(np.uint16)


def ratios(values: list[float]) -> list[int]:
    return [part for value in values for part in (round(value * 10_000), 10_000)]


def describe(channels: int = 1, *further: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return the tags of a DNG. Those of a mosaic are left out for three channels."""
    tags = {
        271: ("s", 0, "ACME"),
        272: ("s", 0, "One"),
        274: ("H", 1, 6),
        315: ("s", 0, "somebody"),
        50706: ("B", 4, b"\x01\x04\0\0"),
        50708: ("s", 0, "ACME One"),
        50714: ("H", channels, (BLACK,) * channels),
        50717: ("I", channels, (WHITE,) * channels),
        50721: ("2i", 9, ratios(MATRIX)),
        50728: ("2I", 3, ratios(NEUTRAL)),
        50778: ("H", 1, 21),
    }
    if channels == 1:
        tags |= {33421: ("H", 2, (2, 2)), 33422: ("B", 4, b"\x00\x01\x01\x02")}
    tags |= {tag: tuple(rest) for tag, *rest in further}
    return [(tag, *rest, True) for tag, rest in tags.items() if rest]


def write_raw(path: Path, pixels: Any = LIGHT, *further: tuple[Any, ...], **options: Any) -> Path:
    photometric = "cfa" if pixels.ndim == 2 else "linear_raw"
    tags = describe(1 if pixels.ndim == 2 else pixels.shape[-1], *further)
    tifffile.imwrite(path, pixels, photometric=photometric, extratags=tags, metadata=None, software=False, **options)
    return path


def write_raw_with_exif(path: Path) -> Path:
    """Write a DNG with EXIF, a maker note, GPS and XMP, for which tifffile has no option."""
    exif = {33434: (5, struct.pack("<II", 1, 125)), 37500: (7, b"NIKON at 1234")}
    gps = {1: (2, b"N\0")}
    tags: Any = {34665: (4, exif), 34853: (4, gps), 700: (1, b"<x:xmpmeta/>"), 262: (3, struct.pack("<H", 32803))}
    tags |= {33421: (3, struct.pack("<2H", 2, 2)), 33422: (1, b"\x00\x01\x01\x02"), 50706: (1, b"\x01\x04\0\0")}
    tags |= {271: (2, b"ACME\0"), 51009: (7, b"\0\0\0\1"), 51022: (7, b"\0\0\0\0")}
    with path.open("w+b") as stream:
        write_tiff(stream, [(Picture(LIGHT, native=("<", tags), encoding={"compressed": False}), None)])
    return path


def develop(path: Path, **options: Any) -> Any:
    import rawpy

    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(output_bps=16, user_flip=0, no_auto_bright=True, adjust_maximum_thr=0.0, **options)


def read_light(path: Path) -> Any:
    """Return the linear light of a camera as libraw reads it, in the colors of the camera."""
    import rawpy

    colors = {"output_color": rawpy.ColorSpace.raw, "user_wb": [1, 1, 1, 1], "gamma": (1, 1)}
    return develop(path, demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT, **colors)


def tags_of(path: Path) -> dict[int, Any]:
    with path.open("rb") as stream:
        return dict(read_tiff_tags(stream)[1][0].kept)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["daelab", "denoise", "--model", "model-c", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


# With rawpy


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mosaic_becomes_a_linear_dng_with_the_same_light_and_colors(order: str, tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    source = write_raw(tmp_path / "a.dng", byteorder=order)
    result = daelab.denoise_file(source, tmp_path / "b.dng", model=IDENTITY)
    assert result.note == "its mosaic was demosaicked"
    light = read_light(source)
    assert light.shape == (*LIGHT.shape, 3)
    # The curve of sRGB in 16 bits keeps more than the 14 bits of the sensor.
    assert np.abs(read_light(tmp_path / "b.dng").astype(int) - light).max() <= 2
    one, other = tags_of(source), tags_of(tmp_path / "b.dng")
    assert all(other[tag] == one[tag] for tag in (271, 272, 274, 315, 50708, 50721, 50728, 50778))
    assert not other.keys() & {33421, 33422}
    # A second round changes nothing.
    again = daelab.denoise_file(tmp_path / "b.dng", tmp_path / "c.dng", model=IDENTITY)
    assert again.note == ""
    assert (tmp_path / "c.dng").read_bytes() == (tmp_path / "b.dng").read_bytes()


def test_a_linear_dng_and_a_grey_one_keep_their_light(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    color = np.dstack([LIGHT, LIGHT[::-1], LIGHT[:, ::-1]])
    source = write_raw(tmp_path / "a.dng", color)
    daelab.denoise_file(source, tmp_path / "b.dng", model=IDENTITY)
    assert np.abs(read_light(tmp_path / "b.dng").astype(int) - read_light(source)).max() <= 2
    # tifffile writes no linear DNG of one channel.
    stream = io.BytesIO()
    tags = [one for one in describe() if one[0] in (50706, 50708, 50714, 50717)]
    tifffile.imwrite(stream, LIGHT, photometric="minisblack", extratags=tags, metadata=None, software=False)
    entry = struct.pack("<HHI", 262, 3, 1)
    grey = stream.getvalue().replace(entry + b"\x01\0", entry + struct.pack("<H", 34892))
    (tmp_path / "grey.dng").write_bytes(grey)
    daelab.denoise_file(tmp_path / "grey.dng", tmp_path / "b.dng", model=IDENTITY, overwrite=True)
    assert read_picture(tmp_path / "b.dng").pixels.shape == LIGHT.shape
    expected = (LIGHT - float(BLACK)) * 65535 / (WHITE - BLACK)
    assert np.abs(read_light(tmp_path / "b.dng")[..., 0] - expected).max() <= 2


def test_metadata_is_kept_but_what_the_mosaic_alone_needs(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    source = write_raw_with_exif(tmp_path / "a.dng")
    result = daelab.denoise_file(source, tmp_path / "b.dng", model=IDENTITY)
    assert "without the corrections of its opcode lists 1 and 2" in result.note
    one, other = tags_of(source), tags_of(tmp_path / "b.dng")
    assert all(other[tag] == one[tag] for tag in (271, 700, 34853, 51022))
    assert other[34665][1] == {33434: one[34665][1][33434]}
    assert 51009 not in other
    # Without tags of color, the matrix and the white point of libraw are written.
    assert {50721, 50728, 50778} <= other.keys()
    daelab.denoise_file(source, tmp_path / "c.dng", model=IDENTITY, strip=True)
    assert not tags_of(tmp_path / "c.dng").keys() & {271, 700, 34665, 34853}
    assert np.array_equal(read_light(tmp_path / "c.dng"), read_light(tmp_path / "b.dng"))


def test_the_matrix_of_libraw_gives_the_colors_of_the_source(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    source = write_raw(tmp_path / "a.dng")
    daelab.denoise_file(source, tmp_path / "b.dng", model=IDENTITY, strip=True)
    kind, data = tags_of(tmp_path / "b.dng")[50721]
    numbers = np.array(struct.unpack("<18i", data)).reshape(9, 2)
    matrix = numbers[:, 0] / numbers[:, 1]
    assert kind == 10
    np.testing.assert_allclose(matrix / matrix[4], np.array(MATRIX) / MATRIX[4], atol=1e-3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_formats_hold_a_developed_picture(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    color = np.dstack([LIGHT, LIGHT[::-1], LIGHT[:, ::-1]])
    source = write_raw(tmp_path / "a.dng", color)
    daelab.denoise_file(source, tmp_path / f"b{suffix}", model=IDENTITY)
    found = read_picture(tmp_path / f"b{suffix}")
    brightness = read_picture(source).encoding["brightness"]
    # The curve of sRGB is that of a power and a slope.
    expected = develop(source, use_camera_wb=True, gamma=(2.4, 12.92), bright=brightness)
    assert np.abs(found.pixels.astype(int) - expected).max() < 60
    exif = Image.Exif()
    exif.load(found.info["exif"])
    assert (exif[271], exif[274]) == ("ACME", 6)
    assert 50721 not in exif


def test_a_dark_picture_is_developed_brighter_by_at_most_two_stops(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    for divisor, expected in (1, 1.0), (100, 4.0):
        dark = ((LIGHT - BLACK) // divisor + BLACK).astype(np.uint16)
        path = write_raw(tmp_path / f"{divisor}.dng", np.dstack([dark] * 3))
        assert read_picture(path).encoding["brightness"] == pytest.approx(expected, abs=0.02)
    # The comparison shows both halves as they would be developed.
    daelab.denoise_file(path, tmp_path / "b.png", model=IDENTITY, compare=True)
    sides = read_picture(tmp_path / "b_compare.png").pixels
    np.testing.assert_array_equal(sides[:, :64], sides[:, -64:])
    shown = read_picture(tmp_path / "b.png").pixels // 257
    assert np.abs(sides[:, :64].astype(int) - shown).max() <= 1


def test_the_preview_of_a_raw_is_never_taken_for_it(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    with tifffile.TiffWriter(tmp_path / "a.nef") as writer:
        shared = [tag for tag in describe() if tag[0] in (271, 272, 274, 50706, 50708, 50721, 50728, 50778)]
        writer.write(np.zeros((8, 8, 3), np.uint8), subifds=1, subfiletype=1, extratags=shared, metadata=None)
        raw = [tag for tag in describe() if tag[0] in (33421, 33422, 50714, 50717)]
        writer.write(LIGHT, photometric="cfa", extratags=raw, metadata=None)
    assert read_picture(tmp_path / "a.nef").size == LIGHT.shape
    # A TIFF whose suffix is that of a raw, but that libraw does not know, is refused.
    tifffile.imwrite(tmp_path / "b.nef", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"b\.nef: camera raw of this kind is not supported by libraw"):
        read_picture(tmp_path / "b.nef")


def test_further_raw_pictures_of_a_file_are_told(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    with tifffile.TiffWriter(tmp_path / "a.dng") as writer:
        for _ in range(2):
            writer.write(LIGHT, photometric="cfa", extratags=describe(), metadata=None)
    assert read_picture(tmp_path / "a.dng").note == "its mosaic was demosaicked; one of 2 raw pictures in one file"


def test_damaged_and_too_large_raws_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    source = write_raw(tmp_path / "a.dng")
    with pytest.raises(ValueError, match="3,072 pixels"):
        read_picture(source, max_pixels=100)
    (tmp_path / "b.dng").write_bytes(source.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"b\.dng: a broken picture: its pixels end before its last row"):
        read_picture(tmp_path / "b.dng")
    (tmp_path / "c.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(200))
    with pytest.raises(ValueError, match=r"c\.raf: "):
        read_picture(tmp_path / "c.raf")


def test_the_command_writes_dng_beside_the_raw_and_denoises_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rawpy")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shots").mkdir()
    write_raw(tmp_path / "shots" / "A.NEF")
    for _ in range(2):
        assert run(monkeypatch, "shots") == 0
        assert sorted(path.name for path in (tmp_path / "shots").iterdir()) == ["A.NEF", "A_clean.dng"]
    assert read_picture("shots/A_clean.dng").note == ""
    capsys.readouterr()
    before = Path("shots/A.NEF").read_bytes()
    mosaic = write_raw(tmp_path / "m.dng").read_bytes()
    Image.new("RGB", (8, 8)).save("a.png")
    for words, message in {
        ("shots/A.NEF", "--in-place"): "camera raw is only read; write .dng or another format",
        ("shots/A.NEF", "--out", "b.nef"): "b.nef: camera raw is only read; write .dng or another format",
        ("shots/A.NEF", "--format", "cr2"): "camera raw is only read; write .dng or another format",
        ("m.dng", "--in-place"): "it cannot be replaced (its mosaic was demosaicked)",
        ("a.png", "--out", "b.dng"): "DNG holds only what a camera measured",
        ("shots/A.NEF", "--out", "b.jpg"): "JPEG cannot hold 16-bit integers",
    }.items():
        assert run(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert Path("shots/A.NEF").read_bytes() == before
    assert Path("m.dng").read_bytes() == mosaic
    assert not list(tmp_path.glob("b.*"))


# With a stub of rawpy


class _Error(Exception): ...


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a stub in the place of rawpy, and return the raw that it opens."""
    raw = SimpleNamespace(raw_type="flat", num_colors=3, sizes=SimpleNamespace(height=2, width=2, flip=0))
    module: Any = ModuleType("rawpy")
    module.RawType, module.LibRawError = SimpleNamespace(Flat="flat"), _Error
    module.LibRawFileUnsupportedError = type("_Unsupported", (_Error,), {})
    module.imread = lambda stream: nullcontext(raw)
    monkeypatch.setitem(sys.modules, "rawpy", module)
    monkeypatch.setattr(optional_formats, "find_spec", lambda name: True)
    return raw


@pytest.mark.parametrize("second_green", [None, np.ones((2, 2, 4), np.uint16)])
def test_four_colors_are_refused_rather_than_reduced_to_three(second_green: Any, stub: SimpleNamespace) -> None:
    if second_green is None:
        stub.num_colors = 4
    else:
        stub.raw_type, stub.raw_image = "stack", second_green
    with pytest.raises(ValueError, match="a camera raw of four colors is not supported"):
        read_picture(b"FUJIFILMCCD-RAW 0201" + bytes(20))


def test_an_error_of_libraw_is_one_line(stub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: Any) -> Any:
        raise _Error(b"Corrupted data or unexpected EOF")

    monkeypatch.setattr(sys.modules["rawpy"], "imread", fail)
    with pytest.raises(ValueError, match="standard input: a broken picture: Corrupted data or unexpected EOF"):
        read_picture(b"FOVb" + bytes(20))


# Without rawpy


def test_other_pictures_cannot_be_written_as_raw(tmp_path: Path, stub: SimpleNamespace) -> None:
    picture = Picture(np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(ValueError, match="DNG holds only what a camera measured, not a developed picture"):
        write_picture(tmp_path / "a.dng", picture)
    with pytest.raises(ValueError, match="camera raw is only read"):
        encode_to_bytes(picture, "RAW")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tif", "a.nef", "a.dng"])
def test_a_mosaic_is_never_read_as_grey(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional_formats, "find_spec", lambda name: None)
    write_raw(tmp_path / name)
    with pytest.raises(ValueError, match=r"needs the package rawpy: pip install 'daelab\[raw\]'"):
        read_picture(tmp_path / name)
