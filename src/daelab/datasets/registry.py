"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daelab._util.plugins import PluginTable
from daelab.datasets.arrays import load_arrays
from daelab.datasets.base import Dataset, DatasetSource
from daelab.datasets.bundled_photos import load_bundled_photos
from daelab.datasets.cifar10 import load_cifar10
from daelab.datasets.full_images import load_cbsd68, load_cbsd432
from daelab.datasets.image_folder import load_image_folder
from daelab.datasets.neighbors import load_neighbors
from daelab.datasets.paired import load_pairs
from daelab.errors import make_unknown_name_error

_ROWS: dict[str, Callable[[DatasetSource], Dataset]] = {
    "photos": load_bundled_photos,
    "cifar10": load_cifar10,
    "cbsd68": load_cbsd68,
    "cbsd432": load_cbsd432,
    "folder:PATH": load_image_folder,
    "paired:PATH": load_pairs,
    "neighbors:PATH": load_neighbors,
    "npz:PATH": load_arrays,
}
DATASETS = PluginTable("datasets", _ROWS)
"""The functions that load data sets, by name. PATH stands for a path. Installed plugins add rows."""
_BERKELEY = (
    "photographs of the Berkeley Segmentation Data Set 500 (Arbelaez et al., 2011), which Berkeley lets be used for "
    "non-commercial research and educational purposes"
)
USAGE_TERMS = {"cbsd432": _BERKELEY, "cbsd68": _BERKELEY}
"""The terms of use of a data set's images, if there are any. A model that ships states those of its training data."""
CROPPED_PREFIXES = ("folder:", "paired:", "neighbors:", "cbsd432")
"""The starts of the names of sets whose training images are read as crops, and may be streamed."""


HANDED_OVER = "python"
"""The kind of a data set that was handed over as an object: its name in a recipe is `python:NAME`."""


def check_dataset_name(name: str) -> str:
    """Check that there is a data set of this name.

    Args:
        name: One of the names in `DATASETS`, with a path for PATH.

    Returns:
        The name.

    Raises:
        ValueError: It does not exist. The message lists the names and the nearest match.
    """
    kind, colon, path = name.partition(":")
    if kind == HANDED_OVER and path:
        return name
    if (f"{kind}:PATH" if colon else kind) not in DATASETS or bool(colon) != bool(path):
        raise make_unknown_name_error("data set", name, DATASETS)
    return name


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = True,
    train: bool = True,
    crop: int = 32,
    memory_budget: int | None = None,
    buffer: int | None = None,
    channels: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        name: One of `DATASETS`: `photos`, `cifar10`, `cbsd68`, `cbsd432`, `folder:PATH`, `paired:PATH`,
            `neighbors:PATH`, `npz:PATH`.
        root: The folder of downloaded sets. None means $DAELAB_DATA, then the user's data folder.
        download: Whether a set may be downloaded if it is not found.
        train: Whether the training part is needed. If not, it may be empty, which saves time.
        crop: The side of the crops of a folder's images, in pixels.
        memory_budget: The bytes that a folder's decoded images may take; None means a quarter of the
            free memory. A larger folder is streamed from disk.
        buffer: The number of crops to read at once. If it is given, the folder is always streamed.
        channels: The channels of the images in the arrays of `npz:PATH`. Images of the other sets have three.
        progress: A function that is called with (bytes done, total bytes or 0) during a download.

    Returns:
        The data set.

    Raises:
        ValueError: There is no such data set, or it is missing, damaged or unsuitable. The message says
            what is wrong, where, and what to do, in one line.

    >>> load_dataset("cifar")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: unknown data set 'cifar'; did you mean 'cifar10'? Valid: cbsd432, cbsd68, ...
    """
    kind, colon, path = check_dataset_name(name).partition(":")
    if kind == HANDED_OVER:
        raise ValueError(f"data set {name} was handed over in Python, and no file holds it; give it as dataset= again")
    source = DatasetSource(
        path=Path(path).expanduser(),
        root=None if root is None else Path(root).expanduser(),
        download=download,
        train=train,
        crop=crop,
        memory_budget=memory_budget,
        buffer=buffer,
        channels=channels,
        progress=progress,
    )
    found = DATASETS[f"{kind}:PATH" if colon else kind](source)
    # The loader may be that of a plugin.
    if not isinstance(found, Dataset):
        raise ValueError(f"data set {name}: its loader returned {type(found).__name__}, not a Dataset")
    return found
