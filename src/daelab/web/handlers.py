"""The handlers of the server. They take a request's pictures and return the files and values of the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from daelab.denoising.image_comparison import compare_images
from daelab.denoising.noisy_images import identify_file_noise, make_noisy_picture
from daelab.denoising.pipeline import DENOISED_SUFFIX, DenoiseOptions, run_bytes
from daelab.denoising.tiling import ProgressCallback
from daelab.image_io.formats import FORMATS, find_format
from daelab.image_io.orientation import turn_upright
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import encode_to_bytes
from daelab.noise.grammar import parse_noise
from daelab.web.model_registry import load_page_model
from daelab.web.uploads import PictureUpload, RequestBody, parse_uploads

RequestHandler = Callable[[dict[str, PictureUpload], ProgressCallback], Any]
"""A function of the uploads by name and a progress callback. It must be picklable."""
ANSWERED_SCORES = ("psnr", "ssim")
"""The scores of an answer, if the noise-free picture was sent too."""
_FORMATS_WITH_QUALITY = ("JPEG", "WEBP")


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


def answer_request(body: RequestBody, handler: RequestHandler, progress: ProgressCallback) -> Any:
    """Parse the body of a request and handle it. This is the job that a worker process does.

    Args:
        body: The body.
        handler: The function that handles the pictures in it.
        progress: Called with (tiles done, tiles in total) of each page.

    Raises:
        ValueError: The body is damaged, or the handler raised it.
    """
    return handler(parse_uploads(body), progress)


def answer_denoise(
    pictures: dict[str, PictureUpload],
    progress: ProgressCallback,
    *,
    model: str,
    options: DenoiseOptions,
    form: str | None = None,
    quality: int | None = None,
) -> AnswerFile:
    """Denoise a picture as `daelab denoise` does, byte for byte.

    Args:
        pictures: The upload "picture", and perhaps its noise-free version "clean".
        progress: Called with (tiles done, tiles in total) of each page.
        model: A name of `list_models`, or "automatic".
        options: The options.
        form: The name of the format of the result. Default: that of the picture.
        quality: The quality of a JPEG or WebP, from 1 to 100. Default: that of the picture.

    Returns:
        The denoised picture, with a report. It has scores if the noise-free picture was sent.

    Raises:
        ValueError: No model has this name, a picture is damaged, or it cannot be compared with the noise-free one.
    """
    upload = pictures["picture"]
    denoised = run_bytes(load_page_model(model), upload.data, options, name=upload.name, form=form, progress=progress)
    result, data = denoised.result, denoised.data
    if quality is not None and denoised.form in _FORMATS_WITH_QUALITY:
        chosen = replace(denoised.picture, form=denoised.form, native=None, encoding={"quality": quality})
        data = encode_to_bytes(chosen, denoised.form)
    name = _rename(upload.name, DENOISED_SUFFIX, denoised.form)
    report: dict[str, Any] = {
        "name": name,
        "model": result.model if result.why else model,
        "why": result.why,
        "strength": options.strength,
        "chroma": options.chroma,
        "detail": options.detail,
        "format": denoised.form,
        "media": FORMATS[denoised.form].media_type,
        "width": result.width,
        "height": result.height,
        "pages": result.pages,
        "note": result.note,
        "seconds": result.seconds,
        "scores": None,
    }
    if "clean" in pictures:
        report["scores"] = _compute_scores(pictures["clean"], upload, denoised.picture, options.max_pixels)
    return AnswerFile(data, name, FORMATS[denoised.form].media_type, report)


def _compute_scores(clean: PictureUpload, upload: PictureUpload, denoised: Picture, most: int) -> dict[str, Any]:
    truth = _read(clean, most)
    pair = {"noisy": _read(upload, most), "denoised": denoised}
    return {
        key: compare_images(truth, picture, clean.name, upload.name, ANSWERED_SCORES) for key, picture in pair.items()
    }


def answer_noise(
    pictures: dict[str, PictureUpload], _: ProgressCallback, *, text: str, seed: int, most: int
) -> AnswerFile:
    """Add noise to a picture as `daelab noise` does, byte for byte.

    Args:
        pictures: The upload "picture".
        text: The noise, as `parse_noise` reads it.
        seed: The seed of the noise.
        most: The largest picture to accept, in pixels.

    Raises:
        ValueError: The picture is damaged, or the text is not a noise.
    """
    upload, noise = pictures["picture"], parse_noise(text)
    picture = _read(upload, most)
    noisy = make_noisy_picture(picture, upload.name, noise, seed)
    return _make_answer(noisy, upload.name, "_noisy", picture.form)


def answer_inspect(pictures: dict[str, PictureUpload], _: ProgressCallback, *, most: int) -> dict[str, Any]:
    """Identify the noise of a picture as `daelab inspect` does.

    Args:
        pictures: The upload "picture".
        most: The largest picture to accept, in pixels.

    Returns:
        The answer in one line, and its values.

    Raises:
        ValueError: The picture is damaged.
    """
    noise = identify_file_noise(_read(pictures["picture"], most))
    return {"text": str(noise), **noise.to_dict()}


def answer_preview(pictures: dict[str, PictureUpload], _: ProgressCallback, *, most: int) -> AnswerFile:
    """Convert the first page of a picture to an upright PNG of 8 bits, for formats that browsers do not show.

    Args:
        pictures: The upload "picture".
        most: The largest picture to accept, in pixels.

    Raises:
        ValueError: The picture is damaged.
    """
    upload = pictures["picture"]
    page = _read(upload, most)
    if page.pixels.ndim == 4:
        page = page.with_pixels(page.pixels[0])
    # The PNG has no EXIF, so that its pixels must stand as the EXIF of the picture says.
    return _make_answer(Picture(turn_upright(page.colour().pixels, page.info)), upload.name, "", "PNG")


def _make_answer(picture: Picture, name: str, suffix: str, form: str) -> AnswerFile:
    return AnswerFile(encode_to_bytes(picture, form), _rename(name, suffix, form), FORMATS[form].media_type)


def _read(upload: PictureUpload, most: int) -> Picture:
    return read_picture(upload.data, max_pixels=most, name=upload.name)


def _rename(name: str, suffix: str, form: str) -> str:
    """Add a suffix to a file name, and the extension of the format if the name has another one or none."""
    stem, dot, extension = name.rpartition(".")
    # A stem may contain a dot, so only the suffix of a known format counts as one.
    row = find_format(f".{extension}")
    if not dot or row is None:
        stem = name
    if not dot or row is None or row.name != form:
        extension = FORMATS[form].suffixes[0].removeprefix(".")
    return f"{stem}{suffix}.{extension}"
