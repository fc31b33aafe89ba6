"""What is asked of pictures, put together from the rooms above: bytes in, bytes and plain values out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from daelab.denoising.image_comparison import compare_images
from daelab.denoising.noisy_images import identify_file_noise, make_noisy_picture
from daelab.denoising.pipeline import DenoiseOptions, denoise_picture, is_unchanged
from daelab.denoising.tiling import ProgressCallback
from daelab.image_io.picture import SUFFIXES, Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import encode_picture
from daelab.noise.grammar import parse_noise
from daelab.web.model_registry import load_page_model
from daelab.web.uploads import PictureUpload

PICTURE_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "NPY": "application/octet-stream",
}
"""Format -> media type of its files."""
ANSWERED_SCORES = ("psnr", "ssim")


@dataclass(frozen=True)
class AnswerFile:
    """A picture's file as it is answered."""

    data: bytes
    name: str
    media: str
    report: dict[str, Any] = field(default_factory=dict)
    """What is said beside it."""


def answer_denoise(
    model: str,
    pictures: dict[str, PictureUpload],
    options: DenoiseOptions,
    progress: ProgressCallback,
) -> AnswerFile:
    """What `daelab denoise` makes of the picture, byte for byte; its scores where the clean one is known.

    Args:
        model: a name of `zoo.models`, or "automatic".

    Raises:
        ValueError: no such model, a broken picture, or one that cannot be compared with the clean one; names it.
    """
    cleaner, upload = load_page_model(model), pictures["picture"]
    began = time.monotonic()
    picture = _read(upload, options.max_pixels)
    try:
        said, result, _ = denoise_picture(picture, cleaner, options, picture.form, progress)
        as_it_came = is_unchanged(said, picture, picture.form, options)
        data = upload.data if as_it_came else _saved(result, picture.form)
    except ValueError as error:
        raise ValueError(f"{upload.name}: {error}") from None
    seconds = time.monotonic() - began
    report: dict[str, Any] = {
        "name": _renamed(upload.name, "_clean", picture.form),
        "model": said.model if said.why else model,
        "why": said.why,
        "strength": options.strength,
        "format": picture.form,
        "width": said.width,
        "height": said.height,
        "pages": said.pages,
        "note": "" if as_it_came else said.note,
        "seconds": round(seconds, 3),
        "scores": None,
    }
    if "clean" in pictures:
        report["scores"] = _scores(pictures["clean"], upload, picture, result, options.max_pixels)
    return AnswerFile(data, report["name"], PICTURE_MEDIA_TYPES[picture.form], report)


def _scores(truth: PictureUpload, upload: PictureUpload, noisy: Picture, result: Picture, most: int) -> dict[str, Any]:
    known = _read(truth, most)
    pair = {"noisy": noisy, "denoised": result}
    return {key: compare_images(known, found, truth.name, upload.name, ANSWERED_SCORES) for key, found in pair.items()}


def answer_noise(upload: PictureUpload, text: str, seed: int, most: int) -> AnswerFile:
    """What `daelab noise` makes of the picture, byte for byte.

    Raises:
        ValueError: a broken picture, or a text that is no noise.
    """
    value = parse_noise(text)
    picture = _read(upload, most)
    noisy = make_noisy_picture(picture, upload.name, value, seed)
    return AnswerFile(
        _saved(noisy, picture.form), _renamed(upload.name, "_noisy", picture.form), PICTURE_MEDIA_TYPES[picture.form]
    )


def answer_inspect(upload: PictureUpload, most: int) -> dict[str, Any]:
    """What `daelab inspect` says of the picture, and in one line.

    Raises:
        ValueError: a broken picture.
    """
    found = identify_file_noise(_read(upload, most).colour().pixels)
    return {"text": str(found), **found.to_dict()}


def answer_preview(upload: PictureUpload, most: int) -> AnswerFile:
    """The first page as a PNG of 8 bits, for formats that browsers do not show.

    Raises:
        ValueError: a broken picture.
    """
    page = _read(upload, most)
    if page.pixels.ndim == 4:
        page = page.with_pixels(page.pixels[0])
    return AnswerFile(
        _saved(Picture(page.colour().pixels), "PNG"), _renamed(upload.name, "", "PNG"), PICTURE_MEDIA_TYPES["PNG"]
    )


def _read(upload: PictureUpload, most: int) -> Picture:
    return read_picture(upload.data, max_pixels=most, name=upload.name)


def _saved(picture: Picture, form: str) -> bytes:
    stream = BytesIO()
    encode_picture(stream, picture, form)
    return stream.getvalue()


def _renamed(name: str, suffix: str, form: str) -> str:
    """A result's file name: its source's, with a suffix, and the format's ending where it had none."""
    stem, dot, ending = name.rpartition(".")
    if not dot or SUFFIXES.get(f".{ending.lower()}") != form:
        stem, ending = name, next(key for key, value in SUFFIXES.items() if value == form)[1:]
    return f"{stem}{suffix}.{ending}"
