"""Pictures keep their format, mode, depth, alpha and metadata, and errors are one line.

Sources are written by Pillow, tifffile or by hand. Results are read by Pillow or tifffile, not by the code under test.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from PIL.JpegImagePlugin import get_sampling

from daelab import denoise_file
from daelab.denoising.backends import Backend
from daelab.denoising.denoiser import Denoiser
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture

SIDE = (21, 13)
HEIGHT, WIDTH = SIDE
DARKER = Denoiser(Backend("darker", lambda x: x * 0.4, multiple=4))
"""A denoiser with a known effect on pixels. It must not change alpha."""


def pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    values = np.random.default_rng(sum(shape)).random(shape)
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return (info.min + values * (float(info.max) - info.min)).astype(dtype)


def png16(path: Path, values: np.ndarray, seven_passes: bytes = b"") -> None:
    """Write a PNG without filters by hand: Pillow writes neither 16-bit color nor interlaced files."""
    height, width, samples = values.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = seven_passes or b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour, depth = {1: 0, 2: 4, 3: 2, 4: 6}[samples], 8 * values.dtype.itemsize
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, bool(seven_passes))
    parts = (chunk(b"IHDR", head), chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def by_pillow(mode: str) -> Callable[[Path, dict[str, Any]], None]:
    def write(path: Path, said: dict[str, Any]) -> None:
        if mode == "I;16":
            image = Image.fromarray(pixels(*SIDE, dtype=np.uint16))
        elif mode == "F":
            image = Image.fromarray(pixels(*SIDE, dtype=np.float32))
        elif mode == "I":
            image = Image.fromarray(pixels(*SIDE, dtype=np.int32))
        elif mode == "P":
            image = Image.fromarray(pixels(*SIDE, 3)).quantize(90)
        elif mode == "P+key":
            image = Image.fromarray(pixels(*SIDE, 3)).quantize(90)
            said = said | {"transparency": 3}
        elif mode == "P+alphas":
            image = Image.fromarray(pixels(*SIDE, 3)).quantize(90)
            said = said | {"transparency": bytes(range(90))}
        else:
            channels = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
            values = np.squeeze(pixels(*SIDE, channels))
            image = Image.fromarray(values, mode) if mode != "1" else Image.fromarray(values).convert("1")
        image.save(path, **said)

    return write


def by_tifffile(samples: int, dtype: Any, **options: Any) -> Callable[[Path, dict[str, Any]], None]:
    def write(path: Path, said: dict[str, Any]) -> None:
        shape = (*SIDE, samples) if samples > 1 else SIDE
        tifffile.imwrite(path, pixels(*shape, dtype=dtype), resolution=(300, 300), resolutionunit="INCH", **options)

    return write


def by_hand(samples: int) -> Callable[[Path, dict[str, Any]], None]:
    return lambda path, said: png16(path, pixels(*SIDE, samples, dtype=np.uint16))


RGB: dict[str, Any] = {"photometric": "rgb"}
GLASS = {"extrasamples": ["unassalpha"]}
CASES: dict[str, tuple[str, Callable[[Path, dict[str, Any]], None]]] = {
    **{f"png {mode}": (".png", by_pillow(mode)) for mode in ("1", "L", "LA", "P", "P+key", "P+alphas", "RGB", "RGBA")},
    "png I;16": (".png", by_pillow("I;16")),
    **{f"png 16 bits x {samples}": (".png", by_hand(samples)) for samples in (1, 2, 3, 4)},
    **{f"jpeg {mode}": (".jpg", by_pillow(mode)) for mode in ("L", "RGB", "CMYK")},
    **{f"webp {mode}": (".webp", by_pillow(mode)) for mode in ("RGB", "RGBA")},
    **{f"bmp {mode}": (".bmp", by_pillow(mode)) for mode in ("1", "L", "P", "RGB")},
    **{f"gif {mode}": (".gif", by_pillow(mode)) for mode in ("P", "P+key")},
    **{
        f"tiff {mode}": (".tif", by_pillow(mode))
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
    },
    **{
        f"tiff RGB, {name}": (
            ".tif",
            lambda path, said, name=name: by_pillow("RGB")(path, said | {"compression": name}),
        )  # type: ignore[misc]
        for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate")
    },
    "tiff 16 bits x 3": (".tiff", by_tifffile(3, np.uint16, **RGB)),
    "tiff 16 bits x 3, big-endian, deflated": (".tif", by_tifffile(3, np.uint16, byteorder=">", compression=8, **RGB)),
    "tiff 16 bits x 3, deflated, predicted": (".tif", by_tifffile(3, np.uint16, compression=8, predictor=2, **RGB)),
    "tiff 16 bits x 4": (".tif", by_tifffile(4, np.uint16, **RGB, **GLASS)),
    "tiff 16 bits x 4, alpha multiplied in": (".tif", by_tifffile(4, np.uint16, **RGB, extrasamples=["assocalpha"])),
    "tiff 16 bits x 2": (".tif", by_tifffile(2, np.uint16, photometric="minisblack", planarconfig=1, **GLASS)),
    "tiff 16 bits CMYK": (".tif", by_tifffile(4, np.uint16, photometric="separated")),
    "tiff 16 bits, BigTIFF": (".tif", by_tifffile(3, np.uint16, bigtiff=True, **RGB)),
    **{
        f"tiff {np.dtype(dtype)} x {samples}": (".tif", by_tifffile(samples, dtype, **options))
        for samples, options in ((1, {"photometric": "minisblack"}), (3, RGB), (4, RGB | GLASS))
        for dtype in (np.float16, np.float32, np.float64, np.uint32, np.int16)
    },
}


def seen(path: Path) -> tuple[np.ndarray, str]:
    """Return the pixels of a file as an independent reader decodes them, and their mode."""
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            mode = f"{page.photometric} {page.bitspersample} {page.sampleformat} {page.extrasamples}"
            if page.compression == 5:  # LZW, which tifffile leaves to another package
                with Image.open(path) as image:
                    return np.array(image), mode
            values = page.asarray()
            return (page.colormap.T[values] >> 8 if page.colormap is not None else values), mode
    with Image.open(path) as image:
        mode = image.mode
        if mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        return np.array(image), mode


def alpha_of(path: Path) -> np.ndarray | None:
    """Return alpha in its full depth, or None."""
    if path.suffix in (".tif", ".tiff"):
        values, mode = seen(path)
        return None if mode.endswith("()") else values[..., -1]
    with Image.open(path) as image:
        return np.array(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None


@pytest.mark.parametrize("case", CASES)
def test_mode_depth_and_alpha_are_kept(case: str, tmp_path: Path) -> None:
    suffix, write = CASES[case]
    source, same, darker = (tmp_path / f"{name}{suffix}" for name in ("source", "same", "darker"))
    write(source, {"lossless": True} if suffix == ".webp" else {})
    before, mode = seen(source)

    denoise_file(source, same, model=DARKER, strength=0)
    after, after_mode = seen(same)
    assert (after.shape, after.dtype, after_mode) == (before.shape, before.dtype, mode)
    if suffix != ".jpg":
        # computed in float32, which holds 24 bits
        room = 0 if after.dtype.itemsize <= 2 else 2e-7 * (1 if after.dtype.kind == "f" else 2.0**32)
        assert np.abs(after.astype(np.float64) - before).max() <= room

    denoise_file(source, darker, model=DARKER)
    after, after_mode = seen(darker)
    assert (after.shape, after.dtype, after_mode) == (before.shape, before.dtype, mode)
    assert not np.array_equal(after, before)
    if (alpha := alpha_of(source)) is not None:
        assert np.array_equal(alpha_of(darker), alpha)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_sixteen_bits_of_png_are_exact(samples: int, tmp_path: Path) -> None:
    values = pixels(*SIDE, samples, dtype=np.uint16)
    png16(tmp_path / "a.png", values)
    found = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", found)
    again = read_picture(tmp_path / "b.png")
    for picture in (found, again):
        assert np.array_equal(next(picture.bands()), values)
    with Image.open(tmp_path / "b.png") as image:  # which takes the upper bytes of colour
        if samples >= 3:
            assert np.array_equal(np.asarray(image), values >> 8)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("passes", [False, True])
def test_the_transparent_level_of_a_grey_png_is_kept(bits: int, passes: bool, tmp_path: Path) -> None:
    """An interlaced picture with a single row has pixels in only four of the passes."""
    levels = np.random.default_rng(0).integers(0, 2**bits, (1 if passes else 21, 16))
    key = int(levels[0, 3])

    def pack(row: np.ndarray) -> bytes:
        digits = ((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
        return b"\0" + np.packbits(digits.ravel()).tobytes()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [levels[0, start::step] for start, step in ((0, 8), (4, 8), (2, 4), (1, 2))] if passes else levels
    head = struct.pack(">IIBBBBB", levels.shape[1], len(levels), bits, 0, 0, 0, passes)
    chunks = [(b"IHDR", head), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(b"".join(map(pack, parts))))]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in [*chunks, (b"IEND", b"")])
    (tmp_path / "a.png").write_bytes(content)
    denoise_file(tmp_path / "a.png", tmp_path / "b.png", model=DARKER)
    with Image.open(tmp_path / "b.png") as image:
        assert np.array_equal(np.asarray(image)[..., 1] == 0, levels == key)


def interlaced(values: np.ndarray) -> bytes:
    """Make the rows of an interlaced PNG of 8 or 16 bits, which Pillow does not write."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    big = values.astype(values.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in big[y::dy, x::dx] if row.size)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 8), SIDE])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_interlaced_png(size: tuple[int, int], dtype: Any, tmp_path: Path) -> None:
    values = pixels(*size, 3, dtype=dtype)
    png16(tmp_path / "a.png", values, interlaced(values))
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, values)
    png16(tmp_path / "b.png", values, interlaced(values)[:-1])
    with pytest.raises(ValueError, match="broken"):
        read_picture(tmp_path / "b.png")


