"""Picture -> a file of its kind, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from daelab._util.files import write_file
from daelab.errors import unknown_name
from daelab.image_io.picture import SUFFIXES, Array, Picture
from daelab.image_io.png import write_png
from daelab.image_io.tiff import write_tiff

QUALITY = 95
"""Of a JPEG or a lossy WebP whose source does not say its own."""


def write_picture(path: str | Path, picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all.

    Raises:
        ValueError: the suffix is of no format that is written, or cannot hold this picture.
        FileExistsError: the file exists and `overwrite` is False.
    """
    path = Path(path)
    form = check_target(path, overwrite=overwrite)

    def save_to(part: Path) -> None:
        with part.open("r+b") as stream:
            encode_picture(stream, picture, form)

    try:
        write_file(path, save_to)
    except MemoryError:
        raise
    except Exception as error:  # encoders raise nearly every kind; none may reach the user raw
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; Pillow's own have no number
        raise ValueError(f"{path}: {error or type(error).__name__}") from None


def check_target(path: Path, *, overwrite: bool) -> str:
    """The format to write there; raises unless it is known and nothing is in the way.

    Raises:
        ValueError: the suffix is of no format that is written.
        FileExistsError: the file exists and `overwrite` is False.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise unknown_name("picture format", path.suffix or path.name, SUFFIXES)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    return SUFFIXES[path.suffix.lower()]


def encode_picture(stream: IO[bytes], picture: Picture, form: str) -> None:
    """Write a picture into an open file.

    Raises:
        ValueError: the format cannot hold this picture.
    """
    if picture.form != form:  # what was the other format's own
        picture = replace(picture, native=None, encoding={}, kind=picture.kind if picture.kind == "1" else "")
    check_format_holds(picture, form)
    _WRITERS[form](stream, picture)


def check_format_holds(picture: Picture, form: str) -> None:
    """Raise unless a format can hold a picture.

    Raises:
        ValueError: says what it cannot hold.
    """
    types, channels, alpha = _HOLDS[form]
    for page in picture.pages:
        held, dtype = 1 if page.pixels.ndim == 2 else page.pixels.shape[-1], page.pixels.dtype
        faults = {
            "further pages": bool(page.more) and form != "TIFF",
            "several pictures": page.pixels.ndim == 4 and form != "NPY",
            "CMYK": held not in channels,
            "alpha": page.alpha is not None and not alpha,
            f"{8 * dtype.itemsize}-bit {'floats' if dtype.kind == 'f' else 'integers'}": bool(types)
            and f"{dtype.kind}{dtype.itemsize}" not in types.split(),
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(f"{form} cannot hold {fault}; write another format")


def _save_png(stream: IO[bytes], picture: Picture) -> None:
    indexed, palette = _indexed(picture)
    write_png(stream, indexed, palette)


def _save_tiff(stream: IO[bytes], picture: Picture) -> None:
    pages = []
    for page in picture.pages:  # a TIFF's palette has no alpha
        indexed, palette = _indexed(page) if page.alpha is None else (replace(page, kind=""), None)
        pages.append((indexed, None if palette is None else palette[0]))
    write_tiff(stream, pages)


def _save_npy(stream: IO[bytes], picture: Picture) -> None:
    np.save(stream, picture.pixels, allow_pickle=False)


def _save_by_pillow(stream: IO[bytes], picture: Picture, form: str) -> None:
    if form == "GIF" or (form == "BMP" and picture.kind == "P"):
        image, options = _indexed_image(picture)
    else:
        image, options = _image(picture), {}
    options |= {key: picture.info[key] for key in _PLACES[form] if key in picture.info}
    if form == "JPEG":
        options |= picture.encoding or {"quality": QUALITY}
    if form == "WEBP":
        options |= {"quality": QUALITY, "exact": True} | picture.encoding
    image.save(stream, form, **options)


_PLACES = {
    "JPEG": ("exif", "icc_profile", "xmp", "comment", "dpi"),
    "WEBP": ("exif", "icc_profile", "xmp"),
    "BMP": ("dpi",),
    "GIF": ("comment",),
}
"""What Pillow can say in a format."""
_HOLDS: dict[str, tuple[str, tuple[int, ...], bool]] = {
    "PNG": ("u1 u2", (1, 3), True),
    "JPEG": ("u1", (1, 3, 4), False),
    "WEBP": ("u1", (1, 3), True),
    "TIFF": ("u1 u2 u4 i1 i2 i4 f2 f4 f8", (1, 3, 4), True),
    "BMP": ("u1", (1, 3), False),
    "GIF": ("u1", (1, 3), True),
    "NPY": ("", (1, 3), False),
}
"""Types of samples (all: ""), channels without alpha, and whether there is a place for alpha."""
_WRITERS: dict[str, Callable[[IO[bytes], Picture], None]] = {
    "PNG": _save_png,
    "TIFF": _save_tiff,
    "NPY": _save_npy,
    **{form: partial(_save_by_pillow, form=form) for form in _PLACES},
}


def _image(picture: Picture) -> Image.Image:
    """In Pillow's form, band by band."""
    height, width = picture.size
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA" if picture.alpha is not None else "CMYK"}[picture.samples]
    image = Image.new(mode, (width, height))
    top = 0
    for band in picture.bands():
        image.paste(Image.frombytes(mode, (width, len(band)), np.ascontiguousarray(band)), (0, top))
        top += len(band)
    if picture.kind == "1":
        return image.convert("1", dither=Image.Dither.NONE)
    return image


