"""The description of the server, and the photographs that a visitor can try."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from daelab.image_io.bundled_photos import PHOTOS
from daelab.image_io.formats import find_format, list_suffixes
from daelab.noise.presets import FORMULAS
from daelab.web.handlers import AnswerFile
from daelab.web.limits import ServerLimits


def get_version() -> str:
    """Return the version of daelab."""
    return metadata.version("daelab")


def describe_server(limits: ServerLimits) -> dict[str, Any]:
    """Return what the server accepts, as `schemas.AboutSchema` describes it.

    Args:
        limits: The limits of the server.
    """
    return {
        "version": get_version(),
        "body_bytes": limits.body,
        "pixels": limits.pixels,
        "seconds": limits.seconds,
        "queue": limits.queue,
        "suffixes": list_suffixes(),
        "noises": dict(FORMULAS),
        "samples": [{"name": name, "file": path.name} for name, path in list_samples().items()],
    }


def list_samples() -> dict[str, Path]:
    """Return the bundled photographs by name. Without the extra `photos` some or all are missing."""
    samples = {}
    for photo in PHOTOS:
        try:
            samples[photo.name] = photo.path()
        except ValueError:
            continue
    return samples


def read_sample(name: str) -> AnswerFile | None:
    """Return the file of a bundled photograph, or None if there is none of that name.

    Args:
        name: The name of the photograph.
    """
    path = list_samples().get(name)
    row = None if path is None else find_format(path.suffix)
    return None if path is None or row is None else AnswerFile(path.read_bytes(), path.name, row.media_type)


@cache
def make_thumbnail(name: str) -> AnswerFile | None:
    """Return a small JPEG of a bundled photograph, or None if there is none of that name.

    Args:
        name: The name of the photograph.
    """
    path = list_samples().get(name)
    if path is None:
        return None
    stream = BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(stream, "JPEG", quality=85)
    return AnswerFile(stream.getvalue(), f"{name}-small.jpg", "image/jpeg")


_THUMBNAIL = 320
"""The longest side of a thumbnail, in pixels."""