def test_values_of_every_range_are_denoised(tmp_path: Path) -> None:
    for name, values in {
        "u8": pixels(*SIDE),
        "u16": pixels(*SIDE, 3, dtype=np.uint16),
        "unit": pixels(*SIDE, dtype=np.float64),
        "wide": pixels(*SIDE, 3, dtype=np.float32) * 4000 - 1000,
        "i32": pixels(*SIDE, dtype=np.int32) // 1000,
    }.items():
        np.save(tmp_path / f"{name}.npy", values)
        denoise_file(tmp_path / f"{name}.npy", tmp_path / f"{name}_out.npy", model=DARKER)
        found = np.load(tmp_path / f"{name}_out.npy")
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        low = 0.0 if name in ("u8", "u16", "unit") else float(values.min())
        expected = low + (values.astype(np.float64) - low) * 0.4
        assert np.abs(found - expected).max() <= (0.75 if values.dtype.kind in "ui" else 1e-3), name


def test_cmyk_keeps_its_separation(tmp_path: Path) -> None:
    inks = pixels(*SIDE, 4)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    denoise_file(tmp_path / "a.tif", tmp_path / "b.tif", model=DARKER)
    with Image.open(tmp_path / "b.tif") as image:
        assert np.abs((255 - np.asarray(image)) - (255 - inks) * 0.4).max() <= 0.5