def _indexed_image(picture: Picture) -> tuple[Image.Image, dict[str, Any]]:
    if picture.pixels.ndim == 2 and picture.alpha is None:
        return _image(picture), {}
    height, width = picture.size
    indexed, palette = _indexed(replace(picture.colour(), kind="P"))
    assert palette is not None
    colours, alphas = palette
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indexed.pixels))
    image.putpalette(colours.tobytes())
    if set(alphas.tolist()) - {0, 255}:
        raise ValueError("GIF cannot hold partial alpha; write another format")
    return image, {"transparency": int(alphas.argmin())} if alphas.min() == 0 else {}


def _indexed(picture: Picture) -> tuple[Picture, tuple[Array, Array] | None]:
    """A palette picture as indices (H, W) and their colours (n, 3) and alphas (n,); others as they are.

    Each alpha keeps entries of its own, so that alpha comes back untouched: one where nothing is
    seen, else as many as its part of the pixels asks for. Colours are chosen anew by median cut, without dithering,
    which would be noise.
    """
    if picture.kind != "P" or picture.pixels.ndim == 2:
        return picture, None
    alpha = np.array(255) if picture.alpha is None else picture.alpha
    levels, counts = np.unique(alpha, return_counts=True)
    if len(levels) > 256:
        raise ValueError("a palette cannot hold so many levels of alpha")
    entries = _entries(levels, counts)
    indices = np.empty(picture.size, np.uint8)
    colours: list[Array] = []
    for level, count in zip(levels, entries, strict=True):
        here = slice(None) if picture.alpha is None else picture.alpha == level
        found, chosen = _quantised(picture.pixels[here], count)
        indices[here] = found + sum(map(len, colours))
        colours.append(chosen)
    alphas = np.repeat(levels, [len(part) for part in colours]).astype(np.uint8)
    return replace(picture, pixels=indices, alpha=None), (np.concatenate(colours), alphas)


def _entries(levels: Array, counts: Array) -> list[int]:
    """How many of 256 entries each level of alpha gets."""
    seen = np.where(levels > 0, counts, 0)
    free = 256 - len(levels)
    return [1 + int(free * part) for part in seen / max(1, seen.sum())]


def _quantised(pixels: Array, count: int) -> tuple[Array, Array]:
    """Indices shaped like the pixels, and at most `count` colours (n, 3)."""
    flat = pixels if pixels.ndim == 3 else pixels[None]
    image = Image.frombytes("RGB", (flat.shape[1], flat.shape[0]), np.ascontiguousarray(flat))
    small = image.quantize(count, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indices = np.asarray(small).reshape(pixels.shape[:-1])
    table = np.array(small.getpalette(), np.uint8).reshape(-1, 3)
    return indices, table[: int(indices.max()) + 1]
