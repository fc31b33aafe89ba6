"""The files of the page, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

ASSET_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""The media type of each suffix."""


@dataclass(frozen=True)
class PageAsset:
    """A file of the page."""

    data: bytes
    """The content."""
    media: str
    """The media type, with the encoding."""

    @property
    def tag(self) -> str:
        """The entity tag, which changes when the content does."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:20]}"'


@cache
def list_assets() -> dict[str, PageAsset]:
    """Return all files of the page by name."""
    folder = resources.files(__package__).joinpath("static")
    assets = {}
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        media = ASSET_MEDIA_TYPES.get("." + item.name.rpartition(".")[2])
        if media is not None:
            assets[item.name] = PageAsset(item.read_bytes(), f"{media}; charset=utf-8")
    return assets