# Metadata

EXIF = Image.Exif()
EXIF[0x0112] = 6  # orientation
EXIF[0x010E] = "a cat"
EXIF.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
EXIF.get_ifd(0x8825)[1] = "N"
ALL: dict[str, Any] = {"exif": EXIF.tobytes(), "dpi": (300, 300), "icc_profile": b"a profile"}
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("Title", "a cat")
TEXT.add_itxt("Author", "Ψύχαλας", "el", "Συγγραφέας")
TEXT.add(b"gAMA", struct.pack(">I", 45455))
SAID: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("RGB", ALL | {"pnginfo": TEXT}),
    ".jpg": ("RGB", ALL | {"comment": b"hello", "xmp": b"<x:xmpmeta/>"}),
    ".webp": ("RGB", ALL | {"xmp": b"<x:xmpmeta/>"}),
    ".tif": ("RGB", ALL),
    ".bmp": ("RGB", {"dpi": (300, 300)}),
    ".gif": ("P", {"comment": b"hello"}),
}


def said(path: Path) -> dict[str, Any]:
    """Return the metadata of a file as Pillow reads it."""
    with Image.open(path) as image:
        exif = image.getexif()
        found = {
            "size": image.size,
            "orientation": exif.get(0x0112),
            "description": exif.get(0x010E),
            "taken": exif.get_ifd(0x8769).get(0x9003),
            "hemisphere": exif.get_ifd(0x8825).get(1),
            "dpi": tuple(round(float(side)) for side in image.info.get("dpi", ())),
        }
        image.load()
        found |= {key: image.info.get(key) for key in ("icc_profile", "comment", "xmp", "gamma", "Title", "Author")}
        if found["Author"]:
            found |= {"language": found["Author"].lang, "translated": found["Author"].tkey}
        return found


