"""Ten colour photographs that come with scikit-image and scikit-learn: the set that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daelab.datasets.base import Dataset, DatasetSource, ImageSet, Pixels
from daelab.image_io.bundled_photos import PHOTOS

SIDE = 32
"""Side of an image, in pixels."""
CELL = 64
"""Side of a region: every crop lies inside one, and a region belongs to one part."""
STRIDE = 8
"""Pixels between neighbouring crops of a region."""
LONGEST = 800
"""A photograph with a longer side is halved until it is not, so that 32 pixels show some structure."""
FLAT = 4.0
"""Standard deviation, of 255, below which a crop is empty (a sky, a black border) and comes last."""
COUNTS = {"train": 500, "val": 50, "test": 100}
"""Images of each class."""
REGIONS = {"val": 0.15, "test": 0.15}
"""Share of a photograph's regions; training has the rest."""


def load_bundled_photos(source: DatasetSource) -> Dataset:
    """5,000 training, 500 validation and 1,000 test crops of 32x32, as many of each photograph.

    Raises:
        ValueError: scikit-image or scikit-learn is not installed.
    """
    del source  # nothing to choose
    pictures = [_open(photo.path()) for photo in PHOTOS]
    classes = tuple(photo.name for photo in PHOTOS)
    parts = {
        part: ImageSet(f"photos/{part}", _cut(pictures, crops), crops[:, 0].copy(), classes)
        for part, crops in locate_photo_crops(pictures).items()
    }
    return Dataset(
        name="photos",
        **parts,
        classes=classes,
        note="32x32 crops of ten photographs from scikit-image and scikit-learn, from regions of their own",
    )


def locate_photo_crops(pictures: Sequence[Pixels] | None = None) -> dict[str, NDArray[np.int64]]:
    """Where each image of `photos` was cut: for "train", "val", "test" an array (N, 3).

    Columns: photograph (its place in the classes), top, left, in pixels of the photograph as
    it was cut. Every crop lies inside one region of 64x64, and no two parts share a region.

    Args:
        pictures: the photographs, where they are open already.
    """
    if pictures is None:
        pictures = [_open(photo.path()) for photo in PHOTOS]
    chosen: dict[str, list[NDArray[np.int64]]] = {part: [] for part in COUNTS}
    for place, picture in enumerate(pictures):
        rng = np.random.Generator(np.random.PCG64(place))
        for part, cells in _regions(picture, rng).items():
            corners = rng.permutation(_corners(cells))
            # Stable, so among the crops that show something the order stays the drawn one.
            corners = corners[np.argsort(_is_flat(picture, corners), kind="stable")][: COUNTS[part]]
            chosen[part].append(np.insert(corners, 0, place, axis=1))
    return {part: np.concatenate(rows) for part, rows in chosen.items()}


def _open(path: Path) -> Pixels:
    """A photograph as uint8 (H, W, 3), halved where it is large."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    while max(picture.size) > LONGEST:
        picture = picture.reduce(2)
    return np.asarray(picture)


def _regions(picture: Pixels, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """The top left corners (N, 2) of each part's regions."""
    rows, columns = picture.shape[0] // CELL, picture.shape[1] // CELL
    cells = rng.permutation(CELL * np.stack(np.divmod(np.arange(rows * columns), columns), axis=1))
    val, test = (round(REGIONS[part] * len(cells)) for part in ("val", "test"))
    return {"val": cells[:val], "test": cells[val : val + test], "train": cells[val + test :]}


def _corners(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The top left corners (N, 2) of all crops inside these regions."""
    steps = np.arange(0, CELL - SIDE + 1, STRIDE)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 2)
    return (cells[:, None] + offsets).reshape(-1, 2)


def _is_flat(picture: Pixels, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 1], (SIDE, SIDE))
    # Every other pixel of the green channel says enough.
    flat: NDArray[np.bool_] = windows[corners[:, 0], corners[:, 1], ::2, ::2].std(axis=(1, 2)) < FLAT
    return flat


def _cut(pictures: Sequence[Pixels], crops: NDArray[np.int64]) -> Pixels:
    """The crops, as uint8 (N, 3, 32, 32)."""
    images = np.empty((len(crops), 3, SIDE, SIDE), np.uint8)
    for image, (place, top, left) in zip(images, crops.tolist(), strict=True):
        image[:] = pictures[place][top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
    return images
