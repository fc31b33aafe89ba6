"""The handlers of the server. They take a request's pictures and return the files and values of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from daelab.denoising.image_comparison import compare_images
from daelab.denoising.noisy_images import identify_file_noise, make_noisy_picture
from daelab.denoising.pipeline import DENOISED_SUFFIX, DenoiseOptions, run_bytes
from daelab.denoising.tiling import ProgressCallback
from daelab.image_io.formats import FORMATS, find_format
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import encode_to_bytes
from daelab.noise.grammar import parse_noise
from daelab.web.model_registry import load_page_model
from daelab.web.uploads import PictureUpload

ANSWERED_SCORES = ("psnr", "ssim")
"""The scores of an answer, if the noise-free picture was sent too."""


@dataclass(frozen=True)
class AnswerFile:
    """A picture file in an answer."""

    data: bytes
    """The content of the file."""
    name: str
    """The name of the file."""
    media: str
    """The MIME type."""
    report: dict[str, Any] = field(default_factory=dict)
    """The report that goes with it."""


def answer_denoise(
    model: str,
    pictures: dict[str, PictureUpload],
    options: DenoiseOptions,
    progress: ProgressCallback,
) -> AnswerFile:
    """Denoise a picture as `daelab denoise` does, byte for byte.

    Args:
        model: A name of `list_models`, or "automatic".
        pictures: The upload "picture", and perhaps its noise-free version "clean".
        options: The options.
        progress: Called with (tiles done, tiles in total) of each page.

    Returns:
        The denoised picture, with a report. It has scores if the noise-free picture was sent.

    Raises:
        ValueError: No model has this name, a picture is damaged, or it cannot be compared with the noise-free one.
    """
    upload = pictures["picture"]
    denoised = run_bytes(load_page_model(model), upload.data, options, name=upload.name, progress=progress)
    result = denoised.result
    name = _rename(upload.name, DENOISED_SUFFIX, denoised.form)
    report: dict[str, Any] = {
        "name": name,
        "model": result.model if result.why else model,
        "why": result.why,
        "strength": options.strength,
        "format": denoised.form,
        "width": result.width,
        "height": result.height,
        "pages": result.pages,
        "note": result.note,
        "seconds": result.seconds,
        "scores": None,
    }
    if "clean" in pictures:
        report["scores"] = _compute_scores(pictures["clean"], upload, denoised.picture, options.max_pixels)
    return AnswerFile(denoised.data, name, FORMATS[denoised.form].media_type, report)


def _compute_scores(clean: PictureUpload, upload: PictureUpload, denoised: Picture, most: int) -> dict[str, Any]:
    truth = _read(clean, most)
    pair = {"noisy": _read(upload, most), "denoised": denoised}
    return {
        key: compare_images(truth, picture, clean.name, upload.name, ANSWERED_SCORES) for key, picture in pair.items()
    }


def answer_noise(upload: PictureUpload, text: str, seed: int, most: int) -> AnswerFile:
    """Add noise to a picture as `daelab noise` does, byte for byte.

    Args:
        upload: The picture.
        text: The noise, as `parse_noise` reads it.
        seed: The seed of the noise.
        most: The largest picture to accept, in pixels.

    Raises:
        ValueError: The picture is damaged, or the text is not a noise.
    """
    noise = parse_noise(text)
    picture = _read(upload, most)
    noisy = make_noisy_picture(picture, upload.name, noise, seed)
    return _make_answer(noisy, upload.name, "_noisy", picture.form)


def answer_inspect(upload: PictureUpload, most: int) -> dict[str, Any]:
    """Identify the noise of a picture as `daelab inspect` does.

    Args:
        upload: The picture.
        most: The largest picture to accept, in pixels.

    Returns:
        The answer in one line, and its values.

    Raises:
        ValueError: The picture is damaged.
    """
    noise = identify_file_noise(_read(upload, most).colour().pixels)
    return {"text": str(noise), **noise.to_dict()}


def answer_preview(upload: PictureUpload, most: int) -> AnswerFile:
    """Convert the first page of a picture to a PNG of 8 bits, for formats that browsers do not show.

    Args:
        upload: The picture.
        most: The largest picture to accept, in pixels.

    Raises:
        ValueError: The picture is damaged.
    """
    page = _read(upload, most)
    if page.pixels.ndim == 4:
        page = page.with_pixels(page.pixels[0])
    return _make_answer(Picture(page.colour().pixels), upload.name, "", "PNG")


def _make_answer(picture: Picture, name: str, suffix: str, form: str) -> AnswerFile:
    return AnswerFile(encode_to_bytes(picture, form), _rename(name, suffix, form), FORMATS[form].media_type)


def _read(upload: PictureUpload, most: int) -> Picture:
    return read_picture(upload.data, max_pixels=most, name=upload.name)


def _rename(name: str, suffix: str, form: str) -> str:
    """Add a suffix to a file name, and the extension of the format if the name has another one or none."""
    stem, dot, extension = name.rpartition(".")
    # A stem may contain a dot, so only the suffix of a known format counts as one.
    row = find_format(f".{extension}")
    if not dot or row is None or row.name != form:
        stem, extension = name, FORMATS[form].suffixes[0].removeprefix(".")
    return f"{stem}{suffix}.{extension}"
