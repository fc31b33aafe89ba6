"""Camera raw: read by rawpy and written as linear DNG, or developed to sRGB for any other format.

A picture of a camera raw is demosaicked. Its pixels are balanced and encoded with the curve of sRGB, which denoisers
are trained for, and its colors are those of the camera: the color matrix comes only with the development.
"""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from daelab.image_io.formats import find_format
from daelab.image_io.picture import BAND, Array, Picture, UnsupportedPictureError
from daelab.image_io.tiff import EXIF, ORIENTATION, XMP, Order, Tags, read_tiff_tags, write_tiff
from daelab.image_io.tiff_metadata import convert_tags_to_info

_Floats = npt.NDArray[np.float32]
CheckSize = Callable[[int, int], None]
"""A function of (pixels, most pixels) that raises an error if a picture is too large."""
_WHITE = 65535
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
"""The turns of libraw as values of the orientation tag."""
_SRGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""Linear sRGB to XYZ."""
_MOST_BRIGHTER = 4.0
"""The largest factor by which a development makes a picture brighter."""
_CLIPPED = 0.01
"""The part of the pixels that this may make white."""
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10
_SUBFILE, _PHOTOMETRIC, _LINEAR_RAW, _MAKE, _MODEL, _MAKER_NOTE = 254, 262, 34892, 271, 272, 37500
_VERSION, _COMPATIBLE, _CAMERA, _BLACK, _WHITE_LEVEL = 50706, 50707, 50708, 50714, 50717
_MATRIX, _NEUTRAL, _WHITE_POINT, _ILLUMINANT, _D65 = 50721, 50728, 50729, 50778, 21
_METADATA = frozenset({269, 270, _MAKE, _MODEL, 305, 306, 315, XMP, 33432, 33723, EXIF, 34853, 36867})
"""The tags of every camera raw that are kept: its title, camera, dates, authors, EXIF and GPS."""
_COLORS = frozenset(
    [
        *(_CAMERA, 50709, 50734, 50735, 50736, 50739, 50827, 50931, 50932),
        *(*range(_MATRIX, 50733), *range(_ILLUMINANT, 50780), *range(50936, 50943), 50964, 50965, *range(50981, 50985)),
        *(51022, 51107, 51108, 51109, 51110, 51111),
    ]
)
"""The tags of a DNG that stay true without its mosaic: its camera, colors, profile, and corrections of the lens."""
_EARLY_CORRECTIONS = (51008, 51009)
"""The opcode lists that apply to the mosaic."""


def find_raw_format(stream: IO[bytes], suffix: str) -> str:
    """Return "DNG" or "RAW" for a TIFF that holds what a sensor measured, and nothing for any other TIFF.

    Args:
        stream: The TIFF.
        suffix: The suffix of its name. That of a camera raw decides, so that its preview is never taken for it.
    """
    row = find_format(suffix)
    _, directories = read_tiff_tags(stream)
    stream.seek(0)
    if not any(directory.sensor for directory in directories) and not (row is not None and row.sensor):
        return ""
    return "DNG" if any(_VERSION in directory.kept for directory in directories) else "RAW"


def read_raw(stream: IO[bytes], max_pixels: int, check_size: CheckSize) -> Picture:
    """Read a camera raw.

    Args:
        stream: The file.
        max_pixels: The largest picture to accept, in pixels.
        check_size: Checks the number of pixels.

    Raises:
        UnsupportedPictureError: libraw does not read the file, or its pixels have four colors.
        ValueError: The file is damaged.
    """
    rawpy: Any = importlib.import_module("rawpy")
    try:
        with rawpy.imread(stream) as raw:
            check_size(raw.sizes.height * raw.sizes.width, max_pixels)
            order, tags, frames = _read_tags(stream, raw)
            picture = _read_pixels(rawpy, raw, order, tags)
            others = f"one of {frames} raw pictures in one file"
            return replace(picture, note="; ".join(filter(None, (picture.note, others)))) if frames > 1 else picture
    except rawpy.LibRawFileUnsupportedError:
        raise UnsupportedPictureError("camera raw of this kind is not supported by libraw") from None
    except rawpy.LibRawError as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


def _read_pixels(rawpy: Any, raw: Any, order: Order, tags: Tags) -> Picture:
    is_mosaic = raw.raw_type == rawpy.RawType.Flat and raw.num_colors == 3
    second_green = None if raw.raw_type == rawpy.RawType.Flat else raw.raw_image
    if raw.num_colors not in (1, 3) or (second_green is not None and second_green[..., 3:].any()):
        raise UnsupportedPictureError("a camera raw of four colors is not supported; convert it to DNG first")
    # Read before the demosaicking, which sets it to its own.
    orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
    # The demosaicking after which denoising measured best; see the decision record on camera raw.
    linear = raw.postprocess(
        demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT,
        output_color=rawpy.ColorSpace.raw,
        output_bps=16,
        gamma=(1, 1),
        user_wb=[1, 1, 1, 1],
        user_flip=0,
        no_auto_bright=True,
        # Otherwise the brightest pixel of a dark picture would become white.
        adjust_maximum_thr=0.0,
    )
    balance = np.array(raw.camera_whitebalance[:3], np.float32)
    if not (np.isfinite(balance).all() and balance.min() > 0):
        balance = np.array(raw.daylight_whitebalance[:3], np.float32)
    if raw.num_colors == 1:
        linear, balance = linear[..., 0], np.ones(1, np.float32)
    color = {
        "gains": balance / balance.max(),
        "daylight": np.array(raw.daylight_whitebalance[:3], np.float64),
        "matrix": np.array(raw.color_matrix[:, :3], np.float64),
        "orientation": orientation,
    }
    pixels = _encode_light(linear, color["gains"])
    step = max(1, math.isqrt(linear.shape[0] * linear.shape[1] >> 16))
    light = _convert_to_srgb(pixels[::step, ::step], color).reshape(-1, len(balance))
    brightest = float(np.quantile(light.max(1), 1 - _CLIPPED))
    color["brightness"] = min(max(1.0, 1 / max(brightest, 1e-6)), _MOST_BRIGHTER)
    notes = ["its mosaic was demosaicked"] * is_mosaic
    notes += ["without the corrections of its opcode lists 1 and 2"] * any(tag in tags for tag in _EARLY_CORRECTIONS)
    is_dng = _VERSION in tags
    kept = {tag: value for tag, value in tags.items() if tag in _METADATA or (is_dng and tag in _COLORS)}
    shared = {tag: value for tag, value in kept.items() if tag in _METADATA}
    shared[ORIENTATION] = (_SHORT, struct.pack(order + "H", color["orientation"]))
    return Picture(
        pixels,
        form="DNG" if is_dng else "RAW",
        native=(order, kept),
        info=convert_tags_to_info(order, shared),
        encoding=color,
        declared_range=(0.0, float(_WHITE)),
        note="; ".join(notes),
        stored=pixels.size,
    )


def _read_tags(stream: IO[bytes], raw: Any) -> tuple[Order, Tags, int]:
    """Return the tags of the first directory, and the number of pictures of the largest size.

    The tags of a raw that is no TIFF are those of its preview.
    """
    stream.seek(0)
    try:
        if stream.read(2) in (b"II", b"MM"):
            order, directories = read_tiff_tags(stream)
        else:
            with Image.open(BytesIO(raw.extract_thumb().data), formats=["JPEG"]) as preview:
                exif = preview.info["exif"].removeprefix(b"Exif\0\0")
            order, directories = read_tiff_tags(BytesIO(exif))
    # Pictures do without metadata that cannot be read.
    except Exception:
        return "<", {}, 1
    tags = dict(directories[0].kept)
    sizes = [size for directory in directories for size in directory.sensor]
    if EXIF in tags and isinstance(tags[EXIF][1], dict):
        # The notes of cameras hold positions in the file, and would be wrong in another one.
        tags[EXIF] = (tags[EXIF][0], {tag: value for tag, value in tags[EXIF][1].items() if tag != _MAKER_NOTE})
    return order, tags, sizes.count(max(sizes, default=0))


def _encode_light(linear: Array, gains: _Floats) -> Array:
    """Balance the linear light of a camera, (H, W) or (H, W, 3) uint16, and encode it with the curve of sRGB."""
    light = np.arange(_WHITE + 1, dtype=np.float32) / _WHITE
    planes = [_encode_srgb(light * gain)[plane] for gain, plane in zip(gains, _split_channels(linear), strict=True)]
    return planes[0] if linear.ndim == 2 else np.stack(planes, -1)


def _split_channels(pixels: Array) -> list[Array]:
    return [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))


def _encode_srgb(light: _Floats) -> Array:
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    return (curve * _WHITE).round().clip(0, _WHITE).astype(np.uint16)


@cache
def _make_light_table() -> _Floats:
    values = np.arange(_WHITE + 1, dtype=np.float64) / _WHITE
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _convert_to_srgb(pixels: Array, color: dict[str, Any]) -> _Floats:
    """Convert pixels of a camera raw to linear sRGB, in which the channel that saturates first ends at 1."""
    light: _Floats = np.minimum(_make_light_table()[pixels] / color["gains"].min(), 1)
    return light if pixels.ndim == 2 else light @ color["matrix"].astype(np.float32).T


def develop(picture: Picture, form: str) -> Picture:
    """Convert a picture of a camera raw for another format: to sRGB, unless that is DNG.

    Args:
        picture: The picture.
        form: The name of the format.
    """
    if form in ("DNG", "RAW"):
        return replace(picture, form=form)
    pixels = np.empty_like(picture.pixels)
    rows = max(1, BAND // picture.size[1])
    for top in range(0, picture.size[0], rows):
        light = _convert_to_srgb(picture.pixels[top : top + rows], picture.encoding)
        pixels[top : top + rows] = _encode_srgb((light * picture.encoding["brightness"]).clip(0, 1))
    return replace(picture, pixels=pixels, form="", native=None, encoding={})


def write_dng(stream: IO[bytes], picture: Picture) -> None:
    """Write a linear DNG: the light of the camera as 16 bits, with its colors and its metadata.

    It is not compressed, since libraw reads no compressed linear DNG of integers.

    Args:
        stream: An empty file, open for reading and writing.
        picture: A picture of a camera raw.
    """
    color = picture.encoding
    metadata: tuple[Order, Tags] = picture.native or ("<", {})
    order, kept = metadata
    table = _make_light_table()
    planes = [
        (table * (_WHITE / gain)).round().clip(0, _WHITE).astype(np.uint16)[plane]
        for gain, plane in zip(color["gains"], _split_channels(picture.pixels), strict=True)
    ]
    pixels = planes[0] if picture.pixels.ndim == 2 else np.stack(planes, -1)
    tags = _make_dng_tags(order, kept, color, len(planes)) | kept
    tags[ORIENTATION] = (_SHORT, struct.pack(order + "H", color["orientation"]))
    linear = replace(picture, pixels=pixels, native=(order, tags), encoding={"compressed": False})
    write_tiff(stream, [(linear, None)])


def _make_dng_tags(order: Order, kept: Tags, color: dict[str, Any], channels: int) -> Tags:
    """Return the tags that a linear DNG must have."""

    def pack(kind: int, code: str, *values: int) -> tuple[int, bytes]:
        return kind, struct.pack(f"{order}{len(values)}{code}", *values)

    names = [kept[tag][1].rstrip(b"\0 ") for tag in (_MAKE, _MODEL) if tag in kept]
    tags: Tags = {
        _SUBFILE: pack(_LONG, "I", 0),
        _PHOTOMETRIC: pack(_SHORT, "H", _LINEAR_RAW),
        _VERSION: pack(_BYTE, "B", 1, 4, 0, 0),
        _COMPATIBLE: pack(_BYTE, "B", 1, 1, 0, 0),
        _CAMERA: (_ASCII, (b" ".join(names) or b"unknown") + b"\0"),
        _BLACK: pack(_SHORT, "H", *[0] * channels),
        _WHITE_LEVEL: pack(_LONG, "I", *[_WHITE] * channels),
    }
    if channels == 1:
        return tags
    if _MATRIX not in kept:
        # From XYZ to the camera: back from sRGB, and from daylight as white to what the camera measures of it.
        matrix = np.linalg.pinv(color["matrix"]) @ np.linalg.inv(_SRGB)
        matrix /= np.where(color["daylight"] > 0, color["daylight"], 1)[:, None]
        tags[_MATRIX] = pack(_SIGNED_RATIONAL, "i", *_make_ratios(matrix))
        tags[_ILLUMINANT] = pack(_SHORT, "H", _D65)
    if not {_NEUTRAL, _WHITE_POINT} & kept.keys():
        tags[_NEUTRAL] = pack(_RATIONAL, "I", *_make_ratios(color["gains"].min() / color["gains"]))
    return tags


def _make_ratios(values: Array) -> list[int]:
    return [part for value in values.reshape(-1).tolist() for part in (round(value * 100_000), 100_000)]
