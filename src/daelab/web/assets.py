"""The page's own files, read once: name -> bytes and media type."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

ASSET_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class PageAsset:
    """One file of the page."""

    data: bytes
    media: str

    @property
    def tag(self) -> str:
        """What changes when it does."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:20]}"'


@cache
def list_assets() -> dict[str, PageAsset]:
    """All of them."""
    folder = resources.files(__package__).joinpath("static")
    found = {}
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        media = ASSET_MEDIA_TYPES.get("." + item.name.rpartition(".")[2])
        if media is not None:
            found[item.name] = PageAsset(item.read_bytes(), f"{media}; charset=utf-8")
    return found
