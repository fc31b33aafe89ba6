"""Ten color photographs that come with scikit-image and scikit-learn: the data set that needs no network connection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daelab.datasets.base import Dataset, DatasetSource, ImageSet, Pixels
from daelab.image_io.bundled_photos import PHOTOS

SIDE = 32
"""The side of an image, in pixels."""
CELL = 64
"""The side of a region. Every crop lies inside one region, and every region belongs to one part."""
STRIDE = 8
"""The distance of neighboring crops of a region, in pixels."""
MAX_SIDE = 800
"""The longest side of a photograph. Larger ones are halved repeatedly, so that 32 pixels show some structure."""
MIN_CONTRAST = 4.0
"""The standard deviation, of 255, below which a crop is empty (a sky, a black border) and is used last."""
COUNTS = {"train": 500, "val": 50, "test": 100}
"""The number of images of each class."""
REGIONS = {"val": 0.15, "test": 0.15}
"""The share of a photograph's regions; the others are for training."""


def load_bundled_photos(source: DatasetSource) -> Dataset:
    """Load 5,000 training, 500 validation and 1,000 test crops of 32x32, equally many of each photograph.

    Args:
        source: The request. None of its options applies.

    Returns:
        The data set. Its classes are the photographs.

    Raises:
        ValueError: scikit-image or scikit-learn is not installed.
    """
    del source  # it has no options
    pictures = [_open_photo(photo.path()) for photo in PHOTOS]
    classes = tuple(photo.name for photo in PHOTOS)
    parts = {
        part: ImageSet(f"photos/{part}", _cut_crops(pictures, crops), crops[:, 0].copy(), classes)
        for part, crops in locate_photo_crops(pictures).items()
    }
    return Dataset(
        name="photos",
        **parts,
        classes=classes,
        note="32x32 crops of ten photographs from scikit-image and scikit-learn, from regions of their own",
    )


def locate_photo_crops(pictures: Sequence[Pixels] | None = None) -> dict[str, NDArray[np.int64]]:
    """Locate each image of `photos` in its photograph.

    Every crop lies inside one region of 64x64, and no two parts share a region.

    Args:
        pictures: The photographs, uint8 (H, W, 3), if they are open already.

    Returns:
        An array (N, 3) for each of "train", "val" and "test". Its columns are the photograph (the position in
        the classes), top and left, in pixels of the photograph after halving.
    """
    if pictures is None:
        pictures = [_open_photo(photo.path()) for photo in PHOTOS]
    crops: dict[str, list[NDArray[np.int64]]] = {part: [] for part in COUNTS}
    for place, picture in enumerate(pictures):
        rng = np.random.Generator(np.random.PCG64(place))
        for part, cells in _assign_regions(picture, rng).items():
            corners = rng.permutation(_list_corners(cells))
            # The sort is stable, so the crops that show something stay in their random order.
            corners = corners[np.argsort(_is_flat(picture, corners), kind="stable")][: COUNTS[part]]
            crops[part].append(np.insert(corners, 0, place, axis=1))
    return {part: np.concatenate(rows) for part, rows in crops.items()}


def _open_photo(path: Path) -> Pixels:
    """Open a photograph as uint8 (H, W, 3), halved until it is at most `MAX_SIDE` wide and high."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    while max(picture.size) > MAX_SIDE:
        picture = picture.reduce(2)
    return np.asarray(picture)


def _assign_regions(picture: Pixels, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Assign the regions of a photograph to the parts. Returns their top left corners (N, 2)."""
    rows, columns = picture.shape[0] // CELL, picture.shape[1] // CELL
    cells = rng.permutation(CELL * np.stack(np.divmod(np.arange(rows * columns), columns), axis=1))
    val, test = (round(REGIONS[part] * len(cells)) for part in ("val", "test"))
    return {"val": cells[:val], "test": cells[val : val + test], "train": cells[val + test :]}


def _list_corners(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """List the top left corners (N, 2) of all crops inside these regions."""
    steps = np.arange(0, CELL - SIDE + 1, STRIDE)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 2)
    return (cells[:, None] + offsets).reshape(-1, 2)


def _is_flat(picture: Pixels, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 1], (SIDE, SIDE))
    # Every other pixel of the green channel is enough to tell.
    flat: NDArray[np.bool_] = windows[corners[:, 0], corners[:, 1], ::2, ::2].std(axis=(1, 2)) < MIN_CONTRAST
    return flat


def _cut_crops(pictures: Sequence[Pixels], crops: NDArray[np.int64]) -> Pixels:
    """Cut the crops from the photographs, as uint8 (N, 3, 32, 32)."""
    images = np.empty((len(crops), 3, SIDE, SIDE), np.uint8)
    for image, (place, top, left) in zip(images, crops.tolist(), strict=True):
        image[:] = pictures[place][top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
    return images
