"""What the server is and takes, and the photographs that are there to try."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from daelab.data.photos import PHOTOS
from daelab.imagefiles import SUFFIXES
from daelab.noise import FORMULAS
from daelab.serving.answers import MEDIA, File
from daelab.serving.limits import Limits


def version() -> str:
    """Of daelab."""
    return metadata.version("daelab")


def about(limits: Limits) -> dict[str, Any]:
    """See `shapes.About`."""
    return {
        "version": version(),
        "body_bytes": limits.body,
        "pixels": limits.pixels,
        "seconds": limits.seconds,
        "queue": limits.queue,
        "suffixes": list(SUFFIXES),
        "noises": dict(FORMULAS),
        "samples": [{"name": name, "file": path.name} for name, path in samples().items()],
    }


def samples() -> dict[str, Path]:
    """The bundled photographs by name; without the extra `photos` there are fewer, or none."""
    found = {}
    for photo in PHOTOS:
        try:
            found[photo.name] = photo.path()
        except ValueError:
            continue
    return found


def sample(name: str) -> File | None:
    """One of them as its file; None where there is none of that name."""
    path = samples().get(name)
    return None if path is None else File(path.read_bytes(), path.name, MEDIA[SUFFIXES[path.suffix.lower()]])
