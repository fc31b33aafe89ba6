"""What the server is and takes, and the photographs that are there to try."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from daelab.image_io.bundled_photos import PHOTOS
from daelab.image_io.picture import SUFFIXES
from daelab.noise.presets import FORMULAS
from daelab.web.handlers import PICTURE_MEDIA_TYPES, AnswerFile
from daelab.web.limits import ServerLimits


def get_version() -> str:
    """Of daelab."""
    return metadata.version("daelab")


def describe_server(limits: ServerLimits) -> dict[str, Any]:
    """See `shapes.About`."""
    return {
        "version": get_version(),
        "body_bytes": limits.body,
        "pixels": limits.pixels,
        "seconds": limits.seconds,
        "queue": limits.queue,
        "suffixes": list(SUFFIXES),
        "noises": dict(FORMULAS),
        "samples": [{"name": name, "file": path.name} for name, path in list_samples().items()],
    }


def list_samples() -> dict[str, Path]:
    """The bundled photographs by name; without the extra `photos` there are fewer, or none."""
    found = {}
    for photo in PHOTOS:
        try:
            found[photo.name] = photo.path()
        except ValueError:
            continue
    return found


def read_sample(name: str) -> AnswerFile | None:
    """One of them as its file; None where there is none of that name."""
    path = list_samples().get(name)
    return (
        None
        if path is None
        else AnswerFile(path.read_bytes(), path.name, PICTURE_MEDIA_TYPES[SUFFIXES[path.suffix.lower()]])
    )