@pytest.mark.parametrize("suffix", SAID)
def test_metadata_is_kept_and_can_be_stripped(suffix: str, tmp_path: Path) -> None:
    mode, options = SAID[suffix]
    source, kept, bare = (tmp_path / f"{name}{suffix}" for name in ("source", "kept", "bare"))
    by_pillow(mode)(source, options)
    expected = said(source)
    if "exif" in options:
        assert (expected["description"], expected["taken"], expected["hemisphere"]) == (
            "a cat",
            "2020:01:01 00:00:00",
            "N",
        )
    denoise_file(source, kept, model=DARKER)
    assert said(kept) == expected
    denoise_file(source, bare, model=DARKER, strip=True)
    left = {key for key, value in said(bare).items() if value}
    assert left <= {"size", "dpi"}
    assert said(bare)["size"] in (expected["size"], expected["size"][::-1])


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_metadata_is_converted_to_another_format(source: str, target: str, tmp_path: Path) -> None:
    by_pillow("RGB")(
        tmp_path / f"a{source}", {key: value for key, value in SAID[source][1].items() if key != "pnginfo"}
    )
    denoise_file(tmp_path / f"a{source}", tmp_path / f"b{target}", model=DARKER)
    before, after = said(tmp_path / f"a{source}"), said(tmp_path / f"b{target}")
    for key in ("description", "taken", "hemisphere", "icc_profile"):
        assert after[key] == before[key] is not None
    if "webp" not in source + target:
        assert after["dpi"] == before["dpi"] == (300, 300)
    # Pillow turns a TIFF upright as it reads it, and forgets that it was not
    with Image.open(tmp_path / f"a{source}") as image, Image.open(tmp_path / f"b{target}") as other:
        assert image.getexif().get(0x0112) == other.getexif().get(0x0112) == 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_kept(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = pixels(*SIDE, 3)
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    denoise_file(tmp_path / "a.tif", tmp_path / "b.tif", model=DARKER, strength=0)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), values)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif().get(0x0112) == orientation


@pytest.mark.parametrize(
    ("mode", "quality", "subsampling"),
    [("RGB", 50, 2), ("RGB", 98, 0), ("RGB", 75, 1), ("L", 30, 0), ("L", 97, 0), ("CMYK", 60, 0), ("CMYK", 99, 0)],
)
def test_a_jpeg_keeps_at_least_its_quality(mode: str, quality: int, subsampling: int, tmp_path: Path) -> None:
    sampling = {"subsampling": subsampling} if mode == "RGB" else {}
    by_pillow(mode)(tmp_path / "a.jpg", {"quality": quality, "progressive": quality == 98, **sampling})
    denoise_file(tmp_path / "a.jpg", tmp_path / "b.jpg", model=DARKER)
    by_pillow(mode)(tmp_path / "c.jpg", {"quality": 95})
    finer = "a.jpg" if quality > 95 else "c.jpg"
    with Image.open(tmp_path / finer) as expected, Image.open(tmp_path / "b.jpg") as after:
        assert after.quantization == expected.quantization  # type: ignore[attr-defined]
        assert mode != "RGB" or get_sampling(after) == subsampling
        assert bool(after.info.get("progressive")) == (quality == 98)


def test_a_jpeg_of_own_tables_becomes_finer_where_it_is_coarse(tmp_path: Path) -> None:
    # As some cameras write them: fine at low frequencies and coarse at high ones.
    own = [[1] * 32 + [60] * 32, [3] * 64]
    Image.fromarray(pixels(*SIDE, 3)).save(tmp_path / "a.jpg", qtables=own, subsampling=0)
    denoise_file(tmp_path / "a.jpg", tmp_path / "b.jpg", model=DARKER)
    with Image.open(tmp_path / "b.jpg") as after:
        luma, chroma = after.quantization[0], after.quantization[1]  # type: ignore[attr-defined]
    assert luma[:32] == [1] * 32
    assert max(luma) <= 12
    assert max(chroma) == 3


