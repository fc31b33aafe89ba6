"""The table of picture formats: what follows from a row, and that no other code names a format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import daelab
from daelab.image_io.formats import (
    FORMATS,
    PictureFormat,
    describe_formats,
    find_format,
    find_training_format,
    list_browser_suffixes,
    list_formats,
    list_suffixes,
    list_training_suffixes,
    parse_format,
    register_format,
)
from daelab.image_io.picture import Array, Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture

PACKAGE = Path(daelab.__file__).parent
TABLE = PACKAGE / "image_io" / "formats.py"
SAMPLE_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


def make_pixels(channels: int, sample_type: str = "u1") -> Array:
    values = np.random.default_rng(0).random((9, 7) if channels == 1 else (9, 7, channels))
    return (values if sample_type.startswith("f") else values * 100).astype(sample_type)


def test_no_other_file_names_a_format_by_hand() -> None:
    """BMP stands for all formats: only the table may name it."""
    texts = (path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".js", ".html", ".css", ".toml", ".md"})
    assert [path for path in texts if "bmp" in path.read_text(encoding="utf-8").lower()] == [TABLE]


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_a_row_agrees_with_pillow(row: PictureFormat) -> None:
    Image.init()
    if row.name != "NPY" and not row.package:
        assert {Image.registered_extensions()[suffix] for suffix in row.suffixes} == {row.name}
        assert Image.MIME[row.name] == row.media_type
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in row.suffixes)


@pytest.mark.parametrize("sample_type", SAMPLE_TYPES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("row", list_formats(), ids=lambda row: row.name)
def test_what_a_row_says_can_be_written_and_nothing_else(
    row: PictureFormat, channels: int, sample_type: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{row.suffixes[0]}"
    pixels = make_pixels(channels, sample_type)
    if channels in row.channels and (not row.sample_types or sample_type in row.sample_types):
        write_picture(path, Picture(pixels))
        again = read_picture(path).pixels
        if row.name in ("PNG", "TIFF", "NPY"):
            np.testing.assert_array_equal(again, pixels)
    else:
        with pytest.raises(ValueError, match=f"{row.name} cannot hold"):
            write_picture(path, Picture(pixels))


@pytest.mark.parametrize("row", list_formats(), ids=lambda row: row.name)
def test_alpha_is_written_if_the_row_says_so(row: PictureFormat, tmp_path: Path) -> None:
    path = tmp_path / f"a{row.suffixes[0]}"
    alpha = np.where(make_pixels(1) > 50, 255, 0).astype(np.uint8)
    if row.alpha:
        write_picture(path, Picture(make_pixels(3), alpha))
        np.testing.assert_array_equal(read_picture(path).alpha, alpha)
    else:
        with pytest.raises(ValueError, match="cannot hold alpha"):
            write_picture(path, Picture(make_pixels(3), alpha))


@pytest.mark.parametrize("row", list_formats(), ids=lambda row: row.name)
def test_the_metadata_of_a_row_comes_back(row: PictureFormat, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    info = {
        "exif": exif.tobytes(),
        "icc_profile": b"a profile",
        "xmp": b"<x:xmpmeta/>",
        "comment": b"hello",
        "dpi": (300.0, 300.0),
    }
    path = tmp_path / f"a{row.suffixes[0]}"
    write_picture(path, Picture(make_pixels(3), info=info))
    found = read_picture(path)
    if row.name == "PNG":  # Pillow gives the comment by the name of its chunk
        assert (b"tEXt", b"Comment\0hello") in found.native
        found.info["comment"] = b"hello"
    assert sorted(found.info) == sorted(row.metadata)


def test_lists_follow_from_the_table() -> None:
    assert describe_formats() == "PNG, JPEG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF or .npy"
    assert list_suffixes() == [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".bmp",
        ".gif",
        ".npy",
    ]
    assert set(list_suffixes()) - set(list_browser_suffixes()) == {".tif", ".tiff", ".jp2", ".npy"}
    # the suffixes that data sets of version 0.1.0 read
    assert " ".join(list_training_suffixes()) == (
        ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp"
    )
    assert find_format(".tga") is None
    assert find_training_format(".AVIF") is FORMATS["AVIF"]
    assert find_training_format(".npy") is None
    with pytest.raises(ValueError, match="did you mean 'webp'"):
        parse_format("wepb")


@pytest.mark.parametrize(("name", "suffix"), [("PNG", ".new"), ("NEW", ".png")])
def test_a_row_is_not_replaced(name: str, suffix: str) -> None:
    with pytest.raises(ValueError, match="already in the table"):
        register_format(PictureFormat(name, name, (suffix,), "image/x"))


NEW_ROW = """
import json, sys
import numpy as np
from daelab.image_io.formats import PictureFormat, find_training_format, list_suffixes, register_format
register_format(PictureFormat("SGI", "SGI", (".sgi",), "image/sgi", alpha=True))
from daelab import denoise_file
from daelab.denoising.backends import Backend
from daelab.denoising.denoiser import Denoiser
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture
pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
write_picture("a.sgi", Picture(pixels))
result = denoise_file("a.sgi", model=Denoiser(Backend("same", lambda x: x, multiple=1)))
same = bool((read_picture(result.result).pixels == pixels).all())
print(json.dumps([list_suffixes()[-1], bool(find_training_format(".sgi")), result.result, same]))
from daelab.cli import main
sys.argv = ["daelab", "denoise", "--help"]
main()
"""


def test_a_new_row_shows_everywhere(tmp_path: Path) -> None:
    """A row that is added at run time is read, written, listed, and named in the help."""
    done = subprocess.run([sys.executable, "-c", NEW_ROW], capture_output=True, text=True, check=True, cwd=tmp_path)
    first, _, help_text = done.stdout.partition("\n")
    assert json.loads(first) == [".sgi", True, "a_clean.sgi", True]
    assert "BMP, GIF, .npy or SGI files" in " ".join(help_text.split())
