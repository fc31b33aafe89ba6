"""What Pillow decodes -> Picture, in the picture's own depth, without a second copy of it."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from daelab.image_io.picture import BAND, Array, Picture

_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Pillow takes one byte of two; told that a file has the other order, it takes the other one."""
_DEEP = ("RGB", "RGBA", "CMYK")
_CONVERTED = {"1": "L", "RGBX": "RGB", "YCbCr": "RGB", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_DTYPES = {"I": np.int32, "F": np.float32}
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339
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


class UnsupportedSamples(ValueError):
    """Samples that Pillow cannot give in full."""


def decode_page(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    """What is seen on the page that `image` stands at, as the file stores it, not turned upright.

    Args:
        again: opens the same page anew.

    Raises:
        NotDecoded: Pillow would give less than there is.
    """
    orientation = _tag(image, _ORIENTATION)  # before it is decoded; none in another format
    return _as_stored(_seen(image, again), orientation or 1)


def _seen(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode in _DTYPES:
        if image.mode == "I" and _layout(image) != (32, _SIGNED):
            raise UnsupportedSamples("integers that Pillow widens or wraps")
        return Picture(_array(image, image.mode, _DTYPES[image.mode]))
    if _sixteen_bits(image):
        return _both_bytes(image, again)
    image.load()  # before this a palette does not say whether it has alpha
    transparent = "transparency" in image.info
    if image.mode == "P":
        transparent = transparent or (image.palette is not None and image.palette.mode == "RGBA")
        mode = "RGBA" if transparent else "RGB"
        return _split(_array(image, mode), mode, "P")
    mode = _CONVERTED.get(image.mode, image.mode)
    if mode not in _CHANNELS:
        raise ValueError(f"its mode, {mode}, is none that is cleaned")
    if transparent and mode in ("L", "RGB"):
        return _split(_array(image, mode + "A"), mode + "A")
    return _split(_array(image, mode), mode, "1" if image.mode == "1" else "")


def _deep_grey(image: Image.Image) -> Picture:
    key = image.info.get("transparency")
    white_is_zero = _tag(image, _PHOTOMETRIC) == 0
    pixels = _array(image, image.mode, np.uint16)
    if white_is_zero:  # where it has eight bits, Pillow sees to that itself
        pixels = 65535 - pixels
    alpha = np.where(pixels == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None
    return Picture(pixels, alpha)


def _split(values: Array, mode: str, kind: str = "") -> Picture:
    """Pixels and alpha apart."""
    if mode in ("LA", "RGBA"):
        pixels = values[..., 0] if mode == "LA" else values[..., :-1]
        return Picture(np.ascontiguousarray(pixels), np.ascontiguousarray(values[..., -1]), kind=kind)
    return Picture(values, kind=kind)


def _array(image: Image.Image, mode: str, dtype: type = np.uint8) -> Array:
    """The image as an array of another mode, converted band by band."""
    image.load()
    channels = _CHANNELS.get(mode, 1)
    shape = (image.height, image.width, channels)
    out: Array = np.empty(shape if channels > 1 else shape[:2], dtype)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image if rows >= image.height else image.crop((0, top, image.width, bottom))
        out[top:bottom] = np.asarray(band if band.mode == mode else band.convert(mode))
    return out


def _raw_mode(image: Image.Image) -> str:
    """How the file lays out a pixel, in Pillow's words: "RGB;16B"."""
    if not getattr(image, "tile", None):
        return ""
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _sixteen_bits(image: Image.Image) -> bool:
    """Whether it has 16 bits in each of several channels, of which Pillow gives eight.

    Raises:
        NotDecoded: and there is no way to the other eight.
    """
    layout, _, depth = _raw_mode(image).partition(";")
    if depth in _OTHER_BYTE and ((image.mode == layout and layout in _DEEP) or (image.mode, layout) == ("RGBA", "LA")):
        return True
    bits, kind = _layout(image)
    if bits > 8 or kind == _SIGNED:
        raise UnsupportedSamples("its samples are of a kind that Pillow gives in part")
    return False


def _layout(image: Image.Image) -> tuple[int, int]:
    """Bits of a TIFF's first sample, and whether it is unsigned, signed or float: 1, 2, 3."""
    return _tag(image, _BITS) or 1, _tag(image, _SAMPLE_FORMAT) or 1


def _tag(image: Image.Image, tag: int) -> int | None:
    """The first value of a TIFF's tag; None where there is none."""
    values = getattr(image, "tag_v2", {}).get(tag)
    return values[0] if isinstance(values, tuple) else values


def _both_bytes(image: Image.Image, again: Callable[[], Image.Image]) -> Picture:
    """Of two decodings: one gives the upper byte of each value, one the lower."""
    layout, _, depth = _raw_mode(image).partition(";")
    key = image.info.get("transparency")
    if layout == "LA":  # four bytes a pixel: all of them at once
        values = _array(_as_if(image, "RGBA"), "RGBA").view(">u2").astype(np.uint16)
        return _split(values, "LA")
    values = _array(image, image.mode).astype(np.uint16)
    values <<= 8
    with again() as other:
        values |= _array(_as_if(other, f"{layout};{_OTHER_BYTE[depth]}"), layout)
    if layout == "RGB" and isinstance(key, tuple):
        return Picture(values, np.where((values == key).all(axis=2), 0, 65535).astype(np.uint16))
    return _split(values, layout)


def _as_if(image: Image.Image, raw: str) -> Image.Image:
    """The image, not yet decoded, taken for one with another layout of its bytes."""
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    return image


def _as_stored(picture: Picture, orientation: int) -> Picture:
    """Undo that Pillow turns a TIFF upright, since its orientation is kept."""
    undo = _UPRIGHT.get(orientation)
    if undo is None:
        return picture
    alpha = None if picture.alpha is None else np.ascontiguousarray(undo(picture.alpha))
    return replace(picture, pixels=np.ascontiguousarray(undo(picture.pixels)), alpha=alpha)


@contextmanager
def lift_pillow_limits() -> Iterator[None]:
    """Pillow without its warnings and its own limit of pixels; ours is checked by the header instead.

    Both are globals, which come back when the last of several threads is done.
    """
    with _lock:
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