def test_a_jpeg_of_another_format_keeps_all_of_its_color(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 2, (32, 32, 1)) * np.array([[[80, 0, 160]]]) + 60
    Image.fromarray(colors.astype(np.uint8)).save(tmp_path / "a.png")
    denoise_file(tmp_path / "a.png", tmp_path / "b.jpg", model=DARKER, strength=0)
    assert np.abs(seen(tmp_path / "b.jpg")[0].astype(int) - colors).max() < 40


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_stays_lossless(lossless: bool, tmp_path: Path) -> None:
    by_pillow("RGBA")(tmp_path / "a.webp", {"lossless": lossless, "exact": True})
    denoise_file(tmp_path / "a.webp", tmp_path / "b.webp", model=DARKER, strength=0)
    before, after = seen(tmp_path / "a.webp")[0], seen(tmp_path / "b.webp")[0]
    assert np.array_equal(before, after) == lossless
    assert np.array_equal(before[..., 3], after[..., 3])


def test_every_page_of_a_tiff_is_denoised(tmp_path: Path) -> None:
    pages = [pixels(4, 5, 3), pixels(6, 7, 3, dtype=np.float32), pixels(4, 5, dtype=np.uint16), pixels(9, 8, 4)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, values in enumerate(pages):
            options = {} if values.ndim == 2 else RGB | (GLASS if values.shape[2] == 4 else {})
            file.write(values, description=f"page {number}", metadata=None, **options)
    done = denoise_file(tmp_path / "a.tif", tmp_path / "b.tif", model=DARKER)
    assert done.pages == 4
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages) == 4
        for number, (page, values) in enumerate(zip(file.pages, pages, strict=True)):
            found = page.asarray()
            assert (found.shape, found.dtype) == (values.shape, values.dtype)
            assert page.description == f"page {number}"  # type: ignore[union-attr]
            assert not np.array_equal(found, values)
    assert np.array_equal(found[..., 3], pages[3][..., 3])


def test_a_note_says_that_only_the_first_frame_was_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(8, 9 + 0 * n, 3) // (n + 1)) for n in range(3)]
    for suffix in (".gif", ".webp", ".png"):
        source = tmp_path / f"a{suffix}"
        frames[0].save(source, save_all=True, append_images=frames[1:])
        done = denoise_file(source, tmp_path / f"b{suffix}", model=DARKER)
        assert done.note == "the first of 3 frames"
        with pytest.raises(ValueError, match="cannot be replaced .the first of 3 frames"):
            denoise_file(source, model=DARKER, in_place=True)
        with Image.open(source) as image:
            assert image.n_frames == 3  # type: ignore[attr-defined]


# Refused files


def whole_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(64, 64, 3)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "empty"),
        ("a.png", b"not a picture", "not a picture"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a.png: "),
        ("a.png", whole_png()[:2000], "a broken picture"),
        ("a.tif", b"II*\0\x08\0\0\0", "no page"),
        ("a.npy", b"\x93NUMPY", "a broken picture"),
    ],
)
def test_what_is_not_a_picture_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*") as caught:
        read_picture(tmp_path / name)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_of_another_format_than_its_suffix_is_read_with_a_note(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(whole_png())
    done = denoise_file(source, tmp_path / "b.png", model=DARKER)
    assert done.note == "it is a PNG, although its suffix is .jpg"
    with pytest.raises(ValueError, match="cannot be replaced .it is a PNG"):
        denoise_file(source, model=DARKER, in_place=True)
    assert source.read_bytes() == whole_png()


@pytest.mark.parametrize(
    ("photometric", "channels", "dtype"),
    [("cielab", 3, "u1"), ("cielab", 3, "u2"), ("minisblack", 1, "c8")],
)
def test_an_unsupported_picture_is_not_called_broken(
    photometric: str, channels: int, dtype: str, tmp_path: Path
) -> None:
    values = pixels(*SIDE, 3)[..., :channels].squeeze().astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    with pytest.raises(ValueError, match=r"a\.tif: .* not supported") as caught:
        read_picture(tmp_path / "a.tif")
    assert "broken" not in str(caught.value)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads them")
@pytest.mark.parametrize("bits", [6, 10, 12, 14, 24])
def test_packed_integers_are_not_called_broken(bits: int) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels(*SIDE).astype("u4"), byteorder=">")
    bits_per_sample = struct.pack(">HHI", 258, 3, 1)
    content = stream.getvalue().replace(bits_per_sample + b"\0\x20", bits_per_sample + bytes([0, bits]))
    with pytest.raises(ValueError, match=f"{bits}-bit integers.* pip install imagecodecs") as caught:
        read_picture(content)
    assert "broken" not in str(caught.value)


