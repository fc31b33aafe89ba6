"""Pages that Pillow decodes, as pictures of their own bit depth, without copying the pixels twice."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, _imaging

from daelab.image_io.picture import BAND, Array, Picture, UnsupportedPictureError, invert_grey

_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""The byte order to claim for the other byte of 16-bit samples, of which Pillow decodes only the upper byte."""
_DEEP = ("RGB", "RGBA", "CMYK")
_CONVERTED = {"1": "L", "RGBX": "RGB", "YCbCr": "RGB", "PA": "RGBA"}
_CHANNELS = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_STEPS = {"L;2": 85, "L;4": 17}
"""The factor by which Pillow scales grey samples of two and four bits, but not the level that is transparent."""
_DTYPES = {"I": np.int32, "F": np.float32}
_BITS, _PHOTOMETRIC, _ORIENTATION, _MAX_SAMPLE_VALUE, _SAMPLE_FORMAT = 258, 262, 274, 281, 339
_SIGNED = 2
_UPRIGHT: dict[int, Callable[[Array], Array]] = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: np.rot90(array),
    7: lambda array: array[::-1, ::-1].swapaxes(0, 1),
    8: lambda array: np.rot90(array, -1),
}
_lock = threading.Lock()
_inside: list[tuple[Any, int | None]] = []


class UnsupportedSamplesError(ValueError):
    """An error for samples that Pillow cannot decode in full."""


