"""Atomic writing of picture files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from daelab._util.files import write_file
from daelab.errors import make_unknown_name_error
from daelab.image_io.formats import FORMATS, PictureFormat, find_format, list_suffixes
from daelab.image_io.optional_formats import CONVERTERS, WRITERS, check_installed
from daelab.image_io.picture import Array, Picture, UnsupportedPictureError
from daelab.image_io.png import write_png
from daelab.image_io.tiff import write_tiff


def write_picture(path: str | Path, picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture atomically, in the format of the path's suffix.

    Args:
        path: The file to write.
        picture: The picture.
        overwrite: Whether to replace an existing file.

    Raises:
        ValueError: No format has this suffix, or the format cannot hold this picture.
        FileExistsError: The file exists and `overwrite` is False.
    """
    path = Path(path)
    # Checked before anything is encoded, so that a wrong suffix or an existing file costs no time.
    form = check_target(path, overwrite=overwrite)

    def save_to(part: Path) -> None:
        with part.open("r+b") as stream:
            encode_picture(stream, picture, form)

    try:
        # Written to another file first, so that a failure never leaves half a picture under this name.
        write_file(path, save_to)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_target(path: Path, *, overwrite: bool) -> str:
    """Check that a picture can be written to a path, and return the name of the format of its suffix.

    Args:
        path: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ValueError: No format has this suffix.
        FileExistsError: The file exists and `overwrite` is False.
    """
    row = find_format(path.suffix)
    if row is None:
        if not path.suffix:
            raise ValueError(
                f"{path}: the name has no suffix, which names the format. Valid: {', '.join(list_suffixes())}"
            )
        raise make_unknown_name_error("picture format", path.suffix, list_suffixes())
    try:
        check_installed(row)
        _check_written(row)
    except UnsupportedPictureError as error:
        raise ValueError(f"{path}: {error}") from None
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it")
    return row.name


def _check_written(row: PictureFormat) -> None:
    if row.written_as:
        suffix = FORMATS[row.written_as].suffixes[0]
        raise UnsupportedPictureError(f"{row.title} is only read; write {suffix} or another format")


def convert_picture(picture: Picture, form: str) -> Picture:
    """Convert a picture of a format whose pixels mean nothing in others, such as camera raw.

    Args:
        picture: The picture.
        form: The name of the format to convert it for.
    """
    convert = CONVERTERS.get(picture.form)
    return picture if convert is None else convert(picture, form)


def encode_picture(stream: IO[bytes], picture: Picture, form: str) -> None:
    """Write a picture into an open file.

    Args:
        stream: An empty file, open for reading and writing.
        picture: The picture.
        form: The name of the format.

    Raises:
        ValueError: The format cannot hold this picture.
    """
    check_format_holds(picture, form)
    picture = convert_picture(picture, form)
    if picture.form != form:  # chunks, tags and encodings of another format mean nothing here
        picture = replace(picture, native=None, encoding={}, kind=picture.kind if picture.kind == "1" else "")
    picture.check_complete()
    try:
        _WRITERS.get(form, _save_by_pillow)(stream, picture, FORMATS[form])
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # encoders raise exceptions of nearly every class
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; errors of Pillow have no number
        raise ValueError(str(error) or type(error).__name__) from None


def encode_to_bytes(picture: Picture, form: str) -> bytes:
    """Encode a picture in memory.

    Args:
        picture: The picture.
        form: The name of the format.

    Returns:
        The bytes of a file of that format.

    Raises:
        ValueError: The format cannot hold this picture.
    """
    stream = BytesIO()
    encode_picture(stream, picture, form)
    return stream.getvalue()