DAMAGED = """
import io, random
from PIL import Image
from daelab.image_io.read import read_picture
rng, image, errors = random.Random(0), Image.effect_noise((64, 64), 50), 0
for options in ({"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"}):
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "TIFF", **options)
    for _ in range(60):
        content = bytearray(stream.getvalue())
        for _ in range(20):
            content[rng.randrange(8, len(content) - 400)] = rng.randrange(256)
        try:
            read_picture(bytes(content))
        except ValueError as error:
            errors += 1
            assert str(error).count("\\n") == 0 and len(str(error)) < 400
assert errors > 50, errors
"""


def test_decoders_print_nothing_of_their_own() -> None:
    done = subprocess.run([sys.executable, "-c", DAMAGED], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_large_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    lying = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    )
    (tmp_path / "a.png").write_bytes(lying + whole_png()[33:])
    with pytest.raises(ValueError, match=r"3,600,000,000 pixels; at most 300,000,000 .*--max-pixels"):
        read_picture(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((10, 10)))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 10, 10), np.uint8), photometric="minisblack")
    for name, most in (("a.npy", 99), ("a.tif", 299)):
        with pytest.raises(ValueError, match="pixels; at most"):
            read_picture(tmp_path / name, max_pixels=most)
        assert read_picture(tmp_path / name, max_pixels=most + 1).size == (10, 10)


def test_the_limit_of_pillow_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "a.png").write_bytes(whole_png())
    assert read_picture(tmp_path / "a.png").size == (64, 64)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("suffix", "picture", "reason"),
    [
        (".jpg", Picture(pixels(4, 4, dtype=np.uint16)), "16-bit integers"),
        (".webp", Picture(pixels(4, 4, 3, dtype=np.uint16)), "16-bit integers"),
        (".png", Picture(pixels(4, 4, dtype=np.float32)), "32-bit floats"),
        (".png", Picture(pixels(4, 4, 4)), "CMYK"),
        (".jpg", Picture(pixels(4, 4, 3), pixels(4, 4)), "alpha"),
        (".bmp", Picture(pixels(4, 4, 3), pixels(4, 4)), "alpha"),
        (".gif", Picture(pixels(4, 4, 3), pixels(4, 4)), "partial alpha"),
        (".png", Picture(pixels(4, 4), more=(Picture(pixels(4, 4)),)), "further pages"),
        (".tif", Picture(pixels(2, 4, 4, 3)), "several pictures"),
    ],
)
def test_a_format_refuses_what_it_cannot_hold(tmp_path: Path, suffix: str, picture: Picture, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{suffix}: .* cannot hold {reason}"):
        write_picture(tmp_path / f"a{suffix}", picture)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_an_encoder_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wide\.jpg: "):
        write_picture(tmp_path / "wide.jpg", Picture(np.zeros((1, 70_000), np.uint8)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_picture(path, Picture(pixels(4, 4)))
    assert path.read_bytes() == b"mine"
    write_picture(path, Picture(pixels(4, 4)), overwrite=True)
    assert read_picture(path).size == (4, 4)


def test_bundled_photographs_are_read_by_name() -> None:
    pytest.importorskip("skimage")
    assert read_picture("photo:cat").pixels.shape == (300, 451, 3)
    with pytest.raises(ValueError, match="did you mean 'coffee'"):
        read_picture("photo:cofee")


@pytest.mark.parametrize(
    "values",
    [pixels(5, 6), pixels(5, 6, 3), pixels(5, 6, 4), pixels(5, 6, dtype=np.uint16), pixels(5, 6, dtype=np.float64)],
)
def test_every_picture_converts_to_color(values: np.ndarray) -> None:
    found = Picture(values).colour().pixels
    assert (found.shape, found.dtype) == ((5, 6, 3), np.uint8)
    if values.ndim == 3 and values.shape[2] == 4:
        plain = np.asarray(Image.fromarray(values, "CMYK").convert("RGB"))
        assert np.abs(found.astype(int) - plain).max() <= 1
