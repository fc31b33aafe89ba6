"""A picture's file in, the same kind of file out: pixels as an array, and all else as it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from daelab.data import photo_path
from daelab.errors import unknown
from daelab.files import write_with

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""File name suffix -> Pillow's format."""
_KEPT = ("exif", "icc_profile", "dpi")
_NO_ALPHA = ("JPEG", "BMP")


@dataclass(frozen=True)
class Picture:
    """A picture apart from its file."""

    pixels: npt.NDArray[Any]
    """(H, W) or (H, W, 3), uint8 or uint16."""
    alpha: npt.NDArray[np.uint8] | None = None
    """(H, W); never touched."""
    info: dict[str, Any] = field(default_factory=dict)
    """EXIF, colour profile, resolution: written back as they came."""

    def with_pixels(self, pixels: npt.NDArray[Any]) -> Picture:
        """The same picture with other pixels."""
        return replace(self, pixels=pixels)

    def colour(self) -> Picture:
        """The same picture as (H, W, 3) uint8: grey becomes three equal channels."""
        pixels = self.pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels / 257).round().astype(np.uint8)
        return self.with_pixels(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels)


def read(path: str | Path) -> Picture:
    """Read a picture: a file, or `photo:NAME` for one of the bundled photographs.

    Raises:
        ValueError: it is no picture, or a broken one; names it and says why.
        FileNotFoundError: there is no such file.
    """
    kind, _, name = str(path).partition(":")
    path = photo_path(name) if kind == "photo" else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}")
    try:
        with Image.open(path) as image:
            image.load()
            info = {key: image.info[key] for key in _KEPT if image.info.get(key)}
            return _picture(image, info)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture, or of a kind that is not read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: a broken picture: {error}") from None


def _picture(image: Image.Image, info: dict[str, Any]) -> Picture:
    if image.mode.startswith("I;16"):
        return Picture(np.asarray(image, dtype=np.uint16), None, info)
    transparent = "A" in image.getbands() or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA")
    if transparent:
        both = image.convert("LA" if grey else "RGBA")
        pixels = np.asarray(both)
        colour = pixels[..., 0] if grey else pixels[..., :3]
        return Picture(np.ascontiguousarray(colour), np.ascontiguousarray(pixels[..., -1]), info)
    return Picture(np.asarray(image.convert("L" if grey else "RGB")), None, info)


def write(path: str | Path, picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all.

    Raises:
        ValueError: the suffix is of no format that is written, or cannot hold this picture.
        FileExistsError: the file exists and `overwrite` is False.
    """
    path = Path(path)
    check_place(path, overwrite=overwrite)
    form = SUFFIXES[path.suffix.lower()]
    if picture.pixels.dtype == np.uint16 and form not in ("PNG", "TIFF"):
        raise ValueError(f"{path}: {form} holds no 16-bit picture; write .png or .tif")
    pixels = picture.pixels
    if picture.alpha is not None and form not in _NO_ALPHA:
        pixels = np.dstack([pixels, picture.alpha])
    options: dict[str, Any] = dict(picture.info)
    if form in ("JPEG", "WEBP"):
        options["quality"] = 95
    image = Image.fromarray(pixels)
    write_with(path, lambda part: image.save(part, form, **options))


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise unless a picture can be written there: its format is known, and nothing is in the way.

    Raises:
        ValueError: the suffix is of no format that is written.
        FileExistsError: the file exists and `overwrite` is False.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise unknown("picture format", path.suffix or path.name, SUFFIXES)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