def decode_page(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    """Decode a page as the file stores it, not turned upright.

    Args:
        image: The image, opened at the page.
        again: A function that opens the same page again.

    Raises:
        UnsupportedSamplesError: Pillow cannot decode the samples in full.
        ValueError: The mode of the page is not supported.
    """
    orientation = _read_tag(image, _ORIENTATION)  # Pillow drops the tag when it decodes
    return _undo_rotation(_decode(image, again), orientation or 1)


def _decode(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    if image.mode.startswith("I;16"):
        return _decode_deep_grey(image)
    if image.format == "PPM" and image.mode == "I":
        # Pillow scales the values of every PPM of more than eight bits to sixteen.
        return Picture(_convert_to_array(image, "I", np.int32).astype(np.uint16), declared_range=(0.0, 65535.0))
    if image.mode in _DTYPES:
        if _read_tag(image, _PHOTOMETRIC) == 0:
            raise UnsupportedSamplesError("white is zero, which Pillow ignores here")
        # Pillow opens other integers in this mode too, but not with their values.
        if image.mode == "I" and _read_layout(image) != (32, _SIGNED):
            raise UnsupportedSamplesError("integers that Pillow widens or wraps")
        return Picture(_convert_to_array(image, image.mode, _DTYPES[image.mode]))
    if _has_sixteen_bits(image):
        return _decode_both_bytes(image, again)
    return _decode_bytes(image, again)


def _decode_bytes(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    """Decode samples of at most eight bits."""
    layout = _read_raw_mode(image)
    if layout == "RGBa":  # the values as they are stored: Pillow would divide them by alpha
        _set_layout(image, "RGBA")
    image.load()  # without it, a palette does not tell whether it has alpha
    transparent = "transparency" in image.info
    if image.mode == "P":
        transparent = transparent or (image.palette is not None and image.palette.mode == "RGBA")
        mode = "RGBA" if transparent else "RGB"
        return _split(_convert_to_array(image, mode), mode, "P")
    mode = _CONVERTED.get(image.mode, image.mode)
    if mode not in _CHANNELS:
        raise UnsupportedPictureError(f"pictures of the mode {mode} are not supported; convert it to RGB or grey")
    if transparent and mode == "L":
        pixels = _convert_to_array(image, mode)
        key = image.info["transparency"]
        key = key * _STEPS.get(layout, 1) if isinstance(key, int) else None
        return Picture(pixels, np.where(pixels == key, 0, 255).astype(np.uint8))
    if layout == "BGRX":  # Pillow leaves out the fourth byte, which most programs fill with alpha
        alpha = _convert_to_array(_set_layout(again(), "XRGB"), "RGB")[..., 2]
        if alpha.min() < alpha.max():
            return Picture(_convert_to_array(image, "RGB"), np.ascontiguousarray(alpha))
    if transparent and mode == "RGB":
        return _split(_convert_to_array(image, mode + "A"), mode + "A")
    return _split(_convert_to_array(image, mode), mode, "1" if image.mode == "1" else "")


def _decode_deep_grey(image: Image.Image) -> Picture:
    key = image.info.get("transparency")
    white_is_zero = _read_tag(image, _PHOTOMETRIC) == 0
    pixels = _convert_to_array(image, image.mode, np.uint16)
    if white_is_zero:  # Pillow inverts such pixels only if they have eight bits
        pixels = invert_grey(pixels, _read_tag(image, _MAX_SAMPLE_VALUE) or 0)
    alpha = np.where(pixels == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None
    return Picture(pixels, alpha)


def _split(values: Array, mode: str, kind: str = "") -> Picture:
    """Separate the pixels from alpha."""
    if mode in ("LA", "La", "RGBA"):
        pixels = values[..., :-1] if mode == "RGBA" else values[..., 0]
        return Picture(np.ascontiguousarray(pixels), np.ascontiguousarray(values[..., -1]), kind=kind)
    return Picture(values, kind=kind)


def _convert_to_array(image: Image.Image, mode: str, dtype: type = np.uint8) -> Array:
    """Return the image as an array of another mode, converted band by band."""
    image.load()
    channels = _CHANNELS.get(mode, 1)
    shape = (image.height, image.width, channels)
    # The array is filled band by band, so that Pillow never holds a converted copy of the whole picture.
    out: Array = np.empty(shape if channels > 1 else shape[:2], dtype)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image if rows >= image.height else image.crop((0, top, image.width, bottom))
        out[top:bottom] = np.asarray(band if band.mode == mode else band.convert(mode))
    return out


def _read_raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the layout of a pixel in the file, such as "RGB;16B"."""
    if not getattr(image, "tile", None):
        return ""
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Return whether the page has several channels of 16 bits, of which Pillow decodes the upper eight.

    Raises:
        UnsupportedSamplesError: The lower bits cannot be decoded by Pillow at all.
    """
    layout, _, depth = _read_raw_mode(image).partition(";")
    if depth in _OTHER_BYTE and ((image.mode == layout and layout in _DEEP) or (image.mode, layout) == ("RGBA", "LA")):
        return True
    bits, kind = _read_layout(image)
    if bits > 8 or kind == _SIGNED:
        raise UnsupportedSamplesError("its samples are of a kind that Pillow gives in part")
    return False


def _read_layout(image: Image.Image) -> tuple[int, int]:
    """Return the bits of the first sample of a TIFF, and its type: 1 unsigned, 2 signed, 3 float."""
    return _read_tag(image, _BITS) or 1, _read_tag(image, _SAMPLE_FORMAT) or 1


def _read_tag(image: Image.Image, tag: int) -> int | None:
    """Return the first value of a TIFF's tag, or None if there is none."""
    values = getattr(image, "tag_v2", {}).get(tag)
    return values[0] if isinstance(values, tuple) else values


def _decode_both_bytes(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    """Decode the page twice: once for the upper byte of each value, once for the lower byte."""
    layout, _, depth = _read_raw_mode(image).partition(";")
    key = image.info.get("transparency")
    if layout == "LA":  # its four bytes fit in a pixel of RGBA
        values = _convert_to_array(_set_layout(image, "RGBA"), "RGBA").view(">u2").astype(np.uint16)
        return _split(values, "LA")
    # Pillow decodes the upper bytes; the second pass claims the other byte order and so decodes the lower ones.
    values = _convert_to_array(image, image.mode).astype(np.uint16)
    values <<= 8
    values |= _convert_to_array(_set_layout(again(), f"{layout};{_OTHER_BYTE[depth]}"), layout)
    if layout == "RGB" and isinstance(key, tuple):
        return Picture(values, np.where((values == key).all(axis=2), 0, 65535).astype(np.uint16))
    return _split(values, layout)


def _set_layout(image: Image.Image, raw: str) -> Image.Image:
    """Set another layout of the bytes of an image that is not decoded yet."""
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    return image


def _undo_rotation(picture: Picture, orientation: int) -> Picture:
    """Undo the rotation by which Pillow turns a TIFF upright, since the orientation tag is kept."""
    undo = _UPRIGHT.get(orientation)
    if undo is None:
        return picture
    alpha = None if picture.alpha is None else np.ascontiguousarray(undo(picture.alpha))
    return replace(picture, pixels=np.ascontiguousarray(undo(picture.pixels)), alpha=alpha)


@contextmanager
def lift_pillow_limits() -> Iterator[None]:
    """Switch off Pillow's warnings and its limit of pixels, since daelab checks its own limit by the header.

    Both are global. They are restored when the last of several threads leaves. Messages of Pillow and of the library
    that decodes TIFF are switched off for good, since every fault ends in an error of daelab.
    """
    _silence_libraries()
    with _lock:
        # Only the first of several threads saves the settings, or one would save those that another has changed.
        if not _inside:
            _inside.append((warnings.catch_warnings(action="ignore"), Image.MAX_IMAGE_PIXELS))
            _inside[0][0].__enter__()
            Image.MAX_IMAGE_PIXELS = None
        _inside.append(_inside[0])
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if len(_inside) == 1:
                quiet, Image.MAX_IMAGE_PIXELS = _inside.pop()
                quiet.__exit__(None, None, None)


@cache
def _silence_libraries() -> None:
    """Keep Pillow from logging, and libtiff from writing to the standard error of the process."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # The library is found through Pillow's own, which is linked to it. Pillow may be built without it.
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