def check_format_holds(picture: Picture, form: str) -> None:
    """Check that a format can hold a picture.

    Args:
        picture: The picture.
        form: The name of the format.

    Raises:
        ValueError: The format cannot hold it. The error says why.
    """
    row = FORMATS[form]
    _check_written(row)
    if row.sensor and picture.form not in CONVERTERS:
        raise ValueError(f"{form} holds only what a camera measured, not a developed picture; write another format")
    for page in picture.pages:
        channels, dtype = 1 if page.pixels.ndim == 2 else page.pixels.shape[-1], page.pixels.dtype
        faults = {
            "further pages": bool(page.more) and not row.pages,
            "several pictures": page.pixels.ndim == 4 and not row.stacks,
            "CMYK": channels not in row.channels,
            "further bands": bool(page.extra) and not row.bands,
            "alpha": page.alpha is not None and not row.alpha,
            f"{8 * dtype.itemsize}-bit {'floats' if dtype.kind == 'f' else 'integers'}": bool(row.sample_types)
            and f"{dtype.kind}{dtype.itemsize}" not in row.sample_types,
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(f"{form} cannot hold {fault}; write another format")


def _save_png(stream: IO[bytes], picture: Picture, _: PictureFormat) -> None:
    indexed, palette = _apply_palette(picture)
    write_png(stream, indexed, palette)


def _save_tiff(stream: IO[bytes], picture: Picture, _: PictureFormat) -> None:
    pages = []
    for page in picture.pages:  # palettes of TIFF have no alpha
        indexed, palette = _apply_palette(page) if page.alpha is None else (replace(page, kind=""), None)
        pages.append((indexed, None if palette is None else palette[0]))
    write_tiff(stream, pages)


def _save_npy(stream: IO[bytes], picture: Picture, _: PictureFormat) -> None:
    # Slices (Z, H, W) have a fourth axis of one channel only in memory.
    is_stack = picture.pixels.ndim == 4 and picture.pixels.shape[-1] == 1
    # A pickle could run code when the file is read.
    np.save(stream, picture.pixels[..., 0] if is_stack else picture.pixels, allow_pickle=False)


def _save_by_package(stream: IO[bytes], picture: Picture, row: PictureFormat) -> None:
    check_installed(row)
    WRITERS[row.name](stream, picture)


def _save_by_pillow(stream: IO[bytes], picture: Picture, row: PictureFormat) -> None:
    if row.palette == "always" or (row.palette == "kept" and picture.kind == "P"):
        image, options = _make_indexed_image(picture)
    else:
        image, options = _make_image(picture), {}
    options |= {key: picture.info[key] for key in row.metadata if key in picture.info}
    options |= row.encoder_options | (row.alpha_options if picture.alpha is not None else {}) | picture.encoding
    if "qtables" in options:
        # Pillow would scale the tables of the source by the quality, so they must stand for it alone.
        options["qtables"] = _refine_tables(options["qtables"], options.pop("quality"))
    image.save(stream, row.name, **options)


def _refine_tables(tables: dict[int, list[int]], quality: int) -> dict[int, list[int]]:
    """Return the quantization tables of a JPEG, with no entry coarser than in those of a quality.

    A denoised picture has less to hide its compression in than its noisy source, so the tables of a coarse source would
    cost a part of what denoising gained.
    """
    stream = BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        finest: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
    # The first table is that of the brightness, and all others are those of the colors.
    return {key: [*map(min, table, finest[min(key, 1)])] for key, table in tables.items()}


_WRITERS: dict[str, Callable[[IO[bytes], Picture, PictureFormat], None]] = {
    "PNG": _save_png,
    "TIFF": _save_tiff,
    "NPY": _save_npy,
    **dict.fromkeys(WRITERS, _save_by_package),
}
"""The formats that Pillow does not write, or not in full."""


def _make_image(picture: Picture) -> Image.Image:
    """Convert a picture to an image of Pillow, band by band."""
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


def _make_indexed_image(picture: Picture) -> tuple[Image.Image, dict[str, Any]]:
    if picture.pixels.ndim == 2 and picture.alpha is None:
        return _make_image(picture), {}
    height, width = picture.size
    indexed, palette = _apply_palette(replace(picture.colour(), kind="P"))
    assert palette is not None
    colors, alphas = palette
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indexed.pixels))
    image.putpalette(colors.tobytes())
    if set(alphas.tolist()) - {0, 255}:
        raise ValueError("GIF cannot hold partial alpha; write another format")
    return image, {"transparency": int(alphas.argmin())} if alphas.min() == 0 else {}


def _apply_palette(picture: Picture) -> tuple[Picture, tuple[Array, Array] | None]:
    """Convert a palette picture to indices (H, W), colors (n, 3) and alphas (n,). Others stay as they are.

    Each level of alpha has entries of its own, so that alpha does not change: one entry if it is transparent, else
    in proportion to its pixels. Colors are chosen by median cut without dithering, since dithering would add noise.
    """
    if picture.kind != "P" or picture.pixels.ndim == 2:
        return picture, None
    alpha = np.array(255) if picture.alpha is None else picture.alpha
    levels, counts = np.unique(alpha, return_counts=True)
    if len(levels) > 256:
        raise ValueError("a palette cannot hold so many levels of alpha; write another format")
    entries = _count_entries(levels, counts)
    indices = np.empty(picture.size, np.uint8)
    colors: list[Array] = []
    for level, count in zip(levels, entries, strict=True):
        here = slice(None) if picture.alpha is None else picture.alpha == level
        places, chosen = _quantize(picture.pixels[here], count)
        indices[here] = places + sum(map(len, colors))
        colors.append(chosen)
    alphas = np.repeat(levels, [len(part) for part in colors]).astype(np.uint8)
    return replace(picture, pixels=indices, alpha=None), (np.concatenate(colors), alphas)


def _count_entries(levels: Array, counts: Array) -> list[int]:
    """Divide the 256 entries of a palette among the levels of alpha."""
    visible = np.where(levels > 0, counts, 0)
    # One entry is reserved for each level, so that even a rare level keeps its alpha.
    free = 256 - len(levels)
    return [1 + int(free * part) for part in visible / max(1, visible.sum())]


def _quantize(pixels: Array, count: int) -> tuple[Array, Array]:
    """Return indices in the shape of the pixels, and at most `count` colors (n, 3)."""
    flat = pixels if pixels.ndim == 3 else pixels[None]
    image = Image.frombytes("RGB", (flat.shape[1], flat.shape[0]), np.ascontiguousarray(flat))
    small = image.quantize(count, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indices = np.asarray(small).reshape(pixels.shape[:-1])
    table = np.array(small.getpalette(), np.uint8).reshape(-1, 3)
    return indices, table[: int(indices.max()) + 1]
